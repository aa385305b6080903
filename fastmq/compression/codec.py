"""`compress` and `decompress` over all codecs.

Source: protocol guide, "Compression"; KIP-110 (zstd), KIP-390 (levels).
"""

import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from fastmq.compression import snappy
from fastmq.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Codec", "compress", "decompress"]

# First guess of how large the output will be: small batches fit at once, and one that was inflated
# twelvefold is tried three times.
OUTPUT_SIZE_MIN = 64 * 1024
OUTPUT_RATIO = 4

GZIP_WBITS = 31  # zlib's way to say: with a gzip header
# Without a level: Kafka's defaults but for lz4, where level 1 is the fast compressor that Java
# takes for its default level, too.
GZIP_LEVEL = -1
LZ4_LEVEL = 1
LZ4_LEVEL_MAX = 12  # of the library; Kafka allows 17
ZSTD_LEVEL = 3
# A block of zstd holds 128 KiB at most and takes 4 bytes at least (a run of one byte), so that one
# step inflates to 4 MiB at most.
ZSTD_STEP_BYTES = 128
ZSTD_WINDOW_MAX = 128 << 20  # the largest that a decoder has to support


class Codec(IntEnum):
    """The codec bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

    @classmethod
    def of(cls, number: int) -> "Codec":
        """The codec with this number.

        Raises:
            KafkaError: UNSUPPORTED_COMPRESSION_TYPE when there is none.
        """
        try:
            return cls(number)
        except ValueError:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"no codec has the number {number}"
            ) from None

    @classmethod
    def from_name(cls, name: str) -> "Codec":
        """The codec that `compression.type` calls `name`; "uncompressed" and "none" are NONE.

        Raises:
            KeyError: there is none, as for "producer", which names no codec.
        """
        return cls.NONE if name == "uncompressed" else cls[name.upper()]


def compress(codec: int, data: "Buffer", level: int | None = None) -> bytes:
    """Compress into one frame (gzip member, snappy stream).

    Args:
        codec: a `Codec` or its number.
        data: any bytes.
        level: of the codec, None for its default; snappy has none and ignores it.

    Raises:
        KafkaError: UNSUPPORTED_COMPRESSION_TYPE when no codec has this number.
    """
    match Codec.of(codec):
        case Codec.NONE:
            return bytes(data)
        case Codec.GZIP:
            return zlib.compress(data, GZIP_LEVEL if level is None else level, GZIP_WBITS)
        case Codec.SNAPPY:
            return snappy.compress(data)
        case Codec.LZ4:
            return _compress_lz4(data, LZ4_LEVEL if level is None else level)
        case Codec.ZSTD:
            import zstandard

            level = ZSTD_LEVEL if level is None else level
            return zstandard.ZstdCompressor(level=level).compress(memoryview(data))


def decompress(codec: int, data: "Buffer", max_size: int) -> bytes | bytearray:
    """Inflate all of `data`, or refuse.

    Args:
        codec: a `Codec` or its number.
        data: compressed bytes, every frame of them.
        max_size: bytes that may come out, >= 0.

    Raises:
        KafkaError: MESSAGE_TOO_LARGE when more than `max_size` would come out, CORRUPT_MESSAGE when
            `data` is not what it should be, UNSUPPORTED_COMPRESSION_TYPE for an unknown codec.
    """
    match Codec.of(codec):
        case Codec.NONE:
            if memoryview(data).nbytes > max_size:
                raise _too_large(max_size)
            return bytes(data)
        case Codec.SNAPPY:
            return snappy.decompress(data, max_size)
        case Codec.ZSTD:
            return _inflate_zstd(data, max_size)
        case framed:
            import cramjam

            inflate: dict[Codec, Callable[[Buffer, bytearray], int]] = {
                Codec.GZIP: cramjam.gzip.decompress_into,
                Codec.LZ4: cramjam.lz4.decompress_into,
            }
            return _inflate(inflate[framed], data, max_size)


def _inflate(
    inflate: "Callable[[Buffer, bytearray], int]", data: "Buffer", max_size: int
) -> bytearray:
    """Inflate into a buffer that grows from a guess to the limit.

    The library writes into the buffer it is given and fails when that is full; it has no other way
    to stop. Starting again costs at most a third more work than knowing the size.
    """
    import cramjam

    capacity = min(max_size, max(OUTPUT_SIZE_MIN, OUTPUT_RATIO * memoryview(data).nbytes))
    while True:
        output = bytearray(capacity)
        try:
            size = inflate(data, output)
        except cramjam.DecompressionError as error:
            # The words for "write returned zero" in the library's language, pinned by a test.
            if "write whole buffer" not in str(error):
                raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"cannot inflate: {error}") from None
            if capacity >= max_size:
                raise _too_large(max_size) from None
            capacity = min(max_size, OUTPUT_RATIO * capacity)
            del output  # before the next one is made
        else:
            del output[size:]
            return output


def _inflate_zstd(data: "Buffer", max_size: int) -> bytearray:
    """Inflate all frames, fed in steps so small that no step can pass the limit by much.

    The library's own limit does not hold for frames that state their size, and its reader does not
    tell a cut frame from a whole one.
    """
    import zstandard

    view = memoryview(data).cast("B")
    output = bytearray()
    frame = None
    position = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX)
    while position < len(view):
        if frame is None:
            frame = decompressor.decompressobj()
        step = view[position : position + ZSTD_STEP_BYTES]
        try:
            output += frame.decompress(step)
        except zstandard.ZstdError as error:
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, f"cannot inflate: {error}") from None
        if len(output) > max_size:
            raise _too_large(max_size)
        position += len(step)
        if frame.eof:
            position -= len(frame.unused_data)
            frame = None
    if frame is not None or not view:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "cannot inflate: a frame is cut or missing")
    return output


def _too_large(max_size: int) -> KafkaError:
    return KafkaError(
        ErrorCode.MESSAGE_TOO_LARGE, f"inflates to more than the {max_size} bytes allowed"
    )


def _compress_lz4(data: "Buffer", level: int) -> bytes:
    """Independent blocks: Java's reader refuses frames whose blocks refer to earlier ones."""
    import cramjam

    compressor = cramjam.lz4.Compressor(
        level=min(level, LZ4_LEVEL_MAX), content_checksum=False, block_linked=False
    )
    compressor.compress(bytes(data))  # it takes nothing else
    return bytes(compressor.finish())
