"""The machine that was measured on, and what is done to it before."""

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness

_PIECE = 1 << 20


def context() -> dict[str, Any]:
    """What somebody needs to repeat it or to doubt it."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_mib": _memory_kib("MemTotal") >> 10,
        "kernel": platform.release(),
        "system": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        "hypervisor": "hypervisor" in _field("/proc/cpuinfo", "flags"),
        "python": sys.version.split()[0],
        "compiler": _said("cc", "--version"),
        "commit": _said("git", "-C", str(harness.ROOT), "rev-parse", "HEAD"),
        "changed_files": len(
            _said_all("git", "-C", str(harness.ROOT), "status", "--porcelain").splitlines()
        ),
        "librdkafka": _librdkafka(),
        "load_average_before": os.getloadavg(),
    }


def busy_share(seconds: float = 1.0) -> float:
    """How much of the machine's CPU others use now, 0 to 1."""
    import time

    before = _cpu_ticks()
    time.sleep(seconds)
    after = _cpu_ticks()
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]
    return round(1 - idle / total, 3) if total else 0.0


def warm_memory(limit_bytes: int) -> int:
    """Touch free memory once, in a process that ends; returns the bytes touched.

    The host of a virtual machine hands out memory at its first touch, which can cost five times
    what the copy into it costs, and may take it back when it has been free for some seconds, or
    at once what is free beyond a gigabyte. Whoever writes to such memory pays for the host, so a
    little is touched before each measurement.
    """
    wanted = min(limit_bytes, _memory_kib("MemFree") * 1024 * 8 // 10)
    wanted -= wanted % _PIECE
    pid = os.fork()
    if pid == 0:
        try:
            area = mmap.mmap(-1, wanted)
            piece = b"x" * _PIECE
            for at in range(0, wanted, _PIECE):
                area[at : at + _PIECE] = piece
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return wanted


def _memory_kib(field: str) -> int:
    return int(_field("/proc/meminfo", field).split()[0])


def _cpu_ticks() -> list[int]:
    return [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def _field(path: str, name: str, separator: str = ":") -> str:
    for line in Path(path).read_text().splitlines():
        key, found, value = line.partition(separator)
        if found and key.strip() == name:
            return value.strip()
    return ""


def _librdkafka() -> str:
    import confluent_kafka

    version: str = confluent_kafka.libversion()[0]
    return version


def _said(*command: str) -> str:
    return _said_all(*command).partition("\n")[0]


def _said_all(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return done.stdout.strip()
