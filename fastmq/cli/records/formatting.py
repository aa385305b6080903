r"""Printing records: format strings with kcat's letters, JSON lines, key and value.

| letter | is |
|---|---|
| %s %v | value |
| %S %V | its size in bytes, -1 for null |
| %R | its size as four bytes, big-endian |
| %k %K | key and its size |
| %T | timestamp, ms since 1970 |
| %d | timestamp as local date and time |
| %h | headers, name=value with commas |
| %t %p %o | topic, partition, offset |
| %e | leader epoch |
| %% | a percent sign |

`\n`, `\t`, `\xHH` and their like are escapes.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastmq.cli.records.reading import unescape

if TYPE_CHECKING:
    from fastmq._native.consumer import ConsumerRecord

__all__ = ["Bytes", "Print", "compile_format", "json_printer", "transform"]

#: Shows key or value.
Bytes = Callable[[bytes | None], bytes]


Print = Callable[["ConsumerRecord"], bytes]


def transform(name: str, null: bytes) -> Bytes:
    """Return how bytes are shown: raw, hex, base64, repr.

    Raises:
        ValueError: there is no such way.
    """
    if name == "raw":
        return lambda data: null if data is None else data
    if name == "hex":
        return lambda data: null if data is None else data.hex().encode()
    if name == "base64":
        return lambda data: null if data is None else b64encode(data)
    if name == "repr":
        return lambda data: null if data is None else repr(data)[2:-1].encode()
    raise ValueError(f"{name!r} is none of raw, hex, base64, repr")


def compile_format(text: str, show_key: Bytes, show_value: Bytes) -> Print:
    """Return what prints records in a format.

    Raises:
        ValueError: the format has a letter that means nothing.
    """
    parts: list[Print] = []
    literal = ""
    plain = unescape(text)
    position = 0
    while position < len(plain):
        letter = plain[position]
        position += 1
        if letter != "%":
            literal += letter
            continue
        code = plain[position : position + 1]
        position += 1
        if code == "%":
            literal += "%"
            continue
        if literal:
            parts.append(_literal(literal))
            literal = ""
        parts.append(_field(code, text, show_key, show_value))
    if literal:
        parts.append(_literal(literal))
    return lambda record: b"".join([part(record) for part in parts])


def _literal(text: str) -> Print:
    data = text.encode(errors="surrogateescape")
    return lambda _: data


def _field(code: str, text: str, show_key: Bytes, show_value: Bytes) -> Print:
    fields: dict[str, Print] = {
        "s": lambda r: show_value(r.value),
        "v": lambda r: show_value(r.value),
        "S": lambda r: _size(r.value),
        "V": lambda r: _size(r.value),
        "R": lambda r: (0xFFFFFFFF if r.value is None else len(r.value)).to_bytes(4),
        "k": lambda r: show_key(r.key),
        "K": lambda r: _size(r.key),
        "T": lambda r: b"%d" % r.timestamp_ms,
        "d": lambda r: _date(r.timestamp_ms),
        "h": _headers,
        "t": lambda r: r.topic.encode(),
        "p": lambda r: b"%d" % r.partition,
        "o": lambda r: b"%d" % r.offset,
        "e": lambda r: b"%d" % r.leader_epoch,
    }
    if code not in fields:
        raise ValueError(f"{text!r}: unknown %{code}; there are: %{' %'.join(fields)} %%")
    return fields[code]


def _size(data: bytes | None) -> bytes:
    return b"-1" if data is None else b"%d" % len(data)


def _date(time_ms: int) -> bytes:
    from fastmq.cli.support.output import time_text

    return time_text(time_ms).encode()


def _headers(record: "ConsumerRecord") -> bytes:
    return b",".join(
        name.encode(errors="surrogateescape") + b"=" + (b"NULL" if value is None else value)
        for name, value in record.headers
    )


def json_printer(*, has_value: bool = True) -> Print:
    """Return what prints a record as a line of JSON, which `fastmq produce --input json` reads.

    Args:
        has_value: False: only what is known about the record.
    """
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def show(record: "ConsumerRecord") -> bytes:
        row: dict[str, Any] = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp_ms,
            "timestamp_type": record.timestamp_type,
            "key": _plain(record.key),
        }
        if record.headers:
            row["headers"] = [
                {"key": _name(name), "value": _plain(value)} for name, value in record.headers
            ]
        if has_value:
            row["value"] = _plain(record.value)
        else:
            row["value_size"] = -1 if record.value is None else len(record.value)
        return encode(row).encode()

    return show


# Any: JSON.
def _plain(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _name(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
