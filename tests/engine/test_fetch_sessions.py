"""Fetch sessions (KIP-227): who asks for many partitions names them once."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmq.protocol.messages import fetch as f

from support.batches import as_stored, batch
from support.engine import TOPIC_ID, Client, Harness, fetch, produce

NOT_FOUND, BAD_EPOCH, MIXED = 70, 71, 106


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    made = Harness(tmp_path, fetch_sessions=3)
    yield made
    made.close()


def parts(answer: Any) -> dict[int, Any]:
    return {p.partition_index: p for topic in answer.responses for p in topic.partitions}


def open_session(client: Client, *offsets: tuple[int, int], version: int = 13) -> int:
    answer = client.call(version, fetch(*offsets, session_id=0, session_epoch=0))
    assert answer.error_code == 0
    return int(answer.session_id)


def go_on(
    client: Client,
    session: int,
    epoch: int,
    *offsets: tuple[int, int],
    version: int = 13,
    forget: tuple[int, ...] = (),
    **more: Any,
) -> Any:
    request = fetch(*offsets, session_id=session, session_epoch=epoch, **more)
    if not offsets:
        request.topics = []
    if forget:
        request.forgotten_topics_data = [
            f.FetchForgottenTopic(topic="events", topic_id=TOPIC_ID, partitions=list(forget))
        ]
    return client.call(version, request)


@pytest.mark.parametrize("version", [7, 11, 12, 13, 17])
def test_only_what_is_new_is_told(harness: Harness, version: int) -> None:
    for index in range(4):
        harness.partition(index)
    client = harness.client()
    session = open_session(client, *((i, 0) for i in range(4)), version=version)
    assert session > 0
    assert parts(go_on(client, session, 1, version=version)) == {}

    data = batch(b"one")
    client.call(9, produce((2, data)))
    answer = go_on(client, session, 2, version=version)
    assert answer.session_id == session
    assert list(parts(answer)) == [2]
    assert bytes(parts(answer)[2].records) == as_stored(data, 0, 3)
    # Asked from where it was, until the client says otherwise.
    assert list(parts(go_on(client, session, 3, version=version))) == [2]
    assert parts(go_on(client, session, 4, (2, 1), version=version)) == {}
    assert parts(go_on(client, session, 5, version=version)) == {}


def test_a_partition_joins_and_another_is_forgotten(harness: Harness) -> None:
    for index in range(3):
        harness.partition(index)
    client = harness.client()
    session = open_session(client, (0, 0), (1, 0))
    client.call(9, produce(*((i, batch(b"x")) for i in range(3))))
    answer = go_on(client, session, 1, (2, 0), forget=(1,))
    assert sorted(parts(answer)) == [0, 2]
    answer = go_on(client, session, 2, forget=(0, 2))
    assert answer.session_id == 0
    assert parts(answer) == {}
    assert go_on(client, session, 3).error_code == NOT_FOUND


def test_errors_are_told_until_they_are_over(harness: Harness) -> None:
    harness.partition(0)
    client = harness.client()
    session = open_session(client, (0, 0), (7, 0))
    for epoch in (1, 2):
        answer = go_on(client, session, epoch)
        assert {i: p.error_code for i, p in parts(answer).items()} == {7: 100}
    harness.partition(7)
    answer = go_on(client, session, 3)
    assert {i: p.error_code for i, p in parts(answer).items()} == {7: 0}
    assert parts(go_on(client, session, 4)) == {}


def test_epochs_and_ids_are_checked(harness: Harness) -> None:
    harness.partition(0)
    client = harness.client()
    session = open_session(client, (0, 0))
    assert go_on(client, session, 2).error_code == BAD_EPOCH
    assert go_on(client, session + 1, 1).error_code == NOT_FOUND
    assert go_on(client, session, 1, version=12).error_code == MIXED
    assert go_on(client, session, 1).error_code == 0
    assert go_on(client, session, 1).error_code == BAD_EPOCH
    # A full fetch of the session closes it, with or without a new one.
    again = client.call(13, fetch((0, 0), session_id=session, session_epoch=0))
    assert again.session_id not in (0, session)
    assert go_on(client, session, 2).error_code == NOT_FOUND
    last = client.call(13, fetch((0, 0), session_id=again.session_id, session_epoch=-1))
    assert last.session_id == 0
    assert list(parts(last)) == [0]
    assert go_on(client, again.session_id, 1).error_code == NOT_FOUND
    assert harness.engine.metrics()["fetch_sessions"] == 0


def test_a_waiting_fetch_is_woken_by_what_it_does_not_name(harness: Harness) -> None:
    for index in range(3):
        harness.partition(index)
    client, producer = harness.client(), harness.client()
    session = open_session(client, *((i, 0) for i in range(3)))
    request = fetch(session_id=session, session_epoch=1, max_wait_ms=10_000)
    request.topics = []
    client.send(13, request)
    assert client.silent(0.02)
    producer.call(9, produce((1, batch(b"x"))))
    _, answer = client.receive(1, 13)
    assert list(parts(answer)) == [1]
    # When nothing comes, it is answered in time, and the session goes on.
    began = time.monotonic()
    answer = go_on(client, session, 2, (1, 1), max_wait_ms=30)
    assert parts(answer) == {}
    assert time.monotonic() - began >= 0.03
    assert go_on(client, session, 3).error_code == 0


def test_sessions_are_bounded(harness: Harness) -> None:
    for index in range(3):
        harness.partition(index)
    client = harness.client()
    small = [open_session(client, (0, 0)) for _ in range(3)]
    # A client replaces no session that is less than two minutes old.
    assert all(small)
    assert open_session(client, (0, 0), (1, 0)) == 0
    assert [go_on(client, session, 1).error_code for session in small] == [0, 0, 0]
    assert harness.engine.metrics()["fetch_sessions"] == 3


def test_who_is_late_in_a_short_answer_comes_first_in_the_next(harness: Harness) -> None:
    stored = batch(bytes(1_000))
    client = harness.client()
    for index in range(5):
        harness.partition(index)
        client.call(9, produce((index, stored)))
    first = client.call(13, fetch(*((i, 0) for i in range(5)), session_epoch=0, max_bytes=100))
    seen = [i for i, p in parts(first).items() if p.records]
    for epoch in itertools.count(1):
        answer = go_on(client, first.session_id, epoch, (seen[-1], 1), max_bytes=100)
        got = [i for i, p in parts(answer).items() if p.records]
        if not got:
            break
        seen += got
    assert sorted(seen) == list(range(5))


def test_many_partitions_come_and_go(harness: Harness) -> None:
    for index in range(64):
        harness.partition(index)
    client = harness.client()
    session = open_session(client, *((i, 0) for i in range(0, 64, 2)))
    client.call(9, produce(*((i, batch(b"x")) for i in range(64))))
    present = set(range(0, 64, 2))
    for epoch in range(1, 40):
        new = {(epoch * 7 + i) % 64 for i in range(5)}
        gone = {(epoch * 11 + i * 3) % 64 for i in range(5)} - new
        present = (present | new) - gone
        answer = go_on(client, session, epoch, *((i, 0) for i in new), forget=tuple(gone))
        assert set(parts(answer)) == present
