"""OffsetCommit, OffsetFetch and OffsetDelete.

Topics come by name here: from version 10 on the server replaces ids by names first, answers for
the unknown ids itself, and finds the ids repeated in the answers.

Who may commit:

====================  ===================================  ======================================
generation            identity                             accepted
====================  ===================================  ======================================
< 0                   none                                 if the group is Empty or unknown (admin
                                                           tools, simple consumers)
< 0                   none, group has members              no: UNKNOWN_MEMBER_ID
the current one       of a member                          unless in CompletingRebalance:
                                                           REBALANCE_IN_PROGRESS
another               of a member                          no: ILLEGAL_GENERATION
====================  ===================================  ======================================

Source: protocol guide, OffsetCommit 2-10, OffsetFetch 1-10, OffsetDelete 0; KIP-211, 447, 496, 709.
"""

from fastmq.coordinator.effects import Call
from fastmq.coordinator.group.answers import commit_refusal, offset_delete_refusal
from fastmq.coordinator.group.classic import ClassicGroup, GroupState
from fastmq.coordinator.group.limits import OFFSETS_PER_GROUP_MAX
from fastmq.coordinator.group.offsets import GroupOffsets
from fastmq.coordinator.group.rebalance import touch_session
from fastmq.coordinator.group.records import offset_record, offset_tombstone
from fastmq.coordinator.group.step import Step
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitPartitionResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitTopicResponse,
)
from fastmq.protocol.messages.offset_delete import (
    OffsetDeletePartitionResult,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteTopicResult,
)
from fastmq.protocol.messages.offset_fetch import (
    OffsetFetchGroup,
    OffsetFetchGroupPartitionResponse,
    OffsetFetchGroupResponse,
    OffsetFetchGroupTopicResponse,
)
from fastmq.protocol.records import OffsetCommitValue

__all__ = ["check_commit", "commit_offsets", "delete_offsets", "fetch_offsets"]

_INT64_MAX = 2**63 - 1


def check_commit(group: ClassicGroup, request: OffsetCommitRequest) -> ErrorCode:
    """Return why the request may not commit to this group, NONE if it may."""
    generation = request.generation_id_or_member_epoch
    empty = group.state is GroupState.EMPTY
    if generation < 0 and empty:
        return ErrorCode.NONE
    if generation >= 0 or request.member_id or request.group_instance_id is not None:
        code = group.check_member(request.member_id, request.group_instance_id)
        if code is not ErrorCode.NONE:
            return code
        if generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
    elif not empty:
        return ErrorCode.UNKNOWN_MEMBER_ID
    if group.state is GroupState.COMPLETING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def commit_offsets(
    group: ClassicGroup,
    offsets: GroupOffsets | None,
    call: Call,
    request: OffsetCommitRequest,
    step: Step,
) -> None:
    """Write the offsets of a request that `check_commit` let pass."""
    member = group.members.get(request.member_id)
    if member is not None:
        # A consumer that only commits between its polls is alive.
        touch_session(group, member, step)
    retention = request.retention_time_ms
    # An int64 in the log, where -1 means that the coordinator's own retention counts.
    expire = min(max(step.now_ms + retention, 0), _INT64_MAX) if retention != -1 else -1
    room = OFFSETS_PER_GROUP_MAX - (offsets.count if offsets is not None else 0)
    response = OffsetCommitResponse()
    for topic in request.topics:
        results = []
        for partition in topic.partitions:
            code = _check_partition(partition, room - len(step.records), step)
            if code is ErrorCode.NONE:
                value = OffsetCommitValue(
                    offset=partition.committed_offset,
                    leader_epoch=partition.committed_leader_epoch,
                    metadata=partition.committed_metadata or "",
                    commit_timestamp=step.now_ms,
                    expire_timestamp=expire,
                    topic_id=topic.topic_id,
                )
                record = offset_record(group.group_id, topic.name, partition.partition_index, value)
                step.records.append(record)
            results.append(
                OffsetCommitPartitionResponse(
                    partition_index=partition.partition_index, error_code=code
                )
            )
        response.topics.append(
            OffsetCommitTopicResponse(name=topic.name, topic_id=topic.topic_id, partitions=results)
        )
    step.reply(call, response, commit_refusal(request))


def _check_partition(partition: OffsetCommitPartition, room: int, step: Step) -> ErrorCode:
    metadata = partition.committed_metadata
    if metadata is not None and len(metadata) > step.config.offset_metadata_max_size:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    if room <= 0:
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return ErrorCode.NONE


def fetch_offsets(
    offsets: GroupOffsets | None, request: OffsetFetchGroup
) -> OffsetFetchGroupResponse:
    """Look up the offsets of one group; -1 for partitions without one, whatever the topic."""
    response = OffsetFetchGroupResponse(group_id=request.group_id)
    if request.topics is None:
        for name, partitions in offsets.topics.items() if offsets is not None else ():
            rows = [_fetched(index, value) for index, value in partitions.items()]
            response.topics.append(OffsetFetchGroupTopicResponse(name=name, partitions=rows))
        return response
    for topic in request.topics:
        known = offsets.topics.get(topic.name, {}) if offsets is not None else {}
        rows = [_fetched(index, known.get(index)) for index in topic.partition_indexes]
        response.topics.append(
            OffsetFetchGroupTopicResponse(name=topic.name, topic_id=topic.topic_id, partitions=rows)
        )
    return response


def _fetched(index: int, value: OffsetCommitValue | None) -> OffsetFetchGroupPartitionResponse:
    # The metadata is "" where there is none: some clients do not bear null.
    if value is None:
        return OffsetFetchGroupPartitionResponse(
            partition_index=index, committed_offset=-1, committed_leader_epoch=-1, metadata=""
        )
    return OffsetFetchGroupPartitionResponse(
        partition_index=index,
        committed_offset=value.offset,
        committed_leader_epoch=value.leader_epoch,
        metadata=value.metadata,
    )


def delete_offsets(
    group: ClassicGroup,
    offsets: GroupOffsets | None,
    call: Call,
    request: OffsetDeleteRequest,
    step: Step,
) -> None:
    """Remove offsets of topics that the group does not subscribe to."""
    response = OffsetDeleteResponse()
    for topic in request.topics:
        subscribed = group.is_subscribed_to(topic.name)
        code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE
        rows = []
        for partition in topic.partitions:
            index = partition.partition_index
            known = offsets is not None and offsets.get(topic.name, index) is not None
            if known and not subscribed:
                step.records.append(offset_tombstone(group.group_id, topic.name, index))
            rows.append(OffsetDeletePartitionResult(partition_index=index, error_code=code))
        response.topics.append(OffsetDeleteTopicResult(name=topic.name, partitions=rows))
    step.reply(call, response, offset_delete_refusal())
