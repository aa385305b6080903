"""The cold system calls, against the real kernel."""

import errno
from pathlib import Path

import pytest

from fastmq._native import syscalls


def test_sync_filesystem_succeeds_on_a_directory_with_fresh_files(tmp_path):
    (tmp_path / "fresh").write_bytes(b"x")
    syscalls.sync_filesystem(tmp_path)


@pytest.mark.parametrize("call", [syscalls.sync_filesystem, syscalls.filesystem_type])
def test_calls_name_the_path_in_their_error(call, tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        call(missing)
    assert caught.value.filename == str(missing)


@pytest.mark.parametrize("call", [syscalls.sync_filesystem, syscalls.filesystem_type])
def test_calls_refuse_a_file_and_leak_no_descriptor(call, tmp_path):
    file = tmp_path / "file"
    file.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotADirectoryError):
        call(file)
    call(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_errors_come_back_as_errno():
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syscalls._check(syscalls._syscalls.lib.fmq_sync_filesystem(-1), "nowhere")
    assert caught.value.errno == errno.EBADF


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm on this system")
def test_filesystem_type_tells_memory_from_disk(tmp_path):
    assert syscalls.filesystem_type("/dev/shm") in syscalls.VOLATILE_FILESYSTEMS
    assert syscalls.filesystem_type("/") not in {"", "unknown"}
