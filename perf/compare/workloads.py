"""The table of workloads: what is measured, against whom, in which profile.

A workload's name is its key in the report. `batch` in a name is the size of a request's batch;
NATS and Redis have no batches: each message is a request there, 256 in flight on each connection,
and RabbitMQ's frames hold 64 messages.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compare import footprint, kafka_loads, limits, other_loads, replicated, two_cores
from compare.peers import Running
from compare.session import Session

KAFKAS = ("fastmq", "kafka")
OTHERS = ("nats", "redis", "rabbitmq")
ALL = KAFKAS + OTHERS

SMALL = "small"  # every workload of a kind once: the default
FULL = "full"  # all combinations


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the report.

    Attributes:
        run: takes the session and the broker; for peer `limit` the session alone.
        rounds_max: fewer rounds than asked for, because one takes long.
        bare: the physical limit, measured in the same rounds as peer `limit`.
    """

    name: str
    title: str
    run: Callable[..., dict[str, Any]]
    settings: dict[str, Any]
    peers: tuple[str, ...] = KAFKAS
    profile: str = SMALL
    rounds_max: int | None = None
    bare: Callable[[Session], dict[str, Any]] | None = None

    def measure(self, session: Session, running: Running | None) -> dict[str, Any]:
        """One measurement; of the limit when no broker is given."""
        if running is None:
            assert self.bare is not None
            return self.bare(session)
        return self.run(session, running, **self.settings)


def _no_broker(session: Session, running: Running) -> dict[str, Any]:
    raise AssertionError("this row has a limit only")


def _produce_any(
    session: Session, running: Running, *, kafka: dict[str, Any], other: dict[str, Any]
) -> dict[str, Any]:
    """Each broker through its own protocol."""
    if running.peer.speaks_kafka:
        return kafka_loads.produce(session, running, **kafka)
    return other_loads.produce(session, running, **other)


def _consume_any(
    session: Session, running: Running, *, kafka: dict[str, Any], record_bytes: int
) -> dict[str, Any]:
    if running.peer.speaks_kafka:
        return kafka_loads.consume(session, running, record_bytes=record_bytes, **kafka)
    return other_loads.consume(session, running, record_bytes=record_bytes)


def _produce() -> list[Workload]:
    rows = []
    for record_bytes, text in ((1000, "1 KB"), (100, "100 B")):
        for batch, batch_text in ((65536, "64 KiB"), (4096, "4 KiB")):
            for partitions in (1, 6, 100):
                for acks in (-1, 1):
                    usual = partitions == 6 or (record_bytes == 1000 and acks == -1)
                    usual = usual and (record_bytes == 1000 or acks == -1)
                    bare = functools.partial(limits.append, batch_bytes=batch)
                    rows.append(
                        Workload(
                            f"produce {record_bytes}B x{partitions} batch {batch_text}"
                            f" acks={'all' if acks < 0 else acks}",
                            f"produce {text}, {partitions} partitions, batches of {batch_text}, "
                            f"acks={'all' if acks < 0 else acks}",
                            kafka_loads.produce,
                            {
                                "record_bytes": record_bytes,
                                "batch_bytes": batch,
                                "partitions": partitions,
                                "acks": acks,
                            },
                            profile=SMALL if usual else FULL,
                            bare=bare if partitions == 6 and acks == -1 else None,
                        )
                    )
    rows.append(
        Workload(
            "produce 1000B x6 batch 1 MB acks=all",
            "produce 1 KB, 6 partitions, batches of 1 MB",
            kafka_loads.produce,
            {"record_bytes": 1000, "batch_bytes": 1_000_000, "partitions": 6, "inflight": 2},
            bare=functools.partial(limits.append, batch_bytes=1_000_000),
        )
    )
    return rows


def _single() -> list[Workload]:
    """One message per request, many in flight: the shape that NATS and Redis have."""
    return [
        Workload(
            "single 1000B windowed",
            "produce 1 KB, one message per request, 4 x 256 in flight",
            _produce_any,
            {
                "kafka": {"record_bytes": 1000, "batch_bytes": 1, "partitions": 1, "inflight": 256},
                "other": {"record_bytes": 1000},
            },
            peers=ALL,
        ),
        *(
            Workload(
                f"keyed 100B c{connections}",
                f"keyed 100 B, one message per request, {connections} connections x 1",
                _produce_any,
                {
                    "kafka": {
                        "record_bytes": 100,
                        "batch_bytes": 1,
                        "key_bytes": 16,
                        "connections": connections,
                        "inflight": 1,
                    },
                    "other": {"record_bytes": 100, "connections": connections, "inflight": 1},
                },
                peers=(*KAFKAS, "nats", "redis"),
                bare=limits.echo if connections == 256 else None,
            )
            for connections in (16, 256, 2000)
        ),
    ]


