"""Completion in the shells themselves: a terminal, the script loaded, the Tab key pressed."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIMIT_S = 60
#: How each is started without anybody's settings, and how it loads the script.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(fastmq completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit && compinit -u -D && eval "$(fastmq completion zsh)"',
    ),
}


@pytest.fixture
def environment(served, home, monkeypatch):
    """`fastmq` is on the path, and finds the broker."""
    scripts = Path(sys.executable).parent
    if not (scripts / "fastmq").exists():
        pytest.skip("fastmq is not installed as a command")
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    monkeypatch.setenv("FASTMQ_BOOTSTRAP_SERVERS", served.bootstrap)
    monkeypatch.setenv("TERM", "dumb")
    return served


class Terminal:
    """A shell at a terminal."""

    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, text):
        """Wait until something is shown that was not before."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"{text!r} is not shown: {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the shell ended: {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key(shell, environment, fastmq):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    fastmq("topic", "create", f"tab-{shell}-events")
    command, load = SHELLS[shell]
    terminal = Terminal(command)
    try:
        terminal.type(f"{load}; echo loa''ded\n")
        terminal.wait_for("loaded")
        terminal.type("fastmq topic descr\t")
        terminal.wait_for("describe ")
        terminal.type(f"tab-{shell}-\t")
        terminal.wait_for(f"tab-{shell}-events")
    finally:
        terminal.close()


def test_fish(environment, fastmq):
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    fastmq("topic", "create", "tab-fish-events")

    def complete(line):
        script = f"fastmq completion fish | source; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=LIMIT_S,
        )
        return [row.split("\t")[0] for row in done.stdout.splitlines()]

    assert complete("fastmq topic descr") == ["describe"]
    assert complete("fastmq topic describe tab-fish-") == ["tab-fish-events"]
