"""The broker keys that concern the log: directories, and the defaults of most topic keys."""

from typing import Final

from fastmq.config.types import (
    ConfigType,
    Key,
    at_least,
    between,
    dynamic,
    fixed,
    list_of,
    not_empty,
    one_of,
    only,
)

__all__ = ["LOG_KEYS"]

_LONG_MAX: Final = (1 << 63) - 1

_BOOLEAN, _STRING, _INT, _LONG, _DOUBLE, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.DOUBLE,
    ConfigType.LIST,
)

_NO_CLEANER: Final = "no log cleaner runs yet; the value is kept and shown"
_NO_TIERING: Final = "there is no tiered storage; the value is kept and shown"
_NO_FLUSH: Final = "fastmq.flush decides when the log is synced"

LOG_KEYS: Final[tuple[Key, ...]] = (
    fixed(
        "log.dirs",
        _LIST,
        None,
        "Data directories, several with commas; partitions are spread over them. null = log.dir.",
        not_empty(),
    ),
    fixed("log.dir", _STRING, "fastmq-data", "The data directory.", not_empty()),
    fixed(
        "metadata.log.dir",
        _STRING,
        None,
        "Directory of the metadata store; null = the first of log.dirs.",
    ),
    dynamic(
        "log.cleanup.policy",
        _LIST,
        ("delete",),
        "Default of cleanup.policy.",
        list_of("delete", "compact"),
    ),
    fixed("log.retention.hours", _INT, 168, "Default of retention.ms, in hours; -1 = no limit."),
    fixed(
        "log.retention.minutes",
        _INT,
        None,
        "Default of retention.ms, in minutes; wins over log.retention.hours.",
    ),
    dynamic(
        "log.retention.ms",
        _LONG,
        None,
        "Default of retention.ms; wins over log.retention.minutes and log.retention.hours.",
    ),
    dynamic("log.retention.bytes", _LONG, -1, "Default of retention.bytes.", at_least(-1)),
    fixed(
        "log.retention.check.interval.ms",
        _LONG,
        300_000,
        "How often retention and segment.ms are looked at.",
        at_least(1),
    ),
    dynamic("log.segment.bytes", _INT, 1 << 30, "Default of segment.bytes.", at_least(1 << 20)),
    fixed("log.roll.hours", _INT, 168, "Default of segment.ms, in hours.", at_least(1)),
    dynamic(
        "log.roll.ms",
        _LONG,
        None,
        "Default of segment.ms; wins over log.roll.hours.",
    ),
    fixed("log.roll.jitter.hours", _INT, 0, "Default of segment.jitter.ms, in hours.", at_least(0)),
    dynamic(
        "log.roll.jitter.ms",
        _LONG,
        None,
        "Default of segment.jitter.ms; wins over log.roll.jitter.hours.",
    ),
    dynamic(
        "log.index.size.max.bytes", _INT, 10 << 20, "Default of segment.index.bytes.", at_least(4)
    ),
    dynamic(
        "log.index.interval.bytes", _INT, 4096, "Default of index.interval.bytes.", at_least(0)
    ),
    dynamic("log.preallocate", _BOOLEAN, False, "Default of preallocate."),
    dynamic(
        "log.message.timestamp.type",
        _STRING,
        "CreateTime",
        "Default of message.timestamp.type.",
        one_of("CreateTime", "LogAppendTime"),
    ),
    dynamic(
        "log.message.timestamp.before.max.ms",
        _LONG,
        _LONG_MAX,
        "Default of message.timestamp.before.max.ms.",
        at_least(0),
    ),
    dynamic(
        "log.message.timestamp.after.max.ms",
        _LONG,
        3_600_000,
        "Default of message.timestamp.after.max.ms.",
        at_least(0),
    ),
    dynamic(
        "log.segment.delete.delay.ms",
        _LONG,
        60_000,
        "Default of file.delete.delay.ms.",
        at_least(0),
        "files go as soon as no reader uses them",
    ),
    dynamic(
        "log.flush.interval.messages",
        _LONG,
        _LONG_MAX,
        "Default of flush.messages.",
        at_least(1),
        _NO_FLUSH,
    ),
    dynamic(
        "log.flush.interval.ms",
        _LONG,
        None,
        "Default of flush.ms.",
        no_effect=_NO_FLUSH,
    ),
    fixed(
        "log.flush.scheduler.interval.ms",
        _LONG,
        _LONG_MAX,
        "How often Kafka looks for logs to sync.",
        no_effect=_NO_FLUSH,
    ),
    fixed(
        "log.flush.offset.checkpoint.interval.ms",
        _INT,
        60_000,
        "How often recovery points are written.",
        at_least(1),
    ),
    fixed(
        "log.flush.start.offset.checkpoint.interval.ms",
        _INT,
        60_000,
        "How often log start offsets are written.",
        at_least(1),
    ),
    fixed(
        "num.recovery.threads.per.data.dir",
        _INT,
        2,
        "Partitions of one directory that are checked at once after a crash.",
        between(1, 64),
    ),
    fixed(
        "producer.id.expiration.ms",
        _INT,
        86_400_000,
        "A partition forgets an idempotent producer that wrote nothing for so long.",
        at_least(1),
    ),
    fixed(
        "producer.id.expiration.check.interval.ms",
        _INT,
        600_000,
        "How often forgotten producers are looked for.",
        at_least(1),
    ),
    fixed(
        "fastmq.flush.interval.ms",
        _LONG,
        10,
        "How soon bytes that nobody waits for are synced.",
        between(1, 3_600_000),
    ),
    fixed(
        "fastmq.sync.threads",
        _INT,
        4,
        "Threads that sync files, all logs together.",
        between(1, 64),
    ),
    fixed(
        "fastmq.files.open.max",
        _INT,
        4096,
        "Segment files held open; the least recently used are closed.",
        between(16, 1 << 20),
    ),
    fixed(
        "fastmq.free.space.floor.bytes",
        _LONG,
        256 << 20,
        "Below so much free space in a data directory, produce requests to it are refused with a "
        "retriable error until there is room; reading and deleting go on. 0 = no floor.",
        at_least(0),
    ),
    fixed(
        "fastmq.free.space.check.interval.ms",
        _LONG,
        1_000,
        "How often free space is looked at.",
        at_least(10),
    ),
    fixed("log.cleaner.enable", _BOOLEAN, True, "Run the cleaner.", no_effect=_NO_CLEANER),
    fixed("log.cleaner.threads", _INT, 1, "Its threads.", at_least(0), _NO_CLEANER),
    fixed("log.cleaner.dedupe.buffer.size", _LONG, 134_217_728, "Its memory.", None, _NO_CLEANER),
    fixed("log.cleaner.io.buffer.size", _INT, 524_288, "Its buffer.", at_least(0), _NO_CLEANER),
    fixed("log.cleaner.backoff.ms", _LONG, 15_000, "Its pause.", at_least(0), _NO_CLEANER),
    dynamic(
        "log.cleaner.delete.retention.ms",
        _LONG,
        86_400_000,
        "Default of delete.retention.ms.",
        at_least(0),
        _NO_CLEANER,
    ),
    dynamic(
        "log.cleaner.min.cleanable.ratio",
        _DOUBLE,
        0.5,
        "Default of min.cleanable.dirty.ratio.",
        between(0, 1),
        _NO_CLEANER,
    ),
    dynamic(
        "log.cleaner.min.compaction.lag.ms",
        _LONG,
        0,
        "Default of min.compaction.lag.ms.",
        at_least(0),
        _NO_CLEANER,
    ),
    dynamic(
        "log.cleaner.max.compaction.lag.ms",
        _LONG,
        _LONG_MAX,
        "Default of max.compaction.lag.ms.",
        at_least(1),
        _NO_CLEANER,
    ),
    dynamic(
        "log.local.retention.ms",
        _LONG,
        -2,
        "Default of local.retention.ms.",
        at_least(-2),
        _NO_TIERING,
    ),
    dynamic(
        "log.local.retention.bytes",
        _LONG,
        -2,
        "Default of local.retention.bytes.",
        at_least(-2),
        _NO_TIERING,
    ),
    fixed(
        "remote.log.storage.system.enable",
        _BOOLEAN,
        False,
        "Tiered storage.",
        only(False, "there is no tiered storage yet"),
    ),
)
