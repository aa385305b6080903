"""Forty inputs that are meant to hurt, ten for each codec, built from the formats by hand.

Run as a script it inflates each with the limit of 16 MiB and prints a JSON line with the outcome,
the CPU time and by how much the peak of resident memory grew; in a process of its own, because that
peak is a number of the whole process.
"""

import ctypes
import gzip
import json
import struct
import sys
import time
import zlib
from pathlib import Path

import cramjam
import lz4.frame

LIMIT = 16 << 20
MIB = 1 << 20

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_RLE_128K = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)


def zstd_frame(blocks: bytes, *, window_log: int = 20) -> bytes:
    """Blocks under a header without a content size; no block is marked as the last."""
    return ZSTD_MAGIC + b"\0" + bytes([window_log - 10 << 3]) + blocks


def zstd_announcing(size: int, blocks: bytes) -> bytes:
    return ZSTD_MAGIC + b"\xe0" + struct.pack("<Q", size) + blocks


def stored_blocks(count: int) -> bytes:
    """A gzip member of empty stored deflate blocks, without an end."""
    return gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * count


def xxh32(data: bytes) -> int:
    """The checksum of lz4 frame headers, for inputs shorter than 16 bytes."""
    mask = 0xFFFFFFFF
    value = 374761393 + len(data)
    whole = len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        value = value + word * 3266489917 & mask
        value = (value << 17 | value >> 15) * 668265263 & mask
    for byte in data[whole:]:
        value = value + byte * 374761393 & mask
        value = (value << 11 | value >> 21) * 2654435761 & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917), (16, 1)):
        value = (value ^ value >> shift) * factor & mask
    return value


def lz4_header(announced: int | None = None) -> bytes:
    """A frame header for independent blocks of 64 KiB, with a content size where one is given."""
    flags = 0x60 if announced is None else 0x68
    descriptor = bytes([flags, 0x40])
    if announced is not None:
        descriptor += struct.pack("<Q", announced)
    return b"\x04\x22\x4d\x18" + descriptor + bytes([xxh32(descriptor) >> 8 & 0xFF])


def snappy_raw(size: int) -> bytes:
    return bytes(cramjam.snappy.compress_raw(bytes(size)))


def chunk(block: bytes, size: int | None = None) -> bytes:
    return struct.pack(">i", len(block) if size is None else size) + block


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def gzip_bombs() -> dict[str, bytes]:
    zeros = gzip.compress(bytes(MIB), 9)
    large = zlib.compress(bytes(256 * MIB), 9, 31)
    crc_broken = bytearray(zeros * 8)
    crc_broken[-8] ^= 1
    return {
        "256 MiB of zeros": large,
        "a thousand members": zeros * 1000,
        "lying size": large[:-4] + b"\x05\0\0\0",
        "endless empty blocks": stored_blocks(200_000),
        "fifty thousand empty members": gzip.compress(b"") * 50_000 + b"\x1f",
        "endless name": b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * MIB,
        "largest extra field": b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff" + bytes(100),
        "cut short": large[: len(large) // 2],
        "wrong checksum at the end": bytes(crc_broken),
        "reserved block type": zeros[:-8] + b"\x06",
    }


def snappy_bombs() -> dict[str, bytes]:
    block = snappy_raw(64 * 1024)
    return {
        "announces 4 GiB": varint(0xFFFFFFFF) + b"\0a",
        "announces 16 MiB in ten bytes": varint(LIMIT) + b"\0a" * 4,
        "64 MiB of zeros": snappy_raw(64 * MIB),
        "size of ten bytes": b"\xff" * 10,
        "chunk of 0x7fffffff": XERIAL + struct.pack(">i", 0x7FFFFFFF) + block,
        "negative chunk": XERIAL + struct.pack(">i", -1) + block,
        "endless empty chunks": XERIAL + bytes(4 * 200_000),
        "two hundred thousand chunks of nothing": XERIAL + chunk(b"\0") * 200_000,
        "two thousand chunks of 64 KiB": XERIAL + chunk(block) * 2000,
        "chunk that announces 2 GiB": XERIAL + chunk(varint(0x7FFFFFFF) + b"\0a"),
    }


def lz4_bombs() -> dict[str, bytes]:
    large = lz4.frame.compress(bytes(256 * MIB), block_linked=False, block_size=4, store_size=False)
    blocks = large[7:]
    assert lz4.frame.decompress(lz4_header(256 * MIB) + blocks)[-1:] == b"\0"
    return {
        "256 MiB of zeros": large,
        "256 MiB in linked blocks": lz4.frame.compress(bytes(256 * MIB), block_linked=True),
        "announces 2^60": lz4_header(1 << 60) + blocks,
        "announces ten bytes": lz4_header(10) + blocks,
        "two hundred thousand empty frames": lz4.frame.compress(b"") * 200_000 + b"\x04",
        "block of 0x7fffffff": lz4_header() + struct.pack("<I", 0x7FFFFFFF) + bytes(100),
        "stored block of 2 GiB": lz4_header() + b"\xff\xff\xff\xff" + bytes(100),
        "a hundred frames of 1 MiB": lz4.frame.compress(bytes(MIB)) * 100,
        "skippable frame of 4 GiB": struct.pack("<II", 0x184D2A5F, 0xFFFFFFFF) + bytes(100),
        "cut short": large[: len(large) // 2],
    }


def zstd_bombs() -> dict[str, bytes]:
    empty_block = b"\0\0\0"
    large = bytes(cramjam.zstd.compress(bytes(256 * MIB)))
    return {
        "256 MiB of zeros": large,
        "12 GiB in 400 KB": zstd_frame(ZSTD_RLE_128K * 100_000),
        "announces 2^62": zstd_announcing(1 << 62, ZSTD_RLE_128K * 1000),
        "announces ten bytes": zstd_announcing(10, ZSTD_RLE_128K * 1000),
        "window of 2 GiB": zstd_frame(ZSTD_RLE_128K * 1000, window_log=31),
        "window of 128 MiB": zstd_frame(ZSTD_RLE_128K * 1000, window_log=27),
        "endless empty blocks": zstd_frame(empty_block * 300_000),
        "a hundred thousand empty frames": bytes(cramjam.zstd.compress(b"")) * 100_000 + b"\x28",
        "a thousand frames of 1 MiB": bytes(cramjam.zstd.compress(bytes(MIB))) * 1000,
        "skippable frame of 4 GiB": struct.pack("<II", 0x184D2A50, 0xFFFFFFFF) + bytes(100),
    }


BOMBS = {1: gzip_bombs, 2: snappy_bombs, 3: lz4_bombs, 4: zstd_bombs}


def peak_kib() -> int:
    """High-water mark of resident memory since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def current_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def measure(codec: int, name: str, bomb: bytes) -> dict[str, object]:
    from fastmq.compression import decompress
    from fastmq.errors import KafkaError

    ctypes.CDLL(None).malloc_trim(0)  # what making the bombs left behind would hide the peak
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = current_kib()
    started = time.process_time()
    try:
        outcome = f"{len(decompress(codec, bomb, LIMIT))} bytes"
    except KafkaError as error:
        outcome = error.code.name
    seconds = time.process_time() - started
    return {
        "codec": codec,
        "name": name,
        "bomb_bytes": len(bomb),
        "outcome": outcome,
        "seconds": seconds,
        "grown_kib": peak_kib() - before,
    }


def main() -> None:
    for codec, make in BOMBS.items():
        for name, bomb in make().items():
            json.dump(measure(codec, name, bomb), sys.stdout)
            print()


if __name__ == "__main__":
    main()
