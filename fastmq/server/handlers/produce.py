"""Produce that C does not decide: topics whose records must be looked at or compressed anew.

Batches are checked (compacted topics need keys, `fastmq.validation=records` wants all of it) and
recompressed here, then go through the same append as in C, and the answer has the same bytes as
C's. A batch with a wrong checksum or header is not looked into: the append refuses it.

Directories without free space also end here, with a retriable error.
"""

from typing import Final

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.compression import Codec
from fastmq.errors import ErrorCode, KafkaError
from fastmq.limits import INLINE_INFLATE_BYTES_MAX
from fastmq.protocol.messages.produce import (
    ProducePartition,
    ProducePartitionResponse,
    ProduceRequest,
    ProduceResponse,
    ProduceTopic,
    ProduceTopicResponse,
)
from fastmq.records import BatchHeader, read_batches, recompress, validate_batch
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request, partition_error_code
from fastmq.server.topics import Topic

__all__ = ["check_replicas", "handle_produce"]

_TOPIC_IDS_FROM: Final = 13
_ZSTD_FROM: Final = 7
# Kafka's own tools write to internal topics under this name.
_ADMIN_CLIENT: Final = "__admin_client"

_CODECS: Final = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
_LEVEL_KEYS: Final = {
    "gzip": "compression.gzip.level",
    "lz4": "compression.lz4.level",
    "zstd": "compression.zstd.level",
}


async def handle_produce(
    context: BrokerContext, request: Request, message: ProduceRequest
) -> ProduceResponse | None:
    """Append the batches of a request and answer when they are committed."""
    waits: list[tuple[ProducePartitionResponse, int]] = []
    topics = []
    for asked in message.topic_data:
        answers = []
        for partition in asked.partition_data:
            answer = ProducePartitionResponse(index=partition.index, base_offset=-1)
            try:
                await _append(context, request, message, asked, partition, answer, waits)
            except KafkaError as exc:
                answer.error_code, answer.error_message = exc.code, exc.message or None
            except PartitionError as exc:
                answer.error_code, answer.error_message = partition_error_code(exc), str(exc)
            answers.append(answer)
        topics.append(
            ProduceTopicResponse(
                name=asked.name, topic_id=asked.topic_id, partition_responses=answers
            )
        )
    if message.acks == 0:
        context.appends.forget(token for _, token in waits)
        if any(answer.error_code for topic in topics for answer in topic.partition_responses):
            request.close()
        return None
    await _wait(context, waits, message.timeout_ms)
    return ProduceResponse(responses=topics)


async def _append(
    context: BrokerContext,
    request: Request,
    message: ProduceRequest,
    asked: ProduceTopic,
    partition: ProducePartition,
    answer: ProducePartitionResponse,
    waits: list[tuple[ProducePartitionResponse, int]],
) -> None:
    topic, handle = _find(context, request, message, asked, partition.index)
    check_replicas(context, topic, partition.index, message.acks)
    data = partition.records
    if data is None or not len(data):
        raise KafkaError(ErrorCode.INVALID_RECORD, "the request has no records for this partition")
    if handle.dir_id in context.topics.full_directories:
        raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full")
    batch = bytearray(data)
    _check_header(request, message, batch)
    if len(batch) > INLINE_INFLATE_BYTES_MAX:
        batch = await trio.to_thread.run_sync(_prepare, topic, batch)
    else:
        batch = _prepare(topic, batch)
    token = context.appends.new()
    code, base_offset, append_time_ms, reason = handle.append(
        batch, wait_token=token, now_ms=context.clock.now_ms()
    )
    if code:
        context.appends.forget([token])
        raise KafkaError(code, reason or "")
    answer.base_offset = base_offset
    answer.log_append_time_ms = append_time_ms
    answer.log_start_offset = handle.log_start()
    waits.append((answer, token))


def check_replicas(context: BrokerContext, topic: Topic, index: int, acks: int) -> None:
    """Refuse what the other replicas stand in the way of, as the engine does."""
    state = topic.states[index]
    if len(state.replicas) == 1 or context.membership is None:
        return
    # More than there are cannot be asked for (KIP-966).
    enough = min(topic.config.get_int("min.insync.replicas"), len(state.replicas))
    if acks == -1 and len(state.isr) < enough:
        raise KafkaError(
            ErrorCode.NOT_ENOUGH_REPLICAS, "fewer replicas are in sync than min.insync.replicas"
        )
    if acks != -1 and not context.membership.may_lead:
        raise KafkaError(
            ErrorCode.NOT_LEADER_OR_FOLLOWER, "this broker does not know whether it still leads"
        )


def _find(
    context: BrokerContext,
    request: Request,
    message: ProduceRequest,
    asked: ProduceTopic,
    index: int,
) -> tuple[Topic, Partition]:
    if message.acks not in (-1, 0, 1):
        raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS, "acks must be 0, 1 or -1")
    by_id = request.version >= _TOPIC_IDS_FROM
    topic = context.topics.by_id(asked.topic_id) if by_id else context.topics.get(asked.name)
    if topic is None or not 0 <= index < len(topic.states):
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
    if topic.is_internal and request.client_id != _ADMIN_CLIENT:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, "only the broker writes to an internal topic"
        )
    return topic, context.topics.leader_handle_of(topic, index)


def _check_header(request: Request, message: ProduceRequest, batch: bytearray) -> None:
    """Refuse what C refuses before the append looks at the batch, in the same order."""
    try:
        header = BatchHeader(batch)
    except KafkaError:
        return  # the append says what is wrong with it
    if message.transactional_id is not None or header.is_transactional:
        raise KafkaError(
            ErrorCode.INVALID_TXN_STATE,
            "this broker has no transactions; use an idempotent producer without a "
            "transactional.id",
        )
    if header.codec == Codec.ZSTD and request.version < _ZSTD_FROM:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 or newer"
        )


def _is_intact(batch: bytearray) -> bool:
    """Whether there is one batch with the right checksum; the append refuses all else."""
    try:
        batches = list(read_batches(batch))
    except KafkaError:
        return False
    return len(batches) == 1 and batches[0].crc_ok()


def _prepare(topic: Topic, batch: bytearray) -> bytearray:
    """Check the records of a batch, and bring it to the topic's codec.

    Raises:
        KafkaError: INVALID_RECORD, CORRUPT_MESSAGE, MESSAGE_TOO_LARGE.
    """
    config = topic.config
    codec = config.get_str("compression.type")
    validates = config.is_compacted or config.get_str("fastmq.validation") == "records"
    if not (validates or codec != "producer") or not _is_intact(batch):
        return batch
    if validates:
        validate_batch(batch, need_key=config.is_compacted)
    if codec == "producer":
        return batch
    level = config.get_int(_LEVEL_KEYS[codec]) if codec in _LEVEL_KEYS else None
    # The library's own default is written as -1 for gzip.
    made = recompress(batch, _CODECS[codec], level=None if level == -1 else level)
    return batch if made is None else made


async def _wait(
    context: BrokerContext, waits: list[tuple[ProducePartitionResponse, int]], timeout_ms: int
) -> None:
    """Wait until every append is committed, or say of those that are not that time is over."""
    with trio.move_on_after(max(timeout_ms, 0) / 1000) as scope:
        for answer, token in waits:
            _note(answer, await context.appends.wait(token))
    if scope.cancelled_caught:
        for answer, token in waits:
            _note(answer, context.appends.give_up(token))


def _note(answer: ProducePartitionResponse, code: int) -> None:
    if code:
        answer.error_code = code
        answer.base_offset = -1
