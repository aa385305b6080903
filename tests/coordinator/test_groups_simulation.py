"""Goal: whatever clients do, and whenever the coordinator restarts, the promises hold.

Method: seeded random clients join, work, crash, come back and leave on a virtual clock; appends
are refused and the shard is replaced by a replay of its log at random moments. Promises:

* every request gets exactly one answer (checked by the driver at each answer and restart);
* in one generation a partition belongs to one member only, restarts included;
* generations in the log never go back;
* a shard replayed from the log, or from the compacted log, equals the one that wrote it;
* an accepted commit is there until overwritten;
* once the clients behave, the group becomes Stable with everybody in it.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastmq.coordinator.effects import Effects
from fastmq.coordinator.group import GroupConfig, GroupCoordinatorShard
from fastmq.coordinator.group.records import GroupKey, decode_group_value, decode_key
from fastmq.errors import ErrorCode

from support.coordinator import Coordinator

PARTITIONS = range(6)
GROUP = "g"

pytestmark = pytest.mark.simulation


@dataclass
class Client:
    """One consumer process; a restart forgets everything but its name."""

    name: str
    instance: str | None
    version: int
    member_id: str = ""
    generation: int = -1
    state: str = "out"
    token: int = 0
    members: list[Any] = field(default_factory=list)
    leads: bool = False
    owned: list[int] = field(default_factory=list)

    def forget(self) -> None:
        self.member_id, self.generation, self.state, self.owned = "", -1, "out", []


class World:
    """Clients, the coordinator, and what was seen of its promises."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        delay = self.rng.choice([0, 0, 500])
        self.c = Coordinator(
            GroupConfig(
                initial_rebalance_delay_ms=delay,
                min_session_timeout_ms=100,
                new_member_join_timeout_ms=5_000,
            )
        )
        self.c.run = self._run  # type: ignore[method-assign]
        self.clients = [
            Client(
                name=f"c{n}",
                instance=f"i{n}" if self.rng.random() < 0.4 else None,
                version=self.rng.randrange(5, 10),
            )
            for n in range(self.rng.randrange(1, 6))
        ]
        # (generation, partition) -> who was given it; (partition) -> offset committed last.
        self.owners: dict[tuple[int, int], str] = {}
        self.committed: dict[int, int] = {}
        self.memory_ahead = False

    def _run(self, effects: Effects) -> None:
        if self.c.refuse is not None and effects.records:
            # What a refused record would have said is known in memory only, until the next one.
            self.memory_ahead = True
        elif any(isinstance(decode_key(r.key), GroupKey) for r in effects.records):
            self.memory_ahead = False
        Coordinator.run(self.c, effects)

    # What clients do.

    def act(self, client: Client, *, faults: bool = True) -> None:
        """Let a client do its next thing."""
        if client.state in {"joining", "syncing"}:
            if client.token in self.c.answers:
                self._take(client, self.c.answers[client.token])
            elif faults and self.rng.random() < 0.03:
                client.forget()
        elif client.state == "out":
            client.token = self.c.send_join(
                client.member_id,
                instance=client.instance,
                version=client.version,
                session_ms=1_000,
                rebalance_ms=2_000,
                client_id=client.name,
            )
            client.state = "joining"
        elif client.state == "joined":
            given: dict[str, bytes] = {}
            for index, partition in enumerate(PARTITIONS if client.leads else ()):
                member_id = client.members[index % len(client.members)]
                given[member_id] = given.get(member_id, b"") + bytes([partition])
            client.token = self.c.send_sync(
                client.member_id, client.generation, given, instance=client.instance
            )
            client.state = "syncing"
        else:
            self._work(client, faults)

    def _take(self, client: Client, answer: Any) -> None:
        code = answer.error_code
        if code in {ErrorCode.MEMBER_ID_REQUIRED, ErrorCode.NONE} and client.state == "joining":
            client.member_id = answer.member_id
        if code != ErrorCode.NONE:
            self._react(client, code)
        elif client.state == "joining":
            client.generation = answer.generation_id
            client.members = [member.member_id for member in answer.members]
            client.leads = answer.leader == answer.member_id and not answer.skip_assignment
            client.state = "joined"
        else:
            client.state = "in"
            client.owned = list(answer.assignment)
            for partition in client.owned:
                key = (client.generation, partition)
                owner = self.owners.setdefault(key, client.name)
                assert owner == client.name, f"two owners of {key}"

    def _react(self, client: Client, code: int) -> None:
        client.owned = []
        client.state = "out"
        if code in {
            ErrorCode.UNKNOWN_MEMBER_ID,
            ErrorCode.ILLEGAL_GENERATION,
            ErrorCode.FENCED_INSTANCE_ID,
        }:
            client.forget()
        else:
            assert code in {
                ErrorCode.MEMBER_ID_REQUIRED,
                ErrorCode.REBALANCE_IN_PROGRESS,
                ErrorCode.NOT_COORDINATOR,
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
            }, ErrorCode(code).name

    def _work(self, client: Client, faults: bool) -> None:
        who: dict[str, Any] = {
            "member_id": client.member_id,
            "generation": client.generation,
            "instance": client.instance,
        }
        choice = self.rng.random() if faults else 1.0
        if choice < 0.05:
            client.forget()
        elif choice < 0.09:
            self.c.leave((client.member_id, client.instance))
            client.forget()
        elif choice < 0.12:
            client.state = "out"
        elif choice < 0.4 and client.owned:
            partition = self.rng.choice(client.owned)
            offset = self.rng.randrange(1 << 40)
            (code,) = self.c.commit({("t", partition): offset}, **who)
            if code == ErrorCode.NONE:
                self.committed[partition] = offset
            else:
                self._react(client, code)
        else:
            code = self.c.heartbeat(client.member_id, client.generation, instance=client.instance)
            if code != ErrorCode.NONE:
                self._react(client, code)

    # What must hold.

    def check_log(self) -> None:
        """The log alone gives the present state, compacted or not, and never goes back."""
        compacted = dict(self.c.log)
        for records in (self.c.log, list(compacted.items())):
            shard = GroupCoordinatorShard(self.c.config, lambda: "never used")
            for key, value in records:
                shard.replay(key, value)
            replayed = Coordinator(self.c.config)
            replayed.shard = shard
            assert sorted(shard.committed_offsets()) == sorted(self.c.shard.committed_offsets())
            # Empty may also mean that nothing but a member id was given out yet.
            settled = {"Stable", "Empty"} if replayed.list_groups() else {"Stable"}
            if self.c.state() in settled and not self.memory_ahead:
                assert replayed.describe() == self.c.describe()
        offsets = self.c.fetch({"t": list(PARTITIONS)})
        expected = {("t", p): self.committed.get(p, -1) for p in PARTITIONS}
        assert offsets == expected
        last = 0
        for record in self.c.log:
            if isinstance(decode_key(record.key), GroupKey) and record.value is not None:
                row = decode_group_value(record.value)
                assert row is not None
                assert row.generation >= last, "a generation was used again"
                last = row.generation

    def restart(self) -> None:
        """Replace the shard by what its log says."""
        self.c.restart(
            self.rng.choice([ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR])
        )
        self.memory_ahead = False

    def settle(self) -> None:
        """Let everybody behave until the group is Stable."""
        self.c.refuse = None
        for _ in range(400):
            for client in self.clients:
                self.act(client, faults=False)
            self.c.advance(50)
            group = self.c.describe()
            known = {m.member_id for m in group.members}
            done = group.group_state == "Stable" and all(x.state == "in" for x in self.clients)
            # Members that crashed stay until their session ends.
            if done and known == {x.member_id for x in self.clients}:
                break
        else:
            raise AssertionError("the group does not come to rest")
        assigned = sorted(p for m in group.members for p in m.member_assignment)
        assert assigned == list(PARTITIONS)


@pytest.mark.parametrize("seed", range(60))
def test_promises_hold_for_random_clients(seed: int) -> None:
    world = World(seed)
    for _ in range(300):
        world.act(world.rng.choice(world.clients))
        choice = world.rng.random()
        if choice < 0.02:
            world.restart()
        elif choice < 0.05:
            world.c.refuse = ErrorCode.NOT_ENOUGH_REPLICAS
        elif choice < 0.3:
            world.c.refuse = None
            world.c.advance(world.rng.choice([1, 20, 100, 400, 1_500]))
        if choice > 0.9:
            world.check_log()
    world.settle()
    world.check_log()
    world.restart()
    world.check_log()
