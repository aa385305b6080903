# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""What consumers get: records of fetched batches; the manual is `consumer.pyi`."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from fastmq._native.records cimport (
    FMQ_ATTR_CODEC_MASK,
    FMQ_ATTR_CONTROL,
    FMQ_ATTR_LOG_APPEND_TIME,
    FMQ_ATTR_TRANSACTIONAL,
    FMQ_BATCH_CRC_START,
    FMQ_BATCH_HEADER_SIZE,
    fmq_batch_header,
    fmq_batch_parse,
    fmq_record,
    fmq_record_header_next,
    fmq_record_iter,
    fmq_record_iter_init,
    fmq_record_iter_next,
)

from fastmq.errors import ErrorCode, KafkaError

cdef object _crc32c = None


cdef object crc32c_function():
    """`core.crc32c`, looked up at first use."""
    global _crc32c
    if _crc32c is None:
        from fastmq._native.core import crc32c
        _crc32c = crc32c
    return _crc32c


cdef inline int64_t add_wrapping(int64_t a, int64_t b) noexcept:
    return <int64_t>(<uint64_t>a + <uint64_t>b)


# Not looked at by the garbage collector, which would go through all of them again and again: they
# are in no cycles.
@cython.final
@cython.no_gc
@cython.freelist(512)
cdef class ConsumerRecord:
    """A record and where it was."""

    def __init__(self):
        raise TypeError("records come from a consumer")

    @property
    def timestamp_type(self):
        return "LogAppendTime" if self.is_append_time else "CreateTime"

    def __repr__(self):
        return (
            f"<ConsumerRecord {self.topic}[{self.partition}]@{self.offset}"
            f" key={self.key!r} value={self.value!r}>"
        )


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
    cdef list headers = []
    while fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size) == 1:
        name = PyUnicode_DecodeUTF8(<char *>key, key_size, "surrogateescape")
        headers.append((name, bytes_or_none(value, value_size)))
    if len(headers) != record.header_count:
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "malformed record headers")
    return tuple(headers)


def end_of(block, int64_t offset):
    """(offset after the last whole batch, or `offset`; bytes of whole batches)."""
    cdef Py_buffer view
    cdef fmq_batch_header h
    cdef Py_ssize_t at = 0
    PyObject_GetBuffer(block, &view, PyBUF_SIMPLE)
    try:
        while view.len - at >= FMQ_BATCH_HEADER_SIZE:
            if fmq_batch_parse(<const uint8_t *>view.buf + at, <size_t>(view.len - at), &h) != 0:
                break  # reading it tells what is wrong
            if <Py_ssize_t>h.size > view.len - at:
                break
            at += h.size
            if h.base_offset + h.last_offset_delta + 1 > offset:
                offset = h.base_offset + h.last_offset_delta + 1
    finally:
        PyBuffer_Release(&view)
    return offset, at


