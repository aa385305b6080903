"""Sizes, durations and times on the command line."""

from datetime import UTC, datetime

import pytest

from fastmq.cli.support.output import bytes_text, count_text, duration_text, print_table
from fastmq.cli.support.values import (
    TOPIC_PARTITIONS,
    parse_bytes,
    parse_duration_s,
    parse_time_ms,
)

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOW_MS = 1_714_564_800_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("90", 90), ("1h30m", 5400), ("1.5h", 5400), ("7d", 604800), ("2w", 1209600)],
)
def test_durations(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "1x", "1h m", "-5s", "1 h", "5s!"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="write it like"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("1k", 1024),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5M", 1572864),
        ("2gb", 2 * 10**9),
    ],
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "1x", "-1", "1 2"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="write it like"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("now", NOW_MS),
        ("-15m", NOW_MS - 900_000),
        ("2024-05-01T12:00:00+00:00", NOW_MS),
        ("2024-05-01T14:00:00+02:00", NOW_MS),
        ("1714564800", NOW_MS),
        ("1714564800000", NOW_MS),
    ],
)
def test_times(text, time_ms):
    assert parse_time_ms(text, NOW) == time_ms


@pytest.mark.parametrize("text", ["", "yesterday", "12:00", "-", "2024-13-01"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="no (time|duration)"):
        parse_time_ms(text, NOW)


def test_partitions_of_a_topic():
    assert TOPIC_PARTITIONS.convert("t", None, None) == ("t", [])
    assert TOPIC_PARTITIONS.convert("t:0,2-4", None, None) == (
        "t",
        [("t", 0), ("t", 2), ("t", 3), ("t", 4)],
    )


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (bytes_text(512), "512 B"),
        (bytes_text(1536), "1.5 KiB"),
        (bytes_text(5 << 40), "5.0 TiB"),
        (count_text(950), "950"),
        (count_text(12_300), "12.3 k"),
        (count_text(4_600_000), "4.6 M"),
        (duration_text(0.25), "0.2s"),
        (duration_text(200), "3m20s"),
        (duration_text(7500), "2h05m"),
        (duration_text(356_400), "4d3h"),
    ],
)
def test_numbers_for_people(made, text):
    assert made == text


def test_a_table_is_aligned_and_does_not_let_names_write_to_the_terminal(capsys):
    print_table(("NAME", "COUNT"), [("a", 1), ("long\x1b[2J", 1000), ("b", None)])
    assert capsys.readouterr().out.splitlines() == [
        "NAME         COUNT",
        "a                1",
        "long\\x1b[2J   1000",
        "b                -",
    ]
