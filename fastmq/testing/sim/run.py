"""One run: a seed in, a verdict out."""

import logging
import random
import signal
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

from fastmq.errors import ConnectionFailed, ErrorCode
from fastmq.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from fastmq.testing.sim.checks import Inspector, check_history
from fastmq.testing.sim.clients import ClientMachine
from fastmq.testing.sim.cluster import SimCluster
from fastmq.testing.sim.faults import Nemesis
from fastmq.testing.sim.groups import GroupHistory, Member
from fastmq.testing.sim.kernel import run_simulated
from fastmq.testing.sim.options import Options, options_of
from fastmq.testing.sim.produce import LogHistory, Producer, Reader
from fastmq.testing.sim.trace import Trace

__all__ = ["Verdict", "run_seed", "run_task"]

TOPIC: Final = "events"
_LOOK_S: Final = 0.2
_DEEP_EVERY: Final = 10
# How long a healed cluster may take until all replicas have the same.
_SETTLE_S: Final = 60.0
_SHM: Final = Path("/dev/shm")


class Verdict(NamedTuple):
    """What became of a run.

    Attributes:
        problems: broken promises, and what broke the simulation itself; empty: all is well.
        digest: of everything that happened; the same for the same seed.
        counts: events by kind.
    """

    options: Options
    problems: tuple[str, ...]
    digest: str
    counts: dict[str, int]
    acknowledged: int
    virtual_s: float
    cpu_s: float
    tail: tuple[str, ...]

    def text(self) -> str:
        """For people, with the command that repeats the run when it failed."""
        lines = [
            f"seed {self.options.seed}: {self.options.text()}",
            f"  {self.acknowledged} batches acknowledged in {self.virtual_s:.0f} virtual s, "
            f"{self.cpu_s:.2f} s of CPU, trace {self.digest}",
        ]
        if self.problems:
            lines += [f"  FAILED: {problem}" for problem in self.problems]
            lines.append(f"  repeat: python -m fastmq.testing.sim --seed {self.options.seed}")
        return "\n".join(lines)


class _LogTap(logging.Handler):
    """Puts what brokers log into the trace."""

    def __init__(self, trace: Trace, root: str) -> None:
        super().__init__(logging.INFO)
        self._trace = trace
        self._root = root

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and record.exc_info:
            self._trace.violation(f"{record.getMessage()}: {record.exc_info[1]!r}")
        with suppress(RuntimeError):  # after the end of the run
            self._trace.note("log", record.getMessage().replace(self._root, ""))


