"""C declarations of csrc for the one extension that links it."""

from libc.stdint cimport (
    int16_t,
    int32_t,
    int64_t,
    uint8_t,
    uint32_t,
    uint64_t,
)


cdef extern from "fastmq/base.h" nogil:
    enum:
        FMQ_ERR_CORRUPT_MESSAGE
    enum:
        FMQ_PATH_MAX
    uint32_t fmq_load_be32(const uint8_t *p)
    uint64_t fmq_load_be64(const uint8_t *p)


cdef extern from "fastmq/crc32c.h" nogil:
    uint32_t fmq_crc32c(uint32_t crc, const void *data, size_t size)


cdef extern from "fastmq/env.h" nogil:
    ctypedef struct fmq_env:
        pass
    const fmq_env *fmq_env_system()
    void fmq_free(const fmq_env *env, void *memory)


cdef extern from "fastmq/env_test.h" nogil:
    ctypedef struct fmq_env_test:
        pass
    fmq_env_test *fmq_env_test_new()
    void fmq_env_test_free(fmq_env_test *test)
    const fmq_env *fmq_env_test_env(const fmq_env_test *test)
    void fmq_env_test_set_wall_offset(fmq_env_test *test, int64_t offset_ms)
    void fmq_env_test_set_write_error(fmq_env_test *test, int error)


cdef extern from "fastmq/log.h" nogil:
    ctypedef enum fmq_origin:
        FMQ_ORIGIN_CLIENT
        FMQ_ORIGIN_COORDINATOR

    ctypedef struct fmq_log_config:
        int64_t segment_bytes
        int64_t segment_ms
        int64_t segment_jitter_ms
        int64_t retention_ms
        int64_t retention_bytes
        int64_t producer_id_expiration_ms
        int32_t index_interval_bytes
        int32_t segment_index_bytes
        int32_t max_message_bytes
        int64_t timestamp_before_max_ms
        int64_t timestamp_after_max_ms
        bint log_append_time
        bint preallocate
        bint cleanup_delete

    ctypedef struct fmq_recovery:
        bint recovered
        int64_t bytes_scanned
        int64_t bytes_truncated
        int64_t truncated_at
        int32_t segments_deleted
        int32_t indexes_rebuilt
        const char *reason

    ctypedef struct fmq_append:
        uint8_t *data
        size_t size
        fmq_origin origin
        int32_t leader_epoch
        int64_t now_ms
        int64_t base_offset
        int64_t last_offset
        int64_t log_append_time_ms
        bint duplicate
        const char *reason

    ctypedef struct fmq_producer_view:
        int64_t producer_id
        int16_t producer_epoch
        int32_t last_sequence
        int64_t last_offset
        int64_t last_timestamp
        int32_t coordinator_epoch
        int64_t txn_first_offset


