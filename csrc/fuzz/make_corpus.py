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


def header(api_key: int, version: int) -> bytes:
    """A request header; flexible ones get their tags from the caller."""
    return struct.pack(">hhih", api_key, version, 42, 1) + b"c"


def compact(data: bytes) -> bytes:
    """Bytes or a string with a compact length (all here are shorter than 16 KiB)."""
    size = len(data) + 1
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return length + data


TOPIC_ID = bytes(range(1, 17))


def produce(version: int, data: bytes, acks: int = -1) -> bytes:
    """A Produce request of one batch to partition 0 of topic "t"."""
    if version < 9:
        body = struct.pack(">hhii", -1, acks, 1000, 1) + b"\0\x01t"
        return header(0, version) + body + struct.pack(">iii", 1, 0, len(data)) + data
    topic = TOPIC_ID if version >= 13 else compact(b"t")
    body = b"\0\0" + struct.pack(">hi", acks, 1000) + b"\x02" + topic + b"\x02"
    return header(0, version) + body + struct.pack(">i", 0) + compact(data) + b"\0\0\0"


def fetch(version: int, offset: int, max_wait: int = 0, min_bytes: int = 1) -> bytes:
    """A Fetch request for both partitions of topic "t"."""
    flexible = version >= 12
    out = header(1, version) + (b"\0" if flexible else b"")
    out += struct.pack(">i", -1) if version < 15 else b""
    out += struct.pack(">iiib", max_wait, min_bytes, 1 << 20, 1)
    out += struct.pack(">ii", 0, -1) if version >= 7 else b""
    name = TOPIC_ID if version >= 13 else compact(b"t") if flexible else b"\0\x01t"
    out += b"\x02" + name + b"\x03" if flexible else struct.pack(">i", 1) + name
    out += b"" if flexible else struct.pack(">i", 2)
    for index in range(2):
        out += struct.pack(">i", index) + (struct.pack(">i", -1) if version >= 9 else b"")
        out += struct.pack(">q", offset) + (struct.pack(">i", -1) if flexible else b"")
        out += struct.pack(">q", -1) if version >= 5 else b""
        out += struct.pack(">i", 1 << 20) + (b"\0" if flexible else b"")
    if flexible:
        return out + b"\0" + b"\x01" + b"\x01" + b"\0"
    return (
        out + (struct.pack(">i", 0) if version >= 7 else b"") + (b"\0\0" if version >= 11 else b"")
    )


def stream(*frames: bytes, chunk: int = 255) -> bytes:
    """What the engine's target takes: how to cut the stream, and the stream."""
    return bytes([chunk]) + b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)


def at(offset: int, data: bytes, epoch: int = 1) -> bytes:
    """A batch as stored: with its offset and leader epoch, which no checksum covers."""
    return struct.pack(">q", offset) + data[8:12] + struct.pack(">i", epoch) + data[16:]


def partition(flags: int, recovery_point: int, **files: bytes) -> bytes:
    """What the log's target takes: how to open it, and the files of a partition."""
    kinds = ("log", "index", "time", "log3", "index3", "time3", "snapshot", "epochs")
    out = bytes([flags, recovery_point])
    for kind, data in files.items():
        out += struct.pack(">BH", kinds.index(kind), len(data)) + data
    return out


SEGMENT_0 = at(0, batch(ONE, 1)) + at(1, batch(NULLS, 2, 0, (4000, 0, 5)))
SEGMENT_3 = at(3, batch(THREE, 3, 0, (4000, 1, 0)), 2) + at(6, batch(ONE, 1), 2)
SNAPSHOT_BODY = struct.pack(">iqhiqiqiq", 1, 4000, 0, 6, 2, 1, 1_700_000_000_009, -1, -1)
SNAPSHOT = struct.pack(">hI", 1, crc32c(SNAPSHOT_BODY)) + SNAPSHOT_BODY
INDEX = struct.pack(">II", 2, len(at(0, batch(ONE, 1))))
TIMES = struct.pack(">qI", 1_700_000_000_009, 0)

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
    "fuzz_log": {
        "recover": partition(0, 0, log=SEGMENT_0, log3=SEGMENT_3),
        "recover-fixed": partition(2, 0, log=SEGMENT_0, log3=SEGMENT_3, snapshot=SNAPSHOT),
        "damage-below": partition(0, 7, log=SEGMENT_0, log3=SEGMENT_3),
        "clean": partition(
            3,
            7,
            log=SEGMENT_0,
            index=INDEX,
            time=TIMES,
            log3=SEGMENT_3,
            snapshot=SNAPSHOT,
            epochs=b"0\n2\n1 0\n2 3\n",
        ),
        "trusted-point": partition(2, 3, log=SEGMENT_0 + SEGMENT_3, index=INDEX, time=TIMES),
        "markers": partition(2, 0, log=at(0, batch(MARKER, 1, 0x30, (4000, 1, -1))) * 3),
        "nothing": partition(1, 0),
        # What is appended must not complete the cut batch.
        "behind-damage": partition(
            3, 8, log=SEGMENT_0, log3=SEGMENT_3[:61] + at(6, batch(ONE, 1), 2)
        ),
        # An offset that leaps over the batches behind it, where the index knows better.
        "leap": partition(
            3,
            3,
            log=at(94, batch(ONE, 1)) + SEGMENT_0[len(at(0, batch(ONE, 1))) :] + SEGMENT_3,
            index=INDEX,
            time=TIMES,
        ),
        "overlap": partition(3, 7, log=SEGMENT_0 + at(1, batch(ONE, 1)), index=INDEX, time=TIMES),
    },
    "fuzz_engine": {
        "produce_3": stream(produce(3, batch(ONE, 1)), produce(3, batch(THREE, 3))),
        "produce_9": stream(produce(9, batch(THREE, 3)), chunk=3),
        "produce_13": stream(produce(13, batch(ONE, 1)), chunk=40),
        "produce_acks_0": stream(produce(9, batch(ONE, 1), acks=0)),
        "duplicate": stream(*[produce(9, batch(ONE, 1, 0, (7, 0, 0)))] * 2),
        "fetch_4": stream(fetch(4, 0)),
        "fetch_12": stream(produce(9, batch(ONE, 1)), fetch(12, 0), fetch(12, 1)),
        "fetch_17": stream(fetch(17, 0), fetch(17, 0), chunk=2),
        "waiting": stream(fetch(12, 2**40), fetch(12, 0, max_wait=60_000, min_bytes=1 << 30)),
        "python": stream(header(3, 9) + b"\0\0\0", produce(9, batch(ONE, 1)), fetch(11, 0)),
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
