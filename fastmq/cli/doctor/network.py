"""Checks of addresses and the clock."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fastmq.cli.doctor.findings import Finding, Level, read_text

__all__ = ["check_address", "check_clock"]

_OK, _HINT, _WARNING, _PROBLEM = Level.OK, Level.HINT, Level.WARNING, Level.PROBLEM

# The day of the first line of code: a clock before it is wrong.
_CLOCK_LEAST_S = 1_700_000_000


def check_address(host: str, port: int) -> Iterator[Finding]:
    """Whether a broker could listen there, or does."""
    name = f"address {host}:{port}"
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Finding(
            name,
            _PROBLEM,
            f"the name is not known: {error.strerror or error}",
            "correct it, or add it to DNS or /etc/hosts",
        )
        return
    if _takes_connections(host, port):
        if _speaks_kafka(host, port):
            yield Finding(name, _OK, "a broker answers there")
        else:
            yield Finding(
                name,
                _PROBLEM,
                "something else listens there",
                f"stop it (ss -ltnp 'sport = :{port}'), or use another port: --listen HOST:PORT",
            )
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except PermissionError:
        yield Finding(name, _PROBLEM, "not allowed", "ports below 1024 need a privilege; use 9092")
    except OSError as error:
        yield Finding(
            name,
            _PROBLEM,
            f"cannot be listened on: {error.strerror or error}",
            "use an address of this machine (ip address), or 0.0.0.0 for all",
        )
    else:
        yield Finding(name, _OK, "free")


def _takes_connections(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def _speaks_kafka(host: str, port: int) -> bool:
    from fastmq.client.fronts.admin import Admin
    from fastmq.errors import FastmqError

    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with contextlib.suppress(FastmqError), Admin(address, default_api_timeout_ms=3000) as admin:
        admin.list_topics()
        return True
    return False


def check_clock() -> Iterator[Finding]:
    """Whether the clock is set, and kept right."""
    if time.time() < _CLOCK_LEAST_S:
        yield Finding(
            "clock",
            _PROBLEM,
            time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "set it: retention deletes by time, and clients look for offsets by time",
        )
        return
    source = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm", "jiffies"):
        yield Finding(
            "clock source",
            _WARNING,
            source,
            "reading the time is slow with it; look for tsc in"
            " /sys/devices/system/clocksource/clocksource0/available_clocksource",
        )
    synchronized = _is_synchronized()
    if synchronized is None:
        yield Finding("clock", _OK, "set; who keeps it right cannot be seen from here")
    elif synchronized:
        yield Finding("clock", _OK, "kept right by NTP")
    else:
        yield Finding(
            "clock",
            _HINT,
            "nobody keeps it right",
            "several machines should agree on the time: timedatectl set-ntp true, or chrony",
        )


def _is_synchronized() -> bool | None:
    """What the kernel was told by whoever keeps the clock; None when it cannot be asked."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    import ctypes
    import ctypes.util

    try:
        library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        # struct timex begins with `modes`, 0 for "only read"; 1 KiB is more than any libc's.
        state = library.adjtimex(ctypes.create_string_buffer(1024))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return bool(state != 5)  # TIME_ERROR: not synchronized
