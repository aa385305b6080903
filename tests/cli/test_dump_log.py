"""`fastmq dump-log`: text and JSON, files and directories, and the exit code."""

import json
from pathlib import Path

from click.testing import CliRunner

from fastmq._native.records import RecordsBuilder
from fastmq.cli.dump_log import dump_log
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
    result = CliRunner().invoke(dump_log, [str(argument) for argument in arguments])
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
