"""Rules of leaders and followers; the arithmetic per fetch is in the engine. Pure."""

from fastmq.replica.isr import InSyncSets, IsrHint
from fastmq.replica.throttle import Throttle, is_listed

__all__ = ["InSyncSets", "IsrHint", "Throttle", "is_listed"]
