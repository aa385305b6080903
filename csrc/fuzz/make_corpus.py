"""Write the start inputs of the fuzz targets: `python make_corpus.py`, from any directory.

The files are checked in; run this again when an input is added here. Standard library only, and
its own encoder on purpose: the corpus must not come from the code that it tests.
"""

import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def crc32c(data: bytes) -> int:
    """Castagnoli, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    """Zigzag varint of a signed 64-bit number."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def nullable(data: bytes | None) -> bytes:
    """Length, -1 for None, and the bytes."""
    return varint(-1) if data is None else varint(len(data)) + data


def record(
    delta: int,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[bytes, bytes | None], ...] = (),
    time: int = 0,
) -> bytes:
    """One encoded record; `delta` is its offset delta, `time` its timestamp delta."""
    body = b"\0" + varint(time) + varint(delta) + nullable(key) + nullable(value)
    body += varint(len(headers)) + b"".join(nullable(k) + nullable(v) for k, v in headers)
    return varint(len(body)) + body


def batch(
    records: bytes, count: int, attributes: int = 0, producer: tuple[int, int, int] = (-1, -1, -1)
) -> bytes:
    """A batch around encoded records; `producer` is (id, epoch, base sequence)."""
    now = 1_700_000_000_000
    covered = struct.pack(">hiqqqhii", attributes, count - 1, now, now + 9, *producer, count)
    covered += records
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered


ONE = record(0, b"k", b"value", ((b"h", b"v"), (b"n", None)))
THREE = b"".join(record(i, b"key", b"v" * 40, (), i) for i in range(3))
NULLS = record(0, None, None) + record(1, b"", b"", ((b"", b""),), -1)
MARKER = record(0, struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 7))

INPUTS = {
    "fuzz_varint": {
        "zero": b"\0",
        "two-bytes": varint(300),
        "int32-min": varint(-(1 << 31)),
        "int64-max": varint((1 << 63) - 1),
        "endless": b"\xff" * 12,
    },
    "fuzz_records": {
        "one": b"\x01" + ONE,
        "three": b"\x03" + THREE,
        "nulls": b"\x02" + NULLS,
        "long-value": b"\x01" + record(0, b"k", b"x" * 300),
        "negative-count": b"\xff" + ONE,
    },
    "fuzz_batch": {
        "one": batch(ONE, 1),
        "three": batch(THREE, 3),
        "nulls": batch(NULLS, 2),
        "idempotent": batch(THREE, 3, 0, (4000, 1, 17)),
        "transactional": batch(THREE, 3, 0x10, (4000, 1, 17)),
        "marker": batch(MARKER, 1, 0x30, (4000, 1, -1)),
        "zstd": batch(bytes.fromhex("28b52ffd2000010000"), 3, 4),
        "empty": batch(b"", 0),
    },
}


def main() -> None:
    """Write every input below `corpus/<target>/`."""
    for target, inputs in INPUTS.items():
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
