"""Listeners: `NAME://host:port` texts, what they advertise, and which of them are opened.

The security protocol of a listener comes from `listener.security.protocol.map`; a name that the
map lacks is PLAINTEXT, and anything but PLAINTEXT is refused, with the reason. Names in
`controller.listener.names` belong to Kafka's controllers and are left out. Resolving names and
finding free ports is the server's business.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fastmq.errors import ConfigError
from fastmq.limits import LISTENERS_MAX

__all__ = [
    "Listener",
    "listener_from_address",
    "parse_endpoint",
    "parse_listeners",
    "split_address",
]

_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - names of "all addresses" that are recognized


class Listener(NamedTuple):
    """One place where clients connect.

    Attributes:
        name: upper case, unique.
        protocol: always PLAINTEXT for now.
        host: address to bind, without brackets; empty = all addresses.
        port: 0 = any free one.
        advertised_host: what clients are told; empty = the server finds this machine's name.
        advertised_port: what clients are told; 0 = the port that was bound.
    """

    name: str
    protocol: str
    host: str
    port: int
    advertised_host: str
    advertised_port: int


def split_address(text: str, *, key: str) -> tuple[str, int]:
    """Return (host, port) of `host:port`, `[v6]:port` or `:port`.

    Raises:
        ConfigError: there is no port, it is no number in 0..65535, or IPv6 lacks its brackets.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ConfigError(f"{key}: {text!r} is not [address]:port")
        port_text = rest[1:]
    else:
        host, colon, port_text = text.rpartition(":")
        if not colon:
            raise ConfigError(f"{key}: {text!r} has no port; write host:port")
        if ":" in host:
            raise ConfigError(f"{key}: {text!r}: put an IPv6 address in brackets, [::1]:9092")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text[:6]) <= 65_535):
        raise ConfigError(f"{key}: {text!r}: the port must be a number in 0..65535")
    if any(char.isspace() or char in "/@?#" for char in host):
        raise ConfigError(f"{key}: {text!r}: {host!r} is not a host name")
    return host, int(port_text)


def parse_endpoint(text: str, *, key: str) -> tuple[str, str, int]:
    """Return (NAME, host, port) of `NAME://host:port`."""
    name, scheme, address = text.partition("://")
    if not scheme:
        raise ConfigError(f"{key}: {text!r} is not NAME://host:port, as PLAINTEXT://127.0.0.1:9092")
    name = name.upper()
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"{key}: {name!r} is not a listener name")
    return name, *split_address(address, key=key)


def listener_from_address(address: str) -> str:
    """Return the `listeners` text of a bare `host:port`."""
    host, port = split_address(address, key="listen")
    return f"PLAINTEXT://[{host}]:{port}" if ":" in host else f"PLAINTEXT://{host}:{port}"


def parse_listeners(
    listeners: Sequence[str],
    advertised: Sequence[str],
    protocol_map: Sequence[str],
    controller_names: Sequence[str] = (),
) -> tuple[Listener, ...]:
    """Return the listeners to open, in the order given.

    Raises:
        ConfigError: a text is malformed, a name or a port is given twice, an advertised listener
            does not exist or advertises all addresses, or a protocol is not PLAINTEXT.
    """
    if len(listeners) > LISTENERS_MAX:
        raise ConfigError(f"listeners: at most {LISTENERS_MAX} are possible")
    protocols = _parse_map(protocol_map)
    closed = {name.upper() for name in controller_names}
    told = _parse_named(advertised, "advertised.listeners")
    bound = _parse_named(listeners, "listeners")
    _check_ports(bound)
    made = []
    for name, (host, port) in bound.items():
        if name in closed:
            continue
        protocol = protocols.get(name, "PLAINTEXT")
        if protocol != "PLAINTEXT":
            raise ConfigError(
                f"listeners: {name} is {protocol} by listener.security.protocol.map, "
                "but only PLAINTEXT is possible for now"
            )
        told_host, told_port = told.pop(name, (host, port))
        if name in _parse_names(advertised) and told_host in _WILDCARDS:
            raise ConfigError(
                f"advertised.listeners: {name}: clients cannot connect to "
                f"{told_host or 'an empty host'}; name the address they reach"
            )
        if told_host in _WILDCARDS:
            told_host = ""
        made.append(Listener(name, protocol, host, port, told_host, told_port))
    unknown = [name for name in told if name not in closed]
    if unknown:
        raise ConfigError(f"advertised.listeners: {unknown[0]} is not in listeners")
    if not made:
        raise ConfigError("listeners: none is left for clients")
    return tuple(made)


def _parse_named(texts: Sequence[str], key: str) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for text in texts:
        name, host, port = parse_endpoint(text, key=key)
        if name in found:
            raise ConfigError(f"{key}: {name} is given twice")
        found[name] = (host, port)
    return found


def _parse_names(texts: Sequence[str]) -> set[str]:
    return {text.partition("://")[0].upper() for text in texts}


def _check_ports(bound: dict[str, tuple[str, int]]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for name, (host, port) in bound.items():
        other = seen.setdefault((host, port), name) if port else name
        if other != name:
            raise ConfigError(f"listeners: {other} and {name} share port {port}")


def _parse_map(texts: Sequence[str]) -> dict[str, str]:
    protocols = {}
    for text in texts:
        name, colon, protocol = text.partition(":")
        if not colon or not name or not protocol:
            raise ConfigError(f"listener.security.protocol.map: {text!r} is not NAME:PROTOCOL")
        protocols[name.strip().upper()] = protocol.strip().upper()
    return protocols
