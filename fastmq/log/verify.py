"""Check the files of partitions: every batch, and what the files say about each other.

Per segment: headers make sense, checksums fit, offsets only grow and begin where the file's name
says; index entries point to the beginning of a batch. Between segments: none overlaps the one
before. Small files are read with `fastmq.log.dump`. Nothing is changed.

The end of the newest segment may be half a batch, which the broker cuts off at its next start; that
is told as a note and not as damage, also because a running broker may be writing it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import iter_unpack
from typing import Final

from fastmq.log.dump import dump_file, is_damage, log_files

__all__ = ["Finding", "PartitionReport", "partition_directories", "verify_partition"]

# A partition on its way out; its files go one by one.
_DELETED: Final = "-delete"

#: Told how many bytes have been checked since the last call.
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; a note when the broker mends it by itself."""

    file: str
    position: int
    message: str
    is_note: bool = False


@dataclass(slots=True)
class PartitionReport:
    """What was found in a partition. `end_offset` is that of the record to come."""

    path: str
    segments: int = 0
    batches: int = 0
    records: int = 0
    size_bytes: int = 0
    start_offset: int | None = None
    end_offset: int | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether there is no damage."""
        return all(finding.is_note for finding in self.findings)


def partition_directories(path: Path) -> list[Path]:
    """Return the partitions at or directly below a path, sorted.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir():
        return []
    if any(path.glob("*.log")):
        return [path]
    return sorted(
        one
        for one in path.iterdir()
        if one.is_dir() and not one.name.endswith(_DELETED) and any(one.glob("*.log"))
    )


def verify_partition(
    path: Path, *, records: bool = False, on_progress: OnProgress = lambda _: None
) -> PartitionReport:
    """Check one partition.

    Args:
        path: its directory.
        records: read every record, too (inflating batches).
        on_progress: told of bytes that are done.

    Raises:
        OSError: a file cannot be read.
    """
    report = PartitionReport(str(path))
    segments = sorted(path.glob("*.log"))
    for file in segments:
        try:
            _verify_segment(
                report, file, is_last=file == segments[-1], records=records, on_progress=on_progress
            )
        except FileNotFoundError:
            if file.exists():
                raise
            continue  # a running broker deletes old segments, and topics
    for file in log_files(path) if path.is_dir() else ():
        if file.suffix in (".log", ".index", ".timeindex"):
            continue  # indexes are checked against their segment, and may be preallocated
        for entry in dump_file(file):
            if is_damage(entry):
                report.findings.append(
                    Finding(file.name, int(entry.get("position", 0)), _message(entry))
                )
    return report


def _verify_segment(
    report: PartitionReport, file: Path, *, is_last: bool, records: bool, on_progress: OnProgress
) -> None:
    report.segments += 1
    size = file.stat().st_size
    report.size_bytes += size
    base = int(file.stem) if file.stem.isascii() and file.stem.isdigit() else 0
    if report.end_offset is not None and base < report.end_offset:
        report.findings.append(
            Finding(
                file.name,
                0,
                f"begins at {base}, before the end {report.end_offset} of the segment before it",
            )
        )
    wanted = dict(_index_entries(file.with_suffix(".index"), base))
    next_offset, done = base, 0
    for entry in dump_file(file, records=records):
        if entry["type"] == "damage":
            note = is_last and "are left in the file" in entry["message"]
            message = entry["message"] + (": cut off at the next start" if note else "")
            report.findings.append(Finding(file.name, entry["position"], message, note))
            break
        position, first, last = entry["position"], entry["base_offset"], entry["last_offset"]
        if not entry["is_valid"]:
            report.findings.append(Finding(file.name, position, f"checksum of {first} is wrong"))
        if first < next_offset or last < first:
            report.findings.append(
                Finding(file.name, position, f"offsets {first} to {last} after {next_offset - 1}")
            )
        indexed = wanted.pop(position, None)
        if indexed is not None and not first <= indexed <= last:
            report.findings.append(
                Finding(
                    file.with_suffix(".index").name,
                    position,
                    f"says {indexed}, where offsets {first} to {last} are",
                )
            )
        report.batches += 1
        report.records += entry["count"]
        if report.start_offset is None:
            report.start_offset = first
        next_offset = max(next_offset, last + 1)
        on_progress(position + entry["size"] - done)
        done = position + entry["size"]
    report.end_offset = max(next_offset, report.end_offset or 0)
    report.findings += [
        Finding(
            file.with_suffix(".index").name,
            position,
            f"says that offset {offset} is at {position}, where no batch begins",
        )
        for position, offset in wanted.items()
    ]
    on_progress(size - done)


def _index_entries(path: Path, base: int) -> Iterator[tuple[int, int]]:
    """(position, offset) of an offset index, up to the zeros of one that is preallocated."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for relative, position in iter_unpack(">Ii", data[: len(data) // 8 * 8]):
        if relative or position:
            yield position, base + relative


def _message(entry: dict[str, object]) -> str:
    return str(entry.get("message", "not valid"))
