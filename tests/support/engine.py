"""An engine with sockets, without a broker around it."""

import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from fastmq._native.core import FLUSH_ACK, POLLER, Engine, Partition, PartitionConfig
from fastmq.protocol import Message, decode_response, encode_request
from fastmq.protocol.messages import fetch as f
from fastmq.protocol.messages import produce as p

TOPIC_ID = bytes(range(1, 17))


class Client:
    """A blocking client of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.correlation_id = 0

    def send(self, version: int, message: Message) -> int:
        self.correlation_id += 1
        frame = encode_request(version, self.correlation_id, "test", message)
        self.sock.sendall(struct.pack(">i", len(frame)) + frame)
        return self.correlation_id

    def receive_raw(self) -> bytes:
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            part = self.sock.recv(size - len(out))
            if not part:
                raise ConnectionError("closed")
            out += part
        return bytes(out)

    def receive(self, api_key: int, version: int) -> Any:
        correlation_id, message = decode_response(api_key, version, self.receive_raw())
        return correlation_id, message

    def call(self, version: int, message: Message) -> Any:
        sent = self.send(version, message)
        got, answer = self.receive(message.API_KEY, version)
        assert got == sent
        return answer

    def silent(self, seconds: float = 0.1) -> bool:
        """Nothing arrives for that long."""
        return not select.select([self.sock], [], [], seconds)[0]

    def closed(self) -> bool:
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


class Harness:
    """An engine, and connections to it.

    Args:
        path: where its partitions are.
        nested: driven by a loop of ours, as by an event loop's.
        stepped: driven by the test, which calls `engine.run_once`.
    """

    def __init__(
        self, path: Path, *, nested: bool = False, stepped: bool = False, **options: Any
    ) -> None:
        self.path = path
        self.engine = Engine(node_id=1, thread=not nested and not stepped, **options)
        self.engine.start()
        self.clients: list[Client] = []
        self.stopping = False
        if nested and POLLER == "poll":
            pytest.skip("poll has no descriptor for a nested driver")
        self.loop = threading.Thread(target=self.turn) if nested else None
        if self.loop:
            self.loop.start()

    def turn(self) -> None:
        """What a task of an event loop does with a nested engine."""
        while not self.stopping:
            timeout = self.engine.next_timeout_ms() / 1000
            select.select([self.engine.poll_fileno()], [], [], min(timeout, 0.05))
            self.engine.run_once(0)

    def partition(
        self,
        index: int = 0,
        topic: str = "events",
        epoch: int = 3,
        *,
        topic_id: bytes = TOPIC_ID,
        dir_id: int = 0,
        **config: Any,
    ) -> Partition:
        where = self.path / f"{topic}-{index}"
        where.mkdir(exist_ok=True)
        partition = self.engine.add_partition(
            topic,
            index,
            topic_id=topic_id,
            dir_id=dir_id,
            path=str(where),
            config=PartitionConfig(**{"flush": FLUSH_ACK, **config}),
        )
        partition.become_leader(epoch)
        return partition

    def client(self) -> Client:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.settimeout(10)
        self.engine.add_connection(theirs.detach())
        client = Client(ours)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.sock.close()
        self.stopping = True
        if self.loop:
            self.loop.join()
        self.engine.stop()


def produce(
    *batches: tuple[int, bytes], acks: int = -1, topic: str = "events", timeout_ms: int = 20_000
) -> p.ProduceRequest:
    return p.ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[
            p.ProduceTopic(
                name=topic,
                topic_id=TOPIC_ID,
                partition_data=[p.ProducePartition(index=i, records=data) for i, data in batches],
            )
        ],
    )


def fetch(
    *offsets: tuple[int, int],
    topic: str = "events",
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 50 << 20,
    partition_max_bytes: int = 1 << 20,
    **more: Any,
) -> f.FetchRequest:
    return f.FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        topics=[
            f.FetchTopic(
                topic=topic,
                topic_id=TOPIC_ID,
                partitions=[
                    f.FetchPartition(
                        partition=i, fetch_offset=offset, partition_max_bytes=partition_max_bytes
                    )
                    for i, offset in offsets
                ],
            )
        ],
        **more,
    )


def only(answer: Any) -> Any:
    """The one partition of an answer to produce or fetch."""
    (topic,) = answer.responses
    parts = topic.partition_responses if hasattr(topic, "partition_responses") else topic.partitions
    (part,) = parts
    return part
