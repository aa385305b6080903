"""The options of clients: Kafka's names in snake case, with type, default and meaning.

A client's options are a frozen dataclass whose fields are made by `option`; `read_options` makes
one from keywords. Names are also taken as Kafka writes them (`**{"linger.ms": 5}`). An unknown name
is refused with the nearest known one, a value of the wrong type or range with what is allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, TypeVar

from fastmq.errors import ConfigError

__all__ = ["ClientOptions", "at_least", "one_of", "option", "option_table", "read_options"]

T = TypeVar("T")
O_ = TypeVar("O_", bound="ClientOptions")

#: A check beyond the type: returns what is wrong, or None.
Check = Callable[[Any], str | None]

_DEFAULT_PORT: Final = 9092


def option(
    default: T, doc: str, check: Check | None = None, *, kinds: tuple[type, ...] | None = None
) -> T:
    """Declare an option.

    Args:
        default: also tells the type, unless `kinds` does.
        doc: what it does, in a sentence; times in ms and sizes in bytes.
        check: of the value.
        kinds: the types that are taken; empty for any.
    """
    taken = (type(default),) if kinds is None else kinds
    metadata = {"doc": doc, "check": check, "kinds": taken}
    return field(default=default, metadata=metadata, kw_only=True)


def at_least(low: float) -> Check:
    """Take numbers from `low` on."""
    return lambda value: None if value >= low else f"must be at least {low}, not {value}"


def one_of(*allowed: object) -> Check:
    """Take these values only."""
    text = ", ".join(repr(value) for value in allowed)
    return lambda value: None if value in allowed else f"must be one of {text}, not {value!r}"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What every client has.

    Attributes:
        bootstrap_servers: (host, port) of brokers to begin with; the others are learnt from them.
    """

    bootstrap_servers: tuple[tuple[str, int], ...]
    client_id: str = option("fastmq", "name of the client in the broker's logs and quotas")
    request_timeout_ms: int = option(
        30_000, "time that a broker has to answer one request", at_least(1)
    )
    default_api_timeout_ms: int = option(
        60_000, "time for an operation with all its retries", at_least(1)
    )
    retry_backoff_ms: int = option(100, "wait before the first retry; then doubled", at_least(0))
    retry_backoff_max_ms: int = option(1_000, "longest wait before a retry", at_least(0))
    reconnect_backoff_ms: int = option(
        50, "wait before a broker is connected to again; then doubled", at_least(0)
    )
    reconnect_backoff_max_ms: int = option(1_000, "longest wait before that", at_least(0))
    socket_connection_setup_timeout_ms: int = option(
        10_000, "time to connect to a broker", at_least(1)
    )
    connections_max_idle_ms: int = option(
        540_000, "connections unused for this long are closed", at_least(1)
    )
    metadata_max_age_ms: int = option(
        300_000, "metadata is asked for again after this time", at_least(1)
    )
    metadata_recovery_rebootstrap_trigger_ms: int = option(
        300_000, "after this time without metadata begin at bootstrap_servers again", at_least(0)
    )
    allow_auto_create_topics: bool = option(
        True, "let the broker create topics that are used and missing, if its settings allow"
    )
    send_buffer_bytes: int = option(-1, "SO_SNDBUF of connections; -1: as the system", at_least(-1))
    receive_buffer_bytes: int = option(
        -1, "SO_RCVBUF of connections; -1: as the system", at_least(-1)
    )
    security_protocol: str = option(
        "PLAINTEXT", "PLAINTEXT; TLS and SASL are not there yet", one_of("PLAINTEXT")
    )


def option_table(kind: type[ClientOptions]) -> dict[str, "Field[Any]"]:
    """The options of a client by name."""
    return {entry.name: entry for entry in fields(kind)}


def read_options(
    kind: type[O_], bootstrap_servers: str | list[str] | tuple[str, ...], given: Mapping[str, Any]
) -> O_:
    """Return checked options.

    Args:
        kind: the client's options class.
        bootstrap_servers: "host:port,host:port" or a list of "host:port"; without a port: 9092.
        given: options by name, in snake case or as Kafka writes them.

    Raises:
        ConfigError: a name is unknown or a value cannot be.
    """
    table = option_table(kind)
    values: dict[str, Any] = {}
    for name, value in given.items():
        plain = name.replace(".", "_")
        if plain not in table or plain == "bootstrap_servers":
            raise ConfigError(_unknown(name, plain, table))
        if plain in values:
            raise ConfigError(f"{plain} is given twice")
        values[plain] = _checked(plain, value, table[plain])
    return kind(bootstrap_servers=_addresses(bootstrap_servers), **values)


def _unknown(name: str, plain: str, table: Mapping[str, object]) -> str:
    from difflib import get_close_matches  # only a mistake needs it

    near = get_close_matches(plain, table, n=1, cutoff=0.6)
    if near:
        return f"unknown option {name}; did you mean {near[0]}?"
    return f"unknown option {name}; there are: {', '.join(sorted(table))}"


def _checked(name: str, value: Any, entry: "Field[Any]") -> Any:
    kinds: tuple[type, ...] = entry.metadata["kinds"]
    if kinds and not _is_one_of(value, kinds):
        wanted = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise ConfigError(f"{name} takes {wanted}, not {type(value).__name__} ({value!r})")
    check: Check | None = entry.metadata["check"]
    problem = None if check is None or value is None else check(value)
    if problem is not None:
        raise ConfigError(f"{name} {problem}")
    return value


def _is_one_of(value: object, kinds: tuple[type, ...]) -> bool:
    # True is an int to Python, and a mistake where a number is wanted.
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _addresses(given: str | list[str] | tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    texts = given.split(",") if isinstance(given, str) else list(given)
    addresses = tuple(_address(text.strip()) for text in texts if text.strip())
    if not addresses:
        raise ConfigError("bootstrap_servers is empty; give at least one host:port")
    return addresses


def _address(text: str) -> tuple[str, int]:
    """Split "host:port"; an IPv6 address with a port stands in brackets."""
    host, port = text, str(_DEFAULT_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not host:port")
    return host, int(port)
