"""The group workload: members that join, commit, pause for too long and come back.

Offsets only grow, so whoever asks must never be told less than what was acknowledged before. In a
generation a partition has one owner, and who was left behind in an old one commits nothing.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from fastmq.errors import ConnectionFailed, ErrorCode
from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.join_group import JoinGroupProtocol, JoinGroupRequest
from fastmq.protocol.messages.offset_commit import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
)
from fastmq.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchTopic
from fastmq.protocol.messages.sync_group import SyncGroupAssignment, SyncGroupRequest
from fastmq.testing.sim.clients import ClientMachine
from fastmq.testing.sim.trace import Trace

__all__ = ["GroupHistory", "Member"]

GROUP: Final = "workers"
_SESSION_MS: Final = 3000
_REBALANCE_MS: Final = 4000
_PAUSE_S: Final = 0.4


@dataclass
class GroupHistory:
    """What members were told.

    Attributes:
        generation: the newest that a member has synced with.
        owners: member by generation and partition.
        committed: the largest acknowledged offset by partition.
        commits: how many were acknowledged.
    """

    generation: int = 0
    owners: dict[tuple[int, int], str] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    commits: int = 0


class Member:
    """One member, in all its incarnations.

    Args:
        machine: its own.
        topic: what it commits for.
        partitions: how many that has.
        history: of the group.
        trace: of the run.
    """

    def __init__(
        self,
        machine: ClientMachine,
        topic: str,
        partitions: int,
        history: GroupHistory,
        trace: Trace,
    ) -> None:
        self._machine = machine
        self._topic = topic
        self._partitions = partitions
        self._history = history
        self._trace = trace
        self._coordinator: int | None = None
        self._member_id = ""
        self._generation = -1
        self.is_stopping = False

    @property
    def machine_name(self) -> str:
        """Where it runs."""
        return self._machine.name

    async def run(self) -> None:
        """Be a member until told to stop."""
        while not self.is_stopping:
            owned = await self._join()
            positions = None if owned is None else await self._positions(owned)
            if positions is None:
                await trio.sleep(self._machine.rng.uniform(0.1, 0.5))
                continue
            while await self._work(positions):
                await trio.sleep(self._machine.rng.uniform(0, 2 * _PAUSE_S))
        self._machine.close()

    async def _ask(self, message: Any, version: int, timeout_s: float = 3.0) -> Any:
        """Ask the coordinator; None: no answer."""
        if self._coordinator is None:
            find = FindCoordinatorRequest(key=GROUP, key_type=0)
            try:
                found = await self._machine.call(self._machine.any_broker(), find, version=2)
            except ConnectionFailed:
                return None
            if found.error_code:
                return None
            self._coordinator = found.node_id
        try:
            return await self._machine.call(
                self._coordinator, message, version=version, timeout_s=timeout_s
            )
        except ConnectionFailed:
            self._coordinator = None
            return None

    def _failed(self, code: int) -> bool:
        """Do what an error asks for; False when there is none."""
        if code in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE):
            self._coordinator = None
        elif code == ErrorCode.UNKNOWN_MEMBER_ID:
            self._member_id = ""
        return code != ErrorCode.NONE

    async def _join(self) -> list[int] | None:
        """Return the partitions that are ours now; None: it did not work."""
        newest = self._history.generation
        request = JoinGroupRequest(
            group_id=GROUP,
            session_timeout_ms=_SESSION_MS,
            rebalance_timeout_ms=_REBALANCE_MS,
            member_id=self._member_id,
            protocol_type="consumer",
            protocols=[JoinGroupProtocol(name="simulated", metadata=b"")],
        )
        joined = await self._ask(request, 5, timeout_s=9.0)
        if joined is None:
            return None
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = joined.member_id
            return None
        if self._failed(joined.error_code):
            return None
        self._member_id, self._generation = joined.member_id, joined.generation_id
        assignments = []
        if joined.leader == joined.member_id:
            members = sorted(member.member_id for member in joined.members)
            for number, member_id in enumerate(members):
                owned = list(range(number, self._partitions, len(members)))
                assignments.append(
                    SyncGroupAssignment(member_id=member_id, assignment=json.dumps(owned).encode())
                )
        synced = await self._ask(
            SyncGroupRequest(
                group_id=GROUP,
                generation_id=self._generation,
                member_id=self._member_id,
                assignments=assignments,
            ),
            3,
            timeout_s=6.0,
        )
        if synced is None or self._failed(synced.error_code):
            return None
        return self._note_synced(newest, json.loads(bytes(synced.assignment) or b"[]"))

    def _note_synced(self, newest: int, owned: list[int]) -> list[int]:
        history, generation = self._history, self._generation
        self._trace.note("synced", f"generation {generation} {self._member_id[-4:]} {owned}")
        if generation < newest:
            self._trace.violation(f"the group went back from generation {newest} to {generation}")
        history.generation = max(history.generation, generation)
        for partition in owned:
            owner = history.owners.setdefault((generation, partition), self._member_id)
            if owner != self._member_id:
                self._trace.violation(
                    f"partition {partition} has two owners in generation {generation}"
                )
        return owned

    async def _positions(self, owned: list[int]) -> dict[int, int] | None:
        if not owned:
            return {}
        at_least = dict(self._history.committed)
        request = OffsetFetchRequest(
            group_id=GROUP, topics=[OffsetFetchTopic(name=self._topic, partition_indexes=owned)]
        )
        answer = await self._ask(request, 7)
        if answer is None or self._failed(answer.error_code):
            return None
        found = {}
        for part in answer.topics[0].partitions:
            if self._failed(part.error_code):
                return None
            found[part.partition_index] = max(part.committed_offset, 0)
            if part.committed_offset < at_least.get(part.partition_index, -1):
                self._trace.violation(
                    f"the committed offset of partition {part.partition_index} went back from "
                    f"{at_least[part.partition_index]} to {part.committed_offset}"
                )
        return found

    async def _work(self, positions: dict[int, int]) -> bool:
        """Commit further on; False: join again, or stop."""
        if self.is_stopping:
            return False
        if self._machine.rng.random() < 0.04:
            await trio.sleep(2 * _SESSION_MS / 1000)  # the group goes on without us
        elif not await self._heartbeat():
            return False
        if not positions:
            return True
        for partition in positions:
            positions[partition] += self._machine.rng.randrange(1, 4)
        newest = self._history.generation
        generation = self._generation
        request = OffsetCommitRequest(
            group_id=GROUP,
            generation_id_or_member_epoch=generation,
            member_id=self._member_id,
            topics=[
                OffsetCommitTopic(
                    name=self._topic,
                    partitions=[
                        OffsetCommitPartition(partition_index=partition, committed_offset=offset)
                        for partition, offset in positions.items()
                    ],
                )
            ],
        )
        answer = await self._ask(request, 7)
        if answer is None:
            return False
        for part in answer.topics[0].partitions:
            if self._failed(part.error_code):
                return False
            self._note_committed(part.partition_index, positions, generation, newest)
        return True

    def _note_committed(
        self, partition: int, positions: dict[int, int], generation: int, newest: int
    ) -> None:
        history, offset = self._history, positions[partition]
        self._trace.note("commit", f"{partition} {offset} in generation {generation}")
        history.commits += 1
        if generation < newest:
            self._trace.violation(
                f"a commit of generation {generation} was taken after generation {newest} had begun"
            )
        history.committed[partition] = max(history.committed.get(partition, -1), offset)

    async def _heartbeat(self) -> bool:
        request = HeartbeatRequest(
            group_id=GROUP, generation_id=self._generation, member_id=self._member_id
        )
        answer = await self._ask(request, 3)
        return answer is not None and not self._failed(answer.error_code)
