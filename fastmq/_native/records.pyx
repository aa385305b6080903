# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""Record batches for Python; the manual is `records.pyi`.

All parsing is `fastmq/record.h`, which bounds every step; here the result becomes objects.
The library itself is linked by `core` alone, so the CRC of a new batch is one call into it.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
)
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastmq.errors import ErrorCode, KafkaError

BATCH_HEADER_SIZE = FMQ_BATCH_HEADER_SIZE
RECORD_SIZE_MIN = 7  # length, attributes, two deltas, null key, null value, no headers

cdef enum:
    ROOM_MIN = 512  # of a builder: one small record and its siblings
    RECORDS_SIZE_MAX = 2147483586  # with the header, 2^31 - 1

cdef object _crc32c = None


cdef object crc32c_function():
    """`core.crc32c`, looked up at first use: reading batches must not load the engine."""
    global _crc32c
    if _crc32c is None:
        from fastmq._native.core import crc32c
        _crc32c = crc32c
    return _crc32c


cdef object corrupt(str message):
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, message)


cdef inline int64_t add_wrapping(int64_t a, int64_t b) noexcept:
    """Timestamps are the sender's numbers: they may overflow, but not the C way."""
    return <int64_t>(<uint64_t>a + <uint64_t>b)


# ---- reading -----------------------------------------------------------------------------------


@cython.final
cdef class BatchHeader:
    """The 61 bytes before the records."""

    def __cinit__(self, data, Py_ssize_t position=0):
        cdef Py_buffer view
        cdef int result
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if position < 0 or position > view.len:
                raise ValueError(f"position {position} is outside the data")
            result = fmq_batch_parse(
                <const uint8_t *>view.buf + position, <size_t>(view.len - position), &self.h
            )
        finally:
            PyBuffer_Release(&view)
        if result < 0:
            raise corrupt("the batch header is cut short")
        if result != 0:
            raise KafkaError(result, "not a record batch with magic 2 and possible numbers")

    @property
    def base_offset(self):
        return self.h.base_offset

    @property
    def batch_length(self):
        return self.h.batch_length

    @property
    def leader_epoch(self):
        return self.h.leader_epoch

    @property
    def magic(self):
        return self.h.magic

    @property
    def crc(self):
        return self.h.crc

    @property
    def attributes(self):
        return self.h.attributes

    @property
    def last_offset_delta(self):
        return self.h.last_offset_delta

    @property
    def base_timestamp(self):
        return self.h.base_timestamp

    @property
    def max_timestamp(self):
        return self.h.max_timestamp

    @property
    def producer_id(self):
        return self.h.producer_id

    @property
    def producer_epoch(self):
        return self.h.producer_epoch

    @property
    def base_sequence(self):
        return self.h.base_sequence

    @property
    def record_count(self):
        return self.h.record_count

    @property
    def size(self):
        return self.h.size

    @property
    def codec(self):
        return self.h.attributes & FMQ_ATTR_CODEC_MASK

    @property
    def is_log_append_time(self):
        return (self.h.attributes & FMQ_ATTR_LOG_APPEND_TIME) != 0

    @property
    def is_transactional(self):
        return (self.h.attributes & FMQ_ATTR_TRANSACTIONAL) != 0

    @property
    def is_control(self):
        return (self.h.attributes & FMQ_ATTR_CONTROL) != 0

    @property
    def has_delete_horizon(self):
        return (self.h.attributes & FMQ_ATTR_DELETE_HORIZON) != 0

    @property
    def last_offset(self):
        return self.h.base_offset + self.h.last_offset_delta

    def __repr__(self):
        return (
            f"<BatchHeader offsets {self.base_offset}..{self.last_offset}"
            f" records={self.record_count} size={self.size} codec={self.codec}>"
        )


@cython.final
cdef class Record:
    """One record with its offset and time worked out."""

    def __init__(self):
        raise TypeError("records come from read_records")

    def __repr__(self):
        return f"<Record offset={self.offset} key={self.key!r} value={self.value!r}>"


cdef inline object bytes_or_none(const uint8_t *data, int32_t size):
    if data == NULL:
        return None
    return PyBytes_FromStringAndSize(<const char *>data, size)


cdef tuple read_headers(const fmq_record *record):
    cdef const uint8_t *at = record.headers
    cdef const uint8_t *end = at + record.headers_size
    cdef const uint8_t *key
    cdef const uint8_t *value
    cdef int32_t key_size
    cdef int32_t value_size
    cdef int result
    cdef list headers = []
    while True:
        result = fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size)
        if result != 1:
            break
        name = PyUnicode_DecodeUTF8(<char *>key, key_size, "surrogateescape")
        headers.append((name, bytes_or_none(value, value_size)))
    if result != 0 or len(headers) != record.header_count:
        raise corrupt("malformed record headers")
    return tuple(headers)


