"""The report: JSON with everything, Markdown to read, plots where matplotlib is there."""

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compare import plots, tables
from compare.peers import Peer
from compare.session import Session
from compare.workloads import WORKLOADS, Workload

FORMAT = 1


def describe(peer: Peer) -> dict[str, Any]:
    """A broker, for the report."""
    return {"title": peer.title, "version": peer.version(), "settings": peer.settings()}


def document(
    session: Session,
    rows: Iterable[Workload],
    options: argparse.Namespace,
    context: dict[str, Any],
    peers: dict[str, Any],
) -> dict[str, Any]:
    """Everything that was measured and what is needed to repeat it."""
    return {
        "format": FORMAT,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": {
            key: str(value)
            for key, value in sorted(vars(options).items())
            if key not in {"end", "list", "output"} and value is not None
        },
        "context": context,
        "peers": peers,
        "workloads": {
            row.name: {"title": row.title, "settings": repr(row.settings)} for row in rows
        },
        "summary": summary(session.results),
        "skipped": session.skipped,
        "results": session.results,
    }


def merged(new: dict[str, Any], path: Path) -> dict[str, Any]:
    """An earlier report with the workloads of a new one replaced or added.

    The earlier run's time, command and machine are kept, in `earlier`.
    """
    if not path.exists():
        return new
    old = json.loads(path.read_text())
    again = set(new["summary"])
    results = [r for r in old["results"] if r["workload"] not in again] + new["results"]
    kept = [s for s in old["skipped"] if not any(s.startswith(f"{name}:") for name in again)]
    # In the order of the table of workloads, whichever run they come from.
    titles = {**old["workloads"], **new["workloads"]}
    order = [w.name for w in WORKLOADS if w.name in titles]
    run = {key: old[key] for key in ("when", "command", "context")}
    return {
        **new,
        "peers": {**old["peers"], **new["peers"]},
        "workloads": {name: titles[name] for name in order},
        "summary": summary(sorted(results, key=lambda r: order.index(r["workload"]))),
        "skipped": kept + new["skipped"],
        "results": results,
        "earlier": [*old.get("earlier", []), run],
    }


def summary(results: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Median, lowest, highest and number of rounds of each figure, by workload and peer."""
    grouped: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for result in results:
        grouped.setdefault(result["workload"], {}).setdefault(result["peer"], []).append(result)
    return {
        workload: {peer: _spread(found) for peer, found in by_peer.items()}
        for workload, by_peer in grouped.items()
    }


def _spread(found: list[dict[str, Any]]) -> dict[str, Any]:
    spread: dict[str, Any] = {"rounds": len(found)}
    for key in found[0]:
        values = [r[key] for r in found if isinstance(r.get(key), int | float)]
        if key in {"round", "workload", "peer"} or not values:
            continue
        spread[key] = [statistics.median(values), min(values), max(values)]
    return spread


def write(found: dict[str, Any], directory: Path, name: str) -> list[Path]:
    """Write the files; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = [directory / f"{name}.json", directory / f"{name}.md"]
    written[0].write_text(json.dumps(found, indent=1) + "\n")
    written[1].write_text(tables.markdown(found))
    return written + plots.write(found, directory, name)
