"""A whole cluster in one event loop, on a virtual clock, from a seed, with everything going wrong.

    python -m fastmq.testing.sim --seed 7        # one run, and what happened in it
    python -m fastmq.testing.sim --count 1000    # seeds 1 to 1000, on all cores

The brokers are those of `fastmq serve`, whole: engine, log, replication, controller, coordinators.
What they stand on is handed in (`fastmq.server.world`): links that delay, cut and break; disks that
lose what was not synced and tear what was being written; a model of etcd with leases, late watches
and compaction; clocks that jump. Clients write down what they were promised, and checkers compare.
docs/SIMULATION.md is the guide.
"""

from fastmq.testing.sim.options import Options, options_of
from fastmq.testing.sim.run import Verdict, run_seed

__all__ = ["Options", "Verdict", "options_of", "run_seed"]