cdef class _Walk:
    """A walk over the records of one block, with the offset and time of each worked out."""

    cdef Py_buffer view
    cdef bint held
    cdef fmq_record_iter it
    cdef fmq_record record
    cdef fmq_batch_header h
    cdef int64_t offset
    cdef int64_t timestamp

    def __cinit__(self, block, BatchHeader header not None):
        PyObject_GetBuffer(block, &self.view, PyBUF_SIMPLE)
        self.held = True
        self.h = header.h
        fmq_record_iter_init(
            &self.it, <const uint8_t *>self.view.buf, <size_t>self.view.len, self.h.record_count
        )

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef bint next(self) except -1:
        cdef int result = fmq_record_iter_next(&self.it, &self.record)
        if result == 0:
            return False
        if result != 1:
            raise corrupt("malformed records, or not as many as the header says")
        if self.record.offset_delta < 0 or self.record.offset_delta > self.h.last_offset_delta:
            raise corrupt("a record lies outside the offsets of its batch")
        self.offset = self.h.base_offset + self.record.offset_delta
        if self.h.attributes & FMQ_ATTR_LOG_APPEND_TIME:
            self.timestamp = self.h.max_timestamp
        else:
            self.timestamp = add_wrapping(self.h.base_timestamp, self.record.timestamp_delta)
        return True


def read_records(block, BatchHeader header not None):
    """The records of an uncompressed or inflated block."""
    cdef _Walk walk = _Walk(block, header)
    cdef Record record
    cdef list records = []
    while walk.next():
        record = Record.__new__(Record)
        record.offset = walk.offset
        record.timestamp = walk.timestamp
        record.key = bytes_or_none(walk.record.key, walk.record.key_size)
        record.value = bytes_or_none(walk.record.value, walk.record.value_size)
        record.headers = read_headers(&walk.record) if walk.record.header_count > 0 else ()
        records.append(record)
    return records


def find_timestamp(block, BatchHeader header not None, int64_t timestamp, int64_t min_offset=0):
    """(offset, timestamp) of the first record at or after a time, or None."""
    cdef _Walk walk = _Walk(block, header)
    while walk.next():
        if walk.timestamp >= timestamp and walk.offset >= min_offset:
            return walk.offset, walk.timestamp
    return None


def find_max_timestamp(block, BatchHeader header not None):
    """(offset, timestamp) of the first record with the largest timestamp, or None."""
    cdef _Walk walk = _Walk(block, header)
    cdef bint found = False
    cdef int64_t offset = 0
    cdef int64_t timestamp = 0
    while walk.next():
        if not found or walk.timestamp > timestamp:
            found = True
            offset = walk.offset
            timestamp = walk.timestamp
    return (offset, timestamp) if found else None


