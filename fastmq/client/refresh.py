"""When metadata is asked for, and for which topics.

One request is under way at a time, and between two is at least the retry back-off, however often
somebody asks. A topic that is wanted and not known is asked for until it is there (automatic
creation takes a moment), each time after a longer back-off.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastmq.client.calls import AnyNode, Call, Request
from fastmq.client.timers import Timer
from fastmq.errors import ErrorCode
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

if TYPE_CHECKING:
    from fastmq.client.core import ClientCore

__all__ = ["MetadataRefresher"]

# Automatic creation can be switched off from here on; every broker since Kafka 2.1 has more.
_VERSION_MIN = 4
_MISSED_WAIT_MS = 5


class MetadataRefresher:
    """Keeps `core.metadata` fresh.

    Attributes:
        listeners: called after each change.
    """

    def __init__(self, core: "ClientCore") -> None:
        self.listeners: list[Callable[[], None]] = []
        self._core = core
        self._wanted: dict[str, None] = {}
        self._all = False
        self._call: Call | None = None
        self._timer: Timer | None = None
        self._again = False
        self._asked_ms: int | None = None
        self._answered_ms = core.now_ms
        self._misses = 0

    def want(self, names: Iterable[str]) -> None:
        """Keep these topics in the metadata; ask at once for those that are new."""
        new = [name for name in names if name not in self._wanted]
        if new:
            self._wanted.update(dict.fromkeys(new))
            self._misses = 0
            self._asked_ms = None  # a new topic need not wait for the back-off
            self.refresh()

    def unwant(self, names: Iterable[str]) -> None:
        """Drop these topics."""
        for name in names:
            if self._wanted.pop(name, True) is None and not self._all:
                self._core.metadata.forget(name)

    def want_all(self, wanted: bool) -> None:
        """Keep all topics, or only the wanted ones."""
        if wanted != self._all:
            self._all = wanted
            self._asked_ms = None
            self.refresh()

    def refresh(self) -> None:
        """Ask, now or as soon as the back-off allows."""
        core = self._core
        if core.is_closed:
            return
        if self._call is not None:
            self._again = True
            return
        when_ms = core.now_ms
        if self._asked_ms is not None:
            wait_ms = core.backoff_ms(1 + self._misses)
            if self._misses:
                # A topic that is being made is there in a moment: ask sooner at first.
                wait_ms = min(wait_ms, _MISSED_WAIT_MS << min(self._misses, 10))
            when_ms = max(when_ms, self._asked_ms + wait_ms)
        self._schedule(when_ms)

    def _schedule(self, when_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when_ms <= self._core.now_ms:
            self._ask()
        else:
            self._timer = self._core.call_at(when_ms, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._call is None:
            self._ask()

    def _ask(self) -> None:
        core = self._core
        self._again = False
        self._asked_ms = core.now_ms
        names = None if self._all else list(self._wanted)
        request = MetadataRequest(
            topics=None if names is None else [MetadataRequestTopic(name=name) for name in names],
            allow_auto_topic_creation=core.options.allow_auto_create_topics and names is not None,
        )
        self._call = core.send(
            AnyNode(),
            Request(ApiKey.METADATA, lambda _: request, low=_VERSION_MIN),
            lambda result: self._done(result, all_topics=names is None),
            timeout_ms=core.options.request_timeout_ms,
        )

    # Any: a response or an exception, as `ClientCore.send` says.
    def _done(self, result: Any, *, all_topics: bool) -> None:
        core = self._core
        self._call = None
        if core.is_closed:
            return
        if isinstance(result, MetadataResponse) and result.error_code == ErrorCode.NONE:
            self._answered_ms = core.now_ms
            core.metadata.update(result, all_topics=all_topics)
            self._plan_next()
            core.metadata_changed()
            return
        silent_ms = core.now_ms - self._answered_ms
        trigger_ms = core.options.metadata_recovery_rebootstrap_trigger_ms
        asked_to = (
            isinstance(result, MetadataResponse)
            and result.error_code == ErrorCode.REBOOTSTRAP_REQUIRED
        )
        if asked_to or silent_ms >= trigger_ms:
            self._answered_ms = core.now_ms
            core.rebootstrap()
        self._misses += 1
        self.refresh()

    def _plan_next(self) -> None:
        """Ask again when something is missing or was asked for meanwhile, else when it is old."""
        core = self._core
        metadata = core.metadata
        missing = any(name not in metadata.topics for name in self._wanted) or any(
            part.leader < 0
            for name in self._wanted
            if name in metadata.topics
            for part in metadata.topics[name].partitions.values()
        )
        if missing:
            self._misses += 1
            self.refresh()
            return
        self._misses = 0
        if self._again or any(name not in metadata.topics for name in self._wanted):
            self.refresh()
            return
        self._schedule(core.now_ms + core.options.metadata_max_age_ms)
