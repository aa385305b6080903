"""The options of consumers: Kafka's names in snake case."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastmq.client.consumer.assignors import ASSIGNORS
from fastmq.client.options import ClientOptions, at_least, one_of, option
from fastmq.errors import ConfigError

__all__ = ["ConsumerOptions", "Deserializer", "check_consumer_options", "duration_ms_of"]

# Any: a deserializer may make anything of the bytes.
Deserializer: TypeAlias = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class ConsumerOptions(ClientOptions):
    """What a consumer has besides."""

    group_id: str | None = option(
        None, "group to share partitions and keep offsets with", kinds=(str, type(None))
    )
    group_instance_id: str | None = option(
        None, "name of a static member: it may restart without a rebalance", kinds=(str, type(None))
    )
    auto_offset_reset: str = option(
        "latest",
        "where to begin without a committed offset, or after it was deleted: earliest, latest, "
        "none (an error tells the program), or so long ago: by_duration:PT1H30M, by_duration:P7D",
    )
    enable_auto_commit: bool = option(True, "commit what was consumed now and then, and at the end")
    auto_commit_interval_ms: int = option(5_000, "how often that is", at_least(1))
    isolation_level: str = option(
        "read_uncommitted",
        "read_committed leaves records of open and aborted transactions out",
        one_of("read_uncommitted", "read_committed"),
    )
    # Any: a tuple, a list, or names with commas between.
    partition_assignment_strategy: Any = option(
        ("range", "cooperative-sticky"),
        "assignors in the order of preference: range, roundrobin, sticky, cooperative-sticky",
        kinds=(tuple, list, str),
    )
    session_timeout_ms: int = option(
        45_000, "a member that is not heard of for so long is out of the group", at_least(1)
    )
    heartbeat_interval_ms: int = option(3_000, "how often it is heard of", at_least(1))
    max_poll_interval_ms: int = option(
        300_000, "longest time between two polls; then the member leaves the group", at_least(1)
    )
    client_rack: str = option(
        "", "zone of this client: a replica there is read from, where brokers allow it"
    )
    fetch_min_bytes: int = option(1, "a fetch waits for so many bytes", at_least(0))
    fetch_max_wait_ms: int = option(500, "but not longer than this", at_least(0))
    fetch_max_bytes: int = option(52_428_800, "most that one answer brings", at_least(1))
    max_partition_fetch_bytes: int = option(4_194_304, "most of one partition", at_least(1))
    prefetch_max_bytes: int = option(
        64 << 20, "records that are fetched ahead of the program take no more memory", at_least(1)
    )
    max_inflated_batch_bytes: int = option(
        64 << 20, "a compressed batch that grows larger is refused", at_least(1)
    )
    check_crcs: bool = option(True, "compare the checksum of each batch")
    key_deserializer: Deserializer | None = option(
        None, "makes the key of its bytes; not called for None", kinds=()
    )
    value_deserializer: Deserializer | None = option(
        None, "makes the value of its bytes; not called for None", kinds=()
    )

    @property
    def strategies(self) -> tuple[str, ...]:
        """The assignors' names in order."""
        given = self.partition_assignment_strategy
        return tuple(given.split(",")) if isinstance(given, str) else tuple(given)


_UNIT_MS = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1_000}
_DURATION = re.compile(
    r"by_duration:P(?=.)(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,9})?)S)?)?"
)


def duration_ms_of(policy: str) -> int | None:
    """Return the milliseconds of `by_duration:` with an ISO 8601 duration; None: it is none."""
    found = _DURATION.fullmatch(policy)
    if found is None:
        return None
    parts = found.groupdict()
    return round(sum(float(parts[unit] or 0) * ms for unit, ms in _UNIT_MS.items()))


def check_consumer_options(options: ConsumerOptions) -> None:
    """Check what depends on several options.

    Raises:
        ConfigError: they do not go together.
    """
    policy = options.auto_offset_reset
    if policy not in ("earliest", "latest", "none") and duration_ms_of(policy) is None:
        raise ConfigError(
            f"auto_offset_reset must be earliest, latest, none or by_duration: with an ISO 8601 "
            f"duration as by_duration:PT1H, not {policy!r}"
        )
    for name in options.strategies:
        if name not in ASSIGNORS:
            known = ", ".join(ASSIGNORS)
            raise ConfigError(f"partition_assignment_strategy: {name!r} is none of {known}")
    if not options.strategies:
        raise ConfigError("partition_assignment_strategy names no assignor")
    if options.heartbeat_interval_ms >= options.session_timeout_ms:
        raise ConfigError(
            f"heartbeat_interval_ms={options.heartbeat_interval_ms} must be below "
            f"session_timeout_ms={options.session_timeout_ms}: a third of it is usual"
        )
    if options.group_instance_id is not None and options.group_id is None:
        raise ConfigError("group_instance_id needs a group_id")
