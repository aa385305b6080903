# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False
"""Where records go: topics, partitions, their open batches; the manual is `producer.pyi`.

The GIL is the lock: between the look-up of a partition's open batch and the end of the append no
Python code runs and nothing is allocated that could start the garbage collector, so no other thread
runs either. What may run Python code (serializers, partitioners, clocks, waiting for room) comes
before, or makes the append begin again.
"""

cimport cython
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from fastmq._native.batches cimport (
    Batch,
    Buffers,
    Delivery,
    add_callback,
    append_record,
    new_batch,
    new_delivery,
    record_size,
)
from fastmq._native.records cimport FMQ_BATCH_HEADER_SIZE, encode_headers

from fastmq.errors import BufferFull, ErrorCode, KafkaError


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    const int CLOCK_REALTIME


cdef enum:
    PENDING_OVERHEAD = 256  # of a record that waits for its topic's metadata

cdef int32_t NO_PARTITION = -1


cdef int64_t wall_ms() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef uint32_t murmur2_of(const uint8_t *data, Py_ssize_t size) noexcept:
    """Java's variant, seed 0x9747b28c."""
    cdef uint32_t m = 0x5bd1e995
    cdef uint32_t h = <uint32_t>0x9747b28c ^ <uint32_t>size
    cdef uint32_t k = 0
    cdef Py_ssize_t i = 0
    while i + 4 <= size:
        memcpy(&k, data + i, 4)
        k *= m
        k ^= k >> 24
        k *= m
        h *= m
        h ^= k
        i += 4
    if size - i == 3:
        h ^= <uint32_t>data[i + 2] << 16
    if size - i >= 2:
        h ^= <uint32_t>data[i + 1] << 8
    if size - i >= 1:
        h ^= <uint32_t>data[i]
        h *= m
    h ^= h >> 13
    h *= m
    h ^= h >> 15
    return h


