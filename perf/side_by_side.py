"""Rounds of several clients, each in a process of its own, and the table of their medians.

`client_producer.py` and `client_consumer.py` say what a client does; a client is called with the
bootstrap address and the number of records, and returns (wall seconds, CPU seconds).
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import harness

Client = Callable[[str, int], tuple[float, float]]

LIMIT_S = 300


def run(
    doc: str | None,
    script: str,
    kind: str,
    clients: Mapping[str, Client],
    share: Mapping[str, float],
    prepare: Callable[[str, int], None] = lambda bootstrap, records: None,
) -> None:
    """Measure, and print a line for each client.

    Args:
        doc: the script's docstring.
        script: its path.
        kind: what the clients are called in the result.
        clients: by name.
        share: how many of the records each gets; the slow ones fewer, for about the same time.
        prepare: makes what all of them need, before the first round.
    """
    parser = harness.arguments(doc)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=clients, default=list(clients))
    parser.add_argument("--worker", choices=clients, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        wall_s, cpu_s = clients[options.worker](options.bootstrap, options.records)
        count = options.records
        print(
            json.dumps({"records_per_s": count / wall_s, "cpu_s_per_million": cpu_s / count * 1e6})
        )
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    with harness.scratch(options) as root, harness.broker(options, root, options.partitions) as at:
        bootstrap = f"127.0.0.1:{at.port}"
        prepare(bootstrap, options.records)
        for _ in range(options.rounds):
            for name in options.only:
                count = max(1000, int(options.records * share[name]))
                found[name].append(_measure(script, name, bootstrap, count))
    for name, rounds in found.items():
        line = {"script": Path(script).name, kind: name, "partitions": options.partitions}
        for key in ("records_per_s", "cpu_s_per_million"):
            line[key] = round(statistics.median(row[key] for row in rounds), 3)
        print(json.dumps(line), flush=True)


def _measure(script: str, name: str, bootstrap: str, count: int) -> dict[str, Any]:
    """Run one client in a process of its own, on its core."""
    command = ["taskset", "-c", str(harness.LOAD_CPU), sys.executable, script]
    command += ["--worker", name, "--bootstrap", bootstrap, "--records", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMIT_S)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