def validate_records(block, int32_t record_count, *, bint need_key):
    """Check records as clients send them."""
    cdef Py_buffer view
    cdef const char *reason = NULL
    cdef int result
    PyObject_GetBuffer(block, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            result = fmq_batch_validate_records(
                <const uint8_t *>view.buf, <size_t>view.len, record_count, need_key, &reason
            )
    finally:
        PyBuffer_Release(&view)
    if result != 0:
        raise KafkaError(result, reason.decode("ascii"))


# ---- building ----------------------------------------------------------------------------------


cdef bytes as_bytes(data):
    """`data` itself where it is bytes; a copy of any other buffer."""
    if PyBytes_CheckExact(data):
        return <bytes>data
    return bytes(memoryview(data))


cdef int32_t bytes_size(bytes data) except -2:
    """Size as the format has it: -1 for None."""
    if data is None:
        return -1
    if PyBytes_GET_SIZE(data) > RECORDS_SIZE_MAX:
        raise OverflowError("a record must fit in 2 GiB")
    return <int32_t>PyBytes_GET_SIZE(data)


cdef int extend_nullable(bytearray out, bytes data) except -1:
    cdef uint8_t size[10]
    cdef int used = fmq_varint32_write(size, bytes_size(data))
    out += (<char *>size)[:used]
    if data is not None:
        out += data
    return 0


cdef bytes encode_headers(tuple headers):
    out = bytearray()
    for name, value in headers:
        key = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else as_bytes(name)
        extend_nullable(out, key)
        extend_nullable(out, None if value is None else as_bytes(value))
    return bytes(out)


@cython.final
cdef class RecordsBuilder:
    """Collects encoded records and puts a batch header before them."""

    def __cinit__(self):
        self.memory = NULL
        self.used = 0
        self.room = 0
        self._count = 0
        self._last_offset_delta = -1
        self._base_timestamp = -1
        self._max_timestamp = -1

    def __dealloc__(self):
        PyMem_Free(self.memory)

    @property
    def count(self):
        return self._count

    @property
    def size(self):
        return FMQ_BATCH_HEADER_SIZE + self.used

    @property
    def base_timestamp(self):
        return self._base_timestamp

    @property
    def max_timestamp(self):
        return self._max_timestamp

    cdef int reserve(self, size_t extra) except -1:
        """Make room for `extra` more bytes."""
        cdef size_t room
        cdef uint8_t *memory
        if extra <= self.room - self.used:
            return 0
        if extra > <size_t>RECORDS_SIZE_MAX - self.used:
            raise OverflowError("a batch must fit in 2 GiB")
        room = max(self.used + extra, 2 * self.room, <size_t>ROOM_MIN)
        memory = <uint8_t *>PyMem_Realloc(self.memory, room)
        if memory == NULL:
            raise MemoryError
        self.memory = memory
        self.room = room
        return 0

    def append(self, int64_t timestamp, key, value, headers=(), int32_t offset_delta=-1):
        """Encode one record; returns its offset delta."""
        cdef bytes key_bytes = None if key is None else as_bytes(key)
        cdef bytes value_bytes = None if value is None else as_bytes(value)
        cdef bytes header_bytes
        cdef fmq_record record
        if offset_delta == -1:
            offset_delta = self._last_offset_delta + 1
        elif offset_delta <= self._last_offset_delta:
            raise ValueError(f"offset delta {offset_delta} does not go up")
        record.timestamp_delta = 0
        if self._count > 0:
            record.timestamp_delta = add_wrapping(timestamp, -self._base_timestamp)
        record.offset_delta = offset_delta
        record.key_size = bytes_size(key_bytes)
        record.key = NULL if key_bytes is None else <uint8_t *>PyBytes_AS_STRING(key_bytes)
        record.value_size = bytes_size(value_bytes)
        record.value = NULL if value_bytes is None else <uint8_t *>PyBytes_AS_STRING(value_bytes)
        record.headers = NULL
        record.headers_size = 0
        record.header_count = 0
        if headers:
            pairs = tuple(headers)
            header_bytes = encode_headers(pairs)
            record.headers = <uint8_t *>PyBytes_AS_STRING(header_bytes)
            record.headers_size = <size_t>PyBytes_GET_SIZE(header_bytes)
            record.header_count = <int32_t>len(pairs)
        self.reserve(
            fmq_record_size(
                record.timestamp_delta, offset_delta, record.key_size, record.value_size,
                record.headers_size, record.header_count
            )
        )
        self.used += fmq_record_write(self.memory + self.used, &record)
        if self._count == 0:
            self._base_timestamp = timestamp
        if self._count == 0 or timestamp > self._max_timestamp:
            self._max_timestamp = timestamp
        self._count += 1
        self._last_offset_delta = offset_delta
        return offset_delta

    def records(self):
        """A copy of the encoded records."""
        return PyBytes_FromStringAndSize(<char *>self.memory, <Py_ssize_t>self.used)

    def finish(
        self,
        *,
        payload=None,
        int64_t base_offset=0,
        int32_t leader_epoch=-1,
        int16_t attributes=0,
        int64_t producer_id=-1,
        int16_t producer_epoch=-1,
        int32_t base_sequence=-1,
        max_timestamp=None,
        last_offset_delta=None,
    ):
        """A whole batch with its CRC."""
        cdef fmq_batch_header h
        h.base_offset = base_offset
        h.leader_epoch = leader_epoch
        h.attributes = attributes
        h.last_offset_delta = max(self._last_offset_delta, 0)
        if last_offset_delta is not None:
            if last_offset_delta < self._last_offset_delta:
                raise ValueError("the batch has records after its last offset")
            h.last_offset_delta = last_offset_delta
        h.base_timestamp = self._base_timestamp
        h.max_timestamp = self._max_timestamp if max_timestamp is None else max_timestamp
        h.producer_id = producer_id
        h.producer_epoch = producer_epoch
        h.base_sequence = base_sequence
        h.record_count = self._count
        if payload is None:
            return assemble(&h, self.memory, self.used)
        return assemble_buffer(&h, payload)


cdef bytearray assemble(fmq_batch_header *h, const uint8_t *payload, size_t size):
    """Header, payload and CRC."""
    cdef bytearray batch
    cdef uint8_t *data
    if size > <size_t>RECORDS_SIZE_MAX:
        raise OverflowError("a batch must fit in 2 GiB")
    batch = PyByteArray_FromStringAndSize(NULL, FMQ_BATCH_HEADER_SIZE + <Py_ssize_t>size)
    data = <uint8_t *>PyByteArray_AS_STRING(batch)
    h.batch_length = FMQ_BATCH_HEADER_SIZE - FMQ_BATCH_LOG_OVERHEAD + <int32_t>size
    fmq_batch_store_header(data, h)
    if size > 0:
        memcpy(data + FMQ_BATCH_HEADER_SIZE, payload, size)
    crc = crc32c_function()(memoryview(batch)[FMQ_BATCH_CRC_START:])
    fmq_store_be32(data + FMQ_BATCH_OFFSET_CRC, <uint32_t>crc)
    return batch


cdef bytearray assemble_buffer(fmq_batch_header *h, payload):
    cdef Py_buffer view
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return assemble(h, <const uint8_t *>view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)


def replace_payload(BatchHeader header not None, payload, int codec):
    """A batch with this header but other record bytes and codec, and a new CRC."""
    cdef fmq_batch_header h = header.h
    if codec < 0 or codec > FMQ_ATTR_CODEC_MASK:
        raise ValueError(f"no codec has the number {codec}")
    h.attributes = <int16_t>((h.attributes & ~FMQ_ATTR_CODEC_MASK) | codec)
    return assemble_buffer(&h, payload)
