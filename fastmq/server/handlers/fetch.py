"""Fetch of partitions with SLOW_FETCH: the same reads as in C, the answer put together here.

The engine sends a Fetch here when one of its partitions has the flag. There is no list of waiters
for such requests, so one that waits for data looks again every `_LOOK_INTERVAL_S`.
Answers have the same bytes as C's.
"""

from typing import Final

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.fetch import (
    FetchPartition,
    FetchPartitionData,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    FetchTopicResponse,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request, partition_error_code

__all__ = ["handle_fetch"]

_TOPIC_IDS_FROM: Final = 13
_READ_COMMITTED: Final = 1
_LOOK_INTERVAL_S: Final = 0.01


async def handle_fetch(
    context: BrokerContext, request: Request, message: FetchRequest
) -> FetchResponse | None:
    """Answer when enough is there, something is wrong, or time is over."""
    if message.session_epoch > 0:
        raise KafkaError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    deadline = trio.current_time() + max(message.max_wait_ms, 0) / 1000
    while True:
        topics, size, failed = await trio.to_thread.run_sync(
            _read_all, context, request.version, message
        )
        over = trio.current_time() >= deadline or context.draining
        if failed or size >= message.min_bytes or over:
            return FetchResponse(responses=topics)
        await trio.sleep(_LOOK_INTERVAL_S)


def _read_all(
    context: BrokerContext, version: int, message: FetchRequest
) -> tuple[list[FetchTopicResponse], int, bool]:
    """Return the topics of the answer, the bytes found, and whether anything failed."""
    limit = context.config.get_int("fetch.max.bytes")
    if 0 <= message.max_bytes < limit:
        limit = message.max_bytes
    size, failed = 0, False
    topics = []
    for asked in message.topics:
        rows = []
        for partition in asked.partitions:
            row = FetchPartitionData(
                partition_index=partition.partition,
                high_watermark=-1,
                aborted_transactions=None,
                records=b"",
            )
            try:
                handle = _find(context, version, asked, partition)
                room = max(limit - size, 0)
                row.records = _read(handle, partition, room, min_one=size == 0)
                row.high_watermark = row.last_stable_offset = handle.high_watermark()
                row.log_start_offset = handle.log_start()
                if message.isolation_level == _READ_COMMITTED:
                    row.aborted_transactions = []
                size += len(row.records)
            except KafkaError as exc:
                row.error_code, failed = exc.code, True
            except PartitionError as exc:
                row.error_code, failed = partition_error_code(exc), True
            rows.append(row)
        topics.append(
            FetchTopicResponse(topic=asked.topic, topic_id=asked.topic_id, partitions=rows)
        )
    return topics, size, failed


def _find(
    context: BrokerContext, version: int, asked: FetchTopic, partition: FetchPartition
) -> Partition:
    by_id = version >= _TOPIC_IDS_FROM
    topic = context.topics.by_id(asked.topic_id) if by_id else context.topics.get(asked.topic)
    if topic is None or not 0 <= partition.partition < len(topic.states):
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
    return context.topics.leader_handle_of(
        topic, partition.partition, partition.current_leader_epoch
    )


def _read(handle: Partition, asked: FetchPartition, room: int, *, min_one: bool) -> bytes:
    offset = asked.fetch_offset
    if offset >= handle.high_watermark():
        if offset > handle.log_end():
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        return b""
    max_bytes = min(max(asked.partition_max_bytes, 0), room)
    if max_bytes == 0 and not min_one:
        if offset < handle.log_start():
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        return b""
    return handle.read(offset, max_bytes, min_one=min_one)
