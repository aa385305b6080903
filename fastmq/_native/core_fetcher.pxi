# Part of core.pyx: following what one broker leads.


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