class _Run:
    """The tasks of a run."""

    def __init__(self, options: Options, root: Path, trace: Trace) -> None:
        self._options = options
        self._root = root
        self._trace = trace
        self._rng = random.Random(options.seed ^ 0x5EED)
        self._history = LogHistory()
        self._producers: list[Producer] = []
        self._readers: list[Reader] = []
        self._groups = GroupHistory()
        self._members: list[Member] = []

    @property
    def acknowledged(self) -> int:
        """Batches with acks=all."""
        return self._history.acknowledged()

    async def run(self) -> None:
        """Run everything, until all is checked."""
        options = self._options
        async with trio.open_nursery() as nursery:
            cluster = SimCluster(
                options.brokers, self._settings(), self._root, options.seed, nursery
            )
            inspector = Inspector(cluster, self._trace)
            for broker in cluster.brokers.values():
                cluster.start(broker)
            if await self._create(cluster):
                nursery.start_soon(self._look, inspector)
                async with trio.open_nursery() as load:
                    self._start_load(cluster, inspector, load)
                    names = [producer.machine_name for producer in self._producers]
                    names += [member.machine_name for member in self._members]
                    names += [reader.machine_name for reader in self._readers]
                    nemesis = Nemesis(
                        cluster,
                        list(dict.fromkeys(names)),
                        options,
                        self._rng,
                        self._trace,
                        nursery,
                    )
                    await nemesis.run()
                    if options.mode == "liveness" and nemesis.end_but_one():
                        await self._wait_for_progress()
                    nemesis.end()
                    await self._wait_for_progress()
                    self._stop_load()
                await self._settle(inspector)
                inspector.look(deep=True)
                check_history(self._trace, self._history, inspector.logs(TOPIC))
            for failure in cluster.failures:
                self._trace.violation(failure)
            for broker in list(cluster.brokers.values()):
                if broker.is_up:
                    cluster.crash(broker, power=False)
            nursery.cancel_scope.cancel()

    def _settings(self) -> dict[str, str]:
        return {
            "fastmq.metastore": "etcd",
            "fastmq.etcd.endpoints": "http://simulated:2379",
            "fastmq.reactor": "nested",
            "fastmq.flush": self._options.flush,
            "broker.session.timeout.ms": "3000",
            "replica.lag.time.max.ms": "3000",
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "2",
            "offsets.topic.replication.factor": "3",
            "group.initial.rebalance.delay.ms": "500",
            "group.min.session.timeout.ms": "1000",
            "fastmq.metrics.listener": "",
            "leader.imbalance.check.interval.seconds": "10",
            "log.flush.offset.checkpoint.interval.ms": "7000",
            "log.flush.start.offset.checkpoint.interval.ms": "13000",
            "replica.high.watermark.checkpoint.interval.ms": "5000",
        }

    def _machine(self, name: str, cluster: SimCluster) -> ClientMachine:
        return ClientMachine(
            name, cluster.network, list(cluster.brokers), self._rng.getrandbits(32)
        )

    async def _create(self, cluster: SimCluster) -> bool:
        machine = self._machine("admin", cluster)
        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=TOPIC,
                    num_partitions=self._options.partitions,
                    replication_factor=3,
                    configs=[
                        CreatableTopicConfig(name="segment.ms", value=str(self._options.segment_ms))
                    ],
                )
            ],
            timeout_ms=5000,
        )
        for _ in range(20):
            await trio.sleep(1.0)
            try:
                answer = await machine.call(1, request, timeout_s=10.0)
            except ConnectionFailed:
                continue
            code = answer.topics[0].error_code
            if code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                machine.close()
                return True
            self._trace.note("create", f"{ErrorCode(code).name}: {answer.topics[0].error_message}")
        self._trace.violation("the topic cannot be created in a healthy cluster")
        return False

    def _start_load(self, cluster: SimCluster, inspector: Inspector, nursery: trio.Nursery) -> None:
        stream = 0
        for number in range(self._options.producers + 1):
            acks = 1 if number == self._options.producers else -1
            for index in range(self._options.partitions):
                producer = Producer(
                    self._machine(f"p{number}", cluster),
                    TOPIC,
                    index,
                    acks=acks,
                    stream=stream,
                    history=self._history,
                    trace=self._trace,
                )
                stream += 1
                producer.on_acknowledged = partial(inspector.on_acknowledged, TOPIC)
                producer.on_accepted = inspector.on_accepted
                self._producers.append(producer)
                nursery.start_soon(producer.run, 0.25 if acks == -1 else 0.6)
        for index in range(self._options.partitions):
            machine = self._machine(f"r{index}", cluster)
            reader = Reader(machine, TOPIC, index, self._history, self._trace)
            self._readers.append(reader)
            nursery.start_soon(reader.run)
        for number in range(self._options.members):
            machine = self._machine(f"m{number}", cluster)
            member = Member(machine, TOPIC, self._options.partitions, self._groups, self._trace)
            self._members.append(member)
            nursery.start_soon(member.run)

    def _stop_load(self) -> None:
        for producer in self._producers:
            producer.is_stopping = True
        for reader in self._readers:
            reader.is_stopping = True
        for member in self._members:
            member.is_stopping = True

    async def _look(self, inspector: Inspector) -> None:
        number = 0
        while True:
            await trio.sleep(_LOOK_S)
            number += 1
            inspector.look(deep=number % _DEEP_EVERY == 0)

    async def _wait_for_progress(self) -> None:
        """What is healthy again must serve every producer again."""
        before = [producer.acknowledged for producer in self._producers]
        commits = self._groups.commits
        with trio.move_on_after(_SETTLE_S) as scope:
            while not all(
                producer.acknowledged > count or producer.acks != -1
                for producer, count in zip(self._producers, before, strict=True)
            ):
                await trio.sleep(0.25)
        if scope.cancelled_caught:
            self._trace.violation(
                f"a producer is still stuck {_SETTLE_S:.0f} s after everything was healed"
            )
        with trio.move_on_after(_SETTLE_S) as scope:
            while self._members and self._groups.commits == commits:
                await trio.sleep(0.25)
        if scope.cancelled_caught:
            self._trace.violation(
                f"the group is still stuck {_SETTLE_S:.0f} s after everything was healed"
            )

    async def _settle(self, inspector: Inspector) -> None:
        with trio.move_on_after(_SETTLE_S) as scope:
            while not inspector.is_quiet({TOPIC}):
                await trio.sleep(0.25)
        if scope.cancelled_caught:
            self._trace.violation(
                f"replicas are not equal {_SETTLE_S:.0f} s after everything was healed"
            )


def run_seed(seed: int, options: Options | None = None) -> Verdict:
    """Run a seed; the options are drawn from it unless they are given."""
    chosen = options or options_of(seed)
    trace = Trace()
    logger = logging.getLogger("fastmq")
    before = (logger.level, logger.propagate)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    began = time.process_time()
    virtual_s = 0.0
    with tempfile.TemporaryDirectory(
        prefix="fastmq-sim-", dir=_SHM if _SHM.is_dir() else None
    ) as root:
        run = _Run(chosen, Path(root), trace)
        tap = _LogTap(trace, root)
        logger.addHandler(tap)

        async def main() -> None:
            nonlocal virtual_s
            await run.run()
            virtual_s = trio.current_time()

        try:
            run_simulated(partial(main), seed)
        finally:
            logger.removeHandler(tap)
            logger.setLevel(before[0])
            logger.propagate = before[1]
    return Verdict(
        options=chosen,
        problems=tuple(trace.violations),
        digest=trace.digest,
        counts=trace.counts,
        acknowledged=run.acknowledged,
        virtual_s=virtual_s,
        cpu_s=time.process_time() - began,
        tail=tuple(trace.tail()),
    )


def ignore_interrupts() -> None:
    """Ctrl-C is for the process that reports: it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_task(task: tuple[int, bool]) -> Verdict:
    """Run a seed; with True twice, and whether both went the same way is part of the verdict."""
    seed, twice = task
    verdict = run_seed(seed)
    if twice and (again := run_seed(seed)).digest != verdict.digest:
        told = f"two runs differ: traces {verdict.digest} and {again.digest}"
        verdict = verdict._replace(problems=(*verdict.problems, told))
    return verdict
