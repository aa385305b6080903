"""Log output of the broker: standard `logging`, as text or as one JSON object per line.

Two things are added. Control characters of a message are escaped, so that a client id with a line
feed cannot forge a log line. And a `RateLimitFilter` lets only so many lines per second of one
kind through and tells how many it dropped: a flood of bad peers must not become a flood of output.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from fastmq.errors import ConfigError
from fastmq.limits import LOG_KINDS_MAX, LOG_LINES_PER_SECOND

__all__ = ["JSONFormatter", "RateLimitFilter", "TextFormatter", "configure"]

# Control characters, some of which steer terminals (0x9b is as good as ESC [), and those that end
# lines or turn the direction of the text that follows.
_ESCAPES = (
    {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
    | {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F))}
    | {code: f"\\u{code:04x}" for code in range(0x2066, 0x206A)}
    | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
)
# Attributes that every record has; what else is there came in as `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "suppressed"}


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO fastmq.server.broker message`, one line per message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        message = record.getMessage().translate(_ESCAPES)
        line = f"{_utc(record.created)} {record.levelname} {record.name} {message}"
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            line += f" ({suppressed} more like this were not shown)"
        if record.exc_info:
            # Indented, since what an exception says may come from a client, line feeds included.
            lines = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n  {text.translate(_ESCAPES)}" for text in lines)
        return line


class JSONFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line."""
        entry: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            entry["suppressed"] = suppressed
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class RateLimitFilter(logging.Filter):
    """Let `per_second` records of each kind (logger, level, unformatted message) through.

    The first record of a kind in a later second carries the count of those held back before it.
    The table of kinds is bounded; when it is full it starts anew.
    """

    def __init__(
        self, per_second: int = LOG_LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._per_second = per_second
        self._clock = clock
        self._kinds: dict[tuple[str, int, object], list[int]] = {}  # [second, shown, held back]

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is shown."""
        second = int(self._clock())
        kind = (record.name, record.levelno, record.msg)
        state = self._kinds.get(kind)
        if state is None:
            if len(self._kinds) >= LOG_KINDS_MAX:
                self._kinds.clear()
            state = self._kinds[kind] = [second, 0, 0]
        if state[0] != second:
            record.suppressed = state[2]
            state[:] = [second, 0, 0]
        if state[1] >= self._per_second:
            state[2] += 1
            return False
        state[1] += 1
        return True


def configure(style: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send everything below the `fastmq` logger to one stream.

    Args:
        style: `text` or `json`.
        level: a level name of the standard library.
        stream: where to; standard error when None.

    Raises:
        ConfigError: unknown style or level.
    """
    formatters: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JSONFormatter}
    if style not in formatters:
        raise ConfigError(f"log format {style!r} is unknown; it is text or json")
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"log level {level!r} is unknown; it is DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(formatters[style]())
    handler.addFilter(RateLimitFilter())
    root = logging.getLogger("fastmq")
    root.handlers[:] = [handler]
    root.setLevel(number)
    root.propagate = False


def _utc(created: float) -> str:
    seconds, millis = divmod(round(created * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03d}Z"
