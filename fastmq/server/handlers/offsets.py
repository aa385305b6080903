"""ListOffsets, OffsetForLeaderEpoch, DeleteRecords: questions about the ends of logs.

Everything here may open a partition or read from the disk, so the work of a request runs in one
worker thread. Source: KIP-79, KIP-101, KIP-107, KIP-207, KIP-320, KIP-734, KIP-1005, KIP-1023.
"""

from typing import Final

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import TIME_SEARCH_READ_BYTES
from fastmq.log import LOG_START
from fastmq.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from fastmq.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderEpochResult,
    OffsetForLeaderEpochTopicResult,
)
from fastmq.records import find_max_timestamp, find_timestamp
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request, partition_error_code

__all__ = ["handle_delete_records", "handle_list_offsets", "handle_offset_for_leader_epoch"]

_LATEST: Final = -1
_EARLIEST: Final = -2
_MAX_TIMESTAMP: Final = -3
_EARLIEST_LOCAL: Final = -4
_LATEST_TIERED: Final = -5
_EARLIEST_PENDING_UPLOAD: Final = -6
# The first version that answers the leader epoch, and that knows each special position.
_EPOCH_FROM: Final = 4
_SPECIAL_FROM: Final = {
    _LATEST: 0,
    _EARLIEST: 0,
    _MAX_TIMESTAMP: 7,
    _EARLIEST_LOCAL: 8,
    _LATEST_TIERED: 9,
    _EARLIEST_PENDING_UPLOAD: 11,
}

Found = tuple[int, int, int]
"""(offset, timestamp, leader epoch), each -1 when there is none."""

_NOTHING: Final[Found] = (-1, -1, -1)


async def handle_list_offsets(
    context: BrokerContext, request: Request, message: ListOffsetsRequest
) -> ListOffsetsResponse:
    """Find offsets by time or special position."""
    return await trio.to_thread.run_sync(_list_offsets, context, request.version, message)


def _list_offsets(
    context: BrokerContext, version: int, message: ListOffsetsRequest
) -> ListOffsetsResponse:
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for topic in message.topics:
        for partition in topic.partitions:
            key = (topic.name, partition.partition_index)
            (twice if key in seen else seen).add(key)
    committed_only = message.isolation_level == 1
    topics = []
    for topic in message.topics:
        answers = []
        for partition in topic.partitions:
            answer = ListOffsetsPartitionResponse(partition_index=partition.partition_index)
            try:
                _refuse_if((topic.name, partition.partition_index) in twice)
                handle = context.topics.leader_handle(
                    topic.name, partition.partition_index, partition.current_leader_epoch
                )
                found = _find(handle, version, partition, committed_only=committed_only)
                answer.offset, answer.timestamp, epoch = found
                if version >= _EPOCH_FROM:
                    answer.leader_epoch = epoch
            except KafkaError as exc:
                answer.error_code = exc.code
            except PartitionError as exc:
                answer.error_code = partition_error_code(exc)
            answers.append(answer)
        topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
    return ListOffsetsResponse(topics=topics)


def _refuse_if(given_twice: bool) -> None:
    if given_twice:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a partition is given twice")


def _find(
    handle: Partition, version: int, asked: ListOffsetsPartition, *, committed_only: bool
) -> Found:
    timestamp = asked.timestamp
    if timestamp < 0 and version < _SPECIAL_FROM.get(timestamp, 1 << 15):
        raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"no such position: {timestamp}")
    end = handle.last_stable_offset() if committed_only else handle.high_watermark()
    if timestamp == _LATEST:
        return end, -1, handle.leader_epoch()
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        start = handle.log_start()
        return start, -1, _epoch_of(handle, start)
    if timestamp in (_LATEST_TIERED, _EARLIEST_PENDING_UPLOAD):
        return _NOTHING
    if timestamp == _MAX_TIMESTAMP:
        return _with_epoch(handle, end, find_max_timestamp(handle.find_max_timestamp()))
    return _with_epoch(handle, end, _search(handle, timestamp, end))


