"""What `fastmq autoscale` asks the broker: the lag of one group, as JSON over HTTP."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from fastmq.scaling import Observation

__all__ = ["LagSource", "Sighting"]

_TIMEOUT_S = 5.0
_ANSWER_BYTES_MAX = 64 << 20
_NOTHING = Observation(lag=0, wanted=0, lagging=0, partitions=0)


class Sighting(NamedTuple):
    """What was seen.

    Attributes:
        observation: for the decision.
        lagging_topics: number of partitions by topic.
    """

    observation: Observation
    lagging_topics: dict[str, int]


class LagSource:
    """The lag page of one group.

    Args:
        url: of the broker's metrics listener, http.
        group: its id.

    Raises:
        ValueError: that is no URL.
    """

    def __init__(self, url: str, group: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"--url {url}: write http://HOST:PORT, the broker's metrics listener")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._path = f"{parts.path.rstrip('/')}/groups/{quote(group, safe='')}/lag"

    def look(self) -> Sighting:
        """Return what the broker says; a group that it does not know has no lag.

        Raises:
            OSError: it does not answer, or not with this.
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse()
            body = answer.read(_ANSWER_BYTES_MAX)
        except http.client.HTTPException as exc:
            raise OSError(f"no HTTP from {self._host}:{self._port}: {exc!r}") from exc
        finally:
            connection.close()
        if answer.status == http.client.NOT_FOUND:
            return Sighting(_NOTHING, {})
        if answer.status != http.client.OK:
            raise OSError(f"{self._host}:{self._port} answers {answer.status} {answer.reason}")
        try:
            return _sighting(json.loads(body))
        except (ValueError, KeyError, TypeError) as exc:
            raise OSError(f"{self._path} is not the lag of a group: {exc!r}") from exc


def _sighting(page: dict[str, Any]) -> Sighting:
    # Any: JSON.
    lagging = {
        str(topic["topic"]): int(topic["partition_count"])
        for topic in page["topics"]
        if topic["lag"]
    }
    return Sighting(
        Observation(
            lag=int(page["lag"]),
            wanted=int(page["wanted_consumers"]),
            lagging=int(page["lagging_partitions"]),
            partitions=sum(lagging.values()),
            wanted_partitions=int(page["wanted_partitions"]),
        ),
        lagging,
    )
