"""What the dispatcher knows of a handler before it is imported."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import cast

__all__ = ["DEFERRED", "Deferred", "Kind", "Route"]


class Kind(Enum):
    """How a handler is run."""

    INLINE = "inline"
    SLOW = "slow"
    DATA = "data"


class Deferred(Enum):
    """What an inline handler returns when the answer comes later."""

    DEFERRED = "deferred"


DEFERRED = Deferred.DEFERRED


@dataclass(frozen=True, slots=True)
class Route:
    """Where the handler of one API is; its module is imported at the first frame.

    What brokers ask each other is served, but not advertised.
    """

    kind: Kind
    module: str
    function: str
    advertised: bool = True

    def load(self) -> Callable[..., object]:
        """Import the handler."""
        return cast("Callable[..., object]", getattr(import_module(self.module), self.function))
