"""Cutting input into records, and printing them: without a broker."""

import json
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmq.cli.perf.histogram import Histogram
from fastmq.cli.records.formatting import compile_format, json_printer, transform
from fastmq.cli.records.places import Place, parse_place, parse_range
from fastmq.cli.records.reading import (
    Input,
    InputError,
    json_record,
    pieces,
    text_record,
    unescape,
)


class Record(NamedTuple):
    topic: str = "t"
    partition: int = 1
    offset: int = 42
    timestamp_ms: int = 1_714_564_800_000
    timestamp_type: str = "CreateTime"
    leader_epoch: int = 3
    key: bytes | None = b"k"
    value: bytes | None = b"value"
    headers: tuple = (("a", b"1"), ("b", None))


def reader(data: bytes, size: int):
    """Hands out so many bytes at a time."""
    position = 0

    def read(_: int) -> bytes:
        nonlocal position
        piece = data[position : position + size]
        position += len(piece)
        return piece

    return read


@given(
    st.lists(st.binary(max_size=20).map(lambda b: b.replace(b";", b""))),
    st.integers(1, 7),
    st.sampled_from([b";", b";;", b"\n"]),
)
def test_pieces_are_what_was_joined_however_it_arrives(parts, size, delimiter):
    parts = [part.replace(b"\n", b"") for part in parts]
    data = b"".join(part + delimiter for part in parts)
    assert list(pieces(reader(data, size), delimiter, 1000)) == parts


def test_the_last_piece_needs_no_delimiter_and_none_is_endless():
    assert list(pieces(reader(b"a\nb", 2), b"\n", 10)) == [b"a", b"b"]
    with pytest.raises(InputError, match="more than 10 bytes"):
        list(pieces(reader(b"a" * 100, 5), b"\n", 10))


def test_keys_stand_before_the_delimiter():
    assert text_record(b"k:v:w", b":") == Input(b"k", b"v:w")
    assert text_record(b"kv", b":") == Input(None, b"kv")
    assert text_record(b"k:v", None) == Input(None, b"k:v")


def test_escapes():
    assert unescape(r"a\tb\n\x00\\") == "a\tb\n\0\\"
    for bad in (r"\q", "\\", r"\x1", r"\xzz"):
        with pytest.raises(ValueError, match="escape|hexadecimal"):
            unescape(bad)


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ('{"value":"v"}', Input(None, b"v")),
        ('{"key":"k","value":null}', Input(b"k", None)),
        ('{"value":{"a":[1]}}', Input(None, b'{"a":[1]}')),
        ('{"value":{"base64":"/w=="}}', Input(None, b"\xff")),
        (
            '{"value":"v","headers":{"h":"1"},"partition":2,"timestamp":5}',
            Input(None, b"v", (("h", b"1"),), 2, 5),
        ),
        (
            '{"value":"v","headers":[{"key":"h","value":null}],"topic":"x","offset":1}',
            Input(None, b"v", (("h", None),)),
        ),
    ],
)
def test_json_records(line, record):
    assert json_record(line.encode(), 1) == record


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"valu":1}',
        '{"value":1,"more":2}',
        '{"value":1,"partition":"1"}',
        '{"value":1,"timestamp":true}',
        '{"value":1,"headers":[1]}',
        '{"value":{"base64":"?"}}',
        '{"value":{"base64":1}}',
    ],
)
def test_what_is_no_json_record_is_told_with_its_line(line):
    with pytest.raises(InputError, match="line 7"):
        json_record(line.encode(), 7)


@given(
    st.none() | st.binary(max_size=30),
    st.none() | st.binary(max_size=30),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
)
def test_printed_json_is_read_as_the_same_record(key, value, headers):
    record = Record(key=key, value=value, headers=tuple(headers))
    read = json_record(json_printer()(record), 1)
    assert (read.key, read.value, read.headers) == (key, value, tuple(headers))
    assert (read.partition, read.timestamp_ms) == (1, 1_714_564_800_000)


def test_json_without_values_tells_their_size():
    row = json.loads(json_printer(has_value=False)(Record()))
    assert row["value_size"] == 5
    assert "value" not in row


def test_formats():
    raw = transform("raw", b"NULL")
    show = compile_format(r"%t %p %o %k %K %s %S %T %h %e %%\n", raw, raw)
    assert show(Record()) == b"t 1 42 k 1 value 5 1714564800000 a=1,b=NULL 3 %\n"
    assert compile_format("%v|%k", raw, raw)(Record(key=None, value=None)) == b"NULL|NULL"
    assert compile_format("%R", raw, raw)(Record()) == b"\0\0\0\5"
    with pytest.raises(ValueError, match="unknown %q"):
        compile_format("%q", raw, raw)
    with pytest.raises(ValueError, match="unknown %"):
        compile_format("100%", raw, raw)


@pytest.mark.parametrize(
    ("way", "shown"),
    [("raw", b"\xff\0"), ("hex", b"ff00"), ("base64", b"/wA="), ("repr", b"\\xff\\x00")],
)
def test_ways_to_show_bytes(way, shown):
    assert transform(way, b"")(b"\xff\0") == shown
    assert transform(way, b"-")(None) == b"-"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("beginning", Place("earliest")),
        ("end", Place("latest")),
        ("stored", Place("stored")),
        ("17", Place("offset", 17)),
        ("-17", Place("back", 17)),
        ("@1714564800000", Place("time", 1_714_564_800_000)),
        ("s@1714564800000", Place("time", 1_714_564_800_000)),
        ("@-15m", Place("time", 1_714_564_800_000 - 900_000)),
    ],
)
def test_places(text, place):
    now = datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert parse_place(text, now) == place


def test_ranges():
    assert parse_range("5..10") == (Place("offset", 5), Place("offset", 10))
    assert parse_range("..end") == (Place("earliest"), Place("latest"))
    assert parse_range("end") == (Place("latest"), None)
    for bad in ("", "nowhere", "5..x", "--5", "@"):
        with pytest.raises(ValueError, match="no (place|time)") if bad else _nothing():
            parse_range(bad or "5")


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=200))
def test_a_histogram_is_within_two_per_cent(times):
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    ordered = sorted(times)
    for percent in (50, 90, 99):
        exact = ordered[max(1, -(-len(times) * percent // 100)) - 1]
        assert histogram.percentile_s(percent) == pytest.approx(exact, rel=0.021)
    assert (histogram.shortest_s, histogram.longest_s) == (ordered[0], ordered[-1])
    assert sum(count for _, _, count in histogram.bars()) == len(times)
