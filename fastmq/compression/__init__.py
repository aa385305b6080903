"""Kafka's four codecs with a hard limit on what comes out.

`decompress` holds hardly more than `max_size`, whatever the input announces: output goes
into a buffer that starts near the size of the input and grows while real bytes arrive, up to the
limit. Size fields inside the data are checked or ignored, never believed. All frames, members and
chunks of an input are read, and bytes that belong to none make it corrupt.

What other clients send is read: gzip (RFC 1952, several members), snappy both raw and in the
chunks of Java clients, lz4 frames (linked blocks too), zstd frames with and without a content size.
What is written is what the strictest readers take: chunked snappy, lz4 with independent blocks.

The codecs are loaded at first use, so that importing this package costs nothing. Pure: no I/O, no
state.
"""

from fastmq.compression.codec import Codec, compress, decompress

__all__ = ["Codec", "compress", "decompress"]
