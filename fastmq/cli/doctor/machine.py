"""Checks of the process's limits, memory and the kernel's settings."""

import os
import platform
import resource
import sys
from collections.abc import Iterator

from fastmq.cli.doctor.findings import Finding, Level, read_number, read_text
from fastmq.cli.support.output import bytes_text

__all__ = ["check_kernel", "check_limits", "check_memory", "check_python"]

_OK, _HINT, _WARNING, _PROBLEM = Level.OK, Level.HINT, Level.WARNING, Level.PROBLEM

# Connections, open segments (an LRU bounds them) and some; 10,000 connections fit into this.
_FILES_ENOUGH = 16_384
_FILES_FEW = 1_024
_MEMORY_LOW_BYTES = 256 << 20


def check_python() -> Iterator[Finding]:
    """The interpreter and the compiled modules."""
    version = platform.python_version()
    yield Finding("python", _OK, f"{platform.python_implementation()} {version}")
    try:
        from fastmq._native import core, syscalls

        _ = core, syscalls
    except ImportError as error:
        yield Finding(
            "native modules",
            _PROBLEM,
            f"cannot be imported: {error}",
            "install again for this interpreter: pip install --force-reinstall .",
        )
    else:
        yield Finding("native modules", _OK, "compiled and importable")
    if sys.platform != "linux":
        yield Finding("system", _WARNING, sys.platform, "only Linux is tried; expect surprises")


def check_limits() -> Iterator[Finding]:
    """Open files and processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{_limit(soft)} (at most {_limit(hard)})"
    if 0 <= soft < _FILES_ENOUGH:
        raise_to = "ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit"
        level = _WARNING if soft < _FILES_FEW else _HINT
        yield Finding(
            "open files", level, found, f"each connection takes one; for many of them: {raise_to}"
        )
    else:
        yield Finding("open files", _OK, found)
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if 0 <= size < 2 << 30:
        yield Finding(
            "file size", _PROBLEM, f"files may have {bytes_text(size)}", "ulimit -f unlimited"
        )
    yield Finding("processors", _OK, f"{len(os.sched_getaffinity(0))} usable")


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def check_memory() -> Iterator[Finding]:
    """Free memory, the control group's limit, swap."""
    table = dict(
        line.partition(":")[::2] for line in (read_text("/proc/meminfo") or "").splitlines()
    )

    def value(name: str) -> int | None:
        words = table.get(name, "").split()
        return int(words[0]) * 1024 if words and words[0].isdigit() else None

    available = value("MemAvailable")
    limit = read_number("/sys/fs/cgroup/memory.max")
    used = read_number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and available is not None:
        available = min(available, max(0, limit - used))
    if available is not None:
        found = f"{bytes_text(available)} available"
        if limit is not None:
            found += f", the control group may have {bytes_text(limit)}"
        low = available < _MEMORY_LOW_BYTES
        yield Finding(
            "memory",
            _WARNING if low else _OK,
            found,
            "what is not used by programs is the page cache that fetches are served from; free some"
            if low
            else "",
        )
    swappiness = read_number("/proc/sys/vm/swappiness")
    if swappiness is not None and value("SwapTotal") and swappiness > 10:
        yield Finding(
            "swap",
            _HINT,
            f"vm.swappiness is {swappiness}",
            "a broker that is swapped out answers late: sysctl -w vm.swappiness=1",
        )


def check_kernel() -> Iterator[Finding]:
    """Settings that matter to a process that writes logs and has many connections."""
    backlog = read_number("/proc/sys/net/core/somaxconn")
    if backlog is not None:
        few = backlog < 1024
        yield Finding(
            "listen backlog",
            _HINT if few else _OK,
            f"net.core.somaxconn is {backlog}",
            "for thousands of clients that connect at once: sysctl -w net.core.somaxconn=4096"
            if few
            else "",
        )
    dirty = read_number("/proc/sys/vm/dirty_ratio")
    if dirty is not None:
        much = dirty > 60
        yield Finding(
            "write-back",
            _HINT if much else _OK,
            f"vm.dirty_ratio is {dirty} %",
            "so much unwritten data makes writers wait long when it is reached:"
            " sysctl -w vm.dirty_ratio=20"
            if much
            else "",
        )
    huge = read_text("/sys/kernel/mm/transparent_hugepage/enabled")
    if huge is not None and "[always]" in huge:
        yield Finding(
            "huge pages",
            _HINT,
            "transparent huge pages are always on",
            "memory may look larger than it is: echo madvise >"
            " /sys/kernel/mm/transparent_hugepage/enabled",
        )
    ports = (read_text("/proc/sys/net/ipv4/ip_local_port_range") or "").split()
    if len(ports) == 2 and int(ports[0]) <= 9092 <= int(ports[1]):
        yield Finding(
            "local ports",
            _WARNING,
            f"outgoing connections use ports {ports[0]} to {ports[1]}",
            "one of them may take a broker's port while it restarts:"
            " sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
        )