def murmur2(bytes data not None):
    """The hash that Java's default partitioner takes of a key."""
    return murmur2_of(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline bytes plain_bytes(value, str what):
    """A key or value as bytes: itself, the UTF-8 of a text, or a copy of a buffer."""
    if PyBytes_CheckExact(value):
        return <bytes>value
    if isinstance(value, str):
        return (<str>value).encode("utf-8")
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise TypeError(
            f"a {what} is bytes, str or None, not {type(value).__name__}; "
            f"give the producer a {what}_serializer"
        ) from None


# ---- queues --------------------------------------------------------------------------------------


@cython.final
cdef class PartitionQueue:
    """The batches of one partition that nobody has taken yet."""

    def __init__(self):
        raise TypeError("queues come from an Accumulator")

    @property
    def full_count(self):
        """Batches that no record will be added to."""
        return len(self.full)

    @property
    def is_empty(self):
        return self.open is None and not self.full

    def peek(self):
        """The oldest batch, None when there is none; it may still grow."""
        return self.full[0] if self.full else self.open

    def take(self):
        """Remove and return the oldest batch; nothing is added to it any more."""
        cdef Batch batch
        if self.full:
            return self.full.popleft()
        batch = self.open
        self.open = None
        if batch is not None:
            self.last_size = batch.used
        return batch

    def batches(self):
        """All batches, the oldest first."""
        return [*self.full] if self.open is None else [*self.full, self.open]


cdef PartitionQueue new_queue(str topic, int32_t partition):
    cdef PartitionQueue queue = PartitionQueue.__new__(PartitionQueue)
    queue.topic = topic
    queue.partition = partition
    queue.full = deque()
    return queue


@cython.final
cdef class TopicQueues:
    """The partitions of one topic."""

    def __init__(self):
        raise TypeError("queues come from an Accumulator")


@cython.final
cdef class Accumulator(Buffers):
    """All batches of one producer."""

    def __init__(
        self, *, batch_size, record_size_max, memory_limit, wake, on_topic, clock, choose,
        make_result, partitioner=None, key_serializer=None, value_serializer=None, wall_clock=None
    ):
        super().__init__(
            batch_size=batch_size, memory_limit=memory_limit, clock=clock, make_result=make_result
        )
        self.topics = {}
        self.dirty = []
        self.record_size_max = record_size_max
        self.wake = wake
        self.on_topic = on_topic
        self.choose = choose
        self.partitioner = partitioner
        self.key_serializer = key_serializer
        self.value_serializer = value_serializer
        self.wall_clock = wall_clock

    # ---- for applications

    def produce(
        self, topic, value=None, key=None, *, partition=None, headers=None, timestamp_ms=None,
        on_delivery=None
    ):
        """Append one record; returns its delivery."""
        cdef TopicQueues queues
        cdef bytes key_bytes = None
        cdef bytes value_bytes = None
        cdef bytes header_bytes = None
        cdef int32_t header_count = 0
        cdef int32_t wanted = NO_PARTITION
        cdef int64_t timestamp
        cdef Delivery delivery
        if self.refusal is not None:
            raise self.refusal[0](self.refusal[1])
        queues = <TopicQueues>self.topics.get(topic)
        if queues is None:
            queues = self.add_topic(topic)
            self.on_topic(topic)
        if self.value_serializer is not None:
            value = self.value_serializer(value)
        if value is not None:
            value_bytes = plain_bytes(value, "value")
        if self.key_serializer is not None:
            key = self.key_serializer(key)
        if key is not None:
            key_bytes = plain_bytes(key, "key")
        if headers:
            pairs = tuple(headers.items() if isinstance(headers, dict) else headers)
            header_bytes = encode_headers(tuple([
                (name, data.encode() if isinstance(data, str) else data) for name, data in pairs
            ]))
            header_count = <int32_t>len(pairs)
        if partition is not None:
            wanted = partition
            if wanted < 0:
                raise ValueError(f"partition {partition} is negative")
        if timestamp_ms is not None:
            timestamp = timestamp_ms
        elif self.wall_clock is not None:
            timestamp = self.wall_clock()
        else:
            timestamp = wall_ms()
        if (
            (value_bytes is not None and PyBytes_GET_SIZE(value_bytes) > self.record_size_max)
            or (key_bytes is not None and PyBytes_GET_SIZE(key_bytes) > self.record_size_max)
            or (header_bytes is not None and PyBytes_GET_SIZE(header_bytes) > self.record_size_max)
            or record_size(
                None, timestamp, key_bytes, value_bytes, header_bytes, header_count
            ) + FMQ_BATCH_HEADER_SIZE > self.record_size_max
        ):
            raise KafkaError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the record takes more than max_request_size ({self.record_size_max} bytes)"
            )
        while True:
            delivery = self.place(
                queues, key_bytes, value_bytes, header_bytes, header_count, timestamp, wanted,
                on_delivery, False
            )
            if delivery is not None:
                return delivery
            self.is_starved = True
            # Before `wake` lets the sender run: what it frees from here on is room.
            used = self.memory_used
            self.wake()
            if self.wait_room is None:
                raise BufferFull(
                    f"{used} bytes of records wait for delivery, and buffer_memory is "
                    f"{self.memory_limit}: await send(), flush, or raise it"
                )
            self.wait_room(used)
            if self.refusal is not None:
                raise self.refusal[0](self.refusal[1])

    cdef TopicQueues add_topic(self, topic):
        cdef TopicQueues queues
        if not isinstance(topic, str) or not topic:
            raise TypeError(f"a topic is a name (str), not {topic!r}")
        queues = TopicQueues.__new__(TopicQueues)
        queues.name = topic
        queues.queues = []
        queues.available = []
        queues.pending = []
        queues.sticky = NO_PARTITION
        return self.topics.setdefault(topic, queues)

    cdef Delivery place(
        self, TopicQueues topic, bytes key, bytes value, bytes headers, int32_t header_count,
        int64_t timestamp, int32_t partition, on_delivery, bint force
    ):
        """Append to the batch of the record's partition. None: there is no room."""
        cdef bint sticks = partition < 0 and key is None and self.partitioner is None
        cdef PartitionQueue queue = None
        cdef PartitionQueue closed = None
        cdef Batch batch = None
        cdef Batch fresh = None
        cdef Delivery delivery = new_delivery(None, 0)
        # Made beforehand: from the look-up on nothing may let another thread run.
        cell = None if on_delivery is None else [None, on_delivery]
        callbacks = None if on_delivery is None else []
        cdef Py_ssize_t size
        cdef int appended
        while topic.known == 0 and not force:
            appended = hold(self, topic, [
                delivery, key, value, headers, header_count, timestamp, partition, on_delivery
            ])
            if appended >= 0:
                return delivery if appended else None
        partition = self.choose_partition(topic, key, partition)
        while True:
            queue = <PartitionQueue>topic.queues[partition]
            batch = queue.open
            if batch is not None:
                size = record_size(batch, timestamp, key, value, headers, header_count)
                if batch.used + size <= self.batch_size:
                    appended = append_record(
                        batch, timestamp, key, value, headers, header_count, force
                    )
                    break
                queue.full.append(batch)
                queue.last_size = batch.used
                queue.open = None
                closed = queue
                if sticks and len(topic.queues) > 1:
                    topic.sticky = partition = self.next_sticky(topic)
                    continue
            if fresh is None:
                fresh = new_batch(self, topic.name, partition)
                continue  # others may have run meanwhile
            batch = fresh
            batch.partition = partition
            size = record_size(None, timestamp, key, value, headers, header_count)
            # As large as the last one was, so that a busy partition's batch need not grow.
            size = max(size + FMQ_BATCH_HEADER_SIZE, min(queue.last_size, self.batch_size))
            self.take(batch, size, False)
            appended = append_record(batch, timestamp, key, value, headers, header_count, force)
            if appended:
                queue.open = batch
                closed = queue
            break
        if appended:
            delivery.batch = batch
            delivery.index = batch.count - 1
            if cell is not None:
                cell[0] = delivery.index
                if batch.callbacks is None:
                    batch.callbacks = callbacks
                batch.callbacks.append(cell)
        if closed is not None:
            self.mark(closed)
        return delivery if appended else None

    cdef int32_t choose_partition(self, TopicQueues topic, bytes key, int32_t partition) except -1:
        cdef Py_ssize_t count = len(topic.queues)
        if partition >= 0:
            if partition >= count:
                raise KafkaError(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    f"{topic.name} has {count} partitions, so there is no {partition}"
                )
            return partition
        if self.partitioner is not None:
            chosen = self.partitioner(topic.name, key, count)
            if chosen is not None:
                partition = chosen
                if not 0 <= partition < count:
                    raise ValueError(f"the partitioner chose {chosen} of {count} partitions")
                return partition
        if key is not None:
            return <int32_t>(
                (
                    murmur2_of(
                        <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
                    ) & 0x7fffffff
                ) % <uint32_t>count
            )
        if topic.sticky < 0 or (<PartitionQueue>topic.queues[topic.sticky]).open is None:
            topic.sticky = self.next_sticky(topic)
        return topic.sticky

    cdef int32_t next_sticky(self, TopicQueues topic) except -1:
        """Of two partitions chosen at random the one with less to send (KIP-794 in spirit)."""
        cdef list among = topic.available
        cdef Py_ssize_t count = len(among)
        cdef PartitionQueue one
        cdef PartitionQueue other
        if count == 0:
            return self.choose(len(topic.queues))
        if count == 1:
            return among[0]
        first = among[self.choose(count)]
        second = among[self.choose(count)]
        one = topic.queues[first]
        other = topic.queues[second]
        return first if len(one.full) <= len(other.full) else second

    cdef int mark(self, PartitionQueue queue) except -1:
        """Tell the sender that there is something new."""
        if not queue.is_dirty:
            queue.is_dirty = True
            self.dirty.append(queue)
        self.wake()
        return 0

    # ---- for the sender

    def take_dirty(self):
        """The queues that got a new batch since the last time."""
        cdef PartitionQueue queue
        dirty = self.dirty
        self.dirty = []
        for queue in dirty:
            queue.is_dirty = False
        return dirty

    def room_made(self):
        """Memory was given back: nobody is starved until somebody says so again."""
        self.is_starved = False

    def refuse(self, kind, text):
        """Let `produce` raise `kind(text)` from now on."""
        self.refusal = (kind, text)

    def pending_batches(self):
        """What stands for the records whose topics are not known yet."""
        return [
            (<TopicQueues>topic).waiting for topic in list(self.topics.values())
            if (<TopicQueues>topic).waiting is not None
        ]

    def set_partitions(self, str name, Py_ssize_t count, list available):
        """Tell how many partitions a topic has, and which of them have a leader.

        Returns:
            (delivery callback, error) of records that turn out to be impossible.
        """
        cdef TopicQueues topic = <TopicQueues>self.topics.get(name)
        cdef list failed = []
        if topic is None:
            topic = self.add_topic(name)
        while len(topic.queues) < count:
            topic.queues.append(new_queue(name, <int32_t>len(topic.queues)))
        topic.available = available
        if topic.known == 0 and count > 0:
            release_held(self, topic, count, failed)
        elif count > topic.known:
            topic.known = count
        return failed

    def fail_pending(self, str name, error):
        """Give up the records that wait for a topic; returns the callbacks to be made."""
        cdef TopicQueues topic = <TopicQueues>self.topics.get(name)
        if topic is None or topic.waiting is None:
            return ()
        batch = topic.waiting
        topic.waiting = None
        self.memory_used -= topic.pending_bytes
        topic.pending_bytes = 0
        for row in topic.pending:
            if row[7] is not None:
                add_callback(batch, (<Delivery>row[0]).index, row[7])
        topic.pending = []
        return batch.complete(error)