cdef extern from "fastmq/engine.h" nogil:
    ctypedef struct fmq_engine:
        pass
    ctypedef struct fmq_partition:
        pass
    ctypedef struct fmq_transport:
        pass

    ctypedef struct fmq_engine_options:
        int32_t node_id
        uint32_t max_open_files
        uint32_t max_request_bytes
        uint64_t max_buffered_bytes
        uint32_t max_unanswered_frames
        uint32_t fetch_max_bytes
        uint32_t fetch_sessions
        int64_t idle_timeout_ms
        int64_t frame_timeout_ms
        int32_t sync_threads
        int64_t flush_interval_ms
        bint has_peers

    void fmq_engine_options_default(fmq_engine_options *options)
    int fmq_engine_create(const fmq_env *env, const fmq_transport *transport,
                          const fmq_engine_options *options, fmq_engine **out)
    void fmq_engine_destroy(fmq_engine *engine)
    int fmq_engine_run_once(fmq_engine *engine, int timeout_ms)
    const char *fmq_engine_poller()
    int fmq_engine_poll_fd(const fmq_engine *engine)
    void fmq_engine_hold_syncs(fmq_engine *engine, bint held)
    int fmq_engine_next_timeout_ms(fmq_engine *engine)
    int fmq_engine_run(fmq_engine *engine)
    void fmq_engine_stop(fmq_engine *engine)
    void fmq_engine_drain(fmq_engine *engine)
    uint32_t fmq_engine_unsent(fmq_engine *engine)

    ctypedef enum fmq_event_kind:
        FMQ_EVENT_FRAME
        FMQ_EVENT_CLOSED
        FMQ_EVENT_APPENDED
        FMQ_EVENT_DIR_OFFLINE
        FMQ_EVENT_REPLICAS
        FMQ_EVENT_FETCHER
        FMQ_EVENT_CORRUPT

    ctypedef struct fmq_event:
        fmq_event *next
        fmq_event_kind kind
        uint64_t conn_id
        uint64_t tag
        int32_t code
        int32_t dir_id
        int16_t api_key
        int16_t api_version
        int32_t correlation_id
        const char *reason
        size_t frame_size
        uint8_t *frame

    int fmq_engine_event_fd(const fmq_engine *engine)
    fmq_event *fmq_engine_take(fmq_engine *engine, uint32_t max)
    void fmq_events_free(fmq_engine *engine, fmq_event *events)
    int fmq_engine_add_connection(fmq_engine *engine, int fd, uint64_t tag, uint64_t *out_id)
    void fmq_engine_close_connection(fmq_engine *engine, uint64_t conn_id)
    int fmq_engine_reply(fmq_engine *engine, uint64_t conn_id, const uint8_t *payload,
                         size_t size, bint close)
    uint32_t fmq_engine_connection_count(fmq_engine *engine)

    ctypedef enum fmq_flush:
        FMQ_FLUSH_ACK
        FMQ_FLUSH_REPLICATED
        FMQ_FLUSH_INTERVAL
        FMQ_FLUSH_NEVER

    enum:
        FMQ_SLOW_PRODUCE
        FMQ_SLOW_FETCH
        FMQ_COMPACTED

    ctypedef struct fmq_partition_config:
        fmq_log_config log
        int32_t min_insync_replicas
        fmq_flush flush
        uint32_t flags

    fmq_partition_config *fmq_partition_config_new(const fmq_env *env)
    void fmq_partition_config_unref(const fmq_env *env, fmq_partition_config *config)

    ctypedef struct fmq_partition_options:
        const char *topic
        const uint8_t *topic_id
        int32_t index
        int32_t dir_id
        const char *path
        fmq_partition_config *config
        bint clean
        int64_t log_start
        int64_t recovery_point

    ctypedef struct fmq_partition_view:
        int64_t log_start
        int64_t log_end
        int64_t high_watermark
        int64_t last_stable_offset
        int64_t synced
        int64_t size_bytes
        int32_t leader_epoch
        int32_t segment_count
        bint open
        bint leader
        bint follower

    int fmq_engine_add_partition(fmq_engine *engine, const fmq_partition_options *options,
                                 fmq_partition **out)
    void fmq_engine_remove_partition(fmq_engine *engine, fmq_partition *partition)
    void fmq_partition_unref(fmq_partition *partition)
    int fmq_partition_view_get(fmq_partition *partition, fmq_partition_view *out)
    void fmq_partition_peek(fmq_partition *partition, fmq_partition_view *out)
    int fmq_partition_recover(fmq_partition *partition, int64_t log_start,
                              int64_t recovery_point, fmq_recovery *recovery)
    void fmq_partition_lead(fmq_partition *partition, int32_t leader_epoch)
    void fmq_partition_resign(fmq_partition *partition)
    void fmq_partition_set_config(fmq_partition *partition, fmq_partition_config *config)
    int fmq_partition_append(fmq_partition *partition, fmq_append *append, uint64_t token)
    int fmq_partition_read(fmq_partition *partition, int64_t offset, int64_t limit_offset,
                           uint32_t max_bytes, bint min_one, uint8_t **out, size_t *out_size)
    int fmq_partition_find_time(fmq_partition *partition, int64_t timestamp_ms, bint max,
                                uint8_t **out, size_t *out_size)
    int fmq_partition_epoch_end(fmq_partition *partition, int32_t epoch, int32_t *out_epoch,
                                int64_t *out_offset)
    int fmq_partition_epoch_of(fmq_partition *partition, int64_t offset, int32_t *out_epoch)
    int fmq_partition_producers(fmq_partition *partition, fmq_producer_view **out,
                                int32_t *out_count)
    int fmq_partition_delete_records(fmq_partition *partition, int64_t offset,
                                     int64_t *out_start)
    int fmq_partition_apply_retention(fmq_partition *partition, int64_t now_ms)
    int fmq_partition_roll_if_due(fmq_partition *partition, int64_t now_ms)
    int fmq_partition_expire_producers(fmq_partition *partition, int64_t now_ms)
    int fmq_partition_flush(fmq_partition *partition, int64_t *out_recovery_point)
    int fmq_partition_close(fmq_partition *partition, bint clean)
    int fmq_partition_delete(fmq_partition *partition, const char *renamed_path)
    void fmq_partition_path(const fmq_partition *partition, char *out)

    ctypedef struct fmq_counters:
        uint64_t produce_requests
        uint64_t produce_errors
        uint64_t produce_duplicates
        uint64_t fetch_requests
        uint64_t fetch_errors
        uint64_t fetch_sessions_evicted
        uint64_t fetch_parked
        uint64_t other_requests
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t record_bytes_in
        uint64_t record_bytes_out
        uint64_t records_in
        uint64_t batches_in
        uint64_t sendfile_calls
        uint64_t send_calls
        uint64_t recv_calls
        uint64_t corrupt_batches
        uint64_t syncs
        uint64_t sync_ns
        uint64_t connections_opened
        uint64_t connections_closed
        uint64_t reactor_turns
        uint64_t connections
        uint64_t parked_fetches
        uint64_t fetch_sessions
        uint64_t pending_acks
        uint64_t buffered_bytes
        uint64_t open_files
        uint64_t partitions

    void fmq_engine_counters(fmq_engine *engine, fmq_counters *out)

    enum:
        FMQ_LATENCY_BUCKETS

    ctypedef struct fmq_latency:
        uint64_t buckets[16]
        uint64_t sum_ns

    uint32_t fmq_latency_limit_us(int bucket)
    void fmq_engine_latencies(fmq_engine *engine, fmq_latency *produce, fmq_latency *fetch)

