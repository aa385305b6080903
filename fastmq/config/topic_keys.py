"""The table of topic keys: Kafka 4.4's list, and ours below `fastmq.`.

Each row names the broker keys that give its default (`synonyms`), so the default here is only what
holds when the broker table has nothing either; a test keeps both tables in step.
"""

import re
from typing import Final

from fastmq.config.types import (
    ConfigType,
    Key,
    Scope,
    Validator,
    Value,
    at_least,
    between,
    list_of,
    one_of,
    only,
)

__all__ = ["FLUSH_MODES", "TOPIC_KEYS"]

_LONG_MAX: Final = (1 << 63) - 1
_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000

_NO_CLEANER: Final = "no log cleaner runs yet; the value is kept and shown"
_NO_TIERING: Final = "there is no tiered storage; the value is kept and shown"

FLUSH_MODES: Final = ("auto", "ack", "replicated", "interval", "never")

_THROTTLED_REPLICA: Final = re.compile(r"[0-9]+:[0-9]+").fullmatch

CODECS: Final = ("uncompressed", "gzip", "snappy", "lz4", "zstd", "producer")


def _gzip_level() -> Validator:
    def check(value: Value) -> str | None:
        assert isinstance(value, int)
        return None if value == -1 or 1 <= value <= 9 else f"{value} is neither -1 nor in 1..9"

    return Validator("-1 or 1..9", check)


def _throttled_replicas() -> Validator:
    doc = "partition:broker,..., or * for all replicas"

    def check(value: Value) -> str | None:
        assert isinstance(value, tuple)
        if value == ("*",):
            return None
        wrong = next((text for text in value if not _THROTTLED_REPLICA(text)), None)
        return None if wrong is None else f"{wrong!r} is not partition:broker, nor is the list *"

    return Validator(doc, check)


def _topic(
    name: str,
    kind: ConfigType,
    default: Value,
    doc: str,
    validator: Validator | None = None,
    *,
    synonyms: tuple[tuple[str, int], ...] = (),
    no_effect: str = "",
) -> Key:
    return Key(
        name, kind, default, Scope.TOPIC, doc, validator, no_effect=no_effect, synonyms=synonyms
    )


_BOOLEAN, _STRING, _INT, _LONG = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
)
_DOUBLE, _LIST = ConfigType.DOUBLE, ConfigType.LIST