@cython.final
cdef class Chunk:
    """What one fetch brought of one partition, read batch by batch."""

    def __init__(
        self, block, str topic not None, int32_t partition, int64_t offset, inflate, *,
        int64_t version=0, aborted=None, bint check_crc=True, Py_ssize_t inflated_max=64 << 20,
        key_deserializer=None, value_deserializer=None,
    ):
        self.block = memoryview(block)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.version = version
        self.size = len(self.block)
        self.inflate = inflate
        self.check_crc = check_crc
        self.inflated_max = inflated_max
        self.key_deserializer = key_deserializer
        self.value_deserializer = value_deserializer
        # (first offset, producer id) of aborted transactions, the next one last.
        self.aborted = None
        self.aborting = None
        if aborted is not None:
            self.aborted = sorted(aborted, reverse=True)
            self.aborting = set()

    def next_records(self):
        """The records of the next batch that has any; an empty list at the end."""
        cdef fmq_batch_header h
        cdef list records
        while self.parse(&h):
            begin = self.at
            self.at += h.size
            if h.base_offset + h.last_offset_delta < self.offset:
                continue
            if not self.is_wanted(&h, begin):
                self.offset = h.base_offset + h.last_offset_delta + 1
                continue
            try:
                payload = self.payload(&h, begin)
                records = self.read(&h, payload)
                good = self.deserialize(records)
            except BaseException:
                self.at = begin  # the same again, until the program seeks
                raise
            if good < len(records):
                # What comes before the one that no deserializer likes goes first.
                self.at = begin
                self.offset = records[good].offset
                del records[good:]
                return records
            self.offset = h.base_offset + h.last_offset_delta + 1
            if records:
                return records
        return []

    cdef bint parse(self, fmq_batch_header *h) except -1:
        """The header of the batch at `at`; False at the end, or where a batch is cut off."""
        cdef Py_buffer view
        cdef int result
        if self.size - self.at < FMQ_BATCH_HEADER_SIZE:
            return False
        PyObject_GetBuffer(self.block, &view, PyBUF_SIMPLE)
        try:
            result = fmq_batch_parse(
                <const uint8_t *>view.buf + self.at, <size_t>(self.size - self.at), h
            )
        finally:
            PyBuffer_Release(&view)
        if result != 0:
            code = result if result > 0 else ErrorCode.CORRUPT_MESSAGE
            raise KafkaError(code, f"{self.topic}[{self.partition}] at {self.offset}: not a batch")
        return <Py_ssize_t>h.size <= self.size - self.at

    cdef bint is_wanted(self, fmq_batch_header *h, Py_ssize_t begin) except -1:
        """Whether the program gets the records: no markers, nothing that was aborted."""
        cdef bint control = (h.attributes & FMQ_ATTR_CONTROL) != 0
        if self.aborting is None:
            return not control
        last = h.base_offset + h.last_offset_delta
        while self.aborted and self.aborted[len(self.aborted) - 1][0] <= last:
            self.aborting.add(self.aborted.pop()[1])
        if control:
            self.aborting.discard(h.producer_id)  # the transaction ends here, one way or another
            return False
        return not (
            (h.attributes & FMQ_ATTR_TRANSACTIONAL) != 0 and h.producer_id in self.aborting
        )

    cdef object payload(self, fmq_batch_header *h, Py_ssize_t begin):
        if self.check_crc:
            crc = crc32c_function()(self.block[begin + FMQ_BATCH_CRC_START:begin + h.size])
            if crc != h.crc:
                raise KafkaError(
                    ErrorCode.CORRUPT_MESSAGE,
                    f"{self.topic}[{self.partition}]: the batch at offset {h.base_offset} is "
                    "damaged (its checksum does not fit); seek behind it to go on",
                )
        data = self.block[begin + FMQ_BATCH_HEADER_SIZE:begin + h.size]
        if h.attributes & FMQ_ATTR_CODEC_MASK:
            data = self.inflate(h.attributes & FMQ_ATTR_CODEC_MASK, data, self.inflated_max)
        return data

    cdef list read(self, fmq_batch_header *h, payload):
        cdef Py_buffer view
        cdef fmq_record_iter it
        cdef fmq_record raw
        cdef ConsumerRecord record
        cdef list records = []
        cdef int result
        cdef bint append_time = (h.attributes & FMQ_ATTR_LOG_APPEND_TIME) != 0
        cdef object topic = self.topic
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            fmq_record_iter_init(
                &it, <const uint8_t *>view.buf, <size_t>view.len, h.record_count
            )
            while True:
                result = fmq_record_iter_next(&it, &raw)
                if result != 1:
                    break
                if h.base_offset + raw.offset_delta < self.offset:
                    continue
                record = ConsumerRecord.__new__(ConsumerRecord)
                record.topic = topic
                record.partition = self.partition
                record.offset = h.base_offset + raw.offset_delta
                record.leader_epoch = h.leader_epoch
                record.is_append_time = append_time
                if append_time:
                    record.timestamp_ms = h.max_timestamp
                else:
                    record.timestamp_ms = add_wrapping(h.base_timestamp, raw.timestamp_delta)
                record.key = bytes_or_none(raw.key, raw.key_size)
                record.value = bytes_or_none(raw.value, raw.value_size)
                record.headers = read_headers(&raw) if raw.header_count > 0 else ()
                records.append(record)
        finally:
            PyBuffer_Release(&view)
        if result != 0:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"{self.topic}[{self.partition}]: malformed records at offset {h.base_offset}",
            )
        return records

    cdef int deserialize(self, list records) except -1:
        """Call the deserializers; how many records it worked for. Raises if for none."""
        cdef ConsumerRecord record
        cdef int good = 0
        if self.key_deserializer is None and self.value_deserializer is None:
            return <int>len(records)
        for record in records:
            try:
                if self.key_deserializer is not None and record.key is not None:
                    record.key = self.key_deserializer(record.key)
                if self.value_deserializer is not None and record.value is not None:
                    record.value = self.value_deserializer(record.value)
            except Exception as error:
                if good > 0:
                    return good
                error.add_note(
                    f"deserializing the record of {self.topic}[{self.partition}] at offset "
                    f"{record.offset}; it comes again with each poll, to go on without it: "
                    f"seek({self.topic!r}, {self.partition}, {record.offset + 1})"
                )
                raise
            good += 1
        return good


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Ready:
    """An awaitable whose result is there: a coroutine for each record would cost more."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration(self.value)


@cython.final
cdef class RecordStream:
    """An iterator over records that come in lists."""

    def __init__(self, refill=None):
        self.refill = refill
        self.records = []

    def feed(self, list records not None):
        """Go on with another list."""
        self.records = records
        self.count = len(records)
        self.at = 0

    @property
    def left(self):
        return self.count - self.at

    def ready(self):
        """The next record as an awaitable that does not wait; None at the list's end."""
        cdef Ready made
        if self.at >= self.count:
            return None
        made = Ready.__new__(Ready)
        made.value = self.records[self.at]
        self.at += 1
        return made

    def __iter__(self):
        return self

    def __next__(self):
        while self.at >= self.count:
            records = self.refill()
            if records is None:
                raise StopIteration
            self.feed(records)
        self.at += 1
        return self.records[self.at - 1]
