"""Cutting input into records: lines or other pieces with keys, JSON, or whole files."""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Input", "InputError", "blocks", "json_record", "pieces", "text_record", "unescape"]

# As `fastmq consume --json` writes it.
_FIELDS = frozenset(
    {
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "leader_epoch",
        "key",
        "value",
        "headers",
    }
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}


class InputError(ValueError):
    """Input that is no record; the message says which and why."""


@dataclass(slots=True)
class Input:
    """A record to be sent. None for timestamp and partition: as the producer decides."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None
    timestamp_ms: int | None = None


def unescape(text: str) -> str:
    r"""Return a delimiter with `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH` made what they stand for.

    Raises:
        ValueError: another letter follows a backslash.
    """
    made, position = [], 0
    while position < len(text):
        letter = text[position]
        position += 1
        if letter != "\\":
            made.append(letter)
            continue
        code = text[position : position + 1]
        position += 1
        if code == "x":
            digits = text[position : position + 2]
            position += 2
            if len(digits) != 2 or not all(one in "0123456789abcdefABCDEF" for one in digits):
                raise ValueError(f"{text!r}: \\x wants two hexadecimal digits")
            made.append(chr(int(digits, 16)))
        elif code in _ESCAPES:
            made.append(_ESCAPES[code])
        else:
            raise ValueError(f"{text!r}: unknown escape \\{code}")
    return "".join(made)


def blocks(
    read: Callable[[int], bytes], delimiter: bytes, limit: int
) -> Iterator[tuple[list[bytes], int]]:
    """Yield what stands between delimiters, as it comes; the last piece needs none behind it.

    Args:
        read: returns up to so many bytes as soon as there are some, nothing at the end.
        delimiter: not empty.
        limit: bytes that a piece may have.

    Yields:
        Pieces that came together, and the bytes that were read for them.

    Raises:
        InputError: a piece is longer.
    """
    rest = b""
    while data := read(1 << 18):
        parts = (rest + data).split(delimiter)
        rest = parts.pop()
        yield parts, len(data)
        if len(rest) > limit:
            raise InputError(f"a record of more than {limit} bytes; is the delimiter right?")
    if rest:
        yield [rest], 0


def pieces(read: Callable[[int], bytes], delimiter: bytes, limit: int) -> Iterator[bytes]:
    """Yield the same one by one."""
    for block, _ in blocks(read, delimiter, limit):
        yield from block


def text_record(piece: bytes, key_delimiter: bytes | None) -> Input:
    """Return the record of a piece; without the delimiter in it there is no key."""
    if key_delimiter is None:
        return Input(None, piece)
    key, found, value = piece.partition(key_delimiter)
    return Input(key, value) if found else Input(None, piece)


def json_record(piece: bytes, number: int) -> Input:
    """Return the record of a line of JSON, as `fastmq consume --json` prints it.

    Key and value are texts, null, `{"base64": ...}` for other bytes, or any other JSON, which is
    sent as JSON text.

    Raises:
        InputError: it is not that.
    """
    try:
        row = json.loads(piece)
    except ValueError as error:
        raise InputError(f"line {number} is no JSON: {error}") from None
    if not isinstance(row, dict) or not row.keys() <= _FIELDS or not row.keys() & {"key", "value"}:
        raise InputError(
            f'line {number}: wants an object with "value" and perhaps "key", "headers",'
            ' "partition", "timestamp"'
        )
    partition, timestamp = row.get("partition"), row.get("timestamp")
    for name, number_given in (("partition", partition), ("timestamp", timestamp)):
        if number_given is not None and (
            isinstance(number_given, bool) or not isinstance(number_given, int)
        ):
            raise InputError(f"line {number}: {name} is a whole number")
    return Input(
        _bytes(row.get("key"), number),
        _bytes(row.get("value"), number),
        _headers(row.get("headers"), number),
        partition,
        timestamp,
    )


# Any: JSON.
def _bytes(value: Any, number: int) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"base64"}:
        try:
            return b64decode(value["base64"], validate=True)
        except (Base64Error, TypeError, ValueError):
            raise InputError(f"line {number}: not base64: {value['base64']!r}") from None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _headers(value: Any, number: int) -> tuple[tuple[str, bytes | None], ...]:
    if value is None:
        return ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(
        isinstance(row, dict) and isinstance(row.get("key"), str) for row in value
    ):
        pairs = [(row["key"], row.get("value")) for row in value]
    else:
        raise InputError(f'line {number}: headers are {{"name": "value"}} or a list of these')
    return tuple((name, _bytes(one, number)) for name, one in pairs)
