"""`fastmq perf`: how fast a cluster takes and gives records, and how long they take.

The tool for users, through the bundled clients: what it shows is client and broker together.
`perf/` in the source tree holds yardsticks and comparisons. `histogram` counts times, `report`
shows them, `runs` does the work, `command` has the options.
"""

from fastmq.cli.perf.command import perf

__all__ = ["perf"]
