"""Whether a new leader has what was read from the one before it. Pure.

After an unclean election the log may end before the position, or have other records there. Each
batch tells the leader epoch that it was appended in; a leader of a later epoch is asked, before
anything is fetched from it, where that epoch ends in its log. That is behind the position, or the
log was truncated.

Source: KIP-320.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fastmq.client.calls import Node, Request
from fastmq.client.consumer.state import PartitionState
from fastmq.client.core import ClientCore
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, FastmqError, KafkaError
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochPartition,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochTopic,
)

__all__ = ["EpochCheck"]

# Before it, consumers were not allowed to ask.
_CONSUMERS_FROM = 3


class EpochCheck:
    """Asks leaders of new epochs.

    Args:
        core: the client's core.
        on_result: called with a state that still is as it was, and the offset from which on the
            leader does not have what was read; or the reason why that is not known.
    """

    def __init__(
        self, core: ClientCore, on_result: Callable[[PartitionState, int | FastmqError], None]
    ) -> None:
        self._core = core
        self._on_result = on_result

    def must_ask(self, state: PartitionState) -> bool:
        """Whether the partition's leader is of an epoch that was not asked yet."""
        known = self._core.metadata.partition(*state.name)
        return (
            known is not None
            and -1 < state.epoch < known.leader_epoch
            and state.checked_epoch < known.leader_epoch
        )

    def ask(self, node: int, states: Iterable[PartitionState]) -> None:
        """Ask a leader about partitions, which are not fetched meanwhile."""
        asked: dict[TopicPartition, tuple[PartitionState, int, int]] = {}
        topics: dict[str, list[OffsetForLeaderEpochPartition]] = {}
        for state in states:
            known = self._core.metadata.partition(*state.name)
            assert known is not None
            state.is_fetching = True
            asked[state.name] = (state, state.version, known.leader_epoch)
            topics.setdefault(state.name.topic, []).append(
                OffsetForLeaderEpochPartition(
                    partition=state.name.partition,
                    current_leader_epoch=known.leader_epoch,
                    leader_epoch=state.epoch,
                )
            )
        message = OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[
                OffsetForLeaderEpochTopic(topic=topic, partitions=rows)
                for topic, rows in topics.items()
            ],
        )
        self._core.send(
            Node(node),
            Request(ApiKey.OFFSET_FOR_LEADER_EPOCH, lambda _: message, low=_CONSUMERS_FROM),
            lambda result: self._answered(asked, result),
            timeout_ms=None,
            retry=False,
        )

    # Any: a response or an exception, as `ClientCore.send` says.
    def _answered(
        self, asked: dict[TopicPartition, tuple[PartitionState, int, int]], result: Any
    ) -> None:
        for state, _, _ in asked.values():
            state.is_fetching = False
        if self._core.is_closed:
            return
        rows = {}
        if not isinstance(result, Exception):
            rows = {
                TopicPartition(topic.topic, row.partition): row
                for topic in result.topics
                for row in topic.partitions
            }
        for name, (state, version, leader_epoch) in asked.items():
            if state.is_live and state.version == version:
                self._on_result(state, self._verdict(state, leader_epoch, rows.get(name), result))

    def _verdict(
        self, state: PartitionState, leader_epoch: int, row: Any, result: Any
    ) -> int | FastmqError:
        if isinstance(result, KafkaError) and result.code == ErrorCode.UNSUPPORTED_VERSION:
            state.checked_epoch = leader_epoch  # a broker that cannot tell
            return state.fetch_offset
        if isinstance(result, FastmqError):
            return result
        if row is None or row.error_code:
            code = ErrorCode.UNKNOWN_SERVER_ERROR if row is None else row.error_code
            return KafkaError(code, f"asking where {state.name} was truncated")
        state.checked_epoch = leader_epoch
        # Without an answer there is no evidence; whether the offset exists, the fetch tells.
        end: int = row.end_offset
        return state.fetch_offset if end < 0 else end
