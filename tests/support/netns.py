"""A network of our own: hosts that are network namespaces on one bridge, and its cuts.

The bridge lives in a namespace too, so nothing of the machine's own network is touched, addresses
never clash with another run, and removing the namespaces removes everything. A cut is one-way and
made at the bridge (nft, family bridge), which neither side notices; ARP goes on, as it does on a
switch whose router drops. Needs root, iproute2, nftables.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

CLONE_NEWNET = 0x40000000
_RULES = """
table bridge cuts {
    set pairs { type ipv4_addr . ipv4_addr; }
    chain passing {
        type filter hook forward priority 0; policy accept;
        ip saddr . ip daddr @pairs drop
    }
}
"""
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: object, text: str = "") -> str:
    """A command that must succeed; returns what it printed."""
    done = subprocess.run(
        [str(c) for c in command], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def cannot_make_namespaces() -> str | None:
    """Why no network of our own can be made here, or None. Tries it, cuts included."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")):
        if not shutil.which(tool):
            return f"{tool} is not here: apt install {package}"
    try:
        with Network() as network:
            one, other = network.add_host("p1"), network.add_host("p2")
            network.cut([(one, other)])
            network.heal()
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
    return None


class Host(NamedTuple):
    """One machine of the network."""

    name: str
    address: str
    namespace: str

    @property
    def wrap(self) -> tuple[str, ...]:
        """Put before a command, makes it run there; its pid stays that of the process started."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}", "--")


Pair = tuple[Host, Host]


def both_ways(ones: Iterable[Host], others: Iterable[Host]) -> list[Pair]:
    """Every pair between two sides, in both directions."""
    pairs = [(one, other) for one in ones for other in list(others)]
    return pairs + [(other, one) for one, other in pairs]


class Network:
    """Hosts on a bridge. A context manager: at its end nothing is left."""

    def __init__(self) -> None:
        self._prefix = f"fmq{os.getpid()}-{next(_numbers)}-"
        self._switch = f"{self._prefix}sw"
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        try:
            self._add_namespace(self._switch)
            run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", self._switch, "link", "set", "br0", "up")
            self._nft(_RULES)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _add_namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for name in [*(host.namespace for host in self.hosts.values()), self._switch]:
            with contextlib.suppress(OSError):
                run("ip", "netns", "del", name)
        self.hosts.clear()

    def _nft(self, text: str) -> None:
        command = ("nsenter", f"--net=/run/netns/{self._switch}", "--", "nft", "-f", "-")
        run(*command, text=text)

    def add_host(self, name: str) -> Host:
        """A machine with an address of its own, which reaches all others."""
        host = Host(name, f"10.77.0.{len(self.hosts) + 1}", self._prefix + name)
        self.hosts[name] = host
        self._add_namespace(host.namespace)
        port = f"to-{name}"
        run(
            *("ip", "-n", self._switch, "link", "add", port, "type", "veth"),
            *("peer", "name", "eth0", "netns", host.namespace),
        )
        run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        run("ip", "-n", host.namespace, "link", "set", "eth0", "up")
        return host

    @contextlib.contextmanager
    def inside(self, host: Host) -> Iterator[None]:
        """Let the calling thread, and the threads it starts, be on that machine."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(f"/run/netns/{host.namespace}")
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    # ------------------------------------------------------------------------------------- faults

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Drop what the first of each pair sends to the second, on top of earlier cuts."""
        elements = ", ".join(sorted({f"{a.address} . {b.address}" for a, b in pairs}))
        if elements:
            self._nft(f"add element bridge cuts pairs {{ {elements} }}\n")

    def heal(self) -> None:
        """No cuts any more."""
        self._nft("flush set bridge cuts pairs\n")

    def set_link(self, host: Host, *, up: bool) -> None:
        """Pull a machine's cable, or plug it in."""
        state = "up" if up else "down"
        run("ip", "-n", self._switch, "link", "set", f"to-{host.name}", state)

    def slow(self, host: Host, kbit: int, *, to_it: bool = True, from_it: bool = True) -> None:
        """Let a machine receive, or send, only so much (token bucket; netem is not everywhere)."""
        rate = ("root", "tbf", "rate", f"{kbit}kbit", "burst", "16kb", "latency", "200ms")
        if to_it:
            port = f"to-{host.name}"
            run("tc", "-n", self._switch, "qdisc", "replace", "dev", port, *rate)
        if from_it:
            run("tc", "-n", host.namespace, "qdisc", "replace", "dev", "eth0", *rate)

    def full_speed(self, host: Host) -> None:
        """End what `slow` has begun."""
        for namespace, device in ((self._switch, f"to-{host.name}"), (host.namespace, "eth0")):
            with contextlib.suppress(OSError):  # there was none
                run("tc", "-n", namespace, "qdisc", "del", "dev", device, "root")


def _enter(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _setns(descriptor)
    finally:
        os.close(descriptor)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