cdef extern from "fastmq/replication.h" nogil:
    ctypedef struct fmq_replica:
        int32_t broker_id
        int32_t standing

    ctypedef enum fmq_sync_standing:
        FMQ_REPLICA_OUT
        FMQ_REPLICA_JOINING
        FMQ_REPLICA_IN

    int fmq_partition_lead_replicas(fmq_partition *partition, int32_t leader_epoch,
                                    const fmq_replica *others, int32_t count)

    ctypedef struct fmq_replica_view:
        int32_t broker_id
        int32_t standing
        int64_t log_end
        int64_t caught_up_ms
        int64_t broker_epoch

    int32_t fmq_partition_replicas(fmq_partition *partition, fmq_replica_view *out, int32_t room)

    ctypedef struct fmq_isr_hint:
        uint8_t topic_id[16]
        int32_t index
        int32_t leader_epoch
        int32_t broker_id
        bint caught_up

    int32_t fmq_engine_isr_hints(fmq_engine *engine, int64_t lag_max_ms, fmq_isr_hint *out,
                                 int32_t room)
    void fmq_engine_set_lease(fmq_engine *engine, int64_t until_ms)
    ctypedef struct fmq_vitals:
        int64_t turn_ms
        int64_t sync_ms
    void fmq_engine_vitals(fmq_engine *engine, fmq_vitals *out)
    void fmq_engine_set_throttle(fmq_engine *engine, int64_t bytes_per_s)
    int64_t fmq_partition_lag(fmq_partition *partition)
    void fmq_partition_set_throttled(fmq_partition *partition, bint throttled)
    ctypedef struct fmq_rack:
        int32_t broker_id
        const char *rack
        size_t size
    int fmq_engine_set_racks(fmq_engine *engine, const fmq_rack *racks, int32_t count)
    void fmq_engine_set_peer(fmq_engine *engine, uint64_t conn_id)
    void fmq_partition_set_watermark(fmq_partition *partition, int64_t high_watermark)
    int fmq_partition_follow(fmq_partition *partition, int32_t leader_epoch)

    ctypedef struct fmq_fetcher:
        pass

    ctypedef struct fmq_fetcher_options:
        int32_t replica_id
        int64_t broker_epoch
        int32_t max_wait_ms
        int32_t min_bytes
        int32_t max_bytes
        int32_t partition_max_bytes
        uint64_t tag

    int fmq_fetcher_create(fmq_engine *engine, const fmq_fetcher_options *options,
                           fmq_fetcher **out)
    void fmq_fetcher_destroy(fmq_fetcher *fetcher)
    int fmq_fetcher_add(fmq_fetcher *fetcher, fmq_partition *partition)
    void fmq_fetcher_remove(fmq_fetcher *fetcher, fmq_partition *partition)
    int32_t fmq_fetcher_count(fmq_fetcher *fetcher)
    int fmq_fetcher_request(fmq_fetcher *fetcher, int32_t correlation_id, const uint8_t **out,
                            size_t *out_size)

    ctypedef struct fmq_fetch_trouble:
        uint8_t topic_id[16]
        int32_t index
        int32_t code

    ctypedef struct fmq_fetch_result:
        int32_t correlation_id
        int32_t error
        int64_t bytes
        int32_t truncations
        int32_t trouble_count
        const fmq_fetch_trouble *trouble

    int fmq_fetcher_apply(fmq_fetcher *fetcher, const uint8_t *data, size_t size,
                          fmq_fetch_result *out)
    void fmq_fetcher_resume(fmq_fetcher *fetcher, fmq_partition *partition)

cdef extern from "fastmq/repair.h" nogil:
    ctypedef struct fmq_damage:
        int64_t begin
        int64_t end

    int32_t fmq_partition_damage(fmq_partition *partition, fmq_damage *out, int32_t room)

    ctypedef struct fmq_repair:
        int64_t segment_base
        int64_t position
        int64_t offset
        bint is_certain
        bint has_reached_end
        bint ends_in_good
        int32_t replaced
        int64_t replaced_bytes
        const char *reason

    int fmq_partition_repair_begin(fmq_partition *partition, int64_t offset, int64_t before,
                                   fmq_repair *out)
    int fmq_partition_repair(fmq_partition *partition, int32_t leader_epoch, fmq_repair *repair,
                             const uint8_t *data, size_t size)
    int fmq_partition_repaired(fmq_partition *partition, int64_t begin, int64_t end)
    int fmq_partition_scrub(fmq_partition *partition, int64_t offset, uint32_t max_bytes,
                            int64_t *next)
