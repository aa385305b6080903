"""How far consumer groups are behind, how many consumers they want, and when to start or stop one.

* `lag`: from committed offsets and log ends, seen now and then, to lag in records and seconds,
  rates, the time until a group has caught up, and the number of consumers that would do it.
* `decide`: from these numbers to the number of consumers that should run, without flapping.

Pure: the caller hands in what it saw and what time it is.
"""

from fastmq.scaling.decide import Autoscaler, Decision, Observation, Policy
from fastmq.scaling.lag import GroupLag, GroupSample, LagEstimator, OffsetSample, PartitionLag

__all__ = [
    "Autoscaler",
    "Decision",
    "GroupLag",
    "GroupSample",
    "LagEstimator",
    "Observation",
    "OffsetSample",
    "PartitionLag",
    "Policy",
]
