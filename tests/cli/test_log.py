"""`fastmq log dump`: text and JSON, files and directories, and the exit code."""

import json
from pathlib import Path

from click.testing import CliRunner

from fastmq._native.records import RecordsBuilder
from fastmq.cli.log import log
from fastmq.log.verify import verify_partition
from fastmq.protocol import encode
from fastmq.protocol.records import OffsetCommitKey, OffsetCommitValue

LOG = "00000000000000000000.log"


def partition(path: Path, key: bytes, value: bytes) -> Path:
    path.mkdir()
    builder = RecordsBuilder()
    builder.append(1000, key, value)
    (path / LOG).write_bytes(builder.finish())
    (path / "leader-epoch-checkpoint").write_bytes(b"0\n1\n0 0\n")
    (path / "ignored.tmp").write_bytes(b"?")
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(log, ["dump", *(str(argument) for argument in arguments)])
    return result.exit_code, result.output


def test_a_directory_is_dumped_file_by_file(tmp_path: Path) -> None:
    path = partition(tmp_path / "t-0", b"k", b"v")
    code, output = run(path)
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == f"Dumping {path / LOG}"
    assert lines[1].startswith("base_offset: 0 last_offset: 0 count: 1 ")
    assert lines[1].endswith("is_valid: true")
    assert lines[2:] == [
        f"Dumping {path / 'leader-epoch-checkpoint'}",
        "epoch leader_epoch: 0 start_offset: 0",
    ]


def test_records_are_printed_when_asked_for(tmp_path: Path) -> None:
    path = partition(tmp_path / "t-0", b"k", b"v")
    assert "key: k value: v" not in run(path / LOG)[1]
    assert run("--print-data", path / LOG)[1].endswith("key: k value: v\n")


def test_json_is_an_object_per_line(tmp_path: Path) -> None:
    path = partition(tmp_path / "t-0", b"k", b"\xff")
    code, output = run("--json", "--print-data", path)
    batch, epoch = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert batch["file"] == str(path / LOG)
    assert batch["records"][0]["value"] == {"base64": "/w=="}
    assert epoch["type"] == "epoch"


def test_the_offsets_topic_is_decoded(tmp_path: Path) -> None:
    key = b"\x00\x01" + encode(OffsetCommitKey(group="g", topic="t", partition=3), 1)
    value = b"\x00\x03" + encode(OffsetCommitValue(offset=42), 3)
    path = partition(tmp_path / "__consumer_offsets-7", key, value)
    _, output = run("--print-data", path)
    assert "offset_commit: {group: g, topic: t, partition: 3}" in output
    assert "offset: 42" in output


def test_damage_is_told_by_the_exit_code(tmp_path: Path) -> None:
    path = partition(tmp_path / "t-0", b"k", b"v") / LOG
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, output = run(path)
    assert (code, "is_valid: false" in output) == (1, True)
    path.write_bytes(data[:-1])
    code, output = run(path)
    assert (code, "damage position: 0" in output) == (1, True)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"")
    code, output = run(tmp_path / "x.txt")
    assert (code, "not a file of a log" in output) == (1, True)
    assert run(tmp_path / "missing")[0] == 2


# ---- log verify ----------------------------------------------------------------------------------


def segment(path: Path, batches: int, base: int = 0) -> bytes:
    """A segment of batches of one record each."""
    data = b""
    for number in range(batches):
        builder = RecordsBuilder()
        builder.append(1000, b"k", b"v" * 50)
        batch = bytearray(builder.finish())
        batch[:8] = (base + number).to_bytes(8)
        data += bytes(batch)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return data


def verify(*arguments: object) -> tuple[int, list[dict]]:
    command = ["verify", "--json", *(str(argument) for argument in arguments)]
    result = CliRunner().invoke(log, command)
    return result.exit_code, json.loads(result.stdout)


def test_sound_partitions_are_counted(tmp_path: Path) -> None:
    segment(tmp_path / "t-0" / LOG, 3)
    segment(tmp_path / "t-0" / "00000000000000000003.log", 2, base=3)
    segment(tmp_path / "t-1" / LOG, 1)
    code, (first, second) = verify(tmp_path)
    assert code == 0
    assert (first["segments"], first["records"], first["end_offset"]) == (2, 5, 5)
    assert second["batches"] == 1
    result = CliRunner().invoke(log, ["verify", str(tmp_path), "--records"])
    assert result.stdout.count("sound") == 2


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    data = bytearray(segment(tmp_path / "t-0" / LOG, 3))
    data[len(data) // 2] ^= 1
    (tmp_path / "t-0" / LOG).write_bytes(data)
    code, (report,) = verify(tmp_path / "t-0")
    assert code == 1
    assert report["findings"]
    result = CliRunner().invoke(log, ["verify", str(tmp_path)])
    assert "damage: " in result.stdout


def test_a_torn_end_is_a_note_in_the_newest_segment_only(tmp_path: Path) -> None:
    data = segment(tmp_path / "t-0" / LOG, 3)
    (tmp_path / "t-0" / LOG).write_bytes(data[:-10])
    code, (report,) = verify(tmp_path)
    assert code == 0
    assert report["findings"][0]["is_note"]
    segment(tmp_path / "t-0" / "00000000000000000003.log", 1, base=3)
    assert verify(tmp_path)[0] == 1


def test_offsets_that_go_back_and_segments_that_overlap(tmp_path: Path) -> None:
    segment(tmp_path / "t-0" / LOG, 3)
    segment(tmp_path / "t-0" / "00000000000000000002.log", 1, base=2)
    code, (report,) = verify(tmp_path)
    assert code == 1
    assert "begins at 2, before the end 3" in report["findings"][0]["message"]
    (tmp_path / "t-1").mkdir()
    twice = segment(tmp_path / "t-1" / LOG, 1) * 2
    (tmp_path / "t-1" / LOG).write_bytes(twice)
    code, reports = verify(tmp_path / "t-1")
    assert code == 1
    assert "offsets 0 to 0 after 0" in reports[0]["findings"][0]["message"]


def test_an_index_that_points_between_batches(tmp_path: Path) -> None:
    data = segment(tmp_path / "t-0" / LOG, 3)
    size = len(data) // 3
    index = tmp_path / "t-0" / LOG.replace(".log", ".index")
    index.write_bytes((1).to_bytes(4) + size.to_bytes(4) + bytes(8))
    assert verify(tmp_path)[0] == 0
    index.write_bytes((1).to_bytes(4) + (size + 1).to_bytes(4))
    code, (report,) = verify(tmp_path)
    assert code == 1
    assert "where no batch begins" in report["findings"][0]["message"]
    index.write_bytes((2).to_bytes(4) + size.to_bytes(4))
    assert verify(tmp_path)[0] == 1


def test_what_is_being_deleted_is_left_alone(tmp_path: Path) -> None:
    segment(tmp_path / "t-0" / LOG, 1)
    segment(tmp_path / "t-1.0123-delete" / LOG, 1)
    code, reports = verify(tmp_path)
    assert (code, len(reports)) == (0, 1)


def test_a_directory_that_goes_away_meanwhile_is_no_damage(tmp_path: Path) -> None:
    segment(tmp_path / "t-0" / LOG, 2)
    (tmp_path / "t-0" / "00000000000000000002.log").symlink_to(tmp_path / "gone")
    report = verify_partition(tmp_path / "t-0")
    assert report.is_sound
    assert report.records == 2
