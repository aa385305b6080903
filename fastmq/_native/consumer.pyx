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
    """(offset after the last whole batch, or `offset`; bytes of whole batches; its epoch)."""
    cdef int32_t epoch = -1
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
            epoch = h.leader_epoch
            if h.base_offset + h.last_offset_delta + 1 > offset:
                offset = h.base_offset + h.last_offset_delta + 1
    finally:
        PyBuffer_Release(&view)
    return offset, at, epoch


cdef inline bint headers_are_whole(const fmq_record *record) noexcept:
    cdef const uint8_t *at = record.headers
    cdef const uint8_t *end = at + record.headers_size
    cdef const uint8_t *data
    cdef const uint8_t *value
    cdef int32_t size
    cdef int32_t value_size
    cdef int32_t count = 0
    while fmq_record_header_next(&at, end, &data, &size, &value, &value_size) == 1:
        count += 1
    return count == record.header_count


cdef Run run_of(list records):
    """Records that exist already."""
    cdef Run run = Run.__new__(Run)
    run.records = records
    run.left = len(records)
    return run


# Not looked at by the garbage collector: it would clear a memoryview whose bytes are still lent.
@cython.final
@cython.no_gc
cdef class Lent:
    """The bytes of a batch, until nobody needs them."""

    def __cinit__(self, data):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


# Records are made when they are asked for, one at a time: a program that is done with each before
# the next gets the same few hundred bytes of memory again and again, warm in the cache. The garbage
# collector must not clear it: `it` points into what it lends.
@cython.final
@cython.no_gc_clear
cdef class Run:
    """Records of one batch, on their way to the program."""

    def __init__(self):
        raise TypeError("runs come from a chunk")

    cdef int open(self, Chunk chunk, const fmq_batch_header *h, payload) except -1:
        """Begin with a batch; everything that could be wrong with its records is found here."""
        cdef fmq_record_iter walk
        cdef fmq_record raw
        cdef int result
        cdef Lent lent = Lent(payload)
        self.lent = lent
        self.topic = chunk.topic
        self.partition = chunk.partition
        self.leader_epoch = h.leader_epoch
        self.base_offset = h.base_offset
        self.append_time = (h.attributes & FMQ_ATTR_LOG_APPEND_TIME) != 0
        self.timestamp = h.max_timestamp if self.append_time else h.base_timestamp
        fmq_record_iter_init(
            &self.it, <const uint8_t *>lent.view.buf, <size_t>lent.view.len, h.record_count
        )
        self.from_offset = chunk.offset
        walk = self.it
        while True:
            result = fmq_record_iter_next(&walk, &raw)
            if result != 1:
                break
            if raw.header_count > 0 and not headers_are_whole(&raw):
                result = -1
                break
            if h.base_offset + raw.offset_delta >= self.from_offset:
                self.left += 1
        if result != 0:
            raise KafkaError(
                ErrorCode.CORRUPT_MESSAGE,
                f"{self.topic}[{self.partition}]: malformed records at offset {h.base_offset}",
            )
        return 0

    cdef ConsumerRecord next(self):
        """The next record; there must be one."""
        cdef fmq_record raw
        cdef ConsumerRecord record
        self.left -= 1
        if self.records is not None:
            record = <ConsumerRecord>self.records[self.at]
            self.at += 1
        else:
            while True:
                if fmq_record_iter_next(&self.it, &raw) != 1:
                    raise AssertionError("records changed while they were read")
                if self.base_offset + raw.offset_delta >= self.from_offset:
                    break
            record = ConsumerRecord.__new__(ConsumerRecord)
            record.topic = self.topic
            record.partition = self.partition
            record.offset = self.base_offset + raw.offset_delta
            record.leader_epoch = self.leader_epoch
            record.is_append_time = self.append_time
            record.timestamp_ms = self.timestamp
            if not self.append_time:
                record.timestamp_ms = add_wrapping(self.timestamp, raw.timestamp_delta)
            record.key = bytes_or_none(raw.key, raw.key_size)
            record.value = bytes_or_none(raw.value, raw.value_size)
            record.headers = read_headers(&raw) if raw.header_count > 0 else ()
            if self.left == 0:
                self.lent = None
        self.end = record.offset + 1
        self.is_begun = True
        return record

    @property
    def position(self):
        """The offset behind what was handed out; of the first record, if nothing was."""
        cdef fmq_record_iter walk = self.it
        cdef fmq_record raw
        if self.is_begun:
            return self.end
        if self.records is not None:
            return self.records[0].offset
        while fmq_record_iter_next(&walk, &raw) == 1:
            if self.base_offset + raw.offset_delta >= self.from_offset:
                return self.base_offset + raw.offset_delta
        raise IndexError("there are no records")

    def rest(self):
        """A list of what is left; it counts as handed out."""
        cdef list records = []
        while self.left > 0:
            records.append(self.next())
        return records


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

    def next_run(self):
        """The records of the next batch that has any; None at the end."""
        cdef fmq_batch_header h
        cdef Run run
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
                run = Run.__new__(Run)
                run.open(self, &h, self.payload(&h, begin))
                if self.key_deserializer is not None or self.value_deserializer is not None:
                    records = run.rest()
                    good = self.deserialize(records)
                    if good < len(records):
                        # What comes before the one that no deserializer likes goes first.
                        self.at = begin
                        self.offset = records[good].offset
                        del records[good:]
                        return run_of(records)
                    run = run_of(records)
            except BaseException:
                self.at = begin  # the same again, until the program seeks
                raise
            self.offset = h.base_offset + h.last_offset_delta + 1
            if run.left > 0:
                return run
        return None

    def next_records(self):
        """The same as a list; an empty one at the end."""
        cdef Run run = self.next_run()
        return [] if run is None else run.rest()

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

    cdef int deserialize(self, list records) except -1:
        """Call the deserializers; how many records it worked for. Raises if for none."""
        cdef ConsumerRecord record
        cdef int good = 0
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


