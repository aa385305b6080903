"""Faults of a broker in this process, asked for by tests.

Each method adds a rule and returns it as a `Fault`, which is also a context manager that takes it
away again::

    with broker.faults.error("Produce", "NOT_ENOUGH_REPLICAS", nth=3, times=1) as fault:
        ...
    assert fault.hits == 1
"""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from fastmq.errors import ErrorCode
from fastmq.protocol import APIS
from fastmq.server.faults import Rule, Verdict
from fastmq.testing.topics import Topic

if TYPE_CHECKING:
    from fastmq.testing._thread import BrokerThread

__all__ = ["Fault", "FaultInjector"]


class Fault:
    """A fault that was asked for."""

    def __init__(self, thread: "BrokerThread", rule: Rule | None) -> None:
        self._thread = thread
        self._rule = rule  # None: the full disk

    @property
    def hits(self) -> int:
        """How many requests were hit so far."""
        return 0 if self._rule is None else self._rule.hits

    def remove(self) -> None:
        """End the fault; requests are served again."""
        rule, mode = self._rule, self._thread.test_mode
        if not self._thread.is_running():
            return
        if rule is None:
            self._thread.call(lambda: mode.set_disk_full(full=False))
        else:
            self._thread.call(lambda: mode.faults.remove(rule))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


class FaultInjector:
    """What can go wrong on purpose. Every method takes the same filters.

    Args of the methods:
        api: "Produce", "Fetch", "JoinGroup", ... or an API key; None = every request.
        topic, partition: only requests that name them. In Produce and Fetch only these partitions
            are refused, in other APIs the whole request.
        client_id: only this client.
        nth: begin with the n-th such request (1 = at once).
        times: how many are hit; None = until the fault is removed.
    """

    def __init__(self, thread: "BrokerThread") -> None:
        self._thread = thread

    def error(
        self,
        api: str | int | None,
        code: str | int | ErrorCode,
        *,
        topic: Topic | str | None = None,
        partition: int | None = None,
        client_id: str | None = None,
        nth: int = 1,
        times: int | None = None,
    ) -> Fault:
        """Answer with an error: "NOT_ENOUGH_REPLICAS", its number, or an `ErrorCode`."""
        found = ErrorCode[code] if isinstance(code, str) else ErrorCode(code)
        name = None if topic is None else str(topic)
        return self._add(
            Rule(Verdict.ERROR, _key(api), found, 0.0, name, partition, client_id, nth, times)
        )

    def delay(
        self,
        api: str | int | None,
        seconds: float,
        *,
        topic: Topic | str | None = None,
        partition: int | None = None,
        client_id: str | None = None,
        nth: int = 1,
        times: int | None = None,
    ) -> Fault:
        """Let requests wait so long before they are handled."""
        name = None if topic is None else str(topic)
        return self._add(
            Rule(
                Verdict.DELAY,
                _key(api),
                ErrorCode.NONE,
                seconds,
                name,
                partition,
                client_id,
                nth,
                times,
            )
        )

    def drop(
        self,
        api: str | int | None = None,
        *,
        after_execution: bool = False,
        topic: Topic | str | None = None,
        partition: int | None = None,
        client_id: str | None = None,
        nth: int = 1,
        times: int | None = None,
    ) -> Fault:
        """Close the connection instead of answering.

        Args:
            api: see the class, as the other filters.
            after_execution: the request is executed and only its answer lost: what a client that
                retries must not do twice.
            topic: see the class.
            partition: see the class.
            client_id: see the class.
            nth: see the class.
            times: see the class.
        """
        verdict = Verdict.LOSE_ANSWER if after_execution else Verdict.DROP
        name = None if topic is None else str(topic)
        return self._add(
            Rule(
                verdict,
                _key(api),
                ErrorCode.NONE,
                0.0,
                name,
                partition,
                client_id,
                nth,
                times,
            )
        )

    def disk_full(self) -> Fault:
        """Let every write to a log fail for want of space; reading goes on."""
        mode = self._thread.test_mode
        self._thread.call(lambda: mode.set_disk_full(full=True))
        return Fault(self._thread, None)

    def clear(self) -> None:
        """End all faults."""
        mode = self._thread.test_mode
        self._thread.call(mode.faults.clear)
        self._thread.call(lambda: mode.set_disk_full(full=False))

    def _add(self, rule: Rule) -> Fault:
        if rule.first < 1 or (rule.times is not None and rule.times < 1):
            raise ValueError("nth and times count from 1")
        mode = self._thread.test_mode
        self._thread.call(lambda: mode.faults.add(rule))
        return Fault(self._thread, rule)


def _key(api: str | int | None) -> int | None:
    if api is None or isinstance(api, int):
        return api
    for key, row in APIS.items():
        if row.name.lower() == api.lower():
            return int(key)
    raise ValueError(f"there is no API {api!r}; `fastmq protocol list` shows their names")
