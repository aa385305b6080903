"""Rules of leaders and followers; the arithmetic per fetch is in the engine. Pure."""

from fastmq.replica.isr import InSyncSets, IsrHint

__all__ = ["InSyncSets", "IsrHint"]
