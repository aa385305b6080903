"""Three brokers and three etcd members, each on a host of its own network: a cluster to break.

Looked at from outside only: a client's host, Kafka's protocol, the brokers' output. The thread that
enters the context is on the client's host until it leaves, and so is every thread it starts.
Nothing is left at the end: processes (only its own), namespaces, cuts.
"""

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fastmq.errors import ErrorCode, FastmqError
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic

from support.batches import batch
from support.broker import Broker
from support.etcd import EtcdCluster, etcd_missing
from support.netns import Host, Network, Pair, both_ways, cannot_make_namespaces
from support.raw import RawClient

SESSION_MS = 2_000
BROKERS = 3
MEMBERS = 3
WAIT_S = 60.0
_ASK_TIMEOUT_S = 2.0
_MEMORY = "/dev/shm"
PRODUCE_VERSION = 9


def cannot_run() -> str | None:
    """Why there can be no such cluster here, or None."""
    return etcd_missing() or cannot_make_namespaces()


def fresh_seed() -> int:
    """`REL_SEED`, or another one each time; tests print it."""
    return int(os.environ.get("REL_SEED", time.time_ns() % 100_000))


def figure(name: str, default: int) -> int:
    """How many faults of a kind: `REL_<name>`, or the figure of `.ci/run`."""
    return int(os.environ.get(f"REL_{name}", default))


class Standing(NamedTuple):
    """What a broker says of a partition."""

    leader: int
    epoch: int
    in_sync: tuple[int, ...]


