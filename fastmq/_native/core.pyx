# cython: language_level=3
"""The C engine as Python sees it; the signatures and their meaning are in core.pyi.

Every call gives up the GIL before it asks for the engine's lock, because the reactor may hold that
for the length of one frame.
"""

import errno
import os
import signal
import threading
import time

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.string cimport memset

EVENT_FRAME = FMQ_EVENT_FRAME
EVENT_CLOSED = FMQ_EVENT_CLOSED
EVENT_APPENDED = FMQ_EVENT_APPENDED
EVENT_DIR_OFFLINE = FMQ_EVENT_DIR_OFFLINE
EVENT_REPLICAS = FMQ_EVENT_REPLICAS
EVENT_FETCHER = FMQ_EVENT_FETCHER
EVENT_CORRUPT = FMQ_EVENT_CORRUPT

REPLICA_OUT = FMQ_REPLICA_OUT
REPLICA_JOINING = FMQ_REPLICA_JOINING
REPLICA_IN = FMQ_REPLICA_IN

FLUSH_ACK = FMQ_FLUSH_ACK
FLUSH_REPLICATED = FMQ_FLUSH_REPLICATED
FLUSH_INTERVAL = FMQ_FLUSH_INTERVAL
FLUSH_NEVER = FMQ_FLUSH_NEVER

SLOW_PRODUCE = FMQ_SLOW_PRODUCE
SLOW_FETCH = FMQ_SLOW_FETCH
COMPACTED = FMQ_COMPACTED

POLLER = fmq_engine_poller().decode()

cdef int KAFKA_STORAGE_ERROR = 56

cdef enum:
    # A checksum of less is worked out without letting other threads run: 0.1 ms. To give the GIL up
    # and get it back costs more where another thread wants it.
    CRC_ALONE_MAX = 1 << 20


