"""A broker for all tests of commands, and a way to call commands."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastmq.cli import main

from support.broker import Broker


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("cli")) as broker:
        yield broker


class Called:
    """What a command left behind."""

    def __init__(self, result: Result) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        self.result = result

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """A table's rows, without the headings."""
        return [line.split() for line in self.out.splitlines()[1:]]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory of one's own, and no settings from outside."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FASTMQ_PROFILE", raising=False)
    monkeypatch.delenv("FASTMQ_BOOTSTRAP_SERVERS", raising=False)
    return tmp_path


@pytest.fixture
def call(home) -> Callable[..., Called]:
    """Call `fastmq ARGS...` in this process; any exit code but the expected one fails."""

    def run(*args: object, code: int = 0, stdin: str | bytes | None = None) -> Called:
        result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{args}: {result.exit_code}\n{result.output}"
        return Called(result)

    return run


@pytest.fixture
def fastmq(call, served, monkeypatch) -> Callable[..., Called]:
    """The same, for commands about the broker."""
    monkeypatch.setenv("FASTMQ_BOOTSTRAP_SERVERS", served.bootstrap)
    return call
