"""CRC, varints, batches and records of the C library against short oracles in Python."""

import struct

import crc32c as oracle_crc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.batches import HEADER, batch, record, zigzag
from support.native import native

CORRUPT, INVALID_RECORD = 2, 87
TOO_LARGE, BAD_CODEC, BAD_TIMESTAMP, BAD_MAGIC = 10, 76, 32, 43
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def lib():
    return native().lib


@pytest.fixture(scope="module")
def ffi():
    return native().ffi


@given(st.binary(max_size=600), st.integers(0, 600))
def test_crc_is_crc32c_in_one_piece_and_in_two(data, cut):
    lib = native().lib
    expected = oracle_crc.crc32c(data)
    assert lib.fmq_crc32c(0, data, len(data)) == expected
    assert lib.fmq_crc32c_software(0, data, len(data)) == expected
    head, tail = data[:cut], data[cut:]
    first = lib.fmq_crc32c(0, head, len(head))
    assert lib.fmq_crc32c(first, tail, len(tail)) == expected


def read(kind: str, bits: int, data: bytes) -> tuple[int, int]:
    """(bytes used, value); data lies in a block of exactly its size."""
    ffi, lib = native().ffi, native().lib
    block = ffi.new("uint8_t[]", data) if data else ffi.new("uint8_t[1]")
    unsigned = "u" if kind == "uvarint" else ""
    out = ffi.new(f"{unsigned}int{bits}_t *")
    used = getattr(lib, f"fmq_{kind}{bits}_read")(block, block + len(data), out)
    return used, out[0]


