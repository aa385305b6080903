"""Snappy, which Kafka never specified: one raw block, or the chunk stream of Java clients.

The stream is called xerial, after the library: 8 bytes magic, two int32 (version, oldest compatible
version), then chunks of an int32 length and a raw block. librdkafka sends raw blocks; readers tell
them apart by the magic.
"""

import struct
from typing import TYPE_CHECKING

from fastmq.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["compress", "decompress"]

MAGIC = b"\x82SNAPPY\x00"
HEADER = MAGIC + struct.pack(">ii", 1, 1)
BLOCK_SIZE = 32 * 1024  # as the Java library

# No element of the format makes more than 64 bytes out of two.
EXPANSION_MAX = 64
# Chunks without content, which no writer makes more than one of; a million would burn a second.
EMPTY_CHUNKS_MAX = 16


def compress(data: "Buffer") -> bytes:
    """A stream of chunks, which every client reads and which can be read piece by piece."""
    import cramjam

    view = memoryview(data).cast("B")
    out = bytearray(HEADER)
    for start in range(0, max(len(view), 1), BLOCK_SIZE):  # some readers want one chunk at least
        block = bytes(cramjam.snappy.compress_raw(view[start : start + BLOCK_SIZE]))
        out += len(block).to_bytes(4, "big")
        out += block
    return bytes(out)


def decompress(data: "Buffer", max_size: int) -> bytearray:
    """Inflate a raw block or a stream of chunks.

    Raises:
        KafkaError: MESSAGE_TOO_LARGE or CORRUPT_MESSAGE.
    """
    view = memoryview(data).cast("B")
    if view[: len(MAGIC)] != MAGIC:
        return _inflate_block(view, max_size)
    return _inflate_stream(view, max_size)


def _inflate_stream(view: memoryview, max_size: int) -> bytearray:
    if len(view) < len(HEADER):
        raise _corrupt("the stream header is cut short")
    out = bytearray()
    position = len(HEADER)
    empty_chunks = 0
    while position < len(view):
        size = int.from_bytes(view[position : position + 4], "big", signed=True)
        start = position + 4
        position = start + size
        if size <= 0 or position > len(view):
            raise _corrupt(f"a chunk of {size} bytes does not fit")
        block = _inflate_block(view[start:position], max_size - len(out))
        empty_chunks += not block
        if empty_chunks > EMPTY_CHUNKS_MAX:
            raise _corrupt("too many empty chunks")
        out += block
    return out


def _inflate_block(block: memoryview, max_size: int) -> bytearray:
    """One raw block. It starts with its size, which is checked before anything is allocated."""
    import cramjam

    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > EXPANSION_MAX * len(block):
            raise _corrupt(f"a block of {len(block)} bytes cannot hold {size}")
        if size > max_size:
            raise KafkaError(ErrorCode.MESSAGE_TOO_LARGE, "inflates to more bytes than allowed")
        out = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(block, out)
    except cramjam.DecompressionError as error:
        raise _corrupt(str(error)) from None
    if written != size:
        raise _corrupt("a block holds less than it says")
    return out


def _corrupt(message: str) -> KafkaError:
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"cannot inflate snappy: {message}")
