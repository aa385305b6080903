"""Codecs: what we write others read, what others write we read, every cut is found."""

import contextlib
import gzip
import struct
import zlib

import cramjam
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import codec as oracle

from fastmq.compression import Codec, compress, decompress
from fastmq.errors import ErrorCode, KafkaError

COMPRESSING = [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD]
TEXT = b"".join(b'{"id": %d, "name": "user-%d"}' % (i, i % 7) for i in range(5000))
LIMIT = 1 << 20

ORACLE_ENCODE = {
    Codec.GZIP: [oracle.gzip_encode],
    Codec.SNAPPY: [
        lambda data: oracle.snappy_encode(data, xerial_compatible=True),
        lambda data: oracle.snappy_encode(data, xerial_compatible=False),
    ],
    Codec.LZ4: [oracle.lz4_encode],
    Codec.ZSTD: [oracle.zstd_encode],
}
ORACLE_DECODE = {
    Codec.GZIP: oracle.gzip_decode,
    Codec.SNAPPY: oracle.snappy_decode,
    Codec.LZ4: oracle.lz4_decode,
    Codec.ZSTD: oracle.zstd_decode,
}


def refusal(codec, data, max_size=LIMIT):
    with pytest.raises(KafkaError) as caught:
        decompress(codec, data, max_size)
    return caught.value.code


@pytest.mark.parametrize("codec", list(Codec))
@given(data=st.binary(max_size=3000), copies=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_round_trip(codec, data, copies):
    data *= copies
    assert decompress(codec, compress(codec, data), len(data)) == data


@pytest.mark.parametrize("codec", COMPRESSING)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, bytes(300_000)], ids=len)
def test_another_client_reads_what_we_write(codec, data):
    assert bytes(ORACLE_DECODE[codec](compress(codec, data))) == data


@pytest.mark.parametrize(
    ("codec", "encode"),
    [(codec, encode) for codec in COMPRESSING for encode in ORACLE_ENCODE[codec]],
)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, bytes(300_000)], ids=len)
def test_we_read_what_another_client_writes(codec, encode, data):
    assert decompress(codec, encode(data), LIMIT) == data


@pytest.mark.parametrize("codec", COMPRESSING)
def test_any_buffer_is_taken(codec):
    packed = compress(codec, memoryview(bytearray(TEXT))[7:])
    assert decompress(codec, memoryview(bytearray(packed)), LIMIT) == TEXT[7:]


@pytest.mark.parametrize("codec", list(Codec))
def test_the_limit_is_exact(codec):
    packed = compress(codec, TEXT)
    assert decompress(codec, packed, len(TEXT)) == TEXT
    assert refusal(codec, packed, len(TEXT) - 1) is ErrorCode.MESSAGE_TOO_LARGE
    assert refusal(codec, packed, 0) is ErrorCode.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("codec", COMPRESSING)
def test_a_ratio_beyond_every_guess_still_fits(codec):
    data = bytes(5_000_000)
    assert decompress(codec, compress(codec, data), len(data)) == data
    assert refusal(codec, compress(codec, data), len(data) - 1) is ErrorCode.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_all_frames_are_read(codec):
    assert decompress(codec, compress(codec, b"one") + compress(codec, b"two"), LIMIT) == b"onetwo"


@pytest.mark.parametrize("codec", COMPRESSING)
@pytest.mark.parametrize("size", [0, 1, 500])
def test_every_cut_is_found(codec, size):
    packed = compress(codec, TEXT[:size])
    for cut in range(len(packed)):
        if codec is Codec.SNAPPY and cut == 16:
            continue  # the stream header alone is an empty stream
        assert refusal(codec, packed[:cut]) is ErrorCode.CORRUPT_MESSAGE, cut


@pytest.mark.parametrize("codec", COMPRESSING)
def test_bytes_after_the_end_are_found(codec):
    for tail in (b"x", b"\0\0\0\0", b"some garbage behind it"):
        assert refusal(codec, compress(codec, TEXT) + tail) is ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize("codec", COMPRESSING)
def test_changed_bytes_never_break_the_limit(codec):
    packed = bytearray(compress(codec, TEXT[:300]))
    for i in range(len(packed)):
        for change in (0x01, 0x80, 0xFF):
            packed[i] ^= change
            with contextlib.suppress(KafkaError):  # any other exception fails the test
                assert len(decompress(codec, packed, 1000)) <= 1000
            packed[i] ^= change


def test_lz4_blocks_do_not_depend_on_each_other():
    info = lz4.frame.get_frame_info(compress(Codec.LZ4, TEXT * 3))
    assert not info["block_linked"]


def test_lz4_linked_blocks_and_checksums_are_read():
    packed = lz4.frame.compress(
        TEXT, block_linked=True, block_size=4, content_checksum=True, block_checksum=True
    )
    assert decompress(Codec.LZ4, packed, LIMIT) == TEXT


def test_skippable_frames_are_skipped():
    skip = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    assert decompress(Codec.LZ4, skip + compress(Codec.LZ4, TEXT), LIMIT) == TEXT
    assert decompress(Codec.ZSTD, skip + compress(Codec.ZSTD, TEXT), LIMIT) == TEXT


def test_snappy_is_written_as_java_writes_it():
    packed = compress(Codec.SNAPPY, TEXT)
    assert packed[:16] == b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    (size,) = struct.unpack_from(">i", packed, 16)
    assert bytes(cramjam.snappy.decompress_raw(packed[20 : 20 + size])) == TEXT[:32768]


def test_gzip_output_is_reproducible():
    packed = compress(Codec.GZIP, TEXT)
    assert packed[4:8] == bytes(4)  # no time of writing
    assert gzip.decompress(packed) == TEXT


@pytest.mark.parametrize(
    ("codec", "levels"),
    [(Codec.GZIP, (-1, 1, 9)), (Codec.LZ4, (1, 9, 17)), (Codec.ZSTD, (-7, 1, 19))],
)
def test_levels(codec, levels):
    sizes = [len(compress(codec, TEXT, level)) for level in levels]
    assert len(set(sizes)) > 1
    for level in levels:
        assert decompress(codec, compress(codec, TEXT, level), LIMIT) == TEXT


def test_an_unknown_codec_is_refused():
    for number in (-1, 5, 6, 7):
        assert refusal(number, b"x") is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
        with pytest.raises(KafkaError) as caught:
            compress(number, b"x")
        assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_names():
    assert [Codec.from_name(name) for name in ("uncompressed", "none", "gzip", "zstd")] == [
        0,
        0,
        1,
        4,
    ]
    with pytest.raises(KeyError):
        Codec.from_name("producer")


def test_a_wrong_gzip_checksum_is_found():
    packed = bytearray(zlib.compress(TEXT, wbits=31))
    packed[-6] ^= 1
    assert refusal(Codec.GZIP, packed) is ErrorCode.CORRUPT_MESSAGE
