"""Where reading begins and ends: words, offsets, counts from the end, times, ranges."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from fastmq.cli.support.values import parse_time_ms
from fastmq.client.topic_partition import TopicPartition

if TYPE_CHECKING:
    from fastmq.client.fronts.admin import Admin
    from fastmq.client.fronts.positions import Position

__all__ = ["Place", "parse_place", "parse_range", "resolve"]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a partition.

    Attributes:
        kind: "earliest", "latest", "stored", "offset" (`number`), "back" (`number` records before
            the end), "time" (`number`: ms).
    """

    kind: str
    number: int = 0


_WORDS = {
    "beginning": "earliest",
    "earliest": "earliest",
    "start": "earliest",
    "smallest": "earliest",
    "end": "latest",
    "latest": "latest",
    "largest": "latest",
    "stored": "stored",
    "committed": "stored",
}


def parse_place(text: str, now: datetime | None = None) -> Place:
    """Return the place for "beginning", "end", "stored", "1000", "-10", "@2024-05-01", "@-15m".

    kcat's `s@TIME` is the same as `@TIME`.

    Raises:
        ValueError: it is no place.
    """
    if text in _WORDS:
        return Place(_WORDS[text])
    plain = text.removeprefix("s")
    if plain.startswith("@"):
        return Place("time", parse_time_ms(plain[1:], now))
    back = text.startswith("-")
    digits = text[1:] if back else text
    if digits.isascii() and digits.isdigit():
        return Place("back" if back else "offset", int(digits))
    raise ValueError(
        f"{text!r} is no place; write beginning, end, stored, 1000, -10 (ten before the end),"
        " @2024-05-01T12:00 or @-15m"
    )


def parse_range(text: str) -> tuple[Place, Place | None]:
    """Return where to begin and to end for "PLACE" or "PLACE..PLACE"; the end is left out.

    Raises:
        ValueError: it is not that.
    """
    begin, dots, end = text.partition("..")
    return parse_place(begin or "beginning"), parse_place(end) if dots and end else None


def resolve(
    admin: "Admin", partitions: Iterable[TopicPartition], place: Place, group: str | None = None
) -> dict[TopicPartition, int]:
    """Return the offset of a place in each partition, within what there is.

    Raises:
        KafkaError: a partition is not there.
        ValueError: "stored" without a group.
    """
    names = list(partitions)
    starts = _offsets(admin, names, "earliest")
    if place.kind == "earliest":
        return starts
    ends = _offsets(admin, names, "latest")
    if place.kind == "latest":
        return ends
    if place.kind == "back":
        return {name: max(starts[name], ends[name] - place.number) for name in names}
    if place.kind == "offset":
        return {name: min(max(starts[name], place.number), ends[name]) for name in names}
    if place.kind == "stored":
        if group is None:
            raise ValueError("stored offsets are those of a group: give --group")
        committed = admin.committed_offsets(group)
        return {n: committed[n].offset if n in committed else starts[n] for n in names}
    found = admin.list_offsets(dict.fromkeys(names, place.number))
    return {name: one.offset if one.offset >= 0 else ends[name] for name, one in found.items()}


def _offsets(
    admin: "Admin", names: Iterable[TopicPartition], where: "Position"
) -> dict[TopicPartition, int]:
    found = admin.list_offsets(dict.fromkeys(names, where))
    return {name: one.offset for name, one in found.items()}
