"""The program's side of a consumer, shared by both fronts: what it was given, what it is done with.

Of all that is here only the program's own thread or task knows. It takes chunks off the machine's
queue and tells the machine through `post`.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from fastmq._native.consumer import Chunk, ConsumerRecord, RecordStream, Run
from fastmq.client.consumer import ConsumerMachine
from fastmq.client.consumer.state import PartitionState
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ConfigError

__all__ = ["Batch", "Reading", "check_has", "pattern_of", "spread"]


class Batch(NamedTuple):
    """Records of one partition, in order; never empty."""

    name: TopicPartition
    records: Sequence[ConsumerRecord]

    @property
    def topic(self) -> str:
        """Its topic."""
        return self.name.topic

    @property
    def partition(self) -> int:
        """Its partition."""
        return self.name.partition

    @property
    def next_offset(self) -> int:
        """The offset behind its last record."""
        return self.records[-1].offset + 1

    def __iter__(self) -> Iterator[ConsumerRecord]:  # type: ignore[override]
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


class Reading:
    """Where the program is.

    Args:
        machine: the consumer's.
        post: runs a function in the pump's thread or task.
        refill: waits for the next records; for a front that iterates without awaiting.
        refill_later: returns an awaitable of the next one; for a front that awaits.
    """

    def __init__(
        self,
        machine: ConsumerMachine,
        post: Callable[[Callable[[], None]], None],
        refill: Callable[[], Run | None] | None = None,
        refill_later: Callable[[], Awaitable[ConsumerRecord]] | None = None,
    ) -> None:
        self._machine = machine
        self._post = post
        self._current: tuple[PartitionState, Chunk] | None = None
        #: The records that are handed out now; the front feeds it with what `next_run` returns.
        self.stream = RecordStream(refill, refill_later)
        self._state: PartitionState | None = None
        self._version = 0
        # Taken off the machine's queue and not returned when their partition was paused.
        self._aside: list[tuple[PartitionState, int, Run, int]] = []

    def next_run(self) -> Run | None:
        """Return the next records that are wanted; None: there are none now."""
        resumed = self._next_aside()
        if resumed is not None:
            return resumed
        put_back = []
        try:
            while True:
                if self._current is None:
                    try:
                        self._current = self._machine.fetcher.chunks.popleft()
                    except IndexError:
                        return None
                state, chunk = self._current
                if state.takes(chunk) and state.is_paused:
                    put_back.append(self._current)
                    self._current = None
                    continue
                # What cannot be read stays the current chunk: each poll says so until a seek.
                run = chunk.next_run() if state.takes(chunk) else None
                if run is None:
                    if state.takes(chunk):
                        # Behind markers of transactions, too: nobody waits for what never comes.
                        state.delivered = max(state.delivered, chunk.offset)
                    self._current = None
                    self._post(partial(self._machine.fetcher.took, state, chunk))
                    continue
                if not state.takes(chunk):
                    continue  # taken away while it was read
                self._state, self._version = state, state.version
                state.delivered = chunk.offset
                return run
        finally:
            for item in reversed(put_back):
                self._machine.fetcher.chunks.appendleft(item)

    def _next_aside(self) -> Run | None:
        """Records that were put aside, of a partition that is not paused any more."""
        for number, (state, version, run, end) in enumerate(self._aside):
            if not state.is_live or state.version != version:
                del self._aside[number]
                return self._next_aside()
            if not state.is_paused:
                del self._aside[number]
                self._state, self._version = state, version
                state.delivered = end
                return run
        return None

    def pause(self, names: Iterable[TopicPartition], *, paused: bool) -> None:
        """Return nothing of partitions, or again: from the next record on."""
        chosen = list(names)
        state = self._state
        if paused and state is not None and state.name in chosen and self.stream.left:
            rest = self.stream.take()
            assert rest is not None
            self._aside.append((state, self._version, rest, state.delivered))
            state.delivered = rest.position
        for name in chosen:
            found = self._machine.states.get(name)
            if found is not None:
                found.is_paused = paused
        if not paused:
            self._post(self._machine.fetcher.fetch)

    def done_with_current(self) -> None:
        """The program asks for more: it is done with what it was given."""
        state = self._state
        if state is not None and state.version == self._version:
            state.consumed = max(state.consumed, state.delivered)
        self._state = None

    def done_with_returned(self) -> None:
        """The program ends, and is done with what it was given of the current list."""
        state = self._state
        if state is not None and state.version == self._version:
            offset = self._returned_until()
            if offset is not None:
                state.consumed = max(state.consumed, offset)

    def _returned_until(self) -> int | None:
        """The offset behind the last record of the current run that was returned, if any was."""
        stream = self.stream
        if not stream.left and self._state is not None:
            return self._state.delivered
        return stream.position if stream.is_begun else None

    def take_rest(self) -> list[ConsumerRecord]:
        """Return what is left of the current run, as returned."""
        rest = self.stream.rest()
        self.stream.feed(None)
        return rest

    def drop(self, name: TopicPartition | None = None) -> None:
        """Forget what was taken and not returned, of one partition or of all."""
        if name is None or (self._state is not None and self._state.name == name):
            self.stream.feed(None)
            self._state = None
        self._aside = [item for item in self._aside if name is not None and item[0].name != name]

    def has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether all records before these offsets were returned.

        The last offsets may have none: of transactions' markers, or compacted away.
        """
        states = self._machine.states
        return not self.stream.left and all(
            states[name].delivered >= end
            or (states[name].fetch_offset >= end and not states[name].chunks_ahead)
            for name, end in ends.items()
        )

    def position(self, state: PartitionState) -> int | None:
        """The offset of the next record of a partition, None while not known."""
        if state is self._state and state.version == self._version:
            returned = self._returned_until()
            return self.stream.position if returned is None else returned
        if state.delivered >= 0:
            return state.delivered
        return state.fetch_offset if state.fetch_offset >= 0 else None

    def lag(self) -> dict[TopicPartition, int]:
        """Records ahead of the program, where the broker has told."""
        found = {}
        for name, state in sorted(self._machine.states.items()):
            at = self.position(state)
            if at is not None and state.high_watermark >= 0:
                found[name] = max(0, state.high_watermark - at)
        return found

    def offsets_of(
        self, what: Batch | ConsumerRecord | Mapping[tuple[str, int], int] | None
    ) -> dict[TopicPartition, int]:
        """The offsets that a commit means."""
        if isinstance(what, Batch):
            return {what.name: what.next_offset}
        if isinstance(what, ConsumerRecord):
            return {TopicPartition(what.topic, what.partition): what.offset + 1}
        if what is not None:
            return {TopicPartition(*name): offset for name, offset in what.items()}
        offsets = {}
        for name, state in self._machine.states.items():
            at = self.position(state)
            if at is not None and state.delivered >= 0:
                offsets[name] = at
        return offsets


def check_has(machine: ConsumerMachine, topic: str, partition: int) -> PartitionState:
    """Return the state of a partition that the consumer has.

    Raises:
        ValueError: it does not have it.
    """
    name = TopicPartition(topic, partition)
    state = machine.states.get(name)
    if state is None:
        raise ValueError(f"this consumer does not have {name} (now); see assignment()")
    return state


def spread(topics: str | Iterable[str]) -> list[str]:
    """One name or several."""
    return [topics] if isinstance(topics, str) else list(topics)


def pattern_of(
    names: list[str], pattern: str | re.Pattern[str] | None, group_id: str | None
) -> re.Pattern[str] | None:
    """Check what a subscription says and return its pattern.

    Raises:
        ConfigError: there is no group to subscribe in.
        ValueError: both names and a pattern, or neither.
    """
    if group_id is None:
        raise ConfigError(
            "subscribing needs a group_id; without a group, assign() partitions: "
            'consumer.assign([("topic", 0)])'
        )
    if bool(names) == (pattern is not None):
        raise ValueError("subscribe to names or to a pattern")
    return re.compile(pattern) if isinstance(pattern, str) else pattern