def _search(handle: Partition, timestamp: int, end: int) -> tuple[int, int] | None:
    """Return (offset, timestamp) of the first record at or after a time and the log start."""
    start = handle.log_start()
    batches = handle.find_timestamp(timestamp)
    while batches:
        found, following = find_timestamp(batches, timestamp, start)
        if found is not None:
            return found
        # All that matched in this batch was deleted by DeleteRecords: go on behind it.
        if following >= end:
            return None
        batches = handle.read(following, TIME_SEARCH_READ_BYTES)
    return None


def _with_epoch(handle: Partition, end: int, found: tuple[int, int] | None) -> Found:
    if found is None or found[0] >= end:
        return _NOTHING
    return found[0], found[1], _epoch_of(handle, found[0])


def _epoch_of(handle: Partition, offset: int) -> int:
    """Return the epoch in which an offset was written; the present one at the end of the log."""
    epoch = handle.epoch_of(offset)
    return epoch if epoch >= 0 else handle.leader_epoch()


async def handle_offset_for_leader_epoch(
    context: BrokerContext, _request: Request, message: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Tell where epochs ended."""
    return await trio.to_thread.run_sync(_epoch_ends, context, message)


def _epoch_ends(
    context: BrokerContext, message: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    topics = []
    for topic in message.topics:
        results = []
        for asked in topic.partitions:
            result = OffsetForLeaderEpochResult(partition=asked.partition)
            try:
                handle = context.topics.leader_handle(
                    topic.topic, asked.partition, asked.current_leader_epoch
                )
                result.leader_epoch, result.end_offset = handle.epoch_end(asked.leader_epoch)
            except KafkaError as exc:
                result.error_code = exc.code
            except PartitionError as exc:
                result.error_code = partition_error_code(exc)
            results.append(result)
        topics.append(OffsetForLeaderEpochTopicResult(topic=topic.topic, partitions=results))
    return OffsetForLeaderEpochResponse(topics=topics)


async def handle_delete_records(
    context: BrokerContext, _request: Request, message: DeleteRecordsRequest
) -> DeleteRecordsResponse:
    """Move the start of logs forward; -1 is the high watermark."""
    return await trio.to_thread.run_sync(_delete_records, context, message)


def _delete_records(context: BrokerContext, message: DeleteRecordsRequest) -> DeleteRecordsResponse:
    topics = []
    moved: dict[int, dict[tuple[str, int], int | None]] = {}
    for asked in message.topics:
        results = []
        for partition in asked.partitions:
            result = DeleteRecordsPartitionResult(
                partition_index=partition.partition_index, low_watermark=-1
            )
            try:
                handle = context.topics.leader_handle(asked.name, partition.partition_index)
                result.low_watermark = _delete_below(context, handle, partition.offset)
                table = moved.setdefault(handle.dir_id, {})
                table[handle.topic, handle.index] = result.low_watermark
            except KafkaError as exc:
                result.error_code = exc.code
            except PartitionError as exc:
                result.error_code = partition_error_code(exc)
            results.append(result)
        topics.append(DeleteRecordsTopicResult(name=asked.name, partitions=results))
    # What was deleted on request stays deleted, whatever happens to the broker.
    for dir_id, table in moved.items():
        try:
            context.storage.checkpoint(dir_id, LOG_START, table)
        except OSError as exc:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(exc)) from exc
    return DeleteRecordsResponse(topics=topics)


def _delete_below(context: BrokerContext, handle: Partition, offset: int) -> int:
    topic = context.topics.get(handle.topic)
    if topic is None or not topic.config.is_deleted_by_retention:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, "cleanup.policy of the topic has no delete")
    end = handle.high_watermark()
    if offset == -1:
        offset = end
    if not 0 <= offset <= end:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE, f"the log ends at {end}")
    return handle.delete_records(offset)
