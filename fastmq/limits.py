"""Every fixed limit of the broker in one place, with the reason for its value.

A limit that an operator may want to change is a configuration key (`fastmq.config`); what stands
here bounds memory and time whatever the configuration says.
"""

from typing import Final

# Kafka's rule: a directory is `<topic>-<partition>` plus room for a `.<32 hex>-delete` suffix, and
# file names end at 255 bytes.
TOPIC_NAME_CHARS_MAX: Final = 249
FILE_NAME_BYTES_MAX: Final = 255

# A partition index is an int32 on the wire, but each partition costs a directory and about 2 KiB.
PARTITIONS_PER_TOPIC_MAX: Final = 20_000
# One request may not plan more than this at once: it is one answer and one pass of the planner.
PARTITIONS_PER_REQUEST_MAX: Final = 50_000
# The replication factor is an int16; more replicas than this is a typing error.
REPLICATION_FACTOR_MAX: Final = 32

# A configuration file larger than this is the wrong file.
CONFIG_FILE_BYTES_MAX: Final = 1 << 20
# One configuration value: long lists of listeners and directories fit, a log file does not.
CONFIG_VALUE_CHARS_MAX: Final = 32_768
LISTENERS_MAX: Final = 32
LOG_DIRS_MAX: Final = 64

# Kafka's block size: one store transaction per thousand producers.
PRODUCER_ID_BLOCK_SIZE: Final = 1_000
# Producer ids are int64 on the wire.
PRODUCER_ID_MAX: Final = (1 << 63) - 1

# Events kept for watchers that are behind, 350 bytes each; one request that creates 3,000 topics
# makes about 6,000. A watcher that is further behind reads everything again.
METASTORE_HISTORY_EVENTS_MAX: Final = 10_000
# etcd's limits are 128 operations and 1.5 MB per transaction; one key's value stays far below.
METASTORE_VALUE_BYTES_MAX: Final = 512 * 1024
METASTORE_LEASES_MAX: Final = 4_096
# Changes that the controller commits at once, where the store takes as many: enough that thousands
# of partitions are led again within a second, few enough that others get their turn.
CONTROLLER_CHANGES_MAX: Final = 500
# One message on the store's socket: a transaction or a page of rows of a cluster with hundreds of
# thousands of partitions.
STORE_MESSAGE_BYTES_MAX: Final = 256 << 20
# Connections to the store's socket: a broker has one for its session, one per watch, and a few for
# requests; there is a broker per core.
STORE_CONNECTIONS_MAX: Final = 4_096
# Connections for requests that a broker keeps for the next one.
STORE_IDLE_CONNECTIONS_MAX: Final = 4
# etcd's default for operations, and for comparisons, of one transaction.
ETCD_OPS_MAX: Final = 128
# Rows that one page of a read from etcd has: a page of partition states stays below a megabyte.
ETCD_PAGE_ROWS: Final = 4_000
# One message of a watch: etcd sends up to 1,000 revisions at once. Who gets a longer one reads
# everything again instead.
ETCD_WATCH_BYTES_MAX: Final = 64 << 20
# Space held back for commits on a full disk: the deletion of thousands of topics fits.
METASTORE_RESERVE_BYTES: Final = 1 << 20
# Decoded partition states that are shared; a cluster has few different ones at a time.
METASTORE_PARTITION_STATES_CACHED: Final = 1_024

# Checkpoint files have a line per partition.
CHECKPOINT_BYTES_MAX: Final = 64 << 20
# Small metadata files: meta.properties, partition.metadata, the lock and the clean marker.
SMALL_FILE_BYTES_MAX: Final = 64 << 10

# The backlog of a listening socket; the kernel cuts it to its own limit (net.core.somaxconn).
LISTEN_BACKLOG: Final = 4_096
# Connections accepted per wake-up, so that a flood of them does not starve the other tasks.
ACCEPT_BATCH_MAX: Final = 64
# Connections in all when no lower limit is configured: a descriptor each, and the kernel's tables.
CONNECTIONS_MAX: Final = 1_000_000
# Events taken from the engine before other tasks get their turn.
TAKE_EVENTS_MAX: Final = 256
# Requests that wait for disk or store at the same time; the rest queue, one per connection.
SLOW_WORKERS: Final = 16

# One kind of log line per second; the rest is counted and told with the next one.
LOG_LINES_PER_SECOND: Final = 5
# Kinds of log lines that are told apart; there are far fewer places in the code that log.
LOG_KINDS_MAX: Final = 512

# A scraper sends a few hundred bytes, one request per connection.
METRICS_REQUEST_BYTES_MAX: Final = 8_192
METRICS_CONNECTIONS_MAX: Final = 8

# Bytes of an internal topic that are in memory at once while a coordinator loads.
COORDINATOR_LOAD_READ_BYTES: Final = 4 << 20
# Coordinators that read at the same time while they load.
COORDINATOR_LOAD_THREADS: Final = 2
# Records of several requests that share one append of a coordinator.
GATHERED_RECORDS_MAX: Final = 1_000

# What one batch may inflate to where the broker must look inside: a time search, the check of a
# compacted topic. Many times what clients gather in a batch, and half of the 64 MiB that a
# decompression bomb may cost.
INFLATED_BATCH_BYTES_MAX: Final = 32 << 20

# `log dump` inflates one batch at a time; more than a broker would have accepted is damage.
DUMP_INFLATED_BYTES_MAX: Final = 1 << 30
# Index, snapshot and checkpoint files are read whole.
DUMP_SMALL_FILE_BYTES_MAX: Final = 256 << 20

# Topics whose directories are made, or partitions that are deleted, in one visit to a worker
# thread: short enough that a stop does not wait for it.
PARTITION_OPEN_CHUNK: Final = 200
# A page of DescribeTopicPartitions, whatever the configuration allows.
DESCRIBED_PARTITIONS_MAX: Final = 10_000
# Bytes read at once when a search by time goes on behind deleted records.
TIME_SEARCH_READ_BYTES: Final = 1 << 20
# Partitions that a background job visits before it looks whether the broker stops.
MAINTENANCE_SLICE: Final = 64
# A batch up to this size is inflated and checked on the event loop, which costs less than a visit
# to a worker thread; what it inflates to is bounded all the same.
INLINE_INFLATE_BYTES_MAX: Final = 16 << 10
# Committed offsets on the metrics page; more would be a page of tens of megabytes.
METRICS_GROUP_OFFSETS_MAX: Final = 20_000
# Groups whose lag is worked out; each is seven series on the metrics page.
LAG_GROUPS_MAX: Final = 2_000
# Records that one look at the lag may read for their timestamps.
LAG_TIMES_MAX: Final = 64
# Topics that one Metadata request names: more than a broker has (`fastmq.topics.max`) by far. Each
# is answered on the event loop, where everybody else waits meanwhile.
METADATA_TOPICS_MAX: Final = 200_000
# Encoded Metadata answers: version times listener times what is included; clients use a few.
METADATA_CACHE_ENTRIES_MAX: Final = 32

# Faults of one broker in test mode; a test with more has lost count.
FAULT_RULES_MAX: Final = 1_000

# A record that `fastmq produce` reads; brokers take 1 MiB unless told otherwise.
CLI_RECORD_BYTES_MAX: Final = 256 << 20
