"""Committing offsets in the group's name. Pure. Source: KIP-345, KIP-211, KIP-320."""

from collections.abc import Callable, Mapping
from typing import Any

from fastmq.client.admin.offsets import by_topic
from fastmq.client.calls import Coordinator, CoordinatorKind, Request
from fastmq.client.consumer.membership import Membership
from fastmq.client.consumer.options import ConsumerOptions
from fastmq.client.core import ClientCore
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import CommitFailed, ErrorCode, KafkaError, error_code
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)

__all__ = ["Committer"]

# Version 10 names topics by id, which would cost a look-up.
_COMMIT_HIGH = 9

_AGAIN = frozenset(
    {
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)
_NOT_A_MEMBER = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.REBALANCE_IN_PROGRESS,
        ErrorCode.FENCED_INSTANCE_ID,
    }
)


class Committer:
    """The commits of one consumer.

    Args:
        core: the client's core.
        options: the consumer's.
        membership: None without a group.
        epoch_of: returns the leader epoch that is committed with an offset, so that who goes on
            there notices a truncated log; -1: not known.
    """

    def __init__(
        self,
        core: ClientCore,
        options: ConsumerOptions,
        membership: Membership | None,
        epoch_of: Callable[[TopicPartition, int], int] = lambda _, __: -1,
    ) -> None:
        self._core = core
        self._options = options
        self._membership = membership
        self._epoch_of = epoch_of
        self._committed: dict[TopicPartition, int] = {}

    def commit(
        self,
        offsets: Mapping[TopicPartition, int],
        done: Callable[[Any], None],
        *,
        metadata: str = "",
        only_new: bool = False,
    ) -> None:
        """Commit offsets: each that of the next record to read.

        Args:
            offsets: by partition.
            done: called with None, or an exception: `CommitFailed` when the group has gone on
                without this member, `KafkaError` otherwise.
            metadata: a note that is kept with them.
            only_new: leave out what was committed last.
        """
        group = self._options.group_id
        if group is None:
            done(KafkaError(ErrorCode.INVALID_GROUP_ID, "committing needs a group_id"))
            return
        if only_new:
            known = self._committed
            offsets = {name: at for name, at in offsets.items() if known.get(name) != at}
        if not offsets:
            done(None)
            return
        member = self._membership
        in_group = member is not None and member.is_member
        if member is not None and member.left_for_not_polling:
            done(CommitFailed(self._why_out()))
            return
        message = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=member.generation if member and in_group else -1,
            member_id=member.member_id if member and in_group else "",
            group_instance_id=self._options.group_instance_id if in_group else None,
            topics=[
                OffsetCommitTopic(
                    name=topic,
                    partitions=[
                        self._row(TopicPartition(topic, index), offsets, metadata)
                        for index in partitions
                    ],
                )
                for topic, partitions in by_topic(offsets).items()
            ],
        )
        self._core.send(
            Coordinator(CoordinatorKind.GROUP, group),
            Request(ApiKey.OFFSET_COMMIT, lambda _: message, high=_COMMIT_HIGH),
            lambda result: self._answered(dict(offsets), done, result),
            error_of=_error_to_retry,
        )

    def _row(
        self, name: TopicPartition, offsets: Mapping[TopicPartition, int], metadata: str
    ) -> OffsetCommitPartition:
        return OffsetCommitPartition(
            partition_index=name.partition,
            committed_offset=offsets[name],
            committed_leader_epoch=self._epoch_of(name, offsets[name]),
            committed_metadata=metadata,
        )

    # Any: a response or an exception, as `ClientCore.send` says.
    def _answered(
        self, offsets: dict[TopicPartition, int], done: Callable[[Any], None], result: Any
    ) -> None:
        if isinstance(result, Exception):
            done(result)
            return
        failed: KafkaError | None = None
        for topic in result.topics:
            for row in topic.partitions:
                name = TopicPartition(topic.name, row.partition_index)
                code = error_code(row.error_code)
                if code is ErrorCode.NONE:
                    self._committed[name] = offsets[name]
                elif failed is None:
                    failed = self._failure(name, code)
        done(failed)

    def _failure(self, name: TopicPartition, code: ErrorCode) -> KafkaError:
        if code not in _NOT_A_MEMBER:
            return KafkaError(code, f"committing {name}")
        if self._membership is not None:
            self._membership.on_commit_error(code)
        return CommitFailed(self._why_out())

    def _why_out(self) -> str:
        limit_ms = self._options.max_poll_interval_ms
        return (
            f"group {self._options.group_id} has given the partitions to others meanwhile, so "
            "nothing was committed; the records will be read again. Most often the program works "
            f"for longer than max_poll_interval_ms={limit_ms} between two polls: raise it, or take "
            "less at once"
        )


def _error_to_retry(response: Any) -> int:
    for topic in response.topics:
        for row in topic.partitions:
            if row.error_code in _AGAIN:
                return int(row.error_code)
    return ErrorCode.NONE
