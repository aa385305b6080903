"""The public API is what type checkers take it for: `usage.py`, strictly, with mypy and pyright."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastmq

HERE = Path(__file__).parent
# Type checkers do not find editable installs; everybody else's is found like any package.
SOURCE = str(Path(fastmq.__file__).resolve().parent.parent)


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_mypy(tmp_path):
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    command += ["--cache-dir", str(tmp_path), "--config-file", "", str(HERE / "usage.py")]
    assert run(command, env={"MYPYPATH": SOURCE}, cwd=tmp_path) == (0, "")


@pytest.mark.slow
def test_pyright(tmp_path):
    pytest.importorskip("basedpyright")
    config = {
        "include": [str(HERE / "usage.py")],
        "extraPaths": [SOURCE],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "basedpyright", "-p", str(tmp_path)]
    command += ["--pythonpath", sys.executable]
    code, output = run(command, cwd=tmp_path)
    assert code == 0, output


def test_every_public_name_is_there():
    for name in fastmq.__all__:
        assert getattr(fastmq, name) is not None, name