TOPIC_KEYS: Final[tuple[Key, ...]] = (
    _topic(
        "cleanup.policy",
        _LIST,
        ("delete",),
        "What happens to old segments: delete removes them after retention.ms or retention.bytes, "
        "compact keeps the last record of each key, an empty list keeps everything. Records of a "
        "compacted topic need a key.",
        list_of("delete", "compact"),
        synonyms=(("log.cleanup.policy", 1),),
    ),
    _topic(
        "compression.type",
        _STRING,
        "producer",
        "Codec of stored batches: producer keeps what the producer sent; anything else compresses "
        "anew on the broker.",
        one_of(*CODECS),
        synonyms=(("compression.type", 1),),
    ),
    _topic(
        "compression.gzip.level",
        _INT,
        -1,
        "Level when compression.type is gzip; -1 is the library's own default.",
        _gzip_level(),
        synonyms=(("compression.gzip.level", 1),),
    ),
    _topic(
        "compression.lz4.level",
        _INT,
        9,
        "Level when compression.type is lz4.",
        between(1, 17),
        synonyms=(("compression.lz4.level", 1),),
    ),
    _topic(
        "compression.zstd.level",
        _INT,
        3,
        "Level when compression.type is zstd.",
        between(-131072, 22),
        synonyms=(("compression.zstd.level", 1),),
    ),
    _topic(
        "delete.retention.ms",
        _LONG,
        86_400_000,
        "How long a compacted topic keeps deletion markers.",
        at_least(0),
        synonyms=(("log.cleaner.delete.retention.ms", 1),),
        no_effect=_NO_CLEANER,
    ),
    _topic(
        "errors.deadletterqueue.group.enable",
        _BOOLEAN,
        False,
        "Whether the topic may be the dead-letter queue of share groups.",
        only(False, "there are no share groups yet"),
    ),
    _topic(
        "fastmq.flush",
        _STRING,
        "auto",
        "When a record is acknowledged: ack = after it is synced to disk, and nobody reads it "
        "before; replicated = after the in-sync replicas have it; interval = at once, synced in "
        "the background; never = no fsync at all, for tests. auto = ack with one replica, "
        "replicated with more.",
        one_of(*FLUSH_MODES),
        synonyms=(("fastmq.flush", 1),),
    ),
    _topic(
        "fastmq.validation",
        _STRING,
        "header",
        "What is checked of each produced batch: header = its header and checksum; records = also "
        "every record inside, inflating it. Compacted and recompressed topics always check "
        "records.",
        one_of("header", "records"),
        synonyms=(("fastmq.validation", 1),),
    ),
    _topic(
        "file.delete.delay.ms",
        _LONG,
        60_000,
        "How long the files of a deleted segment stay on disk.",
        at_least(0),
        synonyms=(("log.segment.delete.delay.ms", 1),),
        no_effect="files go as soon as no reader uses them",
    ),
    _topic(
        "flush.messages",
        _LONG,
        _LONG_MAX,
        "Kafka's sync after so many records.",
        at_least(1),
        synonyms=(("log.flush.interval.messages", 1),),
        no_effect="fastmq.flush decides when the log is synced",
    ),
    _topic(
        "flush.ms",
        _LONG,
        _LONG_MAX,
        "Kafka's sync after so much time.",
        at_least(0),
        synonyms=(("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
        no_effect="fastmq.flush decides when the log is synced",
    ),
    _topic(
        "follower.replication.throttled.replicas",
        _LIST,
        (),
        "Replicas whose catching up is held to follower.replication.throttled.rate.",
        _throttled_replicas(),
    ),
    _topic(
        "index.interval.bytes",
        _INT,
        4096,
        "Bytes of log between two entries of the offset index.",
        at_least(0),
        synonyms=(("log.index.interval.bytes", 1),),
    ),
    _topic(
        "leader.replication.throttled.replicas",
        _LIST,
        (),
        "Replicas that send to those catching up no more than leader.replication.throttled.rate.",
        _throttled_replicas(),
    ),
    _topic(
        "local.retention.bytes",
        _LONG,
        -2,
        "Bytes kept on local disk when older ones are in remote storage; -2 = retention.bytes.",
        at_least(-2),
        synonyms=(("log.local.retention.bytes", 1),),
        no_effect=_NO_TIERING,
    ),
    _topic(
        "local.retention.ms",
        _LONG,
        -2,
        "Time kept on local disk when older records are in remote storage; -2 = retention.ms.",
        at_least(-2),
        synonyms=(("log.local.retention.ms", 1),),
        no_effect=_NO_TIERING,
    ),
    _topic(
        "max.compaction.lag.ms",
        _LONG,
        _LONG_MAX,
        "The longest a record of a compacted topic waits for the cleaner.",
        at_least(1),
        synonyms=(("log.cleaner.max.compaction.lag.ms", 1),),
        no_effect=_NO_CLEANER,
    ),
    _topic(
        "max.message.bytes",
        _INT,
        1_048_588,
        "The largest batch, header included and as compressed; larger ones get MESSAGE_TOO_LARGE.",
        at_least(0),
        synonyms=(("message.max.bytes", 1),),
    ),
    _topic(
        "message.downconversion.enable",
        _BOOLEAN,
        True,
        "Whether old consumers get old formats.",
        no_effect="only the current record format is served, as Kafka since 4.0",
    ),
    _topic(
        "message.timestamp.after.max.ms",
        _LONG,
        _HOUR_MS,
        "How far ahead of the broker's clock a CreateTime timestamp may be.",
        at_least(0),
        synonyms=(("log.message.timestamp.after.max.ms", 1),),
    ),
    _topic(
        "message.timestamp.before.max.ms",
        _LONG,
        _LONG_MAX,
        "How far behind the broker's clock a CreateTime timestamp may be.",
        at_least(0),
        synonyms=(("log.message.timestamp.before.max.ms", 1),),
    ),
    _topic(
        "message.timestamp.type",
        _STRING,
        "CreateTime",
        "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).",
        one_of("CreateTime", "LogAppendTime"),
        synonyms=(("log.message.timestamp.type", 1),),
    ),
    _topic(
        "min.cleanable.dirty.ratio",
        _DOUBLE,
        0.5,
        "Share of uncompacted bytes at which the cleaner starts.",
        between(0, 1),
        synonyms=(("log.cleaner.min.cleanable.ratio", 1),),
        no_effect=_NO_CLEANER,
    ),
    _topic(
        "min.compaction.lag.ms",
        _LONG,
        0,
        "The shortest a record of a compacted topic stays uncompacted.",
        at_least(0),
        synonyms=(("log.cleaner.min.compaction.lag.ms", 1),),
        no_effect=_NO_CLEANER,
    ),
    _topic(
        "min.insync.replicas",
        _INT,
        1,
        "In-sync replicas that must have a record before an acks=all produce is answered.",
        at_least(1),
        synonyms=(("min.insync.replicas", 1),),
    ),
    _topic(
        "preallocate",
        _BOOLEAN,
        False,
        "Reserve the disk space of a segment when it is created.",
        synonyms=(("log.preallocate", 1),),
    ),
    _topic(
        "remote.copy.lag.bytes",
        _LONG,
        -1,
        "Bytes that may wait for their copy to remote storage.",
        at_least(-1),
        no_effect=_NO_TIERING,
    ),
    _topic(
        "remote.copy.lag.ms",
        _LONG,
        -1,
        "Time that records may wait for their copy to remote storage.",
        at_least(-1),
        no_effect=_NO_TIERING,
    ),
    _topic(
        "remote.log.copy.disable",
        _BOOLEAN,
        False,
        "Stop copying to remote storage.",
        no_effect=_NO_TIERING,
    ),
    _topic(
        "remote.log.delete.on.disable",
        _BOOLEAN,
        False,
        "Delete remote data when remote storage is switched off.",
        no_effect=_NO_TIERING,
    ),
    _topic(
        "remote.storage.enable",
        _BOOLEAN,
        False,
        "Move old segments to remote storage.",
        only(False, "there is no tiered storage yet"),
    ),
    _topic(
        "retention.bytes",
        _LONG,
        -1,
        "Bytes per partition beyond which the oldest segments are deleted; -1 = no limit.",
        at_least(-1),
        synonyms=(("log.retention.bytes", 1),),
    ),
    _topic(
        "retention.ms",
        _LONG,
        604_800_000,
        "Age of a segment's newest record beyond which it is deleted; -1 = no limit.",
        at_least(-1),
        synonyms=(
            ("log.retention.ms", 1),
            ("log.retention.minutes", _MINUTE_MS),
            ("log.retention.hours", _HOUR_MS),
        ),
    ),
    _topic(
        "segment.bytes",
        _INT,
        1 << 30,
        "Size at which a new segment file is begun.",
        at_least(1 << 20),
        synonyms=(("log.segment.bytes", 1),),
    ),
    _topic(
        "segment.index.bytes",
        _INT,
        10 << 20,
        "Largest size of an offset index; a segment is also rolled when its index is full.",
        at_least(4),
        synonyms=(("log.index.size.max.bytes", 1),),
    ),
    _topic(
        "segment.jitter.ms",
        _LONG,
        0,
        "The most that is taken off segment.ms at random, so that not all roll at once.",
        at_least(0),
        synonyms=(("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", _HOUR_MS)),
    ),
    _topic(
        "segment.ms",
        _LONG,
        604_800_000,
        "Age of a segment's first record at which a new segment is begun.",
        at_least(1),
        synonyms=(("log.roll.ms", 1), ("log.roll.hours", _HOUR_MS)),
    ),
    _topic(
        "unclean.leader.election.enable",
        _BOOLEAN,
        False,
        "Whether a replica that lags may lead when no in-sync one is left, losing records.",
        synonyms=(("unclean.leader.election.enable", 1),),
    ),
)
