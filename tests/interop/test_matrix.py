"""Clients that others wrote, unmodified: each produces with every setting it has, over 12
partitions, while a group of three of its consumers reads, whose members join and leave.

Judged from what the consumers report: nothing lost, nothing twice in the log, order per key kept,
no offset twice within an assignment. `-s` shows the table. The quick run has 6,000 records per
client, the slow one 1,000,000 (INTEROP_RECORDS).
"""

import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from interop.clients import CLIENTS, Client
from interop.group import Group, produce

from support.broker import Broker
from support.judge import Judge

pytestmark = pytest.mark.interop

PARTITIONS = 12
KEYS = 50  # per slice, as in workers/jobs.py
RECORDS_QUICK = 6_000
RECORDS_FULL = int(os.environ.get("INTEROP_RECORDS", "1000000"))
SETTLE_S = 4.0  # no new report for so long: every member has its assignment
QUIET_S = 40.0  # longer than a session time-out and a rebalance


def create_topic(broker: Broker, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)


def run_matrix(
    client: Client, broker: Broker, directory: Path, total: int, *, churn: bool = True
) -> None:
    """Produce `total` records in slices, one per setting, while the group reads; judge it."""
    settings = list(client.settings())
    counts = dict.fromkeys(range(len(settings)), total // len(settings))
    total = sum(counts.values())
    base: dict[str, object] = {"bootstrap": broker.bootstrap, "topic": "matrix", "group": "readers"}
    judge = Judge(tells_assignments=client.tells_assignments)
    began = time.monotonic()
    group = Group(lambda: client.command("consume", base), directory, judge)
    try:
        if not churn:
            group.read_until(lambda: False, SETTLE_S)
        settled = judge.assignments
        for part, choice in enumerate(settings):
            job = {**base, "slice": part, "count": counts[part], **asdict(choice)}
            produce(client.command("produce", job), group)
            if churn and part == 0:
                group.join()  # a fourth comes while the first slice is being read
            elif churn and part == 1:
                group.leave()  # the oldest goes, with the second slice
        group.read_until(lambda: len(judge.copies) >= total, QUIET_S)
        stable = judge.assignments == settled
        group.stop()
    finally:
        group.kill()
    print_row(client, settings, total, judge, time.monotonic() - began)

    missing = judge.missing(counts, KEYS)
    assert not missing, f"{len(missing)} of {total} lost, the first: {missing[:5]}"
    assert judge.duplicates() == 0
    assert not judge.faults, judge.faults[:5]
    assert not judge.unexplained_steps(), judge.unexplained_steps()[:5]
    order = judge.order_faults()
    assert not order, order[:5]
    assert judge.redelivered == 0 or not stable, "records came twice without a rebalance"
    assert stable or churn, "a group that nobody left or joined was rebalanced"


def print_row(
    client: Client, settings: list[object], total: int, judge: Judge, seconds: float
) -> None:
    row = (
        f"{client.name} {client.version()} | {', '.join(map(str, settings))} | sent {total:,}"
        f" | read {len(judge.copies):,} | twice in the log {judge.duplicates()}"
        f" | redelivered {judge.redelivered:,} in {judge.assignments} assignments"
        f" | {seconds:.0f} s"
    )
    print(f"\n{row}", flush=True)


def check(client: Client) -> None:
    reason = client.missing()
    if reason is not None:
        print(f"\n{client.name}: skipped, {reason}", flush=True)
        pytest.skip(reason)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
def test_produce_and_consume_with_every_setting(client, make_broker, tmp_path):
    check(client)
    broker = make_broker(dev=True)
    create_topic(broker, "matrix")
    run_matrix(client, broker, tmp_path, RECORDS_QUICK)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("client", CLIENTS[:3], ids=lambda c: c.name)
def test_a_group_left_alone_reads_everything_once(client, make_broker, tmp_path):
    check(client)
    broker = make_broker(dev=True)
    create_topic(broker, "matrix")
    run_matrix(client, broker, tmp_path, RECORDS_QUICK // 2, churn=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.name)
def test_a_million_records_while_members_come_and_go(client, make_broker, tmp_path):
    check(client)
    # With fsync before each answer, as people run it.
    broker = make_broker(dev=False, overrides={"group.initial.rebalance.delay.ms": 0})
    create_topic(broker, "matrix")
    run_matrix(client, broker, tmp_path, RECORDS_FULL)
