"""The C engine as Python sees it: connections, partitions, appends and reads.

One `Engine` per broker process. Its reactor (a thread without the GIL, or `run_once` for the
nested driver) serves Produce and Fetch; every other frame comes out of `take()` and is answered
with `reply()`. All methods may be called from any thread; each holds the engine's lock for one
short operation, between two frames of the reactor.
"""

from collections.abc import Iterable, Mapping
from typing import Final, final

from typing_extensions import Buffer

from fastmq._native.sim_env import SimEnv

# Kinds of event that `Engine.take` returns as the first element of a tuple.
EVENT_FRAME: Final[int]  # (EVENT_FRAME, conn_id, api_key, api_version, corr_id, frame: bytes)
EVENT_CLOSED: Final[int]  # (EVENT_CLOSED, conn_id, reason: str, tag: int)
EVENT_APPENDED: Final[int]  # (EVENT_APPENDED, token, error_code: int)
EVENT_DIR_OFFLINE: Final[int]  # (EVENT_DIR_OFFLINE, dir_id, errno: int)
EVENT_REPLICAS: Final[int]  # (EVENT_REPLICAS,): a follower caught up, see Engine.isr_hints
# (EVENT_CORRUPT, topic_id: bytes, index, first and next offset: int): a batch fits its CRC no more
EVENT_CORRUPT: Final[int]
EVENT_FETCHER: Final[int]  # (EVENT_FETCHER, tag): Fetcher.request has something to ask for again

# Standing of another replica: see `Partition.lead`.
REPLICA_OUT: Final[int]
REPLICA_JOINING: Final[int]
REPLICA_IN: Final[int]

# Values of `flush` in `PartitionConfig` (fastmq.flush).
FLUSH_ACK: Final[int]  # answered and visible after fdatasync
FLUSH_REPLICATED: Final[int]  # answered after replication; synced in the background
FLUSH_INTERVAL: Final[int]  # as FLUSH_REPLICATED, for one replica
FLUSH_NEVER: Final[int]  # --dev: no fsync at all

# Flags in `PartitionConfig.flags`.
SLOW_PRODUCE: Final[int]  # Produce frames that touch the partition go to Python
SLOW_FETCH: Final[int]  # Fetch frames that touch the partition go to Python
COMPACTED: Final[int]  # cleanup.policy has compact: records need keys

POLLER: Final[str]  # what this build waits with: epoll, kqueue, poll

def system_env() -> object:
    """Return the system's `fmq_env` as a capsule, for `SimEnv`."""

def crc32c(data: bytes | bytearray | memoryview, crc: int = 0) -> int: ...

@final
class PartitionConfig:
    """The settings of one partition that C code needs. Immutable after construction; share one
    object between all partitions of a topic."""

    def __init__(
        self,
        *,
        segment_bytes: int = 1 << 30,
        segment_ms: int = 604_800_000,
        retention_ms: int = 604_800_000,
        retention_bytes: int = -1,
        producer_id_expiration_ms: int = 86_400_000,
        index_interval_bytes: int = 4096,
        segment_index_bytes: int = 10 << 20,
        max_message_bytes: int = 1_048_588,
        timestamp_before_max_ms: int = (1 << 63) - 1,
        timestamp_after_max_ms: int = 3_600_000,
        log_append_time: bool = False,
        preallocate: bool = False,
        cleanup_delete: bool = True,
        min_insync_replicas: int = 1,
        flush: int = ...,
        flags: int = 0,
    ) -> None: ...

class PartitionError(Exception):
    """A Kafka error code (`code`) or an I/O error (`errno`), with a reason."""

    code: int
    errno: int