def _consume() -> list[Workload]:
    rows = [
        Workload(
            "consume 1000B x1 hot",
            "consume 1 KB from the page cache, one partition",
            _consume_any,
            {"kafka": {"batch_bytes": 16384}, "record_bytes": 1000},
            peers=ALL,
            bare=functools.partial(limits.sendfile, batch_bytes=16384),
        )
    ]
    for name, title, settings, profile in (
        ("1000B x6 hot", "1 KB, 6 partitions", {"partitions": 6}, SMALL),
        ("1000B x100 hot", "1 KB, 100 partitions", {"partitions": 100}, SMALL),
        ("1000B x6 batch 64 KiB", "1 KB, 6 partitions, batches of 64 KiB",
         {"partitions": 6, "batch_bytes": 65536}, SMALL),
        ("1000B x6 batch 4 KiB", "1 KB, 6 partitions, batches of 4 KiB",
         {"partitions": 6, "batch_bytes": 4096}, SMALL),
        ("100B x6 hot", "100 B, 6 partitions", {"partitions": 6, "record_bytes": 100}, FULL),
        ("1000B x1 cold", "1 KB, one partition, from the disk", {"cold": True}, SMALL),
    ):  # fmt: skip
        rows.append(
            Workload(
                f"consume {name}",
                f"consume {title}",
                kafka_loads.consume,
                {"record_bytes": 1000, "batch_bytes": 16384, **settings},
                profile=profile,
                bare=functools.partial(limits.sendfile, batch_bytes=65536)
                if name.endswith("64 KiB")
                else None,
            )
        )
    return rows


def _clients() -> list[Workload]:
    rows = []
    for record_bytes in (1000, 100):
        for partitions in (1, 6, 100):
            for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
                usual = partitions == 6 and (record_bytes == 1000 or codec == "none")
                rows.append(
                    Workload(
                        f"librdkafka produce {record_bytes}B x{partitions} {codec}",
                        f"librdkafka produces {record_bytes} B, {partitions} partitions, {codec}",
                        kafka_loads.rdkafka,
                        {
                            "what": "produce",
                            "record_bytes": record_bytes,
                            "partitions": partitions,
                            "codec": codec,
                        },
                        profile=SMALL if usual else FULL,
                        rounds_max=None if codec == "none" else 3,
                        bare=functools.partial(limits.sink, record_bytes=record_bytes)
                        if partitions == 6 and codec == "none"
                        else None,
                    )
                )
    for codec in ("none", "zstd"):
        rows.append(
            Workload(
                f"librdkafka consume 1000B x6 {codec}",
                f"librdkafka consumes 1000 B, 6 partitions, {codec}",
                kafka_loads.rdkafka,
                {"what": "consume", "record_bytes": 1000, "records": 200_000, "codec": codec},
                profile=SMALL if codec == "none" else FULL,
            )
        )
    return rows


def _latency() -> list[Workload]:
    rows = []
    for batch, text in ((16384, "16 KiB"), (1, "one record")):
        reference = "produce 1000B x6 batch 64 KiB acks=all" if batch > 1 else "keyed 100B c16"
        rows.append(
            Workload(
                f"latency half load {text}",
                f"end to end at half the load that the slowest bears, batches of {text}",
                kafka_loads.latency,
                {
                    "produce_of": reference,
                    "consume_of": "consume 1000B x6 hot",
                    "record_bytes": 1000,
                    "batch_bytes": batch,
                },
            )
        )
    return rows


def _durable() -> list[Workload]:
    return [
        Workload(
            f"fsync per ack 1000B c{connections}",
            f"fsync before every acknowledgement, 1 KB, {connections} producers",
            _produce_any,
            {
                "kafka": {
                    "record_bytes": 1000,
                    "batch_bytes": 1,
                    # One log, as the others have one stream: all wait for the same file.
                    "partitions": 1,
                    "connections": connections,
                    "inflight": 1,
                    "durable": True,
                },
                "other": {
                    "record_bytes": 1000,
                    "connections": connections,
                    "inflight": 1,
                    "durable": True,
                },
            },
            peers=(*KAFKAS, "nats", "redis"),
            bare=limits.fdatasync,
        )
        for connections in (1, 16)
    ]


def _many() -> list[Workload]:
    produced = [
        Workload(
            f"partitions {count}",
            f"4 KiB batches to {count} partitions in turn",
            kafka_loads.many_partitions,
            {"partitions": count},
            # Kafka takes minutes of CPU to lead as many, and a descriptor limit to match.
            peers=("fastmq",) if count == 10_000 else KAFKAS,
            rounds_max=None if count == 6 else 3,
        )
        for count in (6, 1000, 10_000)
    ]
    mixed = [
        Workload(
            f"partitions {count} mixed",
            f"20 MB/s in 4 KiB batches to {count} partitions, all of them read",
            kafka_loads.mixed,
            {"partitions": count},
            rounds_max=2,
        )
        for count in (6, 1000)
    ]
    restart = Workload(
        "partitions 10000 restart",
        "clean restart with 10,000 partitions to the first answer",
        footprint.restart_with_partitions,
        {},
        peers=("fastmq",),
        rounds_max=2,
    )
    return [*produced, *mixed, restart]


WORKLOADS: tuple[Workload, ...] = (
    Workload("limit memory", "memcpy and CRC-32C", _no_broker, {}, peers=(), bare=limits.memory),
    *_produce(),
    *_single(),
    *_consume(),
    *_latency(),
    *_durable(),
    Workload(
        "start-up",
        "start, first answer, idle memory, installed size",
        footprint.start_up,
        {},
        peers=ALL,
        rounds_max=3,
    ),
    Workload("backlog", "a backlog drained while 20 MB/s come in", kafka_loads.backlog, {}),
    *_many(),
    Workload(
        "two cores",
        "librdkafka produces 1 KB; the broker on both cores: two fastmq processes, one Kafka",
        two_cores.produce,
        {},
        rounds_max=2,
    ),
    Workload(
        "replicated x3",
        "librdkafka produces 1 KB, acks=all, 12 partitions of 3 replicas; three brokers each",
        replicated.produce,
        {},
        rounds_max=2,
    ),
    Workload(
        "group 100",
        "a group of 100 consumers: subscribe to all records seen",
        kafka_loads.group,
        {},
        rounds_max=2,
    ),
    *_clients(),
)