cdef int hold(Accumulator owner, TopicQueues topic, list row) except -1:
    """Keep a record until its topic's partitions are known. 0: no room; -2: look again."""
    cdef Batch fresh
    cdef Delivery delivery = <Delivery>row[0]
    cdef Py_ssize_t size = PENDING_OVERHEAD
    size += record_size(None, row[5], row[1], row[2], row[3], row[4])
    if topic.waiting is None:
        fresh = new_batch(owner, topic.name, NO_PARTITION)
        # Another thread may have run, and told the partitions: then nobody would take this batch.
        if topic.waiting is None and topic.known == 0:
            topic.waiting = fresh
            owner.wake()
    if topic.known > 0 or topic.waiting is None:
        return -2
    if owner.memory_used + size > owner.memory_limit:
        return 0
    owner.memory_used += size
    topic.pending_bytes += size
    delivery.batch = topic.waiting
    delivery.index = topic.waiting.count
    topic.waiting.count += 1
    topic.pending.append(row)
    return 1


cdef int release_held(
    Accumulator owner, TopicQueues topic, Py_ssize_t count, list failed
) except -1:
    """Append the records that waited, in order, before any later one can pass them."""
    cdef Delivery delivery
    cdef Delivery placed
    cdef Batch waiting = topic.waiting
    cdef Py_ssize_t at = 0
    # Other threads may add records while a partitioner runs; they are met by this loop.
    while at < len(topic.pending):
        row = topic.pending[at]
        at += 1
        delivery = <Delivery>row[0]
        try:
            placed = owner.place(
                topic, row[1], row[2], row[3], row[4], row[5], row[6], row[7], True
            )
            delivery.index = placed.index
            delivery.batch = placed.batch
        except Exception as error:
            if not isinstance(error, KafkaError):
                error = KafkaError(ErrorCode.INVALID_REQUEST, f"the partitioner failed: {error!r}")
            delivery.batch = new_batch(owner, topic.name, NO_PARTITION)
            delivery.index = 0
            delivery.batch.complete(error)
            owner.failed_records += 1
            failed.append((row[7], error))
    topic.known = count
    owner.memory_used -= topic.pending_bytes
    topic.pending_bytes = 0
    topic.pending = []
    topic.waiting = None
    if waiting is not None:
        waiting.complete(None)
    return 0
