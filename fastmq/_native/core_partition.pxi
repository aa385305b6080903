# Part of core.pyx: one partition of the engine, and its settings.


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
        cdef char out[FMQ_PATH_MAX]
        fmq_partition_path(self.handle, out)
        return os.fsdecode(<bytes>out)

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

    def damage(self):
        cdef fmq_damage found[64]
        cdef int32_t count
        with nogil:
            count = fmq_partition_damage(self.handle, found, 64)
        return sorted((found[i].begin, found[i].end) for i in range(min(count, 64)))

    def repaired(self, int64_t begin, int64_t end):
        cdef int rc
        with nogil:
            rc = fmq_partition_repaired(self.handle, begin, end)
        check(rc, f"opening {self.topic}-{self.index}")

    def scrub(self, int64_t offset, uint32_t max_bytes):
        cdef int64_t following = offset
        cdef int rc
        with nogil:
            rc = fmq_partition_scrub(self.handle, offset, max_bytes, &following)
        if rc != FMQ_ERR_CORRUPT_MESSAGE:
            check(rc, f"reading {self.topic}-{self.index} at offset {offset}")
        return following, rc == FMQ_ERR_CORRUPT_MESSAGE

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


cdef class Repair:
    cdef fmq_repair state
    cdef Partition partition

    def __init__(self, Partition partition not None, int64_t offset, int64_t before):
        cdef int rc
        self.partition = partition
        with nogil:
            rc = fmq_partition_repair_begin(partition.handle, offset, before, &self.state)
        check(rc, f"repairing {partition.topic}-{partition.index} at offset {offset}")

    @property
    def offset(self):
        return self.state.offset

    @property
    def is_certain(self):
        return self.state.is_certain

    @property
    def has_reached_end(self):
        return self.state.has_reached_end

    @property
    def ends_in_good(self):
        return self.state.ends_in_good

    @property
    def reason(self):
        return "" if self.state.reason == NULL else self.state.reason.decode()

    def take(self, batches, int32_t leader_epoch):
        cdef Py_buffer view
        cdef int rc
        PyObject_GetBuffer(batches, &view, PyBUF_SIMPLE)
        with nogil:
            rc = fmq_partition_repair(self.partition.handle, leader_epoch, &self.state,
                                      <const uint8_t *>view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
        check(rc, f"repairing {self.partition.topic}-{self.partition.index}: {self.reason}")
        return self.state.replaced, self.state.replaced_bytes
