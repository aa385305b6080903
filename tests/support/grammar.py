"""Faulty requests by grammar: a message as a list of fields on the wire, and what to do to them.

`segments` encodes a request field by field with the declarations of its class, independently of
the codec, and keeps what each piece is. `variants` then yields whole request frames (without the
length prefix) that are wrong in one place: each field at its edges, each count and length at -1,
0, the maximum, beyond what is left; each byte changed in eight ways; the frame cut at each byte;
bytes behind it; tagged fields nobody knows; headers of other versions and APIs.
"""

import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastmq._native import schema
from fastmq.protocol._message import Field, Message, version_range
from fastmq.protocol.api import APIS

from support.messages import present

_PACKS = {
    schema.BOOL: ">?",
    schema.INT8: ">b",
    schema.INT16: ">h",
    schema.INT32: ">i",
    schema.INT64: ">q",
    schema.UINT16: ">H",
    schema.UINT32: ">I",
    schema.FLOAT64: ">d",
}


class Segment(NamedTuple):
    """A piece of a frame: `kind` is one of "int", "len16", "len32", "compact", "body", "tags"."""

    kind: str
    data: bytes


def uvarint(number: int) -> bytes:
    """Encode an unsigned varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def segments(message: Message, version: int, client_id: bytes = b"fuzz") -> list[Segment]:
    """Take a whole request apart, header first. The correlation id is 0."""
    out = [
        Segment("int", struct.pack(">h", message.API_KEY)),
        Segment("int", struct.pack(">h", version)),
        Segment("body", bytes(4)),
        Segment("len16", struct.pack(">h", len(client_id))),
        Segment("body", client_id),
    ]
    flexible = version >= message.FLEXIBLE_FROM
    if flexible:
        out.append(Segment("tags", b"\0"))
    _struct(message, version, flexible, out)
    return [segment for segment in out if segment.data]


def _struct(message: Message, version: int, flexible: bool, out: list[Segment]) -> None:
    tagged: list[tuple[int, bytes]] = []
    for field in type(message).__fields__:
        if not present(field, version):
            continue
        value = getattr(message, field.name)
        if field.tag is None:
            _field(field, value, version, flexible, out)
        elif value not in (None, field.default, []):
            inner: list[Segment] = []
            _field(field, value, version, flexible, inner)
            tagged.append((field.tag, b"".join(part.data for part in inner)))
    if flexible:
        out.append(Segment("tags", uvarint(len(tagged))))
        for tag, data in sorted(tagged):
            out.append(Segment("compact", uvarint(tag)))
            out.append(Segment("compact", uvarint(len(data))))
            out.append(Segment("body", data))


def _field(field: Field, value: Any, version: int, flexible: bool, out: list[Segment]) -> None:
    first, last = version_range(field.nullable)
    if field.kind == schema.STRUCT:
        if first <= version <= last:
            out.append(Segment("int", struct.pack(">b", -1 if value is None else 1)))
        if value is not None:
            _struct(value, version, flexible, out)
    elif field.kind == schema.ARRAY:
        _length(None if value is None else len(value), "len32", flexible, out)
        for element in value or ():
            if field.struct is not None:
                _struct(element, version, flexible, out)
            else:
                _scalar(field.element, element, flexible, out)
    else:
        _scalar(field.kind, value, flexible, out)


def _scalar(kind: int, value: Any, flexible: bool, out: list[Segment]) -> None:
    if kind in _PACKS:
        out.append(Segment("int", struct.pack(_PACKS[kind], value)))
    elif kind == schema.UUID:
        out.append(Segment("body", value))
    elif kind in (schema.STRING, schema.BYTES, schema.RECORDS):
        data = value.encode() if isinstance(value, str) else value
        length = "len16" if kind == schema.STRING else "len32"
        _length(None if data is None else len(data), length, flexible, out)
        out.append(Segment("body", bytes(data or b"")))
    else:
        raise AssertionError(f"no request has a field of kind {kind}")


def _length(length: int | None, kind: str, flexible: bool, out: list[Segment]) -> None:
    if flexible:
        out.append(Segment("compact", uvarint(0 if length is None else length + 1)))
    else:
        pack = ">h" if kind == "len16" else ">i"
        out.append(Segment(kind, struct.pack(pack, -1 if length is None else length)))


def edges(segment: Segment, remaining: int) -> list[bytes]:
    """What a segment may be replaced with; `remaining` bytes of the frame follow it."""
    size = len(segment.data)
    if segment.kind == "int":
        top = 1 << (8 * size - 1)
        numbers = {0, 1, -1, top - 1, -top, 2, -2}
        return [(n & (2 * top - 1)).to_bytes(size, "big") for n in sorted(numbers)]
    if segment.kind in ("len16", "len32"):
        top = 1 << (8 * size - 1)
        own = int.from_bytes(segment.data, "big", signed=True)
        numbers = {0, -1, -2, top - 1, -top, own + 1, own - 1, remaining, remaining + 1}
        return [(n & (2 * top - 1)).to_bytes(size, "big") for n in sorted(numbers)]
    if segment.kind == "compact":
        own = int.from_bytes(segment.data[:1], "big")
        numbers = {0, 1, own + 1, max(own - 1, 0), remaining + 1, remaining + 2}
        numbers |= {0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 21}
        lies = [b"\xff" * 5, b"\xff" * 9 + b"\x01", b"\x80" * 4 + b"\0", b"\xff" * 10]
        return [*map(uvarint, sorted(numbers)), *lies]
    if segment.kind == "tags":
        unknown = [b"\x01\x64\x03abc", b"\x02\x64\0\x65\x01x", b"\x01\xff\xff\xff\xff\x0f\0"]
        lies = [b"\x02\x64\0\x64\0", b"\x02\x65\0\x64\0", b"\x01\x64\xff\xff\xff\xff\x07"]
        counts = [b"\xff\xff\xff\xff\x0f", uvarint(remaining + 1), b"\x01", b"\xff" * 10]
        large = [b"\x01\x64" + uvarint(20_000) + bytes(20_000)]
        return unknown + lies + counts + large
    broken = [b"\xff" * size, bytes(size), b"\xc3\x28" * (size // 2) or b"\xc3"]
    return [*broken, b"", segment.data * 2, b"../" * 3, b"a\n" * 4]


def _eight_ways(byte: int) -> tuple[int, ...]:
    return (
        *(byte ^ bit for bit in (0x01, 0x10, 0x80)),
        *(byte + step & 0xFF for step in (1, -1)),
        *(value for value in (0x00, 0x7F, 0xFF)),
    )


def variants(parts: list[Segment], rng: random.Random) -> Iterator[bytes]:
    """Yield every single fault of a request, and a few pairs of faults."""
    pieces = [part.data for part in parts]
    frame = b"".join(pieces)
    yield frame
    at = 0
    for part in parts:
        end = at + len(part.data)
        for edge in edges(part, len(frame) - end):
            yield frame[:at] + edge + frame[end:]
        at = end
    for at, byte in enumerate(frame):
        if not 4 <= at < 8:  # the correlation id is the peer's own affair
            for changed in _eight_ways(byte):
                if changed != byte:
                    yield frame[:at] + bytes((changed,)) + frame[at + 1 :]
        yield frame[:at]
    for extra in (b"\0", b"\xff" * 3, bytes(100), frame):
        yield frame + extra
    for _ in range(20):
        first, second = sorted(rng.sample(range(len(parts)), 2))
        mixed = list(pieces)
        for i in (first, second):
            mixed[i] = rng.choice(edges(parts[i], 1 << 10))
        yield b"".join(mixed)


def wrong_headers(body: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield requests of every API key and version, known or not, in front of any body."""
    for key in [*range(-1, max(APIS) + 20), 32_767, -32_768]:
        for version in (-1, 0, 1, 5, 12, 21, 32_767, -32_768):
            head = struct.pack(">hhi", key, version, 0)
            for client_id in (b"\xff\xff", b"\0\x04fuzz", b"\0\x04fuzz\0", b"\x7f\xff", b""):
                yield head + client_id + body[: rng.randrange(len(body) + 1)]
