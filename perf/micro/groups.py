"""Micro-benchmarks of the groups: python perf/micro/groups.py [-o FILE] [pyperf options].

The pure machine with a list for a log: decoded request in, records out and replayed, answer out.
Yardsticks (DESIGN.md 10): OffsetCommit below 50 us, a rebalance of 500 members below 1 s.
"""

from itertools import count

import pyperf

from fastmq.coordinator.effects import Call, Effects
from fastmq.coordinator.group import GroupConfig, GroupCoordinatorShard
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import (
    JoinGroupProtocol,
    JoinGroupRequest,
    JoinGroupResponse,
)
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest

NOW_MS = 1_700_000_000_000
GROUP = "readers"


class Group:
    """A shard with one Stable group."""

    def __init__(self, size: int) -> None:
        ids = count()
        self.shard = GroupCoordinatorShard(GroupConfig(), lambda: str(next(ids)))
        self.answers: dict[object, JoinGroupResponse] = {}
        for n in range(size):
            # Version 3 needs no second request for the member id.
            self.join("", Call(n, 3))
        while not self.answers:
            deadline_ms = self.shard.next_deadline()
            assert deadline_ms is not None, "the initial delay has an end"
            self.run(self.shard.on_timer(deadline_ms))
        self.members = [self.answers[n].member_id for n in range(size)]
        self.generation = self.answers[0].generation_id
        self.sync()

    def run(self, effects: Effects) -> None:
        """Append and answer."""
        for record in effects.records:
            self.shard.replay(record.key, record.value)
        for reply in effects.replies:
            if isinstance(reply.response, JoinGroupResponse):
                self.answers[reply.token] = reply.response

    def join(self, member: str, call: Call) -> None:
        """One JoinGroup."""
        request = JoinGroupRequest(
            group_id=GROUP,
            member_id=member,
            session_timeout_ms=10_000,
            rebalance_timeout_ms=60_000,
            protocol_type="consumer",
            protocols=[JoinGroupProtocol(name="range", metadata=bytes(100))],
        )
        self.run(self.shard.join_group(call, request, NOW_MS))

    def sync(self) -> None:
        """SyncGroup of all members, the leader last."""
        for n, member in enumerate(reversed(self.members)):
            request = SyncGroupRequest(
                group_id=GROUP, generation_id=self.generation, member_id=member
            )
            if n == len(self.members) - 1:
                request.assignments = [
                    SyncGroupAssignment(member_id=m, assignment=bytes(100)) for m in self.members
                ]
            self.run(self.shard.sync_group(Call(n, 5), request, NOW_MS))

    def rebalance(self) -> None:
        """All members join and sync once more; the leader first, which starts it."""
        for member in self.members:
            self.join(member, Call(member, 9))
        self.generation = self.answers[self.members[0]].generation_id
        self.sync()


def main() -> None:
    """Run all."""
    runner = pyperf.Runner()
    small, large = Group(2), Group(500)
    beat = HeartbeatRequest(
        group_id=GROUP, generation_id=small.generation, member_id=small.members[0]
    )
    commit = OffsetCommitRequest(
        group_id=GROUP,
        generation_id_or_member_epoch=small.generation,
        member_id=small.members[0],
        topics=[
            OffsetCommitTopic(
                name="events",
                partitions=[OffsetCommitPartition(partition_index=3, committed_offset=12345)],
            )
        ],
    )

    def commit_once() -> None:
        small.run(small.shard.commit_offsets(Call(1, 9), commit, NOW_MS))

    def heartbeat_once() -> None:
        small.run(small.shard.heartbeat(Call(1, 4), beat, NOW_MS))

    runner.bench_func("group: commit one offset", commit_once)
    runner.bench_func("group: heartbeat", heartbeat_once)
    runner.bench_func("group: rebalance of 500 members", large.rebalance)


if __name__ == "__main__":
    main()
