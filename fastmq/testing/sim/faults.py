"""What goes wrong in a run, and when.

The faults stay within what can be survived. With `fastmq.flush=ack` any machines may lose their
power, also all at once. With `replicated` a power cut takes what was not synced, so there one
machine at a time, while nothing else is down and until it is in sync again.
"""

import errno
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from fastmq.errors import ConnectionFailed, ErrorCode
from fastmq.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from fastmq.testing.sim.clients import ClientMachine
from fastmq.testing.sim.cluster import SimBroker, SimCluster
from fastmq.testing.sim.options import Options
from fastmq.testing.sim.store import STORE_HOST
from fastmq.testing.sim.trace import Trace

__all__ = ["Nemesis"]


class Nemesis:
    """Draws faults and brings them about.

    Args:
        cluster: what suffers.
        clients: names of the clients' machines.
        options: of the run.
        rng: draws.
        trace: of the run.
        nursery: for what ends later.
    """

    def __init__(
        self,
        cluster: SimCluster,
        clients: list[str],
        options: Options,
        rng: random.Random,
        trace: Trace,
        nursery: trio.Nursery,
    ) -> None:
        self._cluster = cluster
        self._clients = clients
        self._options = options
        self._rng = rng
        self._trace = trace
        self._nursery = nursery
        # A broker that lost its power and is not known to be in sync again.
        self._weak: SimBroker | None = None
        self._mover = ClientMachine(
            "mover", cluster.network, list(cluster.brokers), options.seed ^ 0x40FE
        )
        # What stays broken, in liveness mode.
        self._broken: SimBroker | None = None
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "power": self._power,
            "stop": self._stop,
            "partition": self._partition,
            "break": self._break,
            "slow-network": self._slow_network,
            "slow-disk": self._slow_disk,
            "full-disk": self._full_disk,
            "bad-disk": self._bad_disk,
            "clock": self._clock,
            "store-down": self._store_down,
            "store-cut": self._store_cut,
            "store-lossy": self._store_lossy,
            "store-compact": self._store_compact,
            "pause": self._pause,
            "late": self._late,
            "move": self._move,
        }

    def _note(self, text: str) -> None:
        self._trace.note("fault", text)

    async def run(self) -> None:
        """Do harm until the options say that it is enough."""
        until = trio.current_time() + self._options.faulty_s
        while self._options.faults:
            await trio.sleep(self._rng.uniform(0.2, 2 * self._options.every_s - 0.2))
            if trio.current_time() >= until:
                return
            await self._kinds[self._rng.choice(self._options.faults)]()
        await trio.sleep_until(until)

    def _later(self, low_s: float, high_s: float, undo: Callable[[], None]) -> None:
        delay_s = self._rng.uniform(low_s, high_s)

        async def later() -> None:
            await trio.sleep(delay_s)
            undo()

        self._nursery.start_soon(later)

    # Machines.

    def _is_whole(self) -> bool:
        """Whether every broker serves and is in sync everywhere."""
        running = self._cluster.running()
        if len(running) < len(self._cluster.brokers):
            return False
        for broker in running:
            assert broker.context is not None
            for topic in broker.context.topics.image.topics.values():
                if any(set(state.isr) != set(state.replicas) for state in topic.partitions):
                    return False
        return True

    def _may_fall(self) -> bool:
        """Whether a process may end now."""
        if self._options.flush == "ack":
            return True
        if self._weak is not None and self._is_whole():
            self._weak = None
        return self._weak is None

    def _victim(self) -> SimBroker | None:
        up = [broker for broker in self._cluster.brokers.values() if broker.is_up]
        return self._rng.choice(up) if up else None

    def _fall(self, broker: SimBroker, *, power: bool) -> None:
        lost = self._cluster.crash(broker, power=power)
        self._note(f"{broker.host} {'loses its power' if power else 'is killed'} ({lost} lost)")
        self._later(0.1, 6.0, lambda: self._restart(broker))

    def _restart(self, broker: SimBroker) -> None:
        if not broker.is_up and broker is not self._broken:
            self._note(f"{broker.host} starts")
            self._cluster.start(broker)

    async def _kill(self) -> None:
        victim = self._victim()
        if victim is not None and self._may_fall():
            self._fall(victim, power=False)

    async def _power(self) -> None:
        if self._options.flush == "ack":
            victims = [broker for broker in self._cluster.brokers.values() if broker.is_up]
            if self._rng.random() < 0.6:
                victims = self._rng.sample(victims, min(1, len(victims)))
            for victim in victims:
                self._fall(victim, power=True)
        elif self._may_fall() and self._is_whole():
            self._weak = self._rng.choice(self._cluster.running())
            self._fall(self._weak, power=True)

    async def _stop(self) -> None:
        """A controlled stop."""
        running = self._cluster.running()
        if not running or not self._may_fall():
            return
        broker = self._rng.choice(running)
        self._note(f"{broker.host} is stopped")
        broker.stop.set()
        world = broker.world

        async def again() -> None:
            with trio.move_on_after(8.0):
                while broker.world is world:
                    await trio.sleep(0.1)
            if broker.world is None and broker.lives:
                self._restart(broker)

        self._nursery.start_soon(again)

    async def _pause(self) -> None:
        """A process stands still, often for longer than its session lasts."""
        running = [broker for broker in self._cluster.running() if not broker.is_paused]
        if not running:
            return
        broker = self._rng.choice(running)
        world = broker.world
        self._note(f"{broker.host} stands still")
        self._cluster.pause(broker)

        def go_on() -> None:
            if broker.world is world and broker is not self._broken:
                self._note(f"{broker.host} goes on")
                self._cluster.resume(broker)

        self._later(0.3, 8.0, go_on)

    # The network.

    async def _partition(self) -> None:
        network = self._cluster.network
        hosts = [broker.host for broker in self._cluster.brokers.values()]
        self._rng.shuffle(hosts)
        others = [STORE_HOST, *self._clients]
        self._rng.shuffle(others)
        shape = self._rng.choice(("one", "one-and-others", "one-way", "ring", "bridge", "deaf"))
        cut: list[tuple[str, str]] = []
        if shape in ("one", "one-and-others"):
            alone = [hosts[0]]
            if shape == "one-and-others":
                alone += others[: self._rng.randrange(1, len(others))]
            rest = [host for host in (*hosts, *others) if host not in alone]
            cut = [pair for a in alone for b in rest for pair in ((a, b), (b, a))]
        elif shape == "one-way":
            cut = [(hosts[0], hosts[1])]
        elif shape == "deaf":  # it speaks but does not hear
            cut = [(host, hosts[0]) for host in hosts[1:]]
        elif shape == "ring":  # each hears only the one before
            count = len(hosts)
            cut = [
                (hosts[i], hosts[j])
                for i in range(count)
                for j in range(count)
                if i != j and (i + 1) % count != j
            ]
        else:  # two sides that only one broker reaches
            cut = [(hosts[0], host) for host in hosts[2:]] + [(h, hosts[0]) for h in hosts[2:]]
        for source, target in cut:
            network.cut(source, target)
        self._note(f"partition {shape}: {' '.join(f'{a}>{b}' for a, b in cut)}")
        self._later(0.5, 9.0, self._heal)

    def _heal(self) -> None:
        if self._broken is not None:
            return
        self._note("the network heals")
        self._cluster.network.heal()

    async def _break(self) -> None:
        count = self._cluster.network.break_some(self._rng.choice((0.1, 0.5, 1.0)))
        self._note(f"{count} connections break")

    async def _slow_network(self) -> None:
        network = self._cluster.network
        network.set_delay(0.001, self._rng.choice((0.05, 0.3, 1.0)), is_calm=False)
        self._note(f"the network is slow: {network.delay_s[1]} s")
        self._later(1.0, 6.0, self._fast_network)

    def _fast_network(self) -> None:
        self._cluster.network.set_delay(0.0005, 0.004, is_calm=True)

    async def _late(self) -> None:
        """Who waits in vain connects anew and asks again; the old request comes after it."""
        count = self._cluster.network.hold_up_some(
            self._rng.choice((0.1, 0.3, 1.0)), self._rng.choice((2.0, 6.0, 12.0))
        )
        self._note(f"{count} connections are held up")

    # Replicas.

    async def _move(self) -> None:
        """Move a partition's replicas (KIP-455), or stop a move."""
        topics = sorted(self._cluster.image().topics.items())
        if not topics:
            return
        name, topic = self._rng.choice(topics)
        index = self._rng.randrange(len(topic.partitions))
        count = len(topic.partitions[index].replicas)
        target: list[int] | None = None
        if self._rng.random() < 0.7:
            target = self._rng.sample(sorted(self._cluster.brokers), min(count, 3))
        self._note(f"{name}-{index} moves to {target}" if target else f"{name}-{index} stays")
        part = ReassignablePartition(partition_index=index, replicas=target)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=2000, topics=[ReassignableTopic(name=name, partitions=[part])]
        )

        async def ask() -> None:
            with suppress(ConnectionFailed):
                answer = await self._mover.call(self._mover.any_broker(), request)
                codes = [p.error_code for r in answer.responses for p in r.partitions]
                self._trace.note("move", f"{answer.error_code} {codes}")
                if ErrorCode.UNKNOWN_SERVER_ERROR in (answer.error_code, *codes):
                    self._trace.violation(f"a move of {name}-{index} broke the broker")

        self._nursery.start_soon(ask)

    # Disks and clocks.

    async def _slow_disk(self) -> None:
        running = self._cluster.running()
        if not running:
            return
        broker = self._rng.choice(running)
        assert broker.context is not None
        engine = broker.context.engine
        engine.hold_syncs(True)
        self._note(f"the disk of {broker.host} is slow")
        self._later(0.1, 4.0, lambda: engine.hold_syncs(False))

    async def _full_disk(self) -> None:
        broker = self._victim()
        if broker is None or broker.world is None:
            return
        files = broker.world.files
        files.write_error = errno.ENOSPC
        self._note(f"the disk of {broker.host} is full")

        def clear() -> None:
            files.write_error = 0

        self._later(0.5, 5.0, clear)

    async def _bad_disk(self) -> None:
        """Syncs fail: the broker must give its directory up, and is replaced after a while."""
        broker = self._victim()
        if broker is None or broker.world is None or not self._may_fall():
            return
        if self._options.flush != "ack" and not self._is_whole():
            return
        self._weak = broker
        world = broker.world
        world.files.sync_error = errno.EIO
        self._note(f"the disk of {broker.host} fails")
        self._later(2.0, 6.0, lambda: self._replace(broker, world))

    def _replace(self, broker: SimBroker, world: object) -> None:
        if broker.world is world:
            self._fall(broker, power=True)
        elif not broker.is_up:
            self._restart(broker)

    async def _clock(self) -> None:
        broker = self._victim()
        if broker is None or broker.world is None:
            return
        skew_ms = self._rng.choice((-3_600_000, -5_000, 5_000, 3_600_000))
        broker.world.files.skew_ms = skew_ms
        self._note(f"the clock of {broker.host} jumps to {skew_ms} ms off")

    # The store.

    async def _store_down(self) -> None:
        self._cluster.model.set_up(is_up=False)
        self._note("the store is down")
        self._later(0.5, 10.0, self._store_up)

    def _store_up(self) -> None:
        self._cluster.model.set_up(is_up=True)

    async def _store_cut(self) -> None:
        host = self._rng.choice([broker.host for broker in self._cluster.brokers.values()])
        self._cluster.network.cut(host, STORE_HOST)
        if self._rng.random() < 0.7:
            self._cluster.network.cut(STORE_HOST, host)
        self._note(f"{host} is cut off from the store")
        self._later(1.0, 9.0, self._heal)

    async def _store_lossy(self) -> None:
        clients = [b.world.client for b in self._cluster.brokers.values() if b.world is not None]
        loss, delay_s = self._rng.choice((0.1, 0.4)), self._rng.choice((0.0, 0.5, 2.0))
        for client in clients:
            client.loss, client.watch_delay_s = loss, delay_s
        self._note(f"the store loses {loss:.0%}, its watches are {delay_s} s late")

        def clear() -> None:
            for client in clients:
                client.loss = client.watch_delay_s = 0.0

        self._later(1.0, 8.0, clear)

    async def _store_compact(self) -> None:
        self._cluster.model.compact()
        self._note("the store forgets")

    # The end.

    def end_but_one(self) -> bool:
        """Heal all but one broker, if the others can go on without it; False: there is none."""
        image = self._cluster.image()
        states = [state for topic in image.topics.values() for state in topic.partitions]
        spare = [
            broker
            for broker in self._cluster.brokers.values()
            if all(set(state.isr) - {broker.node_id} for state in states)
        ]
        if not spare:
            return False
        broken = self._rng.choice(spare)
        self.end()
        self._broken = broken
        how = self._rng.choice(("cut off", "down", "still"))
        if how == "still" and broken.context is not None:
            self._note(f"{broken.host} stands still, and stays so")
            self._cluster.pause(broken)
        elif how == "cut off":
            self._note(f"{broken.host} stays cut off")
            hosts = [broker.host for broker in self._cluster.brokers.values()]
            for host in (*hosts, STORE_HOST, *self._clients):
                if host != broken.host:
                    self._cluster.network.cut(host, broken.host)
                    self._cluster.network.cut(broken.host, host)
        else:
            self._note(f"{broken.host} stays down")
            if broken.is_up:
                self._cluster.crash(broken, power=False)
        return True

    def end(self) -> None:
        """Heal everything and start what is down."""
        self._note("end of the faults")
        self._broken = None
        self._cluster.network.heal()
        self._fast_network()
        self._store_up()
        for broker in self._cluster.brokers.values():
            world = broker.world
            self._cluster.resume(broker)
            if world is not None:
                world.files.write_error = 0
                world.client.loss = world.client.watch_delay_s = 0.0
                if broker.context is not None:
                    broker.context.engine.hold_syncs(False)
                if world.files.sync_error:
                    self._fall(broker, power=True)
            else:
                self._restart(broker)
