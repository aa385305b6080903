"""What a simulated broker has in place of a machine."""

import random
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from fastmq._native.core import system_env
from fastmq._native.sim_env import SimEnv
from fastmq.config import BrokerConfig
from fastmq.log import Disk
from fastmq.metastore import Metastore
from fastmq.server.listeners import OpenListener
from fastmq.server.storage import Storage
from fastmq.server.world import World
from fastmq.testing.sim.disk import SimDisk
from fastmq.testing.sim.kernel import now_s
from fastmq.testing.sim.network import Network
from fastmq.testing.sim.store import StoreClient, StoreModel

__all__ = ["PORT", "SimWorld"]

PORT = 9092
# Virtual time 0 on wall clocks, in seconds.
_EPOCH_S = 1_760_000_000


class _Host(SimDisk):
    """A disk that also tells the C code the time."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        super().__init__(root, rng)
        self.skew_ms = 0
        self.errors: list[Exception] = []

    def wall_ms(self) -> int:
        """Return wall time, which may be wrong."""
        return int((_EPOCH_S + now_s()) * 1000) + self.skew_ms

    def mono_ns(self) -> int:
        """Return a time that is never wrong; not 0, which means unset in places."""
        return int((now_s() + 1) * 1e9)

    def broken(self, error: Exception) -> None:
        """Keep what went wrong in here: it is a fault of the simulator."""
        self.errors.append(error)


class SimWorld(World):
    """One life of one broker: its machine, from power-on to a crash.

    Args:
        host: the machine's name.
        root: where its files are.
        boot_id: of this run of the machine.
        network: with all machines.
        model: the metadata store.
        seed: of what this life draws.
    """

    def __init__(
        self,
        host: str,
        root: Path,
        boot_id: str,
        network: Network,
        model: StoreModel,
        seed: int,
    ) -> None:
        self.host = host
        self._boot_id = boot_id
        self._network = network
        self._random = random.Random(seed)
        self.files = _Host(root, random.Random(seed + 1))
        self.env = SimEnv(self.files, system_env())
        self.client = StoreClient(model, network, host, random.Random(seed + 2))
        self.is_dead = False

    def disk(self, *, durable: bool) -> Disk:
        """See `World`."""
        assert durable, "a simulation loses what it wants to lose"
        return self.files

    def store(self, config: BrokerConfig, storage: Storage) -> Metastore:
        """See `World`."""
        del config, storage
        return self.client

    def random_bytes(self, size: int) -> bytes:
        """See `World`."""
        return self._random.randbytes(size)

    def wall_s(self) -> float:
        """See `World`."""
        return self.files.wall_ms() / 1000

    def boot_time_ms(self) -> int:
        """See `World`."""
        return int(trio.current_time() * 1000)

    def boot_id(self) -> str:
        """See `World`."""
        return self._boot_id

    def open_listeners(self, config: BrokerConfig) -> list[OpenListener]:
        """See `World`."""
        (spec,) = config.listeners
        return [OpenListener(0, spec.name, self.host, PORT, self.host, PORT)]

    async def accept(
        self,
        listener: OpenListener,
        take_over: Callable[[OpenListener, socket.socket, str], None],
        delay_s: Callable[[float], float],
    ) -> None:
        """See `World`."""
        del delay_s
        self._network.listen(self.host, lambda sock: take_over(listener, sock, "simulated"))
        await trio.sleep_forever()

    async def check_advertised(self, listeners: Sequence[OpenListener]) -> None:
        """See `World`: the addresses are right."""

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """See `World`."""
        del port
        if self.is_dead:
            raise ConnectionRefusedError("this machine is down")
        ours = await self._network.connect(self.host, host)
        return trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    def die(self) -> None:
        """Take everything away from what still runs of this life."""
        self.is_dead = True
        self.client.is_dead = True
