"""`fastmq doctor`: each check finds what is wrong when it is, and says what to do."""

import os
import resource
import socket

import pytest

from fastmq.cli.doctor import machine, network, storage
from fastmq.cli.doctor.findings import Level


def by_check(findings):
    return {finding.check: finding for finding in findings}


def test_a_good_machine(call, served, tmp_path):
    called = call(
        "doctor", "--data-dir", tmp_path, "--listen", f"127.0.0.1:{served.port}", "--json"
    )
    found = {row["check"]: row for row in called.json}
    assert found[f"address 127.0.0.1:{served.port}"]["found"] == "a broker answers there"
    assert found["native modules"]["level"] == "ok"
    assert found["data directory"]["level"] == "ok"
    assert all(row["advice"] for row in called.json if row["level"] != "ok")
    assert not list(tmp_path.glob(".fastmq-doctor*"))


def test_problems_set_the_exit_code_and_say_what_to_do(call, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.settimeout(0)
        called = call("doctor", "--data-dir", tmp_path, "--listen", f"127.0.0.1:{port}", code=1)
    assert "problem  address" in called.out
    assert "--listen HOST:PORT" in called.out
    assert "1 problem" in called.out.splitlines()[-1]


def test_addresses():
    (finding,) = network.check_address("192.0.2.1", 9092)
    assert finding.level == Level.PROBLEM
    assert "of this machine" in finding.advice
    (finding,) = network.check_address("no.such.host.invalid", 9092)
    assert "name is not known" in finding.found
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (finding,) = network.check_address("127.0.0.1", port)
    assert (finding.level, finding.found) == (Level.OK, "free")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    (finding,) = storage.check_storage(tmp_path / "data")
    assert "cannot be written to" in finding.found


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    (finding,) = storage.check_storage(tmp_path / "file")
    assert finding.level == Level.PROBLEM


def test_kinds_of_file_systems(tmp_path, monkeypatch):
    for kind, level in (
        ("tmpfs", Level.WARNING),
        ("nfs4", Level.WARNING),
        ("overlayfs", Level.HINT),
        ("ext4", Level.OK),
    ):
        monkeypatch.setattr("fastmq._native.syscalls.filesystem_type", lambda _, k=kind: k)
        found = by_check(storage.check_storage(tmp_path))
        assert found["file system"].level == level, kind


def test_few_open_files_and_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    found = by_check(machine.check_limits())
    assert found["open files"].level == Level.WARNING
    assert "ulimit -n" in found["open files"].advice

    class Full:
        f_bavail, f_blocks, f_frsize, f_files, f_favail = 10, 1_000_000, 4096, 1000, 10

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    found = by_check(storage.check_storage(tmp_path))
    assert found["disk space"].level == Level.WARNING
    assert found["inodes"].level == Level.WARNING


def test_kernel_settings(monkeypatch):
    texts = {
        "/proc/sys/net/core/somaxconn": "128",
        "/proc/sys/vm/dirty_ratio": "80",
        "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "/proc/sys/net/ipv4/ip_local_port_range": "1024 65535",
    }
    monkeypatch.setattr(machine, "read_text", texts.get)
    monkeypatch.setattr(machine, "read_number", lambda path: int(texts[path]))
    found = by_check(machine.check_kernel())
    assert all(found[name].level > Level.OK for name in ("listen backlog", "write-back"))
    assert found["huge pages"].advice
    assert found["local ports"].level == Level.WARNING


def test_a_clock_that_was_never_set(monkeypatch):
    monkeypatch.setattr(network.time, "time", lambda: 86_400.0)
    (finding,) = network.check_clock()
    assert (finding.level, finding.check) == (Level.PROBLEM, "clock")


def test_swap_and_little_memory(monkeypatch):
    texts = {"/proc/meminfo": "MemAvailable:  1000 kB\nSwapTotal:  1000 kB"}
    numbers = {"/proc/sys/vm/swappiness": 60}
    monkeypatch.setattr(machine, "read_text", texts.get)
    monkeypatch.setattr(machine, "read_number", numbers.get)
    found = by_check(machine.check_memory())
    assert found["memory"].level == Level.WARNING
    assert found["swap"].level == Level.HINT
