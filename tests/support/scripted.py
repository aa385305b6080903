"""A cluster made of scripts, for client cores: no socket, no clock, no chance.

`ScriptedCluster` plays the pump: it carries out a core's actions, decodes the requests and answers
them from `handlers`, on a clock that only `advance` moves. Everything is recorded in `requests`.
"""

import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from fastmq.client.core import ClientCore
from fastmq.client.links import Channel, Connect, Write
from fastmq.client.options import ClientOptions, read_options
from fastmq.protocol import Message, decode_request, encode_response
from fastmq.protocol.api import APIS, ApiKey
from fastmq.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from fastmq.protocol.messages.find_coordinator import FindCoordinatorResponse, FoundCoordinator
from fastmq.protocol.messages.init_producer_id import InitProducerIdResponse
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataPartition,
    MetadataResponse,
    MetadataTopic,
)

#: What a handler returns to leave a request without an answer, or to cut the connection.
SILENT = object()
CUT = object()

Handler = Callable[[int, Any], Any]


class ScriptedCluster:
    """Brokers 1, 2, ... at ports 9001, 9002, ...

    Attributes:
        topics: name -> list of leaders, by partition.
        down: ids of brokers that refuse connections.
        handlers: API key -> function of (node id, request) that returns a response, SILENT or CUT.
        requests: (node id, request), in order, without the opening ones.
        connects: node ids of all attempts to connect.
        late: answers are kept back in `held` while this is set.
    """

    def __init__(
        self, nodes: int = 3, kind: type[ClientOptions] = ClientOptions, **options: Any
    ) -> None:
        self.now_ms = 1_000_000
        read = read_options(kind, "boot:9001", options)
        self.options = read
        self.core = ClientCore(read, now_ms=self.now_ms, choose=lambda count: 0)
        self.nodes = list(range(1, nodes + 1))
        self.topics: dict[str, list[int]] = {}
        self.epochs: dict[str, int] = defaultdict(int)
        self.topic_ids: dict[str, bytes] = {}
        self.controller = 1
        self.coordinators: dict[str, int] = {}
        self.down: set[int] = set()
        self.requests: list[tuple[int, Any]] = []
        self.connects: list[int] = []
        self.versions = {key: (api.min_version, api.max_version) for key, api in APIS.items()}
        self.late = False
        self.held: list[Callable[[], None]] = []
        self.handlers: dict[int, Handler] = {
            ApiKey.METADATA: self._metadata,
            ApiKey.FIND_COORDINATOR: self._coordinator,
            ApiKey.INIT_PRODUCER_ID: lambda node, request: InitProducerIdResponse(
                producer_id=77, producer_epoch=0
            ),
        }
        self._buffers: dict[Channel, bytes] = {}

    # ------------------------------------------------------------------------------------- time

    def settle(self) -> None:
        """Carry out what the core asks for until it asks for nothing."""
        for _ in range(1000):
            self.core.on_timer(self.now_ms)
            actions = self.core.take_actions()
            if not actions:
                return
            for action in actions:
                if isinstance(action, Connect):
                    self._connect(action.channel)
                elif isinstance(action, Write):
                    self._write(action.channel, b"".join(bytes(part) for part in action.parts))
                else:
                    self._buffers.pop(action.channel, None)
        raise AssertionError("the core never comes to rest")

    def advance(self, duration_ms: int) -> None:
        """Let time pass, from timer to timer."""
        end_ms = self.now_ms + duration_ms
        self.settle()
        while (deadline_ms := self.core.next_deadline_ms()) is not None and deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, deadline_ms)
            self.settle()
        self.now_ms = end_ms
        self.settle()

    def release(self) -> None:
        """Give the answers that were kept back, in order."""
        self.late = False
        held, self.held = self.held, []
        for deliver in held:
            deliver()
        self.settle()

    def cut(self, node_id: int) -> None:
        """Close every connection to a broker, as it would when it dies."""
        for channel in list(self._buffers):
            if channel.port - 9000 == node_id:
                del self._buffers[channel]
                self.core.on_closed(channel, "it died", self.now_ms)
        self.settle()

    def sent(self, api_key: int) -> list[tuple[int, Any]]:
        """The requests of one API so far."""
        return [(node, r) for node, r in self.requests if r.API_KEY == api_key]

    # ---------------------------------------------------------------------------------- private

    def _connect(self, channel: Channel) -> None:
        node_id = channel.port - 9000
        self.connects.append(node_id)
        if node_id in self.down:
            self.core.on_closed(channel, "ECONNREFUSED", self.now_ms)
            return
        self._buffers[channel] = b""
        self.core.on_connected(channel, self.now_ms)

    def _write(self, channel: Channel, data: bytes) -> None:
        if channel not in self._buffers:
            return
        self._buffers[channel] += data
        while channel in self._buffers:
            buffer = self._buffers[channel]
            if len(buffer) < 4:
                return
            (size,) = struct.unpack_from(">i", buffer)
            if len(buffer) < 4 + size:
                return
            self._buffers[channel] = buffer[4 + size :]
            self._serve(channel, buffer[4 : 4 + size])

    def _serve(self, channel: Channel, frame: bytes) -> None:
        header, request = decode_request(frame)
        node_id = channel.port - 9000
        if header.api_key == ApiKey.API_VERSIONS:
            answer: Any = ApiVersionsResponse(
                api_keys=[
                    ApiVersion(api_key=key, min_version=low, max_version=high)
                    for key, (low, high) in self.versions.items()
                ]
            )
        else:
            self.requests.append((node_id, request))
            answer = self.handlers[header.api_key](node_id, request)
        if answer is CUT:
            del self._buffers[channel]
            self.core.on_closed(channel, "it was cut", self.now_ms)
            return
        if answer is SILENT or answer is None:
            return
        assert isinstance(answer, Message)
        payload = encode_response(header.api_key, header.version, header.correlation_id, answer)
        data = struct.pack(">i", len(payload)) + payload

        def deliver() -> None:
            if channel in self._buffers:
                self.core.on_data(channel, data, self.now_ms)

        if self.late and header.api_key != ApiKey.API_VERSIONS:
            self.held.append(deliver)
        else:
            deliver()

    def _metadata(self, node_id: int, request: Any) -> MetadataResponse:
        names = self.topics if request.topics is None else [row.name for row in request.topics]
        return MetadataResponse(
            brokers=[MetadataBroker(node_id=n, host=f"host{n}", port=9000 + n) for n in self.nodes],
            controller_id=self.controller,
            cluster_id="scripted",
            topics=[self._topic(name) for name in names],
        )

    def _topic(self, name: str) -> MetadataTopic:
        if name not in self.topics:
            return MetadataTopic(name=name, error_code=3)
        return MetadataTopic(
            name=name,
            topic_id=self.topic_ids.get(name, bytes(16)),
            partitions=[
                MetadataPartition(
                    partition_index=index,
                    leader_id=leader,
                    leader_epoch=self.epochs[name],
                    error_code=0 if leader >= 0 else 5,
                )
                for index, leader in enumerate(self.topics[name])
            ],
        )

    def _coordinator(self, node_id: int, request: Any) -> FindCoordinatorResponse:
        (key,) = request.coordinator_keys
        if key not in self.coordinators:
            row = FoundCoordinator(key=key, node_id=-1, port=-1, error_code=15)
        else:
            n = self.coordinators[key]
            row = FoundCoordinator(key=key, node_id=n, host=f"host{n}", port=9000 + n)
        return FindCoordinatorResponse(coordinators=[row])
