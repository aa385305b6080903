"""The options of producers, and what follows from them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from fastmq.client.options import ClientOptions, at_least, one_of, option
from fastmq.compression import Codec
from fastmq.errors import ConfigError, KafkaError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ProducerOptions", "check_producer_options"]

#: More in flight and a broker cannot tell a repeated batch from a new one (KIP-98).
IDEMPOTENT_IN_FLIGHT_MAX: Final = 5

_ACKS: Final = {"all": -1, -1: -1, "-1": -1, 0: 0, "0": 0, 1: 1, "1": 1}


#: Topic, key and number of partitions to a partition, or None for the default.
Partitioner = Callable[[str, bytes | None, int], int | None]
#: A key or value to bytes or a text. Any: whatever the application sends.
Serializer = Callable[[Any], "Buffer | str | None"]
OnError = Callable[[KafkaError], object]


def _callable(value: object) -> str | None:
    return None if callable(value) else f"must be callable, not {value!r}"


@dataclass(frozen=True, slots=True)
class ProducerOptions(ClientOptions):
    """What producers have besides."""

    acks: int | str = option(
        "all",
        'who must have a record before it counts as delivered: "all" in-sync replicas, 1 (the '
        "leader), 0 (nobody: at most once, offsets are not known)",
        one_of(*_ACKS),
        kinds=(str, int),
    )
    linger_ms: float = option(
        5.0, "how long a batch waits for more records", at_least(0), kinds=(float, int)
    )
    batch_size: int = option(
        1_000_000, "bytes of a batch, before compression; it is sent when full", at_least(256)
    )
    compression_type: str = option(
        "none",
        "codec of batches",
        one_of("none", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
    )
    compression_level: int | None = option(
        None, "level of the codec; None: its default", kinds=(int, NoneType)
    )
    buffer_memory: int = option(
        32 << 20,
        "bytes of records that may wait for delivery; then produce() is held up",
        at_least(4096),
    )
    max_block_ms: int = option(
        60_000,
        "how long produce() waits for room in buffer_memory (not on the async front), and records "
        "wait for their topic's metadata",
        at_least(0),
    )
    max_request_size: int = option(
        1 << 20, "bytes of a request, and of one record at most", at_least(512)
    )
    delivery_timeout_ms: int = option(
        120_000, "time from produce() to success or failure, retries included", at_least(1)
    )
    retries: int = option(
        2_147_483_647,
        "attempts after the first; delivery_timeout_ms is the better limit",
        at_least(0),
    )
    max_in_flight_requests_per_connection: int = option(
        5, "requests that a broker has not answered", at_least(1)
    )
    enable_idempotence: bool | None = option(
        None,
        "each record is written once, in order, whatever is retried; None: yes, when acks is all "
        "and at most 5 requests are in flight",
        kinds=(bool, NoneType),
    )
    partitioner: Partitioner | None = option(
        None,
        "called with topic, key and number of partitions, returns a partition or None for the "
        "default: murmur2 of the key as Java has it, without a key one partition per batch",
        _callable,
        kinds=(),
    )
    key_serializer: Serializer | None = option(
        None, "called with the key, returns bytes", _callable, kinds=()
    )
    value_serializer: Serializer | None = option(
        None, "called with the value, returns bytes", _callable, kinds=()
    )
    on_error: OnError | None = option(
        None,
        "called with the error of each batch, or record, that could not be delivered",
        _callable,
        kinds=(),
    )

    @property
    def required_acks(self) -> int:
        """As Produce has it: -1, 0 or 1."""
        return _ACKS[self.acks]

    @property
    def is_idempotent(self) -> bool:
        """Whether batches carry a producer id and sequence numbers."""
        if self.enable_idempotence is not None:
            return self.enable_idempotence
        in_flight = self.max_in_flight_requests_per_connection
        return self.required_acks == -1 and in_flight <= IDEMPOTENT_IN_FLIGHT_MAX

    @property
    def codec(self) -> Codec:
        """The codec of `compression_type`."""
        return Codec.from_name(self.compression_type)


def check_producer_options(options: ProducerOptions) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: which ones, and what would do.
    """
    if not options.enable_idempotence:
        return
    if options.required_acks != -1:
        raise ConfigError('enable_idempotence needs acks="all"')
    if options.max_in_flight_requests_per_connection > IDEMPOTENT_IN_FLIGHT_MAX:
        raise ConfigError(
            "enable_idempotence needs max_in_flight_requests_per_connection <= "
            f"{IDEMPOTENT_IN_FLIGHT_MAX}"
        )
