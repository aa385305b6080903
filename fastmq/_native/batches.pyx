# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""Batches while they are filled and sent, and deliveries; the manual is `batches.pyi`.

The GIL is the lock. `append_record` runs no Python code and allocates nothing that the garbage
collector tracks, so no other thread runs between its beginning and its end.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from fastmq._native.records cimport (
    FMQ_BATCH_CRC_START,
    FMQ_BATCH_HEADER_SIZE,
    FMQ_BATCH_OFFSET_CRC,
    encode_headers,
    fmq_batch_header,
    fmq_batch_store_header,
    fmq_record,
    fmq_record_size,
    fmq_record_write,
    fmq_store_be32,
)

cdef enum:
    OVERHEAD = 512  # of a batch's objects, as `buffer_memory` counts it
    ROOM_MIN = 1024
    CRC_STEP = 65536  # up to this the CRC keeps the GIL, see fastmq._native.core

cdef object _crc32c = None


cdef object crc32c_function():
    """`core.crc32c`, looked up at first use: the library is linked by `core` alone."""
    global _crc32c
    if _crc32c is None:
        from fastmq._native.core import crc32c
        _crc32c = crc32c
    return _crc32c


# ---- memory --------------------------------------------------------------------------------------


cdef class Buffers:
    """The memory of one producer's batches; counted, bounded, kept for the next batch."""

    def __init__(self, *, batch_size, memory_limit, clock, make_result):
        self.batch_size = batch_size
        self.memory_limit = memory_limit
        self.clock = clock
        self.make_result = make_result
        self.spare = []

    @property
    def is_full(self):
        """Whether there is no room for a batch."""
        return self.memory_used + ROOM_MIN + OVERHEAD > self.memory_limit

    cdef int take(self, Batch batch, Py_ssize_t needed, bint force) except -1:
        """Make a batch at least that large; 0: there is no memory."""
        cdef Py_ssize_t held = 0
        cdef Py_ssize_t room
        cdef Py_ssize_t left
        if batch.memory != NULL:
            held = batch.room + OVERHEAD
        if needed > self.batch_size:
            room = needed
        else:
            room = min(max(needed, 2 * batch.room, <Py_ssize_t>ROOM_MIN), self.batch_size)
        left = self.memory_limit - (self.memory_used - held) - OVERHEAD
        if room > left and not force:
            if needed > left:
                return 0
            room = needed
        if batch.memory == NULL and 2 * room > self.batch_size and self.reuse(batch, needed, left):
            return 1
        while self.spare and self.memory_used + self.spare_bytes + room > self.memory_limit:
            self.spare_bytes -= (<Batch>self.spare.pop()).room
        batch.resize(room)
        self.memory_used += room + OVERHEAD - held
        return 1

    cdef bint reuse(self, Batch batch, Py_ssize_t needed, Py_ssize_t left) except -1:
        """Fresh pages cost more than the copying of the records into them: use old ones."""
        cdef Batch spare
        if not self.spare:
            return False
        spare = <Batch>self.spare.pop()
        self.spare_bytes -= spare.room
        if spare.room < needed or spare.room > left:
            return False
        batch.memory = spare.memory
        batch.room = spare.room
        spare.memory = NULL
        self.memory_used += batch.room + OVERHEAD
        return True

    cdef void give(self, Batch batch) noexcept:
        """Take a batch's memory back."""
        cdef Batch spare
        self.memory_used -= batch.room + OVERHEAD
        if (
            2 * batch.room > self.batch_size and batch.codec == 0
            and self.memory_used + self.spare_bytes + batch.room <= self.memory_limit
        ):
            try:
                spare = Batch.__new__(Batch)
                self.spare.append(spare)
                spare.memory = batch.memory
                spare.room = batch.room
                self.spare_bytes += batch.room
                batch.memory = NULL
                return
            except MemoryError:
                pass
        PyMem_Free(batch.memory)
        batch.memory = NULL


