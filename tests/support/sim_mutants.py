"""Deliberately broken brokers for the simulator: each entry changes the real code while it runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from fastmq._native.core import REPLICA_OUT
from fastmq.cluster import controller
from fastmq.coordinator.group import shard
from fastmq.errors import ErrorCode
from fastmq.metastore.lease import LeaseKeeper
from fastmq.protocol import decode_request, decode_response, encode_request, encode_response
from fastmq.protocol.api import ApiKey
from fastmq.server import peers, roles, running_topics
from fastmq.testing.sim import Options, options_of
from fastmq.testing.sim.disk import SimDisk

Mutation = Callable[[], AbstractContextManager[Any]]


class _MinIsrOne:
    """A topic's settings in which one replica is enough."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def get_int(self, key: str) -> int:
        return 1 if key == "min.insync.replicas" else int(self._real.get_int(key))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextmanager
def ignore_min_isr() -> Iterator[None]:
    """acks=all is content with the leader."""
    real = running_topics.native_config

    def config(broker: Any, topic: Any, factor: int, **options: Any) -> Any:
        return real(broker, _MinIsrOne(topic), factor, **options)

    with mock.patch.object(running_topics, "native_config", config):
        yield


@contextmanager
def ack_before_replication() -> Iterator[None]:
    """The high watermark waits for nobody."""
    real = roles.ClusterRoles._lead

    def lead(self: Any, handle: Any, state: Any) -> None:
        real(self, handle, state)
        others = [(b, REPLICA_OUT) for b in state.replicas if b != self._node_id]
        handle.lead(state.leader_epoch, others)

    with ignore_min_isr(), mock.patch.object(roles.ClusterRoles, "_lead", lead):
        yield


@contextmanager
def _exchange(
    ask: Callable[[Any], None] = lambda _: None, answer: Callable[[Any], None] = lambda _: None
) -> Iterator[None]:
    """Change the fetches of followers and what they are answered."""
    real = peers.PeerLink.exchange

    async def exchange(self: Any, frame: bytes, *, timeout_s: float) -> Any:
        header, request = decode_request(frame[4:])
        version = int.from_bytes(frame[6:8], "big")
        ask(request)
        changed = encode_request(version, header.correlation_id, header.client_id, request)
        sized = len(changed).to_bytes(4, "big") + changed
        got = await real(self, sized, timeout_s=timeout_s)
        correlation_id, response = decode_response(ApiKey.FETCH, version, bytes(got))
        answer(response)
        return encode_response(ApiKey.FETCH, version, correlation_id, response)

    with mock.patch.object(peers.PeerLink, "exchange", exchange):
        yield


def no_truncation() -> AbstractContextManager[Any]:
    """Followers do not tell which epoch they have last, so that nobody tells them to cut."""

    def ask(request: Any) -> None:
        for topic in request.topics:
            for partition in topic.partitions:
                partition.last_fetched_epoch = -1

    return _exchange(ask=ask)


def watermark_off_by_one() -> AbstractContextManager[Any]:
    """Followers hear of a high watermark that is one too high."""

    def answer(response: Any) -> None:
        for topic in response.responses:
            for partition in topic.partitions:
                partition.high_watermark += 1

    return _exchange(answer=answer)


@contextmanager
def forget_producers() -> Iterator[None]:
    """Whoever begins to lead knows no producer."""
    real = roles.ClusterRoles._lead

    def lead(self: Any, handle: Any, state: Any) -> None:
        if handle.leader_epoch() != state.leader_epoch:
            handle.log_end()
            handle.expire_producers(1 << 60)
        real(self, handle, state)

    with mock.patch.object(roles.ClusterRoles, "_lead", lead):
        yield


def stale_generations() -> AbstractContextManager[Any]:
    """Members that were thrown out may still commit."""
    return mock.patch.object(shard, "check_commit", return_value=ErrorCode.NONE)


@contextmanager
def elect_anybody() -> Iterator[None]:
    """The controller lets the first replica lead that lives, in sync or not."""
    real = controller.elect

    def elect(state: Any, live: Any, *rest: Any) -> Any:
        leader = next((replica for replica in state.replicas if replica in live), -1)
        if state.leader in live or leader < 0:
            return real(state, live, *rest)
        return state._replace(
            leader=leader,
            leader_epoch=state.leader_epoch + 1,
            partition_epoch=state.partition_epoch + 1,
            isr=tuple(replica for replica in state.replicas if replica in live),
        )

    with mock.patch.object(controller, "elect", elect):
        yield


def syncs_are_lies() -> AbstractContextManager[Any]:
    """What was synced is lost with the power all the same."""
    return mock.patch.object(SimDisk, "sync_file", return_value=0)


@contextmanager
def believe_lease() -> Iterator[None]:
    """Who holds a lease never looks whether it is still his."""

    def extend(self: Any, sent_ms: int) -> None:
        self._valid_until_ms = 1 << 62
        self._on_valid(self._valid_until_ms)

    with mock.patch.object(LeaseKeeper, "_extend", extend):
        yield


def _options(seed: int, *faults: str, **changes: Any) -> Options:
    drawn = options_of(seed)._replace(
        faults=faults, mode="safety", brokers=3, partitions=2, producers=1, members=0
    )
    return drawn._replace(**{"every_s": 2.0, "faulty_s": 25.0, **changes})


@contextmanager
def nothing_wrong() -> Iterator[None]:
    """The same detours as some mutants, but right."""
    real = running_topics.native_config

    def config(broker: Any, topic: Any, factor: int, **options: Any) -> Any:
        return real(broker, topic, factor, **options)

    with _exchange(), mock.patch.object(running_topics, "native_config", config):
        yield


# The mutation, and runs in which it does harm.
MUTANTS: dict[str, tuple[Mutation, Callable[[int], Options]]] = {
    "ack before replication": (
        ack_before_replication,
        lambda seed: _options(seed, "kill", "partition", flush="ack"),
    ),
    "ignore min ISR": (
        ignore_min_isr,
        lambda seed: _options(seed, "kill", "partition", flush="ack"),
    ),
    "no truncation on epoch change": (
        no_truncation,
        lambda seed: _options(seed, "kill", "partition", flush="replicated"),
    ),
    "high watermark off by one": (
        watermark_off_by_one,
        lambda seed: _options(seed, "kill", "partition", flush="replicated"),
    ),
    "forget producers on epoch change": (
        forget_producers,
        lambda seed: _options(seed, "kill", "break", flush="replicated"),
    ),
    "syncs are lies": (
        syncs_are_lies,
        lambda seed: _options(seed, "power", flush="ack"),
    ),
    "election outside of the in-sync set": (
        elect_anybody,
        lambda seed: _options(seed, "kill", "partition", flush="replicated"),
    ),
    "stale generation accepted": (
        stale_generations,
        lambda seed: _options(seed, "partition", "break", flush="replicated", members=3),
    ),
    "lease not checked after a pause": (
        believe_lease,
        lambda seed: _options(seed, "pause", flush="replicated"),
    ),
}
