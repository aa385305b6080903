"""The commands below `fastmq perf`."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from fastmq.cli.perf.report import Result, live, show
from fastmq.cli.perf.runs import Load, run_consume, run_latency, run_produce, throwaway_topic
from fastmq.cli.support.completing import complete_topic
from fastmq.cli.support.options import Cluster, cluster_options, errors_told, json_option
from fastmq.cli.support.values import BYTES, DURATION
from fastmq.client.topic_partition import TopicPartition

__all__ = ["perf"]

_DEFAULT_RECORDS = 1_000_000
_LATENCY_RECORDS = 5_000

F = TypeVar("F", bound=Callable[..., Any])

_CODECS = click.Choice(["none", "gzip", "snappy", "lz4", "zstd"])


@click.group()
def perf() -> None:
    """Measure a cluster through the bundled clients.

    Without a TOPIC a new one is made and deleted at the end.
    """


def _load_options(command: F) -> F:
    # Any: click's decorators.
    decorated: Any = command
    for decorate in (
        click.option("-n", "--records", type=click.IntRange(min=1), help="How many records."),
        click.option("-d", "--duration", type=DURATION, metavar="DURATION", help="Or how long."),
        click.option(
            "-s",
            "--size",
            type=BYTES,
            default=1024,
            show_default=True,
            metavar="SIZE",
            help="Bytes of a value.",
        ),
        click.argument("topic", required=False, shell_complete=complete_topic),
    ):
        decorated = decorate(decorated)
    result: F = decorated
    return result


@perf.command(
    epilog="""\b
Examples:
  fastmq perf produce
  fastmq perf produce -n 5000000 -s 100 --partitions 6 --compression lz4
  fastmq perf produce events -d 30s --rate 10000 --acks 1
  fastmq perf produce --json -X linger.ms=50
"""
)
@_load_options
@click.option("--rate", type=click.FloatRange(min=0.001), help="At most so many records a second.")
@click.option("--partitions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--keys", type=click.IntRange(min=0), default=0, help="Use so many keys.")
@click.option("-z", "--compression", type=_CODECS)
@click.option("-a", "--acks", type=click.Choice(["0", "1", "all"]))
@json_option
@cluster_options
def produce(
    *,
    cluster: Cluster,
    topic: str | None,
    records: int | None,
    duration: float | None,
    size: int,
    rate: float | None,
    partitions: int,
    keys: int,
    compression: str | None,
    acks: str | None,
    as_json: bool,
) -> None:
    """Send records as fast as the cluster takes them, or at a rate."""
    load = _load(records, duration, size, rate, keys)
    options = {"compression_type": compression, "acks": acks}
    result = Result(
        "produce",
        {"size": size, "rate": rate, "partitions": partitions, "keys": keys, **options},
    )
    with errors_told(cluster), throwaway_topic(cluster, topic, partitions) as name:
        make = _producers(cluster, {k: v for k, v in options.items() if v is not None})
        with live("producing", load.records) as update:
            run_produce(make, name, load, result, update)
    show(result, as_json=as_json)


def _load(
    records: int | None, duration: float | None, size: int, rate: float | None, keys: int = 0
) -> Load:
    if records is None and duration is None:
        records = _DEFAULT_RECORDS
    return Load(records, duration, size, rate, keys)


@perf.command(
    epilog="""\b
Examples:
  fastmq perf consume
  fastmq perf consume events -n 1000000
  fastmq perf consume events -d 10s --json
"""
)
@_load_options
@click.option("--partitions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("-z", "--compression", type=_CODECS, help="Of the records that are made first.")
@json_option
@cluster_options
def consume(
    *,
    cluster: Cluster,
    topic: str | None,
    records: int | None,
    duration: float | None,
    size: int,
    partitions: int,
    compression: str | None,
    as_json: bool,
) -> None:
    """Read a topic from its beginning, or records that are made for it."""
    result = Result("consume", {"size": size, "partitions": partitions})
    with errors_told(cluster), throwaway_topic(cluster, topic, partitions) as name:
        load = _load(records, duration, size, None)
        if topic is None:
            options = {} if compression is None else {"compression_type": compression}
            count = load.records or _DEFAULT_RECORDS
            with live("preparing", count) as update:
                run_produce(
                    _producers(cluster, options),
                    name,
                    Load(count, None, size),
                    Result("produce", {}),
                    update,
                )
        with cluster.admin() as admin:
            starts = admin.topic_offsets(name, "earliest")
            ends = admin.topic_offsets(name, "latest")
        there = sum(ends[one].offset - starts[one].offset for one in starts)
        wanted = there if load.records is None else min(there, load.records)
        load = Load(wanted, duration, size)
        offsets = {
            TopicPartition(*one): found.offset
            for one, found in starts.items()
            if found.offset < ends[one].offset
        }
        if offsets:
            with live("consuming", wanted) as update:
                run_consume(_consumers(cluster), offsets, load, result, update)
        else:
            result.errors.append(f"topic {name} is empty")
    show(result, as_json=as_json)


@perf.command(
    epilog="""\b
Examples:
  fastmq perf latency
  fastmq perf latency --rate 1000 -d 10s -s 200
  fastmq perf latency --acks 1 --json
"""
)
@_load_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0.001),
    default=500.0,
    show_default=True,
    help="Records a second.",
)
@click.option("-a", "--acks", type=click.Choice(["0", "1", "all"]))
@json_option
@cluster_options
def latency(
    *,
    cluster: Cluster,
    topic: str | None,
    records: int | None,
    duration: float | None,
    size: int,
    rate: float,
    acks: str | None,
    as_json: bool,
) -> None:
    """Time records from producing to consuming, one by one at a rate."""
    if records is None and duration is None:
        records = _LATENCY_RECORDS
    load = Load(records, duration, size, rate)
    result = Result("latency", {"size": size, "rate": rate, "acks": acks})
    with errors_told(cluster), throwaway_topic(cluster, topic, 1) as name:
        make = _producers(cluster, {} if acks is None else {"acks": acks})
        with live("sending", load.records) as update:
            run_latency(make, _consumers(cluster), name, load, result, update)
    show(result, as_json=as_json)


# Any: options of the clients.
def _producers(cluster: Cluster, given: dict[str, Any]) -> Callable[..., Any]:
    from fastmq.client.fronts.producer import Producer
    from fastmq.client.producer.options import ProducerOptions

    options = {"client_id": "fastmq-perf", **cluster.options_for(ProducerOptions), **given}
    return partial(Producer, cluster.servers, **options)


def _consumers(cluster: Cluster) -> Callable[..., Any]:
    from fastmq.client.consumer.options import ConsumerOptions
    from fastmq.client.fronts.consumer import Consumer

    options = {
        "client_id": "fastmq-perf",
        "enable_auto_commit": False,
        **cluster.options_for(ConsumerOptions),
    }
    return partial(Consumer, cluster.servers, **options)
