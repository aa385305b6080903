"""Run every script of this directory, one after the other; their JSON lines on standard output."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "footprint.py",
    "produce.py",
    "consume.py",
    "small_requests.py",
    "durable.py",
    "librdkafka.py",
    "client_producer.py",
    "client_consumer.py",
    "latency.py",
    "fanout.py",
    "group_start.py",
)


def main() -> int:
    """Pass the options on; the number of scripts that failed."""
    here = Path(__file__).parent
    failed = 0
    for script in SCRIPTS:
        command = [sys.executable, str(here / script), *sys.argv[1:]]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


sys.exit(main())
