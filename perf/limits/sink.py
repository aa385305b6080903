"""A broker that only acknowledges: what a producer of Kafka's protocol can drive at most.

It answers ApiVersions, Metadata (any topic, with as many partitions as were said) and Produce, and
forgets the records without looking at them. Prints its port.

    python perf/limits/sink.py [PARTITIONS]
"""

import selectors
import socket
import sys

from fastmq.protocol import ApiKey, Message, decode_request, encode_response
from fastmq.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataPartition,
    MetadataResponse,
    MetadataTopic,
)
from fastmq.protocol.messages.produce import (
    ProducePartitionResponse,
    ProduceResponse,
    ProduceTopicResponse,
)

RECEIVE_BYTES = 4 << 20
# Versions that name topics: no ids to invent.
SERVED = {ApiKey.PRODUCE: (3, 9), ApiKey.METADATA: (1, 9), ApiKey.API_VERSIONS: (0, 3)}


class Connection:
    """One client: a buffer with what has arrived."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray(RECEIVE_BYTES)
        self.size = 0

    def receive(self) -> bool:
        """Answer what is whole; False at the end."""
        count = self.sock.recv_into(memoryview(self.buffer)[self.size :])
        if count == 0:
            return False
        self.size += count
        at = 0
        view = memoryview(self.buffer)
        while self.size - at >= 4:
            end = at + 4 + int.from_bytes(view[at : at + 4], "big")
            if end > self.size:
                break
            payload = answer(bytes(view[at + 4 : end]), self.sock.getsockname()[1])
            self.sock.sendall(len(payload).to_bytes(4, "big") + payload)
            at = end
        if at:
            rest = self.size - at
            view[:rest] = bytes(view[at : self.size])
            self.size = rest
        elif self.size == len(self.buffer):
            self.buffer = self.buffer + bytes(len(self.buffer))
        return True


def answer(frame: bytes, port: int) -> bytes:
    """The payload that answers a frame."""
    version = int.from_bytes(frame[2:4], "big")
    if frame[:2] == b"\0\x12" and version > SERVED[ApiKey.API_VERSIONS][1]:
        correlation = int.from_bytes(frame[4:8], "big")
        return encode_response(ApiKey.API_VERSIONS, 0, correlation, versions(error_code=35))
    header, request = decode_request(frame)
    reply: Message
    if header.api_key == ApiKey.API_VERSIONS:
        reply = versions()
    elif header.api_key == ApiKey.METADATA:
        reply = metadata([t.name for t in request.topics or []], port)
    else:
        reply = ProduceResponse(
            responses=[
                ProduceTopicResponse(
                    name=topic.name,
                    partition_responses=[
                        ProducePartitionResponse(index=p.index) for p in topic.partition_data
                    ],
                )
                for topic in request.topic_data
            ]
        )
    return encode_response(header.api_key, header.version, header.correlation_id, reply)


def versions(error_code: int = 0) -> ApiVersionsResponse:
    return ApiVersionsResponse(
        error_code=error_code,
        api_keys=[
            ApiVersion(api_key=key, min_version=low, max_version=high)
            for key, (low, high) in SERVED.items()
        ],
    )


def metadata(names: list[str], port: int) -> MetadataResponse:
    partitions = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    return MetadataResponse(
        brokers=[MetadataBroker(node_id=1, host="127.0.0.1", port=port)],
        controller_id=1,
        topics=[
            MetadataTopic(
                name=name,
                partitions=[
                    MetadataPartition(
                        partition_index=i, leader_id=1, replica_nodes=[1], isr_nodes=[1]
                    )
                    for i in range(partitions)
                ],
            )
            for name in names
        ],
    )


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    sock = listener.accept()[0]
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(sock, selectors.EVENT_READ, Connection(sock))
                elif not key.data.receive():
                    selector.unregister(key.data.sock)
                    key.data.sock.close()


main()