@final
class Partition:
    """A handle to one partition of the engine. Cheap; keeps the partition alive."""

    topic: str
    index: int
    topic_id: bytes  # 16 bytes
    dir_id: int
    @property
    def path(self) -> str: ...

    # Snapshots, O(1). An unopened partition (after a clean shutdown) is opened by the first call.
    def log_start(self) -> int: ...
    def log_end(self) -> int: ...
    def high_watermark(self) -> int: ...
    def last_stable_offset(self) -> int: ...
    def leader_epoch(self) -> int: ...
    def size_bytes(self) -> int: ...
    def segment_count(self) -> int: ...
    def synced(self) -> int: ...  # offsets below are durable
    def is_open(self) -> bool: ...
    def recover(self, *, log_start: int, recovery_point: int) -> dict[str, object] | None:
        """Open after an unclean shutdown, checking everything past the recovery point. Releases
        the GIL and holds no lock while it works: call it from a worker thread, before the
        partition becomes leader. Returns what was found: keys `bytes_scanned`,
        `bytes_truncated`, `truncated_at`, `segments_deleted`, `indexes_rebuilt`, `reason`."""
    def become_leader(self, epoch: int) -> None: ...
    def lead(self, epoch: int, others: Iterable[tuple[int, int]]) -> None:
        """Lead with other replicas, given as (broker id, standing). The high watermark waits for
        those that are IN or JOINING; acks=all needs min.insync.replicas - 1 that are IN. The same
        epoch again changes only the standings. Raises PartitionError (FENCED_LEADER_EPOCH)."""
    def follow(self, epoch: int) -> None:
        """Follow another broker: waiters are answered NOT_LEADER_OR_FOLLOWER; batches come through
        a `Fetcher`. Raises PartitionError (FENCED_LEADER_EPOCH)."""
    def is_follower(self) -> bool: ...
    def lag(self) -> int:
        """How far a follower is behind the high watermark that its leader told last; -1 = it has
        told none yet. 0 of others."""
    def set_throttled(self, throttled: bool) -> None:
        """Whether `Engine.set_throttle` holds for this partition; while it is led."""
    def is_leader(self) -> bool: ...
    def set_watermark(self, high_watermark: int) -> None:
        """Where the high watermark was at the last stop; before the log of a replicated partition
        is opened."""
    def replicas(self) -> list[tuple[int, int, int, int, int]]:
        """(broker_id, standing, log_end or -1, ms since it last had everything, broker_epoch) of
        each other replica, while this broker leads."""
    def become_offline(self) -> None: ...
    def set_config(self, config: PartitionConfig) -> None: ...
    def append(
        self,
        batch: bytearray,
        *,
        trusted: bool = False,
        wait_token: int = 0,
        now_ms: int = -1,
    ) -> tuple[int, int, int, str | None]:
        """Append one batch. Returns (error_code, base_offset, log_append_time_ms, reason).
        `trusted` is for coordinators. With `wait_token` > 0, and error_code 0, one EVENT_APPENDED
        with that token follows when the high watermark covers the batch (or the partition stops
        leading: error NOT_LEADER_OR_FOLLOWER, or its directory fails: KAFKA_STORAGE_ERROR)."""
    def read(
        self, offset: int, max_bytes: int, *, limit_offset: int = -1, min_one: bool = True
    ) -> bytes:
        """Whole batches from `offset` up to the high watermark (or `limit_offset`), copied.
        b"" at the end. Raises PartitionError (OFFSET_OUT_OF_RANGE, storage errors)."""
    def find_timestamp(self, timestamp_ms: int) -> bytes:
        """The first batch with a record at or after the time, below the high watermark: b"" when
        there is none. The caller searches inside."""
    def find_max_timestamp(self) -> bytes: ...
    def epoch_end(self, epoch: int) -> tuple[int, int]: ...
    def epoch_of(self, offset: int) -> int: ...
    def producers(self) -> list[tuple[int, int, int, int, int, int, int]]:
        """(producer_id, epoch, last_sequence, last_offset, last_timestamp, coordinator_epoch,
        txn_first_offset or -1) for each active producer."""

    # Maintenance; called by background tasks from worker threads.
    def delete_records(self, offset: int) -> int: ...  # new log start
    def apply_retention(self, now_ms: int) -> int: ...  # segments deleted
    def roll_if_due(self, now_ms: int) -> None: ...
    def expire_producers(self, now_ms: int) -> int: ...
    def damage(self) -> list[tuple[int, int]]:
        """Return the offset ranges [begin, end) that are known to be damaged."""

    def repaired(self, begin: int, end: int) -> None:
        """Let readers try again what lies in [begin, end)."""

    def scrub(self, offset: int, max_bytes: int) -> tuple[int, bool]:
        """Read and check what is stored from an offset on; return where to go on, and whether that
        is damaged. At the high watermark it is the offset itself."""

    def flush(self) -> int: ...  # returns the new recovery point
    def close(self, *, clean: bool) -> None: ...
    def delete(self, renamed_path: str) -> None:
        """Stop serving, answer all waiters UNKNOWN_TOPIC_OR_PARTITION, rename the directory."""

