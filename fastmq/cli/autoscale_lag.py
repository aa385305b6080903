"""Where `fastmq autoscale` learns the lag of a group.

`PageLag` reads the page on the broker's metrics listener. `ClientLag` asks as any client does and
makes the same estimates here: it needs no metrics listener.
"""

import http.client
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from fastmq.errors import FastmqError
from fastmq.scaling import GroupSample, LagEstimator, Observation, OffsetSample

if TYPE_CHECKING:
    from fastmq.client.fronts.admin import Admin

__all__ = ["ClientLag", "LagSource", "PageLag", "Sighting"]

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


class LagSource(Protocol):
    """What both have in common."""

    def look(self) -> Sighting:
        """Return what is known now; a group that nobody knows has no lag.

        Raises:
            OSError: the broker does not answer, or not with this.
        """


class PageLag:
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
        page = self.read()
        if page is None:
            return Sighting(_NOTHING, {})
        try:
            return _sighting(page)
        except (ValueError, KeyError, TypeError) as exc:
            raise OSError(f"{self._path} is not the lag of a group: {exc!r}") from exc

    # Any: JSON.
    def read(self) -> dict[str, Any] | None:
        """Return the page, as docs/LAG.md describes it; None: the broker does not know the group.

        Raises:
            OSError: it does not answer, or not with JSON.
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
            return None
        if answer.status != http.client.OK:
            raise OSError(f"{self._host}:{self._port} answers {answer.status} {answer.reason}")
        try:
            page = json.loads(body)
        except ValueError as exc:
            raise OSError(f"{self._path} is no JSON: {exc}") from exc
        if not isinstance(page, dict):
            raise OSError(f"{self._path} is not the lag of a group")
        return page


class ClientLag:
    """The lag of one group, worked out here.

    Args:
        bootstrap: addresses of brokers.
        group: its id.
        target_s: wanted consumers are those that catch up in so many seconds.
    """

    def __init__(self, bootstrap: str, group: str, target_s: float) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._estimator = LagEstimator(target_s)
        self._admin: Admin | None = None

    def look(self) -> Sighting:
        """Ask the brokers and work out the rest.

        Raises:
            OSError: they do not answer.
        """
        from fastmq.client.fronts.admin import Admin

        try:
            if self._admin is None:
                timeout_ms = int(_TIMEOUT_S * 1000)
                self._admin = Admin(
                    self._bootstrap,
                    request_timeout_ms=timeout_ms,
                    default_api_timeout_ms=timeout_ms,
                )
            return self._look(self._admin)
        except FastmqError as exc:
            admin, self._admin = self._admin, None
            if admin is not None:
                admin.close()
            raise OSError(str(exc)) from exc

    def _look(self, admin: "Admin") -> Sighting:
        (described,) = admin.describe_groups(self._group)
        offsets = [
            OffsetSample(
                row.topic,
                row.partition,
                -1 if row.committed is None else row.committed,
                row.start,
                row.end,
            )
            for row in admin.group_lag(self._group)
        ]
        sample = GroupSample(self._group, described.state, len(described.members), offsets)
        now_ms = int(time.monotonic() * 1000)
        seen = self._estimator.observe(now_ms, [sample])[self._group]
        names = {row.topic for row in seen.partitions if row.lag}
        topics = admin.describe_topics(sorted(names)) if names else []
        lagging = {topic.name: len(topic.partitions) for topic in topics}
        return Sighting(
            Observation(
                lag=seen.lag,
                wanted=seen.wanted_consumers,
                lagging=seen.lagging_partitions,
                partitions=sum(lagging.values()),
                wanted_partitions=seen.wanted_partitions,
            ),
            lagging,
        )


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
