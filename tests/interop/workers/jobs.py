"""What every worker of the interop matrix shares: its command line and the records.

A worker is one process with one client: `WORKER produce JSON` or `WORKER consume JSON`. Records
are made from (slice, number) alone, so that whoever reads one can tell what it should be:

    key    "s<slice>-k<number % 50>"
    value  "<key>:<number>:" and a mixed number of `x`

A consumer prints "R" for each new assignment and "<partition> <offset> <key> <number> <bytes>" for
each record, and flushes before it commits; SIGTERM makes it leave the group and end with 0.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

KEYS = 50


def value_bytes(number: int) -> int:
    """Mixed sizes: mostly 16 to 515 bytes, one in 997 is 20,000."""
    return 20_000 if number % 997 == 0 else 16 + number * 7919 % 500


def key_of(part: int, number: int) -> str:
    return f"s{part}-k{number % KEYS}"


def value_of(part: int, number: int) -> str:
    return f"{key_of(part, number)}:{number}:".ljust(value_bytes(number), "x")


def records(job: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one slice, in order."""
    part = job["slice"]
    for number in range(job["count"]):
        yield key_of(part, number).encode(), value_of(part, number).encode()


@dataclass
class Stop:
    """Set by SIGTERM."""

    asked: bool = False


class Output:
    """The consumer's report on standard output."""

    def assigned(self) -> None:
        sys.stdout.write("R\n")
        sys.stdout.flush()

    def record(self, partition: int, offset: int, value: bytes) -> None:
        key, number, _ = value.split(b":", 2)
        sys.stdout.write(f"{partition} {offset} {key.decode()} {int(number)} {len(value)}\n")

    def flush(self) -> None:
        sys.stdout.flush()


def run(
    produce: Callable[[dict[str, Any]], None],
    consume: Callable[[dict[str, Any], Stop, Output], None],
) -> None:
    """Read the command line and do the job."""
    mode, job = sys.argv[1], json.loads(sys.argv[2])
    if mode == "produce":
        produce(job)
        return
    stop = Stop()

    def on_term(_number: int, _frame: object) -> None:
        stop.asked = True

    signal.signal(signal.SIGTERM, on_term)
    consume(job, stop, Output())