@final
class Repair:
    """Put another replica's batches in the place of damaged ones, from a batch before `offset` and
    `before` on. Raises PartitionError."""

    def __init__(self, partition: Partition, offset: int, before: int) -> None: ...
    @property
    def offset(self) -> int: ...  # to ask the other replica for
    @property
    def is_certain(self) -> bool: ...
    @property
    def has_reached_end(self) -> bool: ...
    @property
    def ends_in_good(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    def take(self, batches: bytes | bytearray | memoryview, leader_epoch: int) -> tuple[int, int]:
        """Go on with whole batches from `offset` on; return how many batches and bytes were
        replaced. Blocks on the disk. Raises PartitionError: CORRUPT_MESSAGE = begin again before
        this place, INVALID_RECORD = they cannot stand here, FENCED_LEADER_EPOCH, -EAGAIN."""

@final
class Engine:
    def __init__(
        self,
        *,
        node_id: int,
        thread: bool = True,
        max_open_files: int = 4096,
        max_request_bytes: int = 104_857_600,
        max_buffered_bytes: int = 512 << 20,
        max_unanswered_frames: int = 256,
        fetch_max_bytes: int = 57_671_680,
        fetch_sessions: int = 1000,
        idle_timeout_ms: int = 600_000,
        frame_timeout_ms: int = 30_000,
        sync_threads: int = 4,
        flush_interval_ms: int = 10,
        has_peers: bool = False,
        test_mode: bool = False,
        env: SimEnv | None = None,
    ) -> None:
        """Make an engine; `env`: its files and clocks are those of a simulation."""
    def hold_syncs(self, held: bool) -> None:
        """With `sync_threads=0`: begin no sync until told otherwise, as if the disk were slow."""
    # Test mode only (RuntimeError otherwise): what the engine takes for wall time is so much ahead
    # of the real one; writes to logs fail with an errno, 0 ends that.
    def set_wall_offset(self, offset_ms: int) -> None: ...
    def set_write_error(self, error: int) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None:
        """Stop the reactor and the sync threads and close all connections. Idempotent."""
    def fileno(self) -> int:
        """Becomes readable when `take` has something to return."""
    def take(self, max_events: int = 256) -> list[tuple[object, ...]]: ...

    # Connections. `fd` is owned by the engine from here on (detach the socket object).
    def add_connection(self, fd: int, *, listener_id: int = 0, tag: int = 0) -> int: ...
    def set_peer(self, conn_id: int) -> None:
        """Let a connection fetch as a replica; others are closed when they try."""
    def set_racks(self, racks: Mapping[int, str]) -> None:
        """Where brokers stand, this one too: consumers that tell their rack are sent to a replica
        there (KIP-392). Empty: all read from leaders."""
    def set_lease(self, until_ms: int) -> None:
        """Until then (CLOCK_BOOTTIME, ms) may this broker take itself for a leader; -1 = for ever.
        Afterwards acks 0 and 1 are refused where others have replicas."""
    def vitals(self) -> tuple[int, int]:
        """How long the reactor has been at its present turn, and the age of the oldest sync that
        runs, in ms. Takes no lock: it does not hang with the engine."""
    def set_throttle(self, bytes_per_s: int) -> None:
        """Send followers that are out of sync no more than so much of throttled partitions;
        -1 = no limit, which is so at first."""
    def isr_hints(self, lag_max_ms: int) -> list[tuple[bytes, int, int, int, bool]]:
        """Followers that should change their standing, at most 256: (topic_id, index, leader_epoch,
        broker_id, caught_up). caught_up: it is OUT and has all that is committed; otherwise it is
        IN and has not had everything for `lag_max_ms`."""
    def close_connection(self, conn_id: int) -> None: ...
    def reply(self, conn_id: int, payload: bytes | None, *, close: bool = False) -> None:
        """Answer the frame that is in Python on this connection. `payload` is the response from
        the correlation id on, without the length prefix; None answers nothing (acks=0).
        `close` ends the connection after what is queued has been sent."""
    def set_draining(self) -> None:
        """Graceful shutdown: parked fetches are answered at once, no new frame is executed."""
    def connection_count(self) -> int: ...
    def unsent_replies(self) -> int: ...

    # Partitions.
    def add_partition(
        self,
        topic: str,
        index: int,
        *,
        topic_id: bytes,
        dir_id: int,
        path: str,
        config: PartitionConfig,
        clean: bool = True,
        log_start: int = 0,
        recovery_point: int = 0,
    ) -> Partition:
        """Register a partition (its directory exists). Nothing is opened until it is used."""
    def remove_partition(self, partition: Partition) -> None:
        """Answer its waiters UNKNOWN_TOPIC_OR_PARTITION and forget it; an open log is closed
        without writing (close or delete it first to do better)."""
    def run(self) -> None:
        """Serve until `stop`; what the thread does."""
    def run_once(self, timeout_ms: int = 0) -> None:
        """One turn of the reactor (thread=False): wait up to so long, serve what is ready."""
    def poll_fileno(self) -> int:
        """For thread=False: readable when a turn has something to do. OSError (ENOTSUP) where
        POLLER is "poll".
        """
    def next_timeout_ms(self) -> int:
        """For thread=False: how long the loop may be left alone when it is not readable."""
    def metrics(self) -> dict[str, int]:
        """Counters: produce_requests, fetch_requests, other_requests, bytes_in, bytes_out,
        records_in, batches_in, produce_errors, connections, parked_fetches, pending_acks,
        buffered_bytes, syncs, sync_ns, open_files, ..."""
    def latencies(self) -> dict[str, object]:
        """Histograms of Produce and Fetch from arrival to answer: `limits_us` (upper limits of
        all buckets but the last), `produce` and `fetch` (counts), `produce_sum_ns`,
        `fetch_sum_ns`."""

@final
class Fetcher:
    """Fetch requests and answers for all partitions that follow one broker. No I/O."""

    def __init__(
        self,
        engine: Engine,
        *,
        replica_id: int,
        broker_epoch: int,
        max_wait_ms: int = 500,
        min_bytes: int = 1,
        max_bytes: int = 10 << 20,
        partition_max_bytes: int = 1 << 20,
        tag: int = 0,
    ) -> None: ...
    def __len__(self) -> int: ...
    def add(self, partition: Partition) -> None:
        """Fetch it from this broker, and from no other, from now on."""
    def remove(self, partition: Partition) -> None: ...
    def resume(self, partition: Partition) -> None:
        """Fetch a partition that was in trouble again."""
    def request(self, correlation_id: int) -> bytes:
        """A Fetch frame with its length prefix. b"" when there is nothing to ask for now: where
        only syncs are waited for, EVENT_FETCHER follows."""
    def apply(self, answer: Buffer) -> tuple[int, int, int, int, list[tuple[bytes, int, int]]]:
        """Take an answer, from the correlation id on: (correlation_id, error_code, bytes appended,
        logs cut, [(topic_id, index, code)]). Those in the list are paused; a code below 0 is
        -errno. Raises PartitionError (CORRUPT_MESSAGE) when it is no Fetch answer."""
