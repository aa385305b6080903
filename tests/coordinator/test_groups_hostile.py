"""Goal: whatever a request says, a shard answers it once, in a form that can be encoded, and does
not raise. Method: seeded random requests whose fields are right, slightly wrong or absurd."""

import random
from typing import Any

import pytest

from fastmq.coordinator.group import GroupConfig, error_response, single_group
from fastmq.errors import ErrorCode
from fastmq.protocol import encode
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.leave_group import LeaveGroupMember, LeaveGroupRequest
from fastmq.protocol.messages.list_groups import ListGroupsRequest
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_delete import (
    OffsetDeletePartition,
    OffsetDeleteRequest,
    OffsetDeleteTopic,
)
from fastmq.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchTopic
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest

from support.coordinator import Coordinator, subscription

INT32 = [0, 1, 2, 3, -1, 2**31 - 1, -(2**31)]
INT64 = [0, 1, 77, -1, 2**63 - 1, -(2**63)]
STRINGS = ["", "a", "range", "consumer", "\0", "\u00e4\U0001f600", "x" * 300]
BLOBS = [b"", b"\0", subscription("t"), b"\0\1\xff\xff", bytes(1000)]


class Hostile:
    """Makes requests; the longer a conversation lasts, the more it can be right about."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.c = Coordinator(
            GroupConfig(
                initial_rebalance_delay_ms=self.rng.choice([0, 100]),
                min_session_timeout_ms=100,
                max_size=5,
                offsets_retention_ms=5_000,
                offsets_retention_check_interval_ms=1_000,
            )
        )
        self.member_ids = ["", "stranger"]
        self.versions: dict[int, tuple[Any, int]] = {}

    def group(self) -> str:
        return self.rng.choice(["g", "g", "h", *STRINGS])

    def instance(self) -> str | None:
        return self.rng.choice([None, None, "i", "j", ""])

    def generation(self) -> int:
        choice: int = self.rng.choice([*range(1, 12), *INT32])
        return choice

    def join(self) -> tuple[Any, Any, int]:
        names = self.rng.choices(["range", "sticky", *STRINGS], k=self.rng.randrange(4))
        request = JoinGroupRequest(
            group_id=self.group(),
            session_timeout_ms=self.rng.choice([100, 1_000, 10_000, *INT32]),
            rebalance_timeout_ms=self.rng.choice([0, 50, 1_000, *INT32]),
            member_id=self.rng.choice(self.member_ids),
            group_instance_id=self.instance(),
            protocol_type=self.rng.choice(["consumer"] * 4 + STRINGS),
            protocols=[
                JoinGroupProtocol(name=n, metadata=self.rng.choice(BLOBS))
                for n in [*names, "range"]
            ],
        )
        return self.c.shard.join_group, request, self.rng.randrange(10)

    def sync(self) -> tuple[Any, Any, int]:
        request = SyncGroupRequest(
            group_id=self.group(),
            generation_id=self.generation(),
            member_id=self.rng.choice(self.member_ids),
            group_instance_id=self.instance(),
            protocol_type=self.rng.choice([None, "consumer", *STRINGS]),
            protocol_name=self.rng.choice([None, "range", *STRINGS]),
            assignments=[
                SyncGroupAssignment(
                    member_id=self.rng.choice(self.member_ids), assignment=self.rng.choice(BLOBS)
                )
                for _ in range(self.rng.randrange(4))
            ],
        )
        return self.c.shard.sync_group, request, self.rng.randrange(6)

    def heartbeat(self) -> tuple[Any, Any, int]:
        request = HeartbeatRequest(
            group_id=self.group(),
            generation_id=self.generation(),
            member_id=self.rng.choice(self.member_ids),
            group_instance_id=self.instance(),
        )
        return self.c.shard.heartbeat, request, self.rng.randrange(5)

    def leave(self) -> tuple[Any, Any, int]:
        request = LeaveGroupRequest(
            group_id=self.group(),
            member_id=self.rng.choice(self.member_ids),
            members=[
                LeaveGroupMember(
                    member_id=self.rng.choice(self.member_ids), group_instance_id=self.instance()
                )
                for _ in range(self.rng.randrange(4))
            ],
        )
        return self.c.shard.leave_group, request, self.rng.randrange(6)

    def commit(self) -> tuple[Any, Any, int]:
        request = OffsetCommitRequest(
            group_id=self.group(),
            generation_id_or_member_epoch=self.generation(),
            member_id=self.rng.choice(self.member_ids),
            group_instance_id=self.instance(),
            retention_time_ms=self.rng.choice([-1, -1, *INT64]),
            topics=[
                OffsetCommitTopic(
                    name=self.rng.choice(STRINGS),
                    topic_id=self.rng.choice([bytes(16), b"i" * 16]),
                    partitions=[
                        OffsetCommitPartition(
                            partition_index=self.rng.choice(INT32),
                            committed_offset=self.rng.choice(INT64),
                            committed_leader_epoch=self.rng.choice(INT32),
                            committed_metadata=self.rng.choice([None, *STRINGS, "m" * 5_000]),
                        )
                        for _ in range(self.rng.randrange(3))
                    ],
                )
                for _ in range(self.rng.randrange(3))
            ],
        )
        return self.c.shard.commit_offsets, request, self.rng.randrange(2, 11)

    def fetch(self) -> tuple[Any, Any, int]:
        topics = [
            OffsetFetchTopic(name=self.rng.choice(STRINGS), partition_indexes=INT32)
            for _ in range(self.rng.randrange(3))
        ]
        request = OffsetFetchRequest(
            group_id=self.group(), topics=self.rng.choice([None, topics, topics])
        )
        return self.c.shard.fetch_offsets, single_group(request), -1

    def delete_offsets(self) -> tuple[Any, Any, int]:
        request = OffsetDeleteRequest(
            group_id=self.group(),
            topics=[
                OffsetDeleteTopic(
                    name=self.rng.choice(STRINGS),
                    partitions=[OffsetDeletePartition(partition_index=p) for p in INT32],
                )
            ],
        )
        return self.c.shard.delete_offsets, request, 0

    def admin(self) -> tuple[Any, Any, int]:
        shard = self.c.shard
        choice = self.rng.randrange(3)
        if choice == 0:
            filters = self.rng.choices(["stable", "EMPTY", *STRINGS], k=self.rng.randrange(3))
            return shard.list_groups, ListGroupsRequest(states_filter=filters), 4
        operation = shard.describe_group if choice == 1 else shard.delete_group
        return operation, self.group(), -1

    def act(self) -> None:
        """Send one request, let time pass, restart, or make the log refuse."""
        choice = self.rng.random()
        if choice < 0.1:
            self.c.advance(self.rng.choice([1, 50, 500, 20_000]))
        elif choice < 0.12:
            self.c.restart()
        elif choice < 0.16:
            self.c.refuse = self.rng.choice(
                [None, None, ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.NOT_ENOUGH_REPLICAS]
            )
        else:
            kinds = [self.join] * 4 + [self.sync] * 3 + [self.heartbeat, self.leave, self.commit]
            kinds += [self.commit, self.fetch, self.delete_offsets, self.admin]
            operation, request, version = self.rng.choice(kinds)()
            token = self.c.send(operation, request, max(version, 0))
            self.versions[token] = (request, version)

    def check_answers(self) -> None:
        """Encode every answer, and learn the member ids that were given out."""
        for token, answer in self.c.answers.items():
            request, version = self.versions.pop(token)
            if version >= 0:
                assert encode(answer, version)
                assert encode(error_response(request, version, ErrorCode.NOT_COORDINATOR), version)  # type: ignore[arg-type]
            member_id = getattr(answer, "member_id", "")
            if member_id and member_id not in self.member_ids:
                self.member_ids.append(member_id)
        self.c.answers.clear()
        del self.member_ids[2:-12]


@pytest.mark.parametrize("seed", range(40))
def test_no_request_makes_a_shard_raise_or_stay_silent(seed: int) -> None:
    hostile = Hostile(seed)
    for _ in range(400):
        hostile.act()
        hostile.check_answers()
    hostile.c.restart()
    hostile.check_answers()
    assert not hostile.versions
    # It still works for those who behave.
    hostile.c.refuse = None
    _, token = hostile.c.send_new_join(group="decent")
    hostile.c.advance(200)
    assert hostile.c.answers[token].generation_id == 1
