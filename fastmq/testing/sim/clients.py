"""A client's machine in a simulation: connections, metadata, one request at a time per broker.

Thin on purpose: what is retried, and what counts as acknowledged, is to be seen in the workloads.
"""

import random
from typing import Any, Final

import trio

from fastmq.errors import ConnectionFailed, ProtocolError
from fastmq.net import Connection
from fastmq.protocol import Message
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.testing.sim.network import Network

__all__ = ["ClientMachine"]

_CONNECT_TIMEOUT_S: Final = 2.0


class _Wire:
    """A connection with the versions agreed on."""

    def __init__(self, sock: trio.socket.SocketType, client_id: str) -> None:
        self._sock = sock
        self._connection = Connection(client_id=client_id)

    async def begin(self) -> None:
        """Ask for versions."""
        self._connection.start()
        await self._flush()
        while not self._connection.is_ready:
            await self._receive()
            await self._flush()

    async def ask(self, message: Message, version: int | None, *, answered: bool) -> Any:
        """Send a request and return its answer. Any: of the request's API."""
        chosen = self._connection.version_for(message.API_KEY) if version is None else version
        self._connection.send(message, chosen, answered=answered)
        await self._flush()
        while answered:
            for answer in await self._receive():
                return answer.message
        return None

    async def _flush(self) -> None:
        for part in self._connection.take_output():
            view = memoryview(part)
            while view:
                view = view[await self._sock.send(view) :]

    async def _receive(self) -> list[Any]:
        count = await self._sock.recv_into(self._connection.receive_buffer())
        if count == 0:
            raise ConnectionFailed("the broker closed the connection")
        return list(self._connection.received(count))

    def close(self) -> None:
        """Close."""
        self._sock.close()


class ClientMachine:
    """A machine that clients run on; each task of it uses its own `ClientMachine`.

    Args:
        name: of the machine.
        network: with the brokers.
        brokers: node ids to bootstrap from.
        seed: draws whom to ask.
    """

    def __init__(self, name: str, network: Network, brokers: list[int], seed: int) -> None:
        self.name = name
        self.rng = random.Random(seed)
        self._network = network
        self._brokers = brokers
        self._wires: dict[int, _Wire] = {}

    async def call(
        self,
        node_id: int,
        message: Message,
        *,
        version: int | None = None,
        timeout_s: float = 3.0,
        answered: bool = True,
    ) -> Any:
        """Ask a broker. Any: the response of the request's API.

        Raises:
            ConnectionFailed: no answer; whether the request was carried out is not known.
        """
        try:
            with trio.fail_after(timeout_s):
                wire = self._wires.get(node_id)
                if wire is None:
                    wire = await self._open(node_id)
                return await wire.ask(message, version, answered=answered)
        except (OSError, trio.TooSlowError, trio.ClosedResourceError, ConnectionFailed) as exc:
            self.drop(node_id)
            raise ConnectionFailed(f"broker {node_id} does not answer: {exc}") from exc
        except ProtocolError:
            self.drop(node_id)
            raise

    async def _open(self, node_id: int) -> _Wire:
        with trio.fail_after(_CONNECT_TIMEOUT_S):
            sock = await self._network.connect(self.name, f"b{node_id}")
            wire = _Wire(trio.socket.from_stdlib_socket(sock), self.name)
            self._wires[node_id] = wire
            await wire.begin()
        return wire

    def drop(self, node_id: int) -> None:
        """Forget the connection to a broker."""
        wire = self._wires.pop(node_id, None)
        if wire is not None:
            wire.close()

    def close(self) -> None:
        """Close all connections."""
        for node_id in list(self._wires):
            self.drop(node_id)

    def any_broker(self) -> int:
        """Return some broker."""
        return self.rng.choice(self._brokers)

    async def leader(self, topic: str, index: int) -> int | None:
        """Return who leads a partition, as some broker has it; None: nobody, or nobody says."""
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
        )
        try:
            answer = await self.call(self.any_broker(), request, timeout_s=1.0)
        except ConnectionFailed:
            return None
        for partition in answer.topics[0].partitions:
            if partition.partition_index == index and partition.leader_id >= 0:
                return int(partition.leader_id)
        return None
