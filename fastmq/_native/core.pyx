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


include "core_partition.pxi"


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

    def set_racks(self, racks):
        names = [(int(broker_id), name.encode()) for broker_id, name in racks.items()]
        cdef fmq_rack *rows = <fmq_rack *>PyMem_Malloc((len(names) + 1) * sizeof(fmq_rack))
        if rows == NULL:
            raise MemoryError()
        cdef int rc
        try:
            for i, (broker_id, name) in enumerate(names):
                rows[i].broker_id = broker_id
                rows[i].rack = name
                rows[i].size = len(name)
            rc = fmq_engine_set_racks(self.handle, rows, <int32_t>len(names))
        finally:
            PyMem_Free(rows)
        if rc != 0:
            raise MemoryError()

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


include "core_fetcher.pxi"
