"""A core and both of its pumps against a real broker."""

import random

import anyio
import pytest

from fastmq.client.calls import AnyNode, Controller, Coordinator, CoordinatorKind, Leader, Node
from fastmq.client.core import ClientCore
from fastmq.client.options import ClientOptions, read_options
from fastmq.client.pumps.anyio import AnyioPump
from fastmq.client.pumps.blocking import BlockingPump
from fastmq.client.pumps.poller import monotonic_ms
from fastmq.errors import ClientClosed, ConnectionFailed, RequestTimedOut
from fastmq.protocol.messages.heartbeat import HeartbeatRequest
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastmq.protocol.messages.metadata import MetadataRequest


def new_core(bootstrap: str, **options: object) -> ClientCore:
    read = read_options(ClientOptions, bootstrap, options)
    return ClientCore(read, now_ms=monotonic_ms(), choose=random.randrange)


def latest_offset(topic: str) -> ListOffsetsRequest:
    partition = ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=-1)
    return ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[partition])]
    )


#: (target, request) of every kind, and what the answer must satisfy.
CASES = {
    "any": (AnyNode(), MetadataRequest(topics=[]), lambda r: len(r.brokers) == 1),
    "controller": (Controller(), MetadataRequest(topics=[]), lambda r: len(r.brokers) == 1),
    "coordinator": (
        Coordinator(CoordinatorKind.GROUP, "nobody"),
        HeartbeatRequest(group_id="nobody", generation_id=1, member_id="m"),
        lambda r: r.error_code == 25,
    ),
    "leader": (
        Leader("made-by-asking", 0),
        latest_offset("made-by-asking"),
        lambda r: r.topics[0].partitions[0].offset == 0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_blocking_pump_reaches_every_kind_of_target(broker, case):
    target, request, good = CASES[case]
    pump = BlockingPump(new_core(broker.bootstrap))
    pump.start()
    try:
        answer = pump.call(lambda done: pump.core.send(target, request, done), 20)
        assert good(answer), answer
        node = next(iter(pump.core.metadata.nodes), None)
        if node is not None:
            again = MetadataRequest(topics=[])
            found = pump.call(lambda done: pump.core.send(Node(node), again, done), 20)
            assert found.brokers[0].node_id == node
    finally:
        pump.close()
    with pytest.raises(ClientClosed):
        pump.post(lambda: None)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_async_pump_reaches_every_kind_of_target(broker, backend):
    async def main() -> None:
        pump = AnyioPump(new_core(broker.bootstrap))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump.run)
            with anyio.fail_after(30):
                for target, request, good in CASES.values():
                    answer = await pump.call(
                        lambda done, t=target, r=request: pump.core.send(t, r, done)
                    )
                    assert good(answer), answer
            pump.stop()

    anyio.run(main, backend=backend)


def test_names_are_resolved_in_a_thread(broker):
    pump = BlockingPump(new_core(f"localhost:{broker.port}"))
    pump.start()
    try:
        request = MetadataRequest(topics=[])
        assert pump.call(lambda done: pump.core.send(AnyNode(), request, done), 20).brokers
    finally:
        pump.close()


def test_nobody_there_ends_with_the_reason():
    core = new_core("127.0.0.1:1", default_api_timeout_ms=300)
    pump = BlockingPump(core)
    pump.start()
    try:
        request = MetadataRequest(topics=[])
        with pytest.raises((RequestTimedOut, ConnectionFailed), match="ECONNREFUSED"):
            pump.call(lambda done: core.send(AnyNode(), request, done), 20)
    finally:
        pump.close()


def test_a_core_survives_the_broker(broker):
    core = new_core(broker.bootstrap)
    pump = BlockingPump(core)
    pump.start()
    try:
        request = MetadataRequest(topics=[])
        first = pump.call(lambda done: core.send(Controller(), request, done), 20)
        broker.kill()
        broker.start()
        second = pump.call(lambda done: core.send(Controller(), request, done), 20)
        assert first.cluster_id == second.cluster_id
    finally:
        pump.close()
