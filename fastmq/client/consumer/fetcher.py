"""Fetching ahead of the program, within a memory limit. Pure.

A partition is asked for while it has a position, is not paused, and does not have its share waiting
for the program already: that spares waiting for the broker, but what waits for long has left the
processor's caches. Those that were not served for longest come first. Together they hold
`prefetch_max_bytes`, and what one answer may bring more.

Fetches have connections of their own, since a broker answers in order and may keep one for
`fetch_max_wait_ms`: one for partitions that are read to their end, where that is likely, and one
for the others, which must not wait behind those.

Source: KIP-74, KIP-98 (isolation), KIP-320 (leader epochs), KIP-392 (replicas in the own rack),
KIP-516 (topic ids).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from fastmq._native.consumer import Chunk, end_of
from fastmq.client.calls import Node, Request
from fastmq.client.consumer.epochs import EpochCheck
from fastmq.client.consumer.options import ConsumerOptions
from fastmq.client.consumer.state import PartitionState
from fastmq.client.core import ClientCore
from fastmq.client.topic_partition import TopicPartition
from fastmq.compression import decompress
from fastmq.errors import ErrorCode, FastmqError, KafkaError, error_code
from fastmq.ids import UUID_ZERO
from fastmq.protocol import ApiKey, Message
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic

__all__ = ["Fetcher"]

_LANE = "fetch"
_LANE_AT_END = "fetch-at-end"
_CHUNKS_AHEAD_MAX = 4
_CHUNKS_AHEAD_MIN = 2
_NAMES_UNTIL = 12
_LAST_EPOCH_FROM = 12

_MOVED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
    }
)

Asked = dict[TopicPartition, tuple[PartitionState, int, int]]
"""State, its version and the offset asked for."""


class Fetcher:
    """The fetches of one consumer.

    Args:
        core: the client's core.
        options: the consumer's.
        states: what the consumer has; looked at for each round.
        on_chunk: called after a chunk was added.
        on_out_of_range: called with a state whose offset does not exist.
        on_truncated: called with a state and the offset from which on its records are gone.
        on_error: called with what the program has to know.
    """

    def __init__(
        self,
        core: ClientCore,
        options: ConsumerOptions,
        states: Callable[[], Mapping[TopicPartition, PartitionState]],
        *,
        on_chunk: Callable[[], None],
        on_out_of_range: Callable[[PartitionState], None],
        on_truncated: Callable[[PartitionState, int], None],
        on_error: Callable[[FastmqError], None],
    ) -> None:
        self._core = core
        self._options = options
        self._states = states
        self._on_chunk = on_chunk
        self._on_out_of_range = on_out_of_range
        self._on_truncated = on_truncated
        self._on_error = on_error
        self._epochs = EpochCheck(core, self._checked)
        # Bytes that each fetch under way may bring.
        self._busy: dict[tuple[int, str], int] = {}
        self._failures = 0
        self._fetch_at_ms = 0
        self._served = 0
        # Read by the program's thread: appended here, taken there.
        self.chunks: deque[tuple[PartitionState, Chunk]] = deque()
        self.buffered_bytes = 0
        core.on_metadata(self.fetch)

    def took(self, state: PartitionState, chunk: Chunk) -> None:
        """Take note that the program took a chunk, and fetch on."""
        self._forget(state, chunk)
        self.fetch()

    def _forget(self, state: PartitionState, chunk: Chunk) -> None:
        state.chunks_ahead -= 1
        state.bytes_ahead -= chunk.size
        self.buffered_bytes -= chunk.size

    def drop_stale(self) -> None:
        """Throw away what is not wanted any more, so that it does not hold memory."""
        for _ in range(len(self.chunks)):
            try:
                state, chunk = self.chunks.popleft()
            except IndexError:
                return  # the program took it meanwhile
            if state.takes(chunk):
                self.chunks.append((state, chunk))
            else:
                self._forget(state, chunk)

    def fetch(self) -> None:
        """Ask every broker that is not asked already for what may be fetched from it."""
        if self._core.is_closed or self._room() <= 0:
            return
        now_ms = self._core.now_ms
        wanted: dict[tuple[int, str], list[PartitionState]] = {}
        unsure: dict[int, list[PartitionState]] = {}
        earliest_ms: int | None = None
        lost_leader = False
        having = self._states()
        share = self._options.prefetch_max_bytes // max(1, len(having))
        for name, state in having.items():
            if (
                state.fetch_offset < 0
                or state.is_paused
                or state.is_fetching
                or self._has_share(state, share)
            ):
                continue
            if state.retry_at_ms > now_ms:
                when_ms = state.retry_at_ms
                earliest_ms = when_ms if earliest_ms is None else min(when_ms, earliest_ms)
                continue
            node = self._core.metadata.leader(name.topic, name.partition)
            if node is None:
                lost_leader = True
                continue
            if self._epochs.must_ask(state):
                unsure.setdefault(node, []).append(state)
                continue
            node = self._read_from(state, node)
            at_end = 0 <= state.high_watermark <= state.fetch_offset
            key = (node, _LANE_AT_END if at_end else _LANE)
            if key not in self._busy:
                wanted.setdefault(key, []).append(state)
        if lost_leader:
            self._core.refresh_metadata()
        if earliest_ms is not None:
            self._fetch_at(earliest_ms)
        for node, states in unsure.items():
            self._epochs.ask(node, states)
        for key, states in wanted.items():
            if self._room() > 0:
                self._send(key, states)

    def _fetch_at(self, when_ms: int) -> None:
        """Fetch then, by one timer however often that is asked for."""
        if not self._core.now_ms < self._fetch_at_ms <= when_ms:
            self._fetch_at_ms = when_ms
            self._core.call_at(when_ms, self.fetch)

    def _read_from(self, state: PartitionState, leader: int) -> int:
        """Return the replica that the leader prefers, while that holds, or the leader."""
        if state.preferred < 0:
            return leader
        is_over = self._core.now_ms >= state.preferred_until_ms
        if is_over or state.preferred not in self._core.metadata.nodes:
            state.preferred = -1
            return leader
        return state.preferred

    @staticmethod
    def _has_share(state: PartitionState, share: int) -> bool:
        """Whether a partition must not get more ahead of the program."""
        ahead = state.chunks_ahead
        return ahead >= _CHUNKS_AHEAD_MAX or (
            ahead >= _CHUNKS_AHEAD_MIN and state.bytes_ahead >= share
        )

    def _room(self) -> int:
        """Bytes that may be asked for besides what is here and what is under way."""
        under_way = sum(self._busy.values())
        return self._options.prefetch_max_bytes - self.buffered_bytes - under_way

    def _send(self, key: tuple[int, str], states: list[PartitionState]) -> None:
        options = self._options
        # Brokers fill an answer in this order.
        states.sort(key=attrgetter("served"))
        asked: Asked = {state.name: (state, state.version, state.fetch_offset) for state in states}
        for state in states:
            state.is_fetching = True
        ids = {name.topic: self._topic_id(name.topic) for name in asked}
        most = len(states) * options.max_partition_fetch_bytes
        if key[1] == _LANE_AT_END:
            # It may wait for long and must not keep the room from the others meanwhile.
            nodes = max(1, len(self._core.metadata.nodes))
            most = min(most, max(1, options.prefetch_max_bytes // (4 * nodes)))
        max_bytes = min(options.fetch_max_bytes, self._room(), most)
        self._busy[key] = max_bytes

        def build(version: int) -> Message:
            return FetchRequest(
                max_wait_ms=options.fetch_max_wait_ms,
                min_bytes=options.fetch_min_bytes,
                max_bytes=max_bytes,
                rack_id=options.client_rack,
                isolation_level=int(options.isolation_level == "read_committed"),
                topics=[
                    FetchTopic(topic=topic, topic_id=ids[topic], partitions=rows)
                    for topic, rows in self._rows(asked, version).items()
                ],
            )

        self._core.send(
            Node(key[0]),
            Request(
                ApiKey.FETCH,
                build,
                high=_NAMES_UNTIL if UUID_ZERO in ids.values() else 32767,
            ),
            lambda result: self._answered(key, asked, result),
            timeout_ms=None,
            attempt_timeout_ms=options.fetch_max_wait_ms + options.request_timeout_ms,
            retry=False,
            lane=key[1],
        )

    def _topic_id(self, topic: str) -> bytes:
        info = self._core.metadata.topics.get(topic)
        return UUID_ZERO if info is None else info.topic_id

    def _rows(self, asked: Asked, version: int) -> dict[str, list[FetchPartition]]:
        topics: dict[str, list[FetchPartition]] = {}
        for (topic, index), (state, _, offset) in asked.items():
            known = self._core.metadata.partition(topic, index)
            may_tell_epoch = version >= _LAST_EPOCH_FROM and state.fetch_offset == offset
            topics.setdefault(topic, []).append(
                FetchPartition(
                    partition=index,
                    current_leader_epoch=-1 if known is None else known.leader_epoch,
                    fetch_offset=offset,
                    last_fetched_epoch=state.epoch if may_tell_epoch else -1,
                    partition_max_bytes=self._options.max_partition_fetch_bytes,
                )
            )
        return topics

    # Any: a response or an exception, as `ClientCore.send` says.
    def _answered(self, key: tuple[int, str], asked: Asked, result: Any) -> None:
        self._busy.pop(key, None)
        for state, _, _ in asked.values():
            state.is_fetching = False
        if self._core.is_closed:
            return
        if isinstance(result, Exception) or result.error_code:
            self._failures += 1
            for state, _, _ in asked.values():
                state.preferred = -1
            self._retry_later(state for state, _, _ in asked.values())
        else:
            self._failures = 0
            grew = False
            for name, row in self._answers(result):
                if name in asked:
                    grew = self._take(*asked[name], row) or grew
            if grew:
                self._on_chunk()
        self.fetch()

    def _answers(self, response: Any) -> Iterable[tuple[TopicPartition, Any]]:
        for topic in response.responses:
            name = topic.topic or self._core.metadata.topic_name(topic.topic_id)
            if name is not None:
                for row in topic.partitions:
                    yield TopicPartition(name, row.partition_index), row

    def _checked(self, state: PartitionState, result: int | FastmqError) -> None:
        """A leader has told until where it has what was read before; or could not."""
        if isinstance(result, FastmqError):
            self._failures += 1
            self._retry_later([state])
        elif result < state.fetch_offset:
            self._on_truncated(state, result)
        self.fetch()

    def _retry_later(self, states: Iterable[PartitionState]) -> None:
        when_ms = self._core.now_ms + self._core.backoff_ms(max(1, self._failures))
        for state in states:
            state.retry_at_ms = when_ms
        self._core.refresh_metadata()

    def _take(self, state: PartitionState, version: int, offset: int, row: Any) -> bool:
        """Take what one partition brought; True when there are records."""
        if not state.is_live or state.version != version:
            return False
        code = error_code(row.error_code)
        if code is not ErrorCode.NONE:
            had_preferred, state.preferred = state.preferred >= 0, -1
            if had_preferred and code is ErrorCode.OFFSET_OUT_OF_RANGE:
                self._retry_later([state])  # only the leader knows for certain
            else:
                self._refused(state, code)
            return False
        if row.preferred_read_replica >= 0:
            state.preferred = row.preferred_read_replica
            state.preferred_until_ms = self._core.now_ms + self._options.metadata_max_age_ms
            return False
        if row.diverging_epoch is not None and row.diverging_epoch.end_offset >= 0:
            self._on_truncated(state, row.diverging_epoch.end_offset)
            return False
        state.high_watermark = row.high_watermark
        state.last_stable_offset = row.last_stable_offset
        state.log_start = row.log_start_offset
        if not row.records:
            return False
        end, size, epoch = end_of(row.records, offset)
        if end <= offset:
            return False
        options = self._options
        aborted = None
        if options.isolation_level == "read_committed":
            aborted = [(a.first_offset, a.producer_id) for a in row.aborted_transactions or ()]
        chunk = Chunk(
            memoryview(row.records)[:size],
            state.name.topic,
            state.name.partition,
            offset,
            decompress,
            version=version,
            aborted=aborted,
            check_crc=options.check_crcs,
            inflated_max=options.max_inflated_batch_bytes,
            key_deserializer=options.key_deserializer,
            value_deserializer=options.value_deserializer,
        )
        # In this order: who sees the new offset sees that something waits before it, too.
        state.chunks_ahead += 1
        state.bytes_ahead += chunk.size
        self._served += 1
        state.served = self._served
        state.fetched(end, epoch)
        self.buffered_bytes += chunk.size
        self.chunks.append((state, chunk))
        return True

    def _refused(self, state: PartitionState, code: ErrorCode) -> None:
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._on_out_of_range(state)
        elif code in _MOVED or code.retriable:
            self._failures += 1
            self._retry_later([state])
        else:
            state.retry_at_ms = self._core.now_ms + self._options.retry_backoff_max_ms
            self._on_error(KafkaError(code, f"fetching {state.name} at {state.fetch_offset}"))
