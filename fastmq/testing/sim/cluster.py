"""The brokers of a simulation: the whole broker of `fastmq serve`, several in one event loop."""

import logging
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fastmq.cluster import ClusterImage
from fastmq.config import load_broker_config
from fastmq.errors import FastmqError
from fastmq.metastore.keys import change_of, session_key
from fastmq.server.broker import StorageFailedError, run_broker
from fastmq.server.context import BrokerContext
from fastmq.testing.sim.disk import SimDisk
from fastmq.testing.sim.network import Network
from fastmq.testing.sim.pauses import Pauses
from fastmq.testing.sim.store import StoreModel
from fastmq.testing.sim.world import PORT, SimWorld

__all__ = ["SimBroker", "SimCluster"]

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SimBroker:
    """A machine with a broker, through all its lives."""

    node_id: int
    lives: int = 0
    boots: int = 1
    root: Path = Path()
    world: SimWorld | None = None
    context: BrokerContext | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stop: trio.Event = field(default_factory=trio.Event)
    # The first task of the life that runs.
    task: trio.lowlevel.Task | None = None
    is_paused: bool = False
    # Of a life that ended while the machine went on.
    unsynced: SimDisk | None = None

    @property
    def host(self) -> str:
        """Name of the machine."""
        return f"b{self.node_id}"

    @property
    def is_up(self) -> bool:
        """Whether the process runs; it may be starting."""
        return self.world is not None


class SimCluster:
    """All brokers, the network and the store.

    Args:
        count: of brokers.
        settings: broker configuration, for all of them.
        root: an empty directory for their files.
        seed: of everything.
        nursery: ends everything when it is cancelled.
    """

    def __init__(
        self,
        count: int,
        settings: dict[str, str],
        root: Path,
        seed: int,
        nursery: trio.Nursery,
    ) -> None:
        self.rng = random.Random(seed)
        self.network = Network(random.Random(seed + 1), nursery)
        self.model = StoreModel()
        self.brokers = {number: SimBroker(number) for number in range(1, count + 1)}
        self.failures: list[str] = []
        self._pauses = Pauses()
        self.fell_at = 0.0
        self.flush = settings["fastmq.flush"]
        self._settings = settings
        self._root = root
        self._nursery = nursery
        nursery.start_soon(self.model.run)

    def running(self) -> list[SimBroker]:
        """Brokers that serve."""
        return [broker for broker in self.brokers.values() if broker.context is not None]

    def image(self) -> ClusterImage:
        """Return the cluster as the store has it."""
        rows = ((change_of(item), item.revision) for item in self.model.rows.values())
        known = ((change, revision) for change, revision in rows if change is not None)
        return ClusterImage().load(known, self.model.revision)

    def start(self, broker: SimBroker) -> None:
        """Begin a life of a broker, on what the one before left."""
        assert not broker.is_up
        broker.lives += 1
        if broker.lives == 1:
            broker.root = self._root / f"{broker.host}-1"
            broker.root.mkdir()
        broker.world = SimWorld(
            broker.host,
            broker.root,
            f"boot-{broker.boots}",
            self.network,
            self.model,
            self.rng.getrandbits(32),
        )
        if broker.unsynced is not None:
            broker.world.files.inherit(broker.unsynced)
            broker.unsynced = None
        broker.scope = trio.CancelScope()
        broker.stop = trio.Event()
        self._nursery.start_soon(self._live, broker, broker.world, name=f"broker {broker.host}")

    async def _live(self, broker: SimBroker, world: SimWorld) -> None:
        broker.task = trio.lowlevel.current_task()
        settings = {
            "node.id": broker.node_id,
            "log.dirs": broker.root,
            "listeners": f"PLAINTEXT://{broker.host}:{PORT}",
            "fastmq.host": broker.host,
            **self._settings,
        }
        config = load_broker_config(overrides=[f"{key}={value}" for key, value in settings.items()])

        def serves(context: BrokerContext) -> None:
            if not world.is_dead:
                broker.context = context

        problem = ""
        with broker.scope:
            try:
                await run_broker(config, stop=broker.stop, world=world, on_context=serves)
            except StorageFailedError as exc:
                problem = str(exc)
            except FastmqError as exc:
                problem = f"broker {broker.host} ended: {exc}"
                if not world.is_dead:
                    logger.warning(problem)
            except BaseExceptionGroup as group:
                if not world.is_dead:
                    self.failures.append(f"broker {broker.host} broke: {_tell(group)}")
        for error in world.files.errors:
            self.failures.append(f"the disk of {broker.host} broke: {error!r}")
        if broker.world is world:
            # It ended by itself.
            self.fell_at = trio.current_time()
            self.network.unplug(broker.host, power=False)
            broker.context = None
            broker.world = None
            broker.unsynced = world.files
            if world.files.sync_error:
                self._leave(broker, world, power=True)
            world.die()
            logger.info("broker %s ended: %s", broker.host, problem)

    def pause(self, broker: SimBroker) -> None:
        """Let a broker's process stand still."""
        if broker.is_up and broker.task is not None and not broker.is_paused:
            broker.is_paused = True
            self.network.pause(broker.host)
            self._pauses.pause(broker.task)

    def resume(self, broker: SimBroker) -> None:
        """Let it go on."""
        if broker.is_paused:
            assert broker.task is not None
            broker.is_paused = False
            self._pauses.resume(broker.task)
            self.network.resume(broker.host)

    def has_session(self, node_id: int) -> bool:
        """Whether the store takes a broker for alive."""
        return session_key(node_id) in self.model.rows

    def crash(self, broker: SimBroker, *, power: bool) -> int:
        """End a broker's life at this moment.

        Args:
            broker: that runs.
            power: its machine goes down as well.

        Returns:
            How many changes its disk has lost.
        """
        world = broker.world
        assert world is not None
        self.resume(broker)
        self.fell_at = trio.current_time()
        self.network.unplug(broker.host, power=power)
        lost = self._leave(broker, world, power=power)
        world.die()
        broker.world = None
        broker.context = None
        broker.scope.cancel()
        return lost

    def _leave(self, broker: SimBroker, world: SimWorld, *, power: bool) -> int:
        """Make the files of the next life."""
        target = self._root / f"{broker.host}-{broker.lives + 1}"
        lost = world.files.crash(target, power=power)
        broker.root = target
        broker.unsynced = None if power else world.files
        broker.boots += power
        return lost

    def end(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._root, ignore_errors=True)


def _tell(group: BaseExceptionGroup[BaseException]) -> str:
    leaves = []
    for exc in group.exceptions:
        leaves.append(_tell(exc) if isinstance(exc, BaseExceptionGroup) else repr(exc))
    return ", ".join(leaves)
