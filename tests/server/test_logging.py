import io
import json
import logging

import pytest

from fastmq.errors import ConfigError
from fastmq.server import logging as server_logging


@pytest.fixture
def fastmq_logger():
    root = logging.getLogger("fastmq")
    before = (root.handlers[:], root.level, root.propagate)
    yield root
    root.handlers[:], root.level, root.propagate = before


def record(message, *args):
    return logging.LogRecord("fastmq.x", logging.INFO, __file__, 1, message, args, None)


def test_text_lines_cannot_be_forged_by_line_feeds():
    line = server_logging.TextFormatter().format(record("hello %s", "a\nFATAL b\x1b[31m\u2028"))
    assert line.endswith("INFO fastmq.x hello a\\nFATAL b\\x1b[31m\\u2028")
    assert len(line.splitlines()) == 1


def test_tracebacks_are_indented_and_cannot_be_forged():
    entry = record("failed")
    error = ValueError("a\n2026-01-01T00:00:00.000Z INFO fastmq.x forged\x9b\u202e")
    with pytest.raises(ValueError) as caught:
        raise error
    entry.exc_info = (ValueError, error, caught.tb)
    first, *rest = server_logging.TextFormatter().format(entry).split("\n")
    assert first.endswith("failed")
    assert len(rest) > 2
    assert all(line.startswith("  ") for line in rest)
    assert rest[-1].endswith("forged\\x9b\\u202e")


def test_json_lines_carry_extra_fields(fastmq_logger):
    stream = io.StringIO()
    server_logging.configure("json", level="debug", stream=stream)
    fastmq_logger.info("made %s", "it", extra={"topic": "events"})
    entry = json.loads(stream.getvalue())
    assert entry["message"] == "made it"
    assert entry["topic"] == "events"
    assert entry["level"] == "INFO"


def test_filter_holds_back_a_flood_and_tells_how_many():
    now = [0.0]
    limit = server_logging.RateLimitFilter(3, clock=lambda: now[0])
    assert [limit.filter(record("bad peer %s", i)) for i in range(10)] == [True] * 3 + [False] * 7
    assert limit.filter(record("something else"))
    now[0] = 1.0
    later = record("bad peer %s", 11)
    assert limit.filter(later)
    assert "7 more like this" in server_logging.TextFormatter().format(later)


def test_unknown_style_and_level_are_refused():
    with pytest.raises(ConfigError, match="xml"):
        server_logging.configure("xml")
    with pytest.raises(ConfigError, match="LOUD"):
        server_logging.configure("text", level="LOUD")