cdef extern from *:
    """
    /* An awaitable whose result is there. Awaiting it costs no exception where the interpreter asks
     * am_send (3.11), and one that is not built where it asks tp_iternext. */
    typedef struct {
        PyObject_HEAD
        PyObject *value;
    } fastmq_ready;

    static void fastmq_ready_dealloc(PyObject *self) {
        Py_XDECREF(((fastmq_ready *)self)->value);
        PyObject_Free(self);
    }

    static PySendResult fastmq_ready_send(PyObject *self, PyObject *sent, PyObject **result) {
        (void)sent;
        *result = Py_NewRef(((fastmq_ready *)self)->value);
        return PYGEN_RETURN;
    }

    static PyObject *fastmq_ready_next(PyObject *self) {
        /* The value is a record: neither a tuple nor an exception, which would be taken apart. */
        PyErr_SetObject(PyExc_StopIteration, ((fastmq_ready *)self)->value);
        return NULL;
    }

    static PyAsyncMethods fastmq_ready_async = {
        .am_await = PyObject_SelfIter,
        .am_send = fastmq_ready_send,
    };

    static PyTypeObject fastmq_ready_type = {
        PyVarObject_HEAD_INIT(NULL, 0)
        .tp_name = "fastmq._native.consumer.Ready",
        .tp_basicsize = sizeof(fastmq_ready),
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .tp_dealloc = fastmq_ready_dealloc,
        .tp_as_async = &fastmq_ready_async,
        .tp_iter = PyObject_SelfIter,
        .tp_iternext = fastmq_ready_next,
    };

    static int fastmq_ready_prepare(void) {
        return PyType_Ready(&fastmq_ready_type);
    }

    static inline PyObject *fastmq_ready_with(PyObject *value) {
        fastmq_ready *self = PyObject_New(fastmq_ready, &fastmq_ready_type);
        if (self != NULL) {
            self->value = Py_NewRef(value);
        }
        return (PyObject *)self;
    }
    """
    int fastmq_ready_prepare() except -1
    object fastmq_ready_with(object value)


fastmq_ready_prepare()


@cython.final
cdef class RecordStream:
    """An iterator over the records of runs."""

    def __init__(self, refill=None, refill_later=None):
        self.refill = refill
        self.refill_later = refill_later

    def feed(self, Run run):
        """Go on with another run; with nothing for None."""
        self.run = run

    @property
    def left(self):
        return 0 if self.run is None else self.run.left

    @property
    def position(self):
        return None if self.run is None else self.run.position

    @property
    def is_begun(self):
        return self.run is not None and self.run.is_begun

    def rest(self):
        """A list of what is left of the current run; it counts as handed out."""
        return [] if self.run is None else self.run.rest()

    def take(self):
        """What is left as a run of its own that lends no memory; None: nothing is."""
        run, self.run = self.run, None
        return None if run is None or run.left == 0 else run_of(run.rest())

    def __iter__(self):
        return self

    def __next__(self):
        while self.run is None or self.run.left == 0:
            run = self.refill()
            if run is None:
                raise StopIteration
            self.run = run
        return self.run.next()

    def __aiter__(self):
        return self

    def __anext__(self):
        if self.run is None or self.run.left == 0:
            return self.refill_later()
        return fastmq_ready_with(self.run.next())
