"""Values on the command line: key=value, durations, sizes, times, topics with partitions."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fastmq.client.topic_partition import TopicPartition

__all__ = [
    "BYTES",
    "DURATION",
    "KEY_VALUE",
    "TIME",
    "TOPIC_PARTITIONS",
    "parse_bytes",
    "parse_duration_s",
    "parse_time_ms",
]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic since click 8.3 only

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, None: 1}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_duration_s(text: str) -> float:
    """Return seconds for "1.5h", "250ms", "1h30m", "90" (seconds).

    Raises:
        ValueError: it is no duration.
    """
    total, position = 0.0, 0
    for found in _DURATION.finditer(text):
        if found.start() != position:
            break
        total += float(found[1]) * _SECONDS[found[2]]
        position = found.end()
    if not text or position != len(text):
        raise ValueError(f"{text!r} is no duration; write it like 500ms, 30s, 15m, 1h30m, 7d")
    return total


def parse_bytes(text: str) -> int:
    """Return bytes for "1kb" (1000), "1KiB" (1024), "64k" (65,536), "1.5G", "100".

    A bare letter is a binary unit, as in `dd` and `ulimit`.

    Raises:
        ValueError: it is no size.
    """
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write it like 512, 64k, 10MB, 1GiB")
    power = "kmgt".find(found[2].lower()) + 1 if found[2] else 0
    decimal = text.strip().lower().endswith("b") and not found[3]
    return int(float(found[1]) * (1000 if decimal else 1024) ** power)


def parse_time_ms(text: str, now: datetime | None = None) -> int:
    """Return ms since 1970 for "2024-05-01T12:00", "1714564800000", "-15m" (before now), "now".

    A time without a zone is local.

    Raises:
        ValueError: it is no time.
    """
    now = now or datetime.now(UTC)
    if text == "now":
        return int(now.timestamp() * 1000)
    if text.startswith("-"):
        return int((now.timestamp() - parse_duration_s(text[1:])) * 1000)
    if text.isascii() and text.isdigit() and len(text) > 8:
        # Seconds have ten digits until 2286, milliseconds thirteen.
        return int(text) * (1000 if len(text) <= 10 else 1)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write 2024-05-01, 2024-05-01T12:00:00+02:00, milliseconds"
            " since 1970, or -15m for a quarter of an hour ago"
        ) from None
    return int(when.astimezone(UTC).timestamp() * 1000)


class _KeyValue(_ParamType):
    name = "key=value"

    # Any: click's own signature.
    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key.strip(), text


class _Duration(_ParamType):
    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration_s(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Bytes(_ParamType):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Time(_ParamType):
    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_time_ms(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _TopicPartitions(_ParamType):
    """`events` or `events:0,2,5-7`: a topic, and its partitions when not all are meant."""

    name = "topic[:partitions]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, list[TopicPartition]]:
        if isinstance(value, tuple):
            return value
        topic, colon, text = str(value).partition(":")
        try:
            indexes = [i for part in text.split(",") for i in _range(part)] if colon else []
        except ValueError:
            self.fail(f"{value!r} is not TOPIC or TOPIC:0,2,5-7", param, ctx)
        return topic, [TopicPartition(topic, index) for index in indexes]


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    found = range(int(first), int(last if dash else first) + 1)
    if not 0 < len(found) <= 100_000:
        raise ValueError(text)
    return found


KEY_VALUE = _KeyValue()
DURATION = _Duration()
BYTES = _Bytes()
TIME = _Time()
TOPIC_PARTITIONS = _TopicPartitions()
