"""Record batches built by hand, independent of the code under test but for the CRC."""

import struct

from fastmq._native.core import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")


def zigzag(value: int) -> bytes:
    """A signed varint."""
    raw = (value << 1) ^ (value >> 63)
    out = bytearray()
    while raw >= 0x80:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def record(index: int, value: bytes, key: bytes | None = None) -> bytes:
    body = b"\0" + zigzag(0) + zigzag(index)
    body += zigzag(-1) if key is None else zigzag(len(key)) + key
    body += zigzag(len(value)) + value + zigzag(0)
    return zigzag(len(body)) + body


def batch(
    *values: bytes,
    timestamp: int = 1_000,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    attributes: int = 0,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytes:
    """One uncompressed batch with a record per value."""
    records = b"".join(record(i, value) for i, value in enumerate(values))
    covered = (
        struct.pack(
            ">hiqqqhii",
            attributes,
            len(values) - 1,
            timestamp,
            timestamp,
            producer_id,
            epoch,
            sequence,
            len(values),
        )
        + records
    )
    head = struct.pack(">qiib", base_offset, 9 + len(covered), leader_epoch, 2)
    return head + struct.pack(">I", crc32c(covered)) + covered


def as_stored(data: bytes, base_offset: int, leader_epoch: int) -> bytes:
    """The batch as the broker keeps it."""
    patched = bytearray(data)
    struct.pack_into(">q", patched, 0, base_offset)
    struct.pack_into(">i", patched, 12, leader_epoch)
    return bytes(patched)


def base_offsets(data: bytes) -> list[int]:
    """The base offset of every batch, whole ones only."""
    out = []
    at = 0
    while at + 12 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        at += 12 + length
        if at <= len(data):
            out.append(base)
    return out
