"""What a check finds."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = ["Finding", "Level", "read_number", "read_text"]


class Level(IntEnum):
    """How bad it is."""

    OK = 0
    HINT = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at.

    Attributes:
        check: a short name that stays the same, for programs.
        level: how bad it is.
        found: what is there.
        advice: what to do; empty when nothing needs to be done.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def read_text(path: str) -> str | None:
    """What a file of the kernel says; None when there is none, or it is not for us."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_number(path: str) -> int | None:
    """The same as a number."""
    text = read_text(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