class BlackBox:
    """The cluster; a context manager.

    Args:
        root: a directory of its own.
        overrides: configuration of all brokers.
        data_dirs: where each broker's data is, instead of a directory below root.
        envs: added to the environment of each broker.
        dev: start the brokers with `--dev`.
    """

    def __init__(
        self,
        root: Path,
        *,
        overrides: Mapping[str, object] | None = None,
        data_dirs: Sequence[Path] = (),
        envs: Sequence[Mapping[str, str]] = (),
        dev: bool = False,
    ) -> None:
        self._root = root
        self._overrides = dict(overrides or {})
        self._data_dirs = data_dirs
        self._envs = envs
        self._dev = dev
        self._stack = contextlib.ExitStack()
        self.network = Network()
        self.brokers: dict[int, Broker] = {}
        self.etcd: EtcdCluster

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.network)
            hosts = [self.network.add_host(f"e{n}") for n in range(1, MEMBERS + 1)]
            hosts += [self.network.add_host(f"b{n}") for n in range(1, BROKERS + 1)]
            client = self.network.add_host("c1")
            self._stack.enter_context(self.network.inside(client))
            places = [(host.address, host.wrap) for host in self.store_hosts]
            self.etcd = EtcdCluster(self._store_directory(), MEMBERS, hosts=places)
            self._stack.callback(self.etcd.stop)
            self.etcd.start_all()
            self._stack.callback(self._end_brokers)
            for node_id in range(1, BROKERS + 1):
                self.brokers[node_id] = self._broker(node_id)
                self.brokers[node_id].spawn()
            for broker in self.brokers.values():
                broker.wait_ready(WAIT_S)
            self.wait(self._know_each_other, "all brokers know all others")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            for broker in self.brokers.values():
                sys.stderr.write(f"--- end of {broker.log_path}\n{broker.log_tail(25)}")
        self._stack.close()

    def _store_directory(self) -> Path:
        """Where etcd has its data: in memory where that can be, away from the disks that suffer."""
        if os.access(_MEMORY, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="fastmq-etcd-", dir=_MEMORY))
        return self._root / "etcd"

    def _broker(self, node_id: int) -> Broker:
        host = self.broker_host(node_id)
        return Broker(
            self._root / f"broker-{node_id}",
            overrides={
                "node.id": node_id,
                "fastmq.metastore": "etcd",
                "fastmq.etcd.endpoints": ",".join(self.etcd.endpoints),
                "fastmq.etcd.timeout.ms": 500,
                "broker.session.timeout.ms": SESSION_MS,
                "replica.lag.time.max.ms": 3_000,
                "offsets.topic.num.partitions": 3,
                "offsets.topic.replication.factor": 3,
                "group.initial.rebalance.delay.ms": 0,
                "fastmq.free.space.floor.bytes": 0,
                **self._overrides,
            },
            dev=self._dev,
            data_dir=self._data_dirs[node_id - 1] if self._data_dirs else None,
            host=host.address,
            port=9092,
            wrap=host.wrap,
            env=self._envs[node_id - 1] if self._envs else {},
        )

    def _end_brokers(self) -> None:
        for broker in self.brokers.values():
            if broker.process is not None:
                broker.kill()

    # -------------------------------------------------------------------------------------- places

    def broker_host(self, node_id: int) -> Host:
        """Where a broker runs."""
        return self.network.hosts[f"b{node_id}"]

    @property
    def broker_hosts(self) -> list[Host]:
        """Those of all brokers."""
        return [host for name, host in self.network.hosts.items() if name[0] == "b"]

    @property
    def store_hosts(self) -> list[Host]:
        """Those of etcd's members, in order."""
        return [host for name, host in self.network.hosts.items() if name[0] == "e"]

    @property
    def client_host(self) -> Host:
        """Where this thread is."""
        return self.network.hosts["c1"]

    @property
    def bootstrap(self) -> str:
        """All brokers, for clients."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    # -------------------------------------------------------------------------------------- asking

    def standings(self, topic: str, asked: Iterable[int] = ()) -> list[Standing]:
        """The partitions of a topic, as the first broker that answers has them; else empty."""
        for node_id in asked or self.brokers:
            request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
            request.allow_auto_topic_creation = False
            with contextlib.suppress(OSError, EOFError, FastmqError):
                address = self.brokers[node_id].bootstrap
                with RawClient(address, timeout_s=_ASK_TIMEOUT_S) as client:
                    (found,) = client.call(request, 9).topics
                rows = sorted(found.partitions, key=lambda row: row.partition_index)
                return [Standing(r.leader_id, r.leader_epoch, tuple(r.isr_nodes)) for r in rows]
        return []

    def _know_each_other(self) -> bool:
        for broker in self.brokers.values():
            with RawClient(broker.bootstrap, timeout_s=_ASK_TIMEOUT_S) as client:
                if len(client.call(MetadataRequest(topics=[]), 9).brokers) < BROKERS:
                    return False
        return True

    def wait(self, what: Callable[[], Any], told: str, timeout_s: float = WAIT_S) -> Any:
        """Ask until the answer is true, and return it."""
        deadline = time.monotonic() + timeout_s
        while not (found := what()):
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {told}"
            time.sleep(0.05)
        return found

    def wait_in_sync(self, topic: str, count: int = BROKERS, timeout_s: float = WAIT_S) -> None:
        """Wait until each partition has a leader and so many replicas in sync.

        Every broker must say so: one that was paused or cut off may still tell of before.
        """

        def is_so() -> bool:
            for node_id, broker in self.brokers.items():
                if not broker.is_running():
                    continue
                rows = self.standings(topic, [node_id])
                if not rows or any(r.leader < 0 or len(r.in_sync) < count for r in rows):
                    return False
            return True

        self.wait(is_so, f"{count} replicas of {topic} in sync", timeout_s)

    def produce(self, node_id: int, topic: str, partition: int, acks: int) -> ErrorCode:
        """Send one record to a broker, whoever leads, and return the code of its answer."""
        with RawClient(self.brokers[node_id].bootstrap) as client:
            request = produce_request(topic, partition, acks)
            return produce_code(client, client.send(request, PRODUCE_VERSION))

    def leader_of(self, topic: str, partition: int = 0) -> int:
        """Who leads a partition; waits until somebody does."""
        rows = self.wait(
            lambda: [r for r in self.standings(topic)[partition : partition + 1] if r.leader > 0],
            f"a leader of {topic}-{partition}",
        )
        return int(rows[0].leader)

    # ---------------------------------------------------------------------------------- partitions

    def shapes(self, node_id: int) -> dict[str, list[Pair]]:
        """Every way to cut a broker off that Jepsen's tests and the NATS findings know.

        Args:
            node_id: the broker in question, best one that leads something.
        """
        one = self.broker_host(node_id)
        others = [host for host in self.broker_hosts if host != one]
        store = self.store_hosts
        client = [self.client_host]
        beside = store[node_id - 1]
        rest = [*others, *(host for host in store if host != beside)]
        return {
            "leader | brokers": both_ways([one], others),
            "leader -> brokers": [(one, other) for other in others],
            "brokers -> leader": [(other, one) for other in others],
            "leader | store": both_ways([one], store),
            "leader -> store": [(one, member) for member in store],
            "store -> leader": [(member, one) for member in store],
            "leader | brokers, store": both_ways([one], [*others, *store]),
            "leader, member, client | majority": both_ways([one, beside, *client], rest),
            "leader, member | all": both_ways([one, beside], [*rest, *client]),
            "leader is the bridge": both_ways(others[:1], others[1:]),
            "another is the bridge": both_ways([one], others[:1]),
            "leader -> client": [(one, host) for host in client],
            "client -> leader": [(host, one) for host in client],
        }

    @contextlib.contextmanager
    def cut_off(self, pairs: Iterable[Pair]):
        """A partition of the network, while the block runs."""
        self.network.cut(pairs)
        try:
            yield
        finally:
            self.network.heal()

    @contextlib.contextmanager
    def slowed(self, node_id: int, kbit: int):
        """A broker that sends and receives only so much per second, while the block runs."""
        host = self.broker_host(node_id)
        self.network.slow(host, kbit)
        try:
            yield
        finally:
            self.network.full_speed(host)

    @contextlib.contextmanager
    def paused(self, node_id: int):
        """SIGSTOP, while the block runs."""
        self.brokers[node_id].pause()
        try:
            yield
        finally:
            self.brokers[node_id].resume()


def produce_request(topic: str, partition: int, acks: int) -> ProduceRequest:
    """One record."""
    data = [ProducePartition(index=partition, records=batch(b"one"))]
    topics = [ProduceTopic(name=topic, partition_data=data)]
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=topics)


def produce_code(client: RawClient, correlation_id: int) -> ErrorCode:
    """What became of a record that was sent."""
    answer = client.receive(ProduceRequest.API_KEY, PRODUCE_VERSION, correlation_id)
    return ErrorCode(answer.responses[0].partition_responses[0].error_code)


def rotation(rng: random.Random, choices: Sequence[Any], count: int) -> list[Any]:
    """So many of the choices: each before any comes again, in an order of the seed's."""
    drawn: list[Any] = []
    while len(drawn) < count:
        drawn += rng.sample(list(choices), len(choices))
    return drawn[:count]