# ---- batches -------------------------------------------------------------------------------------


@cython.final
cdef class Batch:
    """Records of one partition, with their header; see producer.pyi."""

    def __init__(self):
        raise TypeError("batches come from a producer")

    def __dealloc__(self):
        if self.memory != NULL:
            PyMem_Free(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.memory == NULL:
            raise BufferError("the batch has no bytes any more")
        PyBuffer_FillInfo(view, self, self.memory, self.used, not (flags & PyBUF_WRITABLE), flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1
        if self.is_done and self.exports == 0:
            self.release()

    def __len__(self):
        return self.used

    def __repr__(self):
        return (
            f"<Batch {self.topic}-{self.partition} records={self.count} bytes={self.used}"
            f" sequence={self.sequence} epoch={self.epoch} done={self.is_done}>"
        )

    cdef int resize(self, Py_ssize_t room) except -1:
        cdef uint8_t *memory = <uint8_t *>PyMem_Realloc(self.memory, room)
        if memory == NULL:
            raise MemoryError
        self.memory = memory
        self.room = room
        return 0

    cdef void release(self) noexcept:
        """Give the bytes back. Those of the counters stay."""
        if self.memory != NULL:
            self.owner.give(self)

    cdef Batch holder(self, int32_t *index):
        """The batch that a record is in now, after splits."""
        cdef Batch batch = self
        while batch.first is not None:
            if index[0] < batch.first.count:
                batch = batch.first
            else:
                index[0] -= batch.first.count
                batch = batch.second
        return batch

    @property
    def is_exported(self):
        """Whether there are views of the bytes."""
        return self.exports > 0

    @property
    def has_successors(self):
        """Whether the records have gone to other batches."""
        return self.first is not None or (self.is_done and self.partition < 0 and not self.error)

    def records(self):
        """A view of the encoded records, for a codec."""
        return memoryview(self)[FMQ_BATCH_HEADER_SIZE:]

    def replace_records(self, payload, int codec):
        """Put compressed records in the place of plain ones."""
        cdef bytes data = bytes(payload)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t room = FMQ_BATCH_HEADER_SIZE + size
        cdef uint8_t *memory
        assert self.exports == 0 and self.codec == 0
        memory = <uint8_t *>PyMem_Malloc(room)
        if memory == NULL:
            raise MemoryError
        memcpy(memory + FMQ_BATCH_HEADER_SIZE, PyBytes_AS_STRING(data), size)
        self.owner.give(self)
        self.memory = memory
        self.used = room
        self.room = room
        self.owner.memory_used += room + OVERHEAD
        self.codec = <int16_t>codec

    def stamp(self):
        """Write the header for the producer id, epoch and sequence that are set."""
        cdef fmq_batch_header h
        cdef object view
        cdef uint32_t crc = 0
        cdef Py_ssize_t at
        assert self.exports == 0, "the batch is being sent"
        h.base_offset = 0
        h.batch_length = <int32_t>(self.used - 12)
        h.leader_epoch = -1
        h.attributes = self.codec
        h.last_offset_delta = self.count - 1
        h.base_timestamp = self.base_timestamp
        h.max_timestamp = self.max_timestamp
        h.producer_id = self.producer_id
        h.producer_epoch = self.epoch
        h.base_sequence = self.sequence
        h.record_count = self.count
        fmq_batch_store_header(self.memory, &h)
        crc32c = crc32c_function()
        view = memoryview(self)
        for at in range(FMQ_BATCH_CRC_START, self.used, CRC_STEP):
            crc = crc32c(view[at:at + CRC_STEP], crc)
        view.release()
        fmq_store_be32(self.memory + FMQ_BATCH_OFFSET_CRC, crc)
        self.is_stamped = True

    def split(self, payload):
        """Two batches with a half of the records each; this one's deliveries become theirs."""
        cdef list parts = split_records(self, payload)
        self.first, self.second = parts
        waiters, self.waiters = self.waiters, None
        callbacks, self.callbacks = self.callbacks, None
        for index, fn in callbacks or ():
            target = self.first
            if index >= self.first.count:
                index -= self.first.count
                target = self.second
            add_callback(target, index, fn)
        self.is_done = True
        if self.exports == 0:
            self.release()
        for fn in waiters or ():
            fn()  # spurious: whoever waits looks again and finds the half
        return self.first, self.second

    def complete(self, error, int64_t base_offset=-1, int64_t append_time_ms=-1):
        """The fate of all records; returns the callbacks to be made, with their indices."""
        if self.is_done:
            return ()
        self.error = error
        if error is not None:
            self.owner.failed_records += self.count
        self.base_offset = base_offset
        self.append_time_ms = append_time_ms
        self.is_done = True
        waiters, self.waiters = self.waiters, None
        callbacks, self.callbacks = self.callbacks, None
        if self.exports == 0:
            self.release()
        for fn in waiters or ():
            fn()
        return callbacks or ()

    def add_waiter(self, fn):
        """Call `fn()` when the batch is done; at once when it is."""
        if self.is_done:
            fn()
        elif self.waiters is None:
            self.waiters = [fn]
        else:
            self.waiters.append(fn)

    def remove_waiter(self, fn):
        """Take a waiter back."""
        if self.waiters is not None and fn in self.waiters:
            self.waiters.remove(fn)

    def result(self, int32_t index):
        """The metadata of one record; the batch is done and has no error."""
        cdef int64_t offset = self.base_offset + index if self.base_offset >= 0 else -1
        return self.owner.make_result(self.topic, self.partition, offset, self.append_time_ms)


cdef int add_callback(Batch batch, int32_t index, fn) except -1:
    if batch.callbacks is None:
        batch.callbacks = []
    batch.callbacks.append([index, fn])
    return 0


cdef Batch new_batch(Buffers owner, str topic, int32_t partition):
    cdef Batch batch = Batch.__new__(Batch)
    batch.owner = owner
    batch.topic = topic
    batch.partition = partition
    batch.base_offset = -1
    batch.append_time_ms = -1
    batch.base_timestamp = -1
    batch.max_timestamp = -1
    batch.producer_id = -1
    batch.epoch = -1
    batch.sequence = -1
    batch.created_ms = owner.clock()
    return batch


cdef list split_records(Batch whole, payload):
    """Read the records back and put them into two batches with room of their own."""
    from fastmq._native.records import BatchHeader, read_records

    cdef Batch half
    cdef Py_ssize_t middle
    header = BatchHeader(whole)
    records = read_records(payload, header)
    middle = len(records) // 2
    parts = []
    for chosen in (records[:middle], records[middle:]):
        half = new_batch(whole.owner, whole.topic, whole.partition)
        half.created_ms = whole.created_ms
        for record in chosen:
            headers = encode_headers(record.headers) if record.headers else None
            append_record(
                half, record.timestamp, record.key, record.value, headers, len(record.headers),
                True
            )
        parts.append(half)
    return parts


cdef Py_ssize_t record_size(
    Batch batch, int64_t timestamp, bytes key, bytes value, bytes headers, int32_t header_count
) except -1:
    cdef int64_t delta = 0
    cdef int32_t count = 0
    if batch is not None and batch.count > 0:
        delta = timestamp - batch.base_timestamp
        count = batch.count
    return <Py_ssize_t>fmq_record_size(
        delta, count,
        -1 if key is None else <int32_t>PyBytes_GET_SIZE(key),
        -1 if value is None else <int32_t>PyBytes_GET_SIZE(value),
        0 if headers is None else <size_t>PyBytes_GET_SIZE(headers), header_count
    )


cdef int append_record(
    Batch batch, int64_t timestamp, bytes key, bytes value, bytes headers, int32_t header_count,
    bint force
) except -1:
    """Encode one record at the end of a batch, growing it; 0: there is no memory for it."""
    cdef fmq_record record
    cdef Py_ssize_t needed = record_size(batch, timestamp, key, value, headers, header_count)
    needed += batch.used if batch.used else FMQ_BATCH_HEADER_SIZE
    if needed > batch.room and not batch.owner.take(batch, needed, force):
        return 0
    if batch.count == 0:
        batch.used = FMQ_BATCH_HEADER_SIZE
        batch.base_timestamp = timestamp
        batch.max_timestamp = timestamp
    elif timestamp > batch.max_timestamp:
        batch.max_timestamp = timestamp
    record.timestamp_delta = timestamp - batch.base_timestamp
    record.offset_delta = batch.count
    record.key_size = -1 if key is None else <int32_t>PyBytes_GET_SIZE(key)
    record.key = NULL if key is None else <uint8_t *>PyBytes_AS_STRING(key)
    record.value_size = -1 if value is None else <int32_t>PyBytes_GET_SIZE(value)
    record.value = NULL if value is None else <uint8_t *>PyBytes_AS_STRING(value)
    record.headers = NULL if headers is None else <uint8_t *>PyBytes_AS_STRING(headers)
    record.headers_size = 0 if headers is None else <size_t>PyBytes_GET_SIZE(headers)
    record.header_count = header_count
    batch.used += <Py_ssize_t>fmq_record_write(batch.memory + batch.used, &record)
    batch.count += 1
    return 1


# ---- deliveries ----------------------------------------------------------------------------------


@cython.final
@cython.freelist(256)
cdef class Delivery:
    """The fate of one record: a batch and an index."""

    def __init__(self):
        raise TypeError("deliveries come from produce()")

    def done(self):
        """Whether the record is acknowledged or has failed."""
        cdef int32_t index = self.index
        return self.batch.holder(&index).is_done

    @property
    def topic(self):
        return self.batch.topic

    @property
    def partition(self):
        """-1 while the topic's metadata is not known."""
        return self.batch.partition

    def exception(self, timeout=None):
        """Wait, and return the error or None."""
        cdef Batch batch
        cdef int32_t index = self.index
        batch = self.batch.holder(&index)
        while not batch.is_done:
            batch.owner.wait_done(self, timeout)
            index = self.index
            batch = self.batch.holder(&index)
        return batch.error

    def result(self, timeout=None):
        """Wait, and return the record's metadata or raise."""
        cdef Batch batch
        cdef int32_t index
        error = self.exception(timeout)
        if error is not None:
            raise copy_of(error)
        index = self.index
        batch = self.batch.holder(&index)
        return batch.result(index)

    def add_done_callback(self, fn):
        """Call `fn(delivery)` when done, in the client's thread or task; at once when it is."""
        self.add_waiter(lambda: fn(self) if self.done() else self.add_done_callback(fn))

    def add_waiter(self, fn):
        """Call `fn()` once when something has changed; internal."""
        cdef int32_t index = self.index
        self.batch.holder(&index).add_waiter(fn)

    def remove_waiter(self, fn):
        """Take a waiter back; internal."""
        cdef int32_t index = self.index
        self.batch.holder(&index).remove_waiter(fn)

    def __await__(self):
        return self.batch.owner.await_done(self).__await__()

    def __repr__(self):
        cdef int32_t index = self.index
        cdef Batch batch = self.batch.holder(&index)
        if not batch.is_done:
            state = "under way"
        elif batch.error is not None:
            state = f"failed: {batch.error}"
        else:
            state = f"offset {batch.base_offset + index}" if batch.base_offset >= 0 else "done"
        return f"<Delivery to {batch.topic}-{batch.partition} {state}>"


cdef object copy_of(error):
    """An error of its own for each raise: tracebacks of several threads would run together."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    made.args = error.args
    return made


cdef Delivery new_delivery(Batch batch, int32_t index):
    cdef Delivery delivery = Delivery.__new__(Delivery)
    delivery.batch = batch
    delivery.index = index
    return delivery