@given(st.integers(0, 2**64 - 1))
def test_unsigned_varints_come_back_and_no_prefix_of_them_does(value):
    ffi, lib = native().ffi, native().lib
    out = ffi.new("uint8_t[10]")
    size = lib.fmq_uvarint64_write(out, value)
    data = bytes(ffi.buffer(out, size))
    assert size == lib.fmq_uvarint_size(value) == max(1, -(-value.bit_length() // 7))
    assert read("uvarint", 64, data) == (size, value)
    for cut in range(size):
        assert read("uvarint", 64, data[:cut])[0] == 0
    expected = (size, value) if value < 2**32 else None
    used, got = read("uvarint", 32, data)
    assert (used, got) == expected if expected else used == -1


@given(INT64)
def test_zigzag_varints_are_those_of_the_oracle(value):
    ffi, lib = native().ffi, native().lib
    out = ffi.new("uint8_t[10]")
    size = lib.fmq_varint64_write(out, value)
    assert (
        bytes(ffi.buffer(out, size)) == zigzag(value) == zigzag(value)[: lib.fmq_varint_size(value)]
    )
    assert read("varint", 64, zigzag(value)) == (size, value)
    if -(2**31) <= value < 2**31:
        assert read("varint", 32, zigzag(value)) == (size, value)


@given(st.binary(max_size=12))
def test_any_bytes_are_a_varint_as_the_oracle_says(data):
    for bits, longest in ((32, 5), (64, 10)):
        value, expected = 0, (0, None)
        for i, byte in enumerate(data[:longest]):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80 or i == longest - 1:
                fits = byte < 0x80 and value < 2**bits
                expected = (i + 1, value) if fits else (-1, None)
                break
        used, got = read("uvarint", bits, data)
        assert used == expected[0]
        if used > 0:
            assert got == expected[1]


FIELDS = [
    "base_offset",
    "batch_length",
    "leader_epoch",
    "magic",
    "crc",
    "attributes",
    "last_offset_delta",
    "base_timestamp",
    "max_timestamp",
    "producer_id",
    "producer_epoch",
    "base_sequence",
    "record_count",
]
STORED = struct.Struct(">qiibIhiqqqhii")


@given(
    st.builds(
        STORED.pack,
        INT64,
        INT32,
        INT32,
        st.sampled_from([2, 2, 2, 0, 1, 3, -1]),
        st.integers(0, 2**32 - 1),
        st.integers(-(2**15), 2**15 - 1),
        INT32,
        INT64,
        INT64,
        INT64,
        st.integers(-(2**15), 2**15 - 1),
        INT32,
        INT32,
    ),
    st.integers(0, 61),
)
def test_headers_are_read_as_stored(data, size):
    ffi, lib = native().ffi, native().lib
    out = ffi.new("fmq_batch_header *")
    assert lib.fmq_batch_parse(data, min(size, 60), out) == -11
    stored = dict(zip(FIELDS, STORED.unpack(data), strict=True))
    code = lib.fmq_batch_parse(data, 61, out)
    wrong = (
        stored["batch_length"] < 49
        or stored["last_offset_delta"] < 0
        or stored["record_count"] < 0
        or stored["base_offset"] + stored["last_offset_delta"] + 1 > 2**63 - 1
    )
    if stored["magic"] != 2:
        assert code == BAD_MAGIC
    elif wrong:
        assert code == CORRUPT
    else:
        assert code == 0
        assert {name: getattr(out, name) for name in FIELDS} == stored
        assert out.size == stored["batch_length"] + 12


def validate(data: bytes, **limits: int) -> int:
    ffi, lib = native().ffi, native().lib
    header, reason = ffi.new("fmq_batch_header *"), ffi.new("char **")
    code = lib.fmq_batch_parse(data, len(data), header)
    if code:
        return code
    asked = {
        "max_message_bytes": 1 << 20,
        "create_time": True,
        "timestamp_before_max_ms": 2**63 - 1,
        "timestamp_after_max_ms": 2**63 - 1,
        **limits,
    }
    code = lib.fmq_batch_validate(
        data, len(data), header, ffi.new("fmq_batch_limits *", asked), 1_000, reason
    )
    assert (code == 0) == (reason[0] == ffi.NULL)
    return code


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_a_good_batch_passes_and_every_change_of_it_is_seen(values, data):
    good = batch(*values)
    assert validate(good) == 0
    at = data.draw(st.integers(17, len(good) - 1))  # what the CRC covers, and the CRC
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(good)
    changed[at] ^= 1 << bit
    assert validate(bytes(changed)) != 0
    cut = data.draw(st.integers(0, len(good) - 1))
    assert validate(good[:cut]) != 0
    assert validate(good + b"\0") == INVALID_RECORD


@pytest.mark.parametrize(
    ("options", "limits", "code"),
    [
        ({"attributes": 5}, {}, BAD_CODEC),
        ({"attributes": 0x20}, {}, INVALID_RECORD),
        ({"attributes": 0x40}, {}, INVALID_RECORD),
        ({"attributes": 0x08}, {}, BAD_TIMESTAMP),
        ({"attributes": 0x10}, {}, INVALID_RECORD),
        ({"producer_id": 1, "epoch": -1, "sequence": 0}, {}, INVALID_RECORD),
        ({"producer_id": 1, "epoch": 0, "sequence": -1}, {}, INVALID_RECORD),
        ({"producer_id": 1, "epoch": 0, "sequence": 0}, {}, 0),
        ({}, {"max_message_bytes": 60}, TOO_LARGE),
        ({"timestamp": 2_001}, {"timestamp_after_max_ms": 1_000}, BAD_TIMESTAMP),
        ({"timestamp": 2_000}, {"timestamp_after_max_ms": 1_000}, 0),
        ({"timestamp": 1}, {"timestamp_before_max_ms": 998}, BAD_TIMESTAMP),
        ({"timestamp": 1}, {"timestamp_before_max_ms": 999}, 0),
    ],
)
def test_rules_for_batches_of_clients(options, limits, code):
    assert validate(batch(b"value", **options), **limits) == code


@given(st.integers(0, 2**62), INT32, st.integers(0, 2**40))
def test_patches_touch_what_they_say(offset, epoch, now_ms):
    ffi, lib = native().ffi, native().lib
    data = ffi.new("uint8_t[]", batch(b"a", b"b"))
    size = len(data) - 0
    lib.fmq_batch_set_base_offset(data, offset)
    lib.fmq_batch_set_leader_epoch(data, epoch)
    header = ffi.new("fmq_batch_header *")
    assert lib.fmq_batch_parse(data, size, header) == 0
    assert (header.base_offset, header.leader_epoch) == (offset, epoch)
    assert lib.fmq_batch_crc_ok(data, header)
    lib.fmq_batch_set_log_append_time(data, header.size, now_ms)
    assert lib.fmq_batch_parse(data, size, header) == 0
    assert (header.attributes & 0x08, header.max_timestamp) == (0x08, now_ms)
    assert lib.fmq_batch_crc_ok(data, header)
    assert bytes(data)[17:21] == struct.pack(">I", oracle_crc.crc32c(bytes(data)[21 : header.size]))


OPTIONAL = st.none() | st.binary(max_size=30)
HEADERS = st.lists(st.tuples(st.binary(max_size=10), OPTIONAL), max_size=3)
RECORD = st.tuples(INT64, st.integers(0, 2**31 - 1), OPTIONAL, OPTIONAL, HEADERS)


def sized(data: bytes | None) -> bytes:
    return zigzag(-1) if data is None else zigzag(len(data)) + data


def encode(delta_ms, offset_delta, key, value, headers) -> bytes:
    body = b"\0" + zigzag(delta_ms) + zigzag(offset_delta) + sized(key) + sized(value)
    body += zigzag(len(headers)) + b"".join(zigzag(len(k)) + k + sized(v) for k, v in headers)
    return zigzag(len(body)) + body


def taken(pointer, size: int) -> bytes | None:
    ffi = native().ffi
    return None if pointer == ffi.NULL else bytes(ffi.buffer(pointer, size))


@given(st.lists(RECORD, max_size=4))
def test_records_are_read_and_written_as_the_oracle_does(rows):
    ffi, lib = native().ffi, native().lib
    data = b"".join(encode(*row) for row in rows)
    block = ffi.new("uint8_t[]", data + b"\0")
    it, out = ffi.new("fmq_record_iter *"), ffi.new("fmq_record *")
    lib.fmq_record_iter_init(it, block, len(data), len(rows))
    for delta_ms, offset_delta, key, value, headers in rows:
        assert lib.fmq_record_iter_next(it, out) == 1
        assert (out.timestamp_delta, out.offset_delta) == (delta_ms, offset_delta)
        assert taken(out.key, out.key_size) == key
        assert taken(out.value, out.value_size) == value
        assert lib.fmq_record_headers_ok(out)
        at = ffi.new("uint8_t **", ffi.cast("uint8_t *", out.headers))
        seen = []
        k, v = ffi.new("uint8_t **"), ffi.new("uint8_t **")
        ks, vs = ffi.new("int32_t *"), ffi.new("int32_t *")
        end = out.headers + out.headers_size
        while lib.fmq_record_header_next(at, end, k, ks, v, vs) == 1:
            seen.append((taken(k[0], ks[0]), taken(v[0], vs[0])))
        assert seen == headers
        written = ffi.new("uint8_t[]", 4_096)
        size = lib.fmq_record_write(written, out)
        again = encode(delta_ms, offset_delta, key, value, headers)
        assert bytes(ffi.buffer(written, size)) == again
        assert size == lib.fmq_record_size(
            delta_ms, offset_delta, out.key_size, out.value_size, out.headers_size, len(headers)
        )
    assert lib.fmq_record_iter_next(it, out) == 0


def check_records(data: bytes, count: int, *, need_key: bool = False) -> int:
    ffi, lib = native().ffi, native().lib
    block = ffi.new("uint8_t[]", data) if data else ffi.new("uint8_t[1]")
    return lib.fmq_batch_validate_records(block, len(data), count, need_key, ffi.new("char **"))


@given(st.lists(st.tuples(OPTIONAL, OPTIONAL, HEADERS), max_size=4), st.data())
def test_full_checks_of_records(rows, data):
    good = b"".join(encode(0, i, *row) for i, row in enumerate(rows))
    assert check_records(good, len(rows)) == 0
    keyless = any(key is None for key, _, _ in rows)
    assert (check_records(good, len(rows), need_key=True) == 0) == (not keyless)
    assert check_records(good, len(rows) + 1) == INVALID_RECORD
    if rows:
        assert check_records(good[:-1], len(rows)) == INVALID_RECORD
        assert check_records(good, len(rows) - 1) == INVALID_RECORD
    # Whatever the bytes are, the answer is one of two, and nothing behind them is read.
    noise = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3)) if noise else 0):
        noise[data.draw(st.integers(0, len(noise) - 1))] = data.draw(st.integers(0, 255))
    assert check_records(bytes(noise), len(rows)) in (0, INVALID_RECORD)


def test_the_helpers_of_other_tests_agree():
    assert HEADER.size == STORED.size == 61
    assert check_records(record(0, b"v", b"k") + record(1, b""), 2) == 0