def crc32c(data, uint32_t crc=0):
    cdef Py_buffer view
    cdef uint32_t result
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len > CRC_ALONE_MAX:
        with nogil:
            result = fmq_crc32c(crc, view.buf, <size_t>view.len)
    else:
        result = fmq_crc32c(crc, view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return result


def system_env():
    return PyCapsule_New(<void *>fmq_env_system(), "fmq_env", NULL)


class PartitionError(Exception):
    """A Kafka error code, or an I/O error, of an operation on a partition."""

    def __init__(self, rc, what):
        if rc > 0:
            self.code, self.errno = rc, 0
            text = f"error code {rc}"
        else:
            self.code, self.errno = KAFKA_STORAGE_ERROR, -rc
            text = os.strerror(-rc)
        super().__init__(f"{what}: {text}")


cdef int check(int rc, object what) except -1:
    if rc != 0:
        raise PartitionError(rc, what)
    return 0


cdef class PartitionConfig:
    cdef fmq_partition_config *config

    def __cinit__(self):
        self.config = fmq_partition_config_new(fmq_env_system())
        if self.config == NULL:
            raise MemoryError()

    def __init__(
        self,
        *,
        int64_t segment_bytes=1 << 30,
        int64_t segment_ms=604_800_000,
        int64_t retention_ms=604_800_000,
        int64_t retention_bytes=-1,
        int64_t producer_id_expiration_ms=86_400_000,
        int32_t index_interval_bytes=4096,
        int32_t segment_index_bytes=10 << 20,
        int32_t max_message_bytes=1_048_588,
        int64_t timestamp_before_max_ms=(1 << 63) - 1,
        int64_t timestamp_after_max_ms=3_600_000,
        bint log_append_time=False,
        bint preallocate=False,
        bint cleanup_delete=True,
        int32_t min_insync_replicas=1,
        int flush=FMQ_FLUSH_ACK,
        uint32_t flags=0,
    ):
        cdef fmq_log_config *log = &self.config.log
        log.segment_bytes = segment_bytes
        log.segment_ms = segment_ms
        log.retention_ms = retention_ms
        log.retention_bytes = retention_bytes
        log.producer_id_expiration_ms = producer_id_expiration_ms
        log.index_interval_bytes = index_interval_bytes
        log.segment_index_bytes = segment_index_bytes
        log.max_message_bytes = max_message_bytes
        log.timestamp_before_max_ms = timestamp_before_max_ms
        log.timestamp_after_max_ms = timestamp_after_max_ms
        log.log_append_time = log_append_time
        log.preallocate = preallocate
        log.cleanup_delete = cleanup_delete
        self.config.min_insync_replicas = min_insync_replicas
        self.config.flush = <fmq_flush>flush
        self.config.flags = flags

    def __dealloc__(self):
        if self.config != NULL:
            fmq_partition_config_unref(fmq_env_system(), self.config)


# Never cleared by the garbage collector before its __dealloc__, which still needs the engine.
@cython.no_gc_clear
cdef class Partition:
    cdef fmq_partition *handle
    cdef Engine engine  # outlives its partitions
    cdef readonly str topic
    cdef readonly int index
    cdef readonly bytes topic_id
    cdef readonly int dir_id

    def __dealloc__(self):
        if self.handle != NULL:
            fmq_partition_unref(self.handle)

    def __repr__(self):
        return f"<Partition {self.topic}-{self.index}>"

    @property
    def path(self):
        # Not kept: there are thousands of them, and few ever ask.
        return os.fsdecode(fmq_partition_path(self.handle))

    cdef fmq_partition_view view(self) except *:
        cdef fmq_partition_view out
        cdef int rc
        with nogil:
            rc = fmq_partition_view_get(self.handle, &out)
        check(rc, f"opening {self.topic}-{self.index}")
        return out

    def log_start(self):
        return self.view().log_start

    def log_end(self):
        return self.view().log_end

    def high_watermark(self):
        return self.view().high_watermark

    def last_stable_offset(self):
        return self.view().last_stable_offset

    def size_bytes(self):
        return self.view().size_bytes

    def segment_count(self):
        return self.view().segment_count

    def synced(self):
        return self.view().synced

    def leader_epoch(self):
        cdef fmq_partition_view out
        with nogil:
            fmq_partition_peek(self.handle, &out)
        return out.leader_epoch

    def is_open(self):
        cdef fmq_partition_view out
        with nogil:
            fmq_partition_peek(self.handle, &out)
        return out.open

    def recover(self, *, int64_t log_start, int64_t recovery_point):
        cdef fmq_recovery found
        cdef int rc
        with nogil:
            rc = fmq_partition_recover(self.handle, log_start, recovery_point, &found)
        check(rc, f"recovering {self.topic}-{self.index}")
        if not found.recovered:
            return None
        return {
            "bytes_scanned": found.bytes_scanned,
            "bytes_truncated": found.bytes_truncated,
            "truncated_at": found.truncated_at,
            "segments_deleted": found.segments_deleted,
            "indexes_rebuilt": found.indexes_rebuilt,
            "reason": None if found.reason == NULL else found.reason.decode(),
        }

    def become_leader(self, int32_t epoch):
        with nogil:
            fmq_partition_lead(self.handle, epoch)

    def lead(self, int32_t epoch, others):
        cdef list given = list(others)
        cdef int32_t count = <int32_t>len(given)
        cdef fmq_replica *replicas = <fmq_replica *>PyMem_Malloc(
            (<size_t>count + 1) * sizeof(fmq_replica))
        cdef int rc
        if replicas == NULL:
            raise MemoryError()
        try:
            for i, (broker_id, standing) in enumerate(given):
                replicas[i].broker_id = broker_id
                replicas[i].standing = standing
            with nogil:
                rc = fmq_partition_lead_replicas(self.handle, epoch, replicas, count)
        finally:
            PyMem_Free(replicas)
        check(rc, f"leading {self.topic}-{self.index} in epoch {epoch}")

    def follow(self, int32_t epoch):
        cdef int rc
        with nogil:
            rc = fmq_partition_follow(self.handle, epoch)
        check(rc, f"following the leader of {self.topic}-{self.index} in epoch {epoch}")

    def lag(self):
        cdef int64_t lag
        with nogil:
            lag = fmq_partition_lag(self.handle)
        return lag

    def set_throttled(self, bint throttled):
        with nogil:
            fmq_partition_set_throttled(self.handle, throttled)

    def set_watermark(self, int64_t high_watermark):
        with nogil:
            fmq_partition_set_watermark(self.handle, high_watermark)

    def replicas(self):
        cdef fmq_replica_view found[64]
        cdef int32_t count
        with nogil:
            count = fmq_partition_replicas(self.handle, found, 64)
        return [
            (
                found[i].broker_id,
                found[i].standing,
                found[i].log_end,
                found[i].caught_up_ms,
                found[i].broker_epoch,
            )
            for i in range(min(count, 64))
        ]

    def is_leader(self):
        cdef fmq_partition_view out
        with nogil:
            fmq_partition_peek(self.handle, &out)
        return out.leader

    def is_follower(self):
        cdef fmq_partition_view out
        with nogil:
            fmq_partition_peek(self.handle, &out)
        return out.follower

    def become_offline(self):
        with nogil:
            fmq_partition_resign(self.handle)

    def set_config(self, PartitionConfig config not None):
        with nogil:
            fmq_partition_set_config(self.handle, config.config)

    def append(self, batch, *, bint trusted=False, uint64_t wait_token=0, int64_t now_ms=-1):
        cdef Py_buffer view
        cdef fmq_append request
        cdef int rc
        memset(&request, 0, sizeof(request))
        PyObject_GetBuffer(batch, &view, PyBUF_WRITABLE)
        request.data = <uint8_t *>view.buf
        request.size = <size_t>view.len
        request.origin = FMQ_ORIGIN_COORDINATOR if trusted else FMQ_ORIGIN_CLIENT
        request.now_ms = now_ms if now_ms >= 0 else <int64_t>(time.time() * 1000)
        request.log_append_time_ms = -1
        with nogil:
            rc = fmq_partition_append(self.handle, &request, wait_token)
        PyBuffer_Release(&view)
        reason = None if request.reason == NULL else request.reason.decode()
        if rc != 0:
            return (rc if rc > 0 else KAFKA_STORAGE_ERROR, -1, -1, reason or (
                os.strerror(-rc) if rc < 0 else None))
        return 0, request.base_offset, request.log_append_time_ms, reason

    cdef bytes take_buffer(self, uint8_t *data, size_t size):
        if data == NULL:
            return b""
        try:
            return PyBytes_FromStringAndSize(<char *>data, <Py_ssize_t>size)
        finally:
            fmq_free(fmq_env_system(), data)

    def read(self, int64_t offset, uint32_t max_bytes, *, int64_t limit_offset=-1,
             bint min_one=True):
        cdef uint8_t *data = NULL
        cdef size_t size = 0
        cdef int rc
        with nogil:
            rc = fmq_partition_read(self.handle, offset, limit_offset, max_bytes, min_one, &data,
                                    &size)
        check(rc, f"reading {self.topic}-{self.index} at offset {offset}")
        return self.take_buffer(data, size)

    cdef bytes find_time(self, int64_t timestamp_ms, bint largest):
        cdef uint8_t *data = NULL
        cdef size_t size = 0
        cdef int rc
        with nogil:
            rc = fmq_partition_find_time(self.handle, timestamp_ms, largest, &data, &size)
        check(rc, f"searching {self.topic}-{self.index} by time")
        return self.take_buffer(data, size)

    def find_timestamp(self, int64_t timestamp_ms):
        return self.find_time(timestamp_ms, False)

    def find_max_timestamp(self):
        return self.find_time(0, True)

    def epoch_end(self, int32_t epoch):
        cdef int32_t out_epoch = -1
        cdef int64_t out_offset = -1
        cdef int rc
        with nogil:
            rc = fmq_partition_epoch_end(self.handle, epoch, &out_epoch, &out_offset)
        check(rc, f"opening {self.topic}-{self.index}")
        return out_epoch, out_offset

    def epoch_of(self, int64_t offset):
        cdef int32_t epoch = -1
        cdef int rc
        with nogil:
            rc = fmq_partition_epoch_of(self.handle, offset, &epoch)
        check(rc, f"opening {self.topic}-{self.index}")
        return epoch

    def producers(self):
        cdef fmq_producer_view *found = NULL
        cdef int32_t count = 0
        cdef int rc
        with nogil:
            rc = fmq_partition_producers(self.handle, &found, &count)
        check(rc, f"opening {self.topic}-{self.index}")
        try:
            return [
                (
                    found[i].producer_id,
                    found[i].producer_epoch,
                    found[i].last_sequence,
                    found[i].last_offset,
                    found[i].last_timestamp,
                    found[i].coordinator_epoch,
                    found[i].txn_first_offset,
                )
                for i in range(count)
            ]
        finally:
            fmq_free(fmq_env_system(), found)

    def delete_records(self, int64_t offset):
        cdef int64_t start = -1
        cdef int rc
        with nogil:
            rc = fmq_partition_delete_records(self.handle, offset, &start)
        check(rc, f"deleting records of {self.topic}-{self.index} below {offset}")
        return start

    def apply_retention(self, int64_t now_ms):
        cdef int rc
        with nogil:
            rc = fmq_partition_apply_retention(self.handle, now_ms)
        if rc < 0:
            raise PartitionError(rc, f"retention of {self.topic}-{self.index}")
        return rc

    def roll_if_due(self, int64_t now_ms):
        cdef int rc
        with nogil:
            rc = fmq_partition_roll_if_due(self.handle, now_ms)
        check(rc, f"rolling {self.topic}-{self.index}")

    def expire_producers(self, int64_t now_ms):
        cdef int rc
        with nogil:
            rc = fmq_partition_expire_producers(self.handle, now_ms)
        return rc

    def flush(self):
        cdef int64_t recovery_point = 0
        cdef int rc
        with nogil:
            rc = fmq_partition_flush(self.handle, &recovery_point)
        check(rc, f"flushing {self.topic}-{self.index}")
        return recovery_point

    def close(self, *, bint clean):
        cdef int rc
        with nogil:
            rc = fmq_partition_close(self.handle, clean)
        check(rc, f"closing {self.topic}-{self.index}")

    def delete(self, str renamed_path not None):
        cdef bytes target = os.fsencode(renamed_path)
        cdef const char *path = target
        cdef int rc
        with nogil:
            rc = fmq_partition_delete(self.handle, path)
        check(rc, f"deleting {self.topic}-{self.index}")


# Never cleared by the garbage collector before its __dealloc__, which still needs its env.
@cython.no_gc_clear
cdef class Engine:
    cdef fmq_engine *handle
    cdef fmq_env_test *test_env  # NULL: the real world as it is
    cdef object given_env  # lives as long as the engine
    cdef object thread
    cdef bint threaded

    def __cinit__(
        self,
        *,
        int32_t node_id,
        bint thread=True,
        uint32_t max_open_files=4096,
        uint32_t max_request_bytes=104_857_600,
        uint64_t max_buffered_bytes=512 << 20,
        uint32_t max_unanswered_frames=256,
        uint32_t fetch_max_bytes=57_671_680,
        uint32_t fetch_sessions=1000,
        int64_t idle_timeout_ms=600_000,
        int64_t frame_timeout_ms=30_000,
        int32_t sync_threads=4,
        int64_t flush_interval_ms=10,
        bint has_peers=False,
        bint test_mode=False,
        env=None,
    ):
        cdef fmq_engine_options options
        cdef const fmq_env *used = fmq_env_system()
        fmq_engine_options_default(&options)
        options.node_id = node_id
        options.max_open_files = max_open_files
        options.max_request_bytes = max_request_bytes
        options.max_buffered_bytes = max_buffered_bytes
        options.max_unanswered_frames = max_unanswered_frames
        options.fetch_max_bytes = fetch_max_bytes
        options.fetch_sessions = fetch_sessions
        options.idle_timeout_ms = idle_timeout_ms
        options.frame_timeout_ms = frame_timeout_ms
        options.sync_threads = sync_threads
        options.flush_interval_ms = flush_interval_ms
        options.has_peers = has_peers
        if env is not None:
            self.given_env = env
            used = <const fmq_env *>PyCapsule_GetPointer(env.capsule(), "fmq_env")
        elif test_mode:
            self.test_env = fmq_env_test_new()
            if self.test_env == NULL:
                raise MemoryError()
            used = fmq_env_test_env(self.test_env)
        cdef int rc = fmq_engine_create(used, NULL, &options, &self.handle)
        if rc != 0:
            raise OSError(-rc, os.strerror(-rc))
        self.threaded = thread

    def __dealloc__(self):
        if self.handle != NULL:
            with nogil:
                fmq_engine_destroy(self.handle)
        if self.test_env != NULL:
            fmq_env_test_free(self.test_env)

    def set_wall_offset(self, int64_t offset_ms):
        if self.test_env == NULL:
            raise RuntimeError("the clock moves only in test mode")
        fmq_env_test_set_wall_offset(self.test_env, offset_ms)

    def hold_syncs(self, bint held):
        with nogil:
            fmq_engine_hold_syncs(self.handle, held)

    def set_write_error(self, int error):
        if self.test_env == NULL:
            raise RuntimeError("writes are made to fail only in test mode")
        fmq_env_test_set_write_error(self.test_env, error)

    def start(self):
        if not self.threaded or self.thread is not None:
            return
        # Signals are for the main thread: what a thread inherits is blocked before it is made.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.thread = threading.Thread(target=self.run, name="fastmq-reactor", daemon=True)
            self.thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def run(self):
        cdef int rc
        with nogil:
            rc = fmq_engine_run(self.handle)
        if rc != 0:
            raise OSError(-rc, os.strerror(-rc))

    def poll_fileno(self):
        cdef int fd = fmq_engine_poll_fd(self.handle)
        if fd < 0:
            raise OSError(
                errno.ENOTSUP,
                "this build waits with poll, which no other loop can wait on: "
                "set fastmq.reactor=thread, or build without FASTMQ_POLLER",
            )
        return fd

    def next_timeout_ms(self):
        cdef int wait_ms
        with nogil:
            wait_ms = fmq_engine_next_timeout_ms(self.handle)
        return wait_ms

    def run_once(self, int timeout_ms=0):
        cdef int rc
        with nogil:
            rc = fmq_engine_run_once(self.handle, timeout_ms)
        if rc != 0:
            raise OSError(-rc, os.strerror(-rc))

    def stop(self):
        with nogil:
            fmq_engine_stop(self.handle)
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def fileno(self):
        return fmq_engine_event_fd(self.handle)

    def take(self, uint32_t max_events=256):
        cdef fmq_event *first
        cdef fmq_event *event
        cdef list out = []
        with nogil:
            first = fmq_engine_take(self.handle, max_events)
        try:
            event = first
            while event != NULL:
                if event.kind == FMQ_EVENT_FRAME:
                    out.append((
                        EVENT_FRAME, event.conn_id, event.api_key, event.api_version,
                        event.correlation_id,
                        PyBytes_FromStringAndSize(
                            <char *>event.frame, <Py_ssize_t>event.frame_size
                        ),
                    ))
                elif event.kind == FMQ_EVENT_CLOSED:
                    out.append((EVENT_CLOSED, event.conn_id, event.reason.decode(), event.tag))
                elif event.kind == FMQ_EVENT_REPLICAS:
                    out.append((EVENT_REPLICAS,))
                elif event.kind == FMQ_EVENT_FETCHER:
                    out.append((EVENT_FETCHER, event.tag))
                elif event.kind == FMQ_EVENT_CORRUPT:
                    out.append((
                        EVENT_CORRUPT,
                        PyBytes_FromStringAndSize(<char *>event.frame, 16),
                        <int32_t>fmq_load_be32(event.frame + 16),
                        <int64_t>fmq_load_be64(event.frame + 20),
                        <int64_t>fmq_load_be64(event.frame + 28),
                    ))
                elif event.kind == FMQ_EVENT_APPENDED:
                    code = event.code if event.code >= 0 else KAFKA_STORAGE_ERROR
                    out.append((EVENT_APPENDED, event.tag, code))
                else:
                    out.append((EVENT_DIR_OFFLINE, event.dir_id, event.code))
                event = event.next
        finally:
            fmq_events_free(self.handle, first)
        return out

    def add_connection(self, int fd, *, int listener_id=0, uint64_t tag=0):
        cdef uint64_t conn_id = 0
        cdef int rc
        with nogil:
            rc = fmq_engine_add_connection(self.handle, fd, tag, &conn_id)
        if rc != 0:
            raise OSError(-rc, os.strerror(-rc))
        return conn_id

    def set_peer(self, uint64_t conn_id):
        with nogil:
            fmq_engine_set_peer(self.handle, conn_id)

    def set_lease(self, int64_t until_ms):
        with nogil:
            fmq_engine_set_lease(self.handle, until_ms)

    def vitals(self):
        cdef fmq_vitals found
        fmq_engine_vitals(self.handle, &found)
        return found.turn_ms, found.sync_ms

    def set_throttle(self, int64_t bytes_per_s):
        with nogil:
            fmq_engine_set_throttle(self.handle, bytes_per_s)

    def isr_hints(self, int64_t lag_max_ms):
        cdef fmq_isr_hint found[256]
        cdef int32_t count
        with nogil:
            count = fmq_engine_isr_hints(self.handle, lag_max_ms, found, 256)
        return [
            (
                PyBytes_FromStringAndSize(<char *>found[i].topic_id, 16),
                found[i].index,
                found[i].leader_epoch,
                found[i].broker_id,
                bool(found[i].caught_up),
            )
            for i in range(count)
        ]

    def close_connection(self, uint64_t conn_id):
        with nogil:
            fmq_engine_close_connection(self.handle, conn_id)

    def reply(self, uint64_t conn_id, bytes payload, *, bint close=False):
        cdef const uint8_t *data = NULL
        cdef size_t size = 0
        cdef int rc
        if payload is not None:
            data = <const uint8_t *>PyBytes_AS_STRING(payload)
            size = <size_t>len(payload)
        with nogil:
            rc = fmq_engine_reply(self.handle, conn_id, data, size, close)
        if rc != 0:
            raise OSError(-rc, os.strerror(-rc))

    def set_draining(self):
        with nogil:
            fmq_engine_drain(self.handle)

    def connection_count(self):
        cdef uint32_t count
        with nogil:
            count = fmq_engine_connection_count(self.handle)
        return count

    def unsent_replies(self):
        cdef uint32_t count
        with nogil:
            count = fmq_engine_unsent(self.handle)
        return count

    def add_partition(
        self,
        str topic not None,
        int32_t index,
        *,
        bytes topic_id not None,
        int32_t dir_id,
        str path not None,
        PartitionConfig config not None,
        bint clean=True,
        int64_t log_start=0,
        int64_t recovery_point=0,
    ):
        if len(topic_id) != 16:
            raise ValueError("topic_id has 16 bytes")
        cdef bytes name = topic.encode()
        cdef bytes directory = os.fsencode(path)
        cdef fmq_partition_options options
        cdef Partition partition = Partition.__new__(Partition)
        cdef int rc
        options.topic = name
        options.topic_id = <const uint8_t *>PyBytes_AS_STRING(topic_id)
        options.index = index
        options.dir_id = dir_id
        options.path = directory
        options.config = config.config
        options.clean = clean
        options.log_start = log_start
        options.recovery_point = recovery_point
        with nogil:
            rc = fmq_engine_add_partition(self.handle, &options, &partition.handle)
        if rc != 0:
            raise OSError(-rc, f"{topic}-{index}: {os.strerror(-rc)}")
        partition.engine = self
        partition.topic = topic
        partition.index = index
        partition.topic_id = topic_id
        partition.dir_id = dir_id
        return partition

    def remove_partition(self, Partition partition not None):
        with nogil:
            fmq_engine_remove_partition(self.handle, partition.handle)

    def metrics(self):
        cdef fmq_counters counters
        with nogil:
            fmq_engine_counters(self.handle, &counters)
        return counters

    def latencies(self):
        cdef fmq_latency produce, fetch
        with nogil:
            fmq_engine_latencies(self.handle, &produce, &fetch)
        limits = [fmq_latency_limit_us(i) for i in range(FMQ_LATENCY_BUCKETS - 1)]
        return {
            "limits_us": limits,
            "produce": [produce.buckets[i] for i in range(FMQ_LATENCY_BUCKETS)],
            "produce_sum_ns": produce.sum_ns,
            "fetch": [fetch.buckets[i] for i in range(FMQ_LATENCY_BUCKETS)],
            "fetch_sum_ns": fetch.sum_ns,
        }


# Never cleared by the garbage collector before its __dealloc__, which still needs the engine.
@cython.no_gc_clear
cdef class Fetcher:
    cdef fmq_fetcher *handle
    cdef Engine engine  # outlives its fetchers

    def __cinit__(
        self,
        Engine engine not None,
        *,
        int32_t replica_id,
        int64_t broker_epoch,
        int32_t max_wait_ms=500,
        int32_t min_bytes=1,
        int32_t max_bytes=10 << 20,
        int32_t partition_max_bytes=1 << 20,
        uint64_t tag=0,
    ):
        cdef fmq_fetcher_options options
        options.replica_id = replica_id
        options.broker_epoch = broker_epoch
        options.max_wait_ms = max_wait_ms
        options.min_bytes = min_bytes
        options.max_bytes = max_bytes
        options.partition_max_bytes = partition_max_bytes
        options.tag = tag
        cdef int rc = fmq_fetcher_create(engine.handle, &options, &self.handle)
        if rc != 0:
            raise MemoryError()
        self.engine = engine

    def __dealloc__(self):
        if self.handle != NULL:
            with nogil:
                fmq_fetcher_destroy(self.handle)

    def __len__(self):
        return fmq_fetcher_count(self.handle)

    def add(self, Partition partition not None):
        cdef int rc
        with nogil:
            rc = fmq_fetcher_add(self.handle, partition.handle)
        check(rc, f"fetching {partition.topic}-{partition.index}")

    def remove(self, Partition partition not None):
        with nogil:
            fmq_fetcher_remove(self.handle, partition.handle)

    def resume(self, Partition partition not None):
        with nogil:
            fmq_fetcher_resume(self.handle, partition.handle)

    def request(self, int32_t correlation_id):
        cdef const uint8_t *data = NULL
        cdef size_t size = 0
        cdef int rc
        with nogil:
            rc = fmq_fetcher_request(self.handle, correlation_id, &data, &size)
        if rc != 0:
            raise MemoryError()
        return PyBytes_FromStringAndSize(<char *>data, <Py_ssize_t>size) if size > 0 else b""

    def apply(self, answer):
        cdef fmq_fetch_result result
        cdef Py_buffer view
        cdef int rc
        PyObject_GetBuffer(answer, &view, PyBUF_SIMPLE)
        with nogil:
            rc = fmq_fetcher_apply(self.handle, <const uint8_t *>view.buf, <size_t>view.len,
                                   &result)
        PyBuffer_Release(&view)
        check(rc, "taking a Fetch answer")
        return (
            result.correlation_id,
            result.error,
            result.bytes,
            result.truncations,
            [
                (
                    PyBytes_FromStringAndSize(<char *>result.trouble[i].topic_id, 16),
                    result.trouble[i].index,
                    result.trouble[i].code,
                )
                for i in range(result.trouble_count)
            ],
        )
