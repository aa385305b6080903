"""Runs one client against one broker: slices produced while a group of three reads them."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.judge import Judge

MEMBER_STOP_S = 30
PRODUCER_S = 600


class Member:
    """One consumer process of the group, and what it has reported so far."""

    def __init__(self, name: str, command: list[str], directory: Path, judge: Judge) -> None:
        self.name = name
        self.judge = judge
        self.report = directory / f"{name}.out"
        self.errors = directory / f"{name}.err"
        self._rest = ""
        with self.report.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        self._reader = self.report.open()

    def read(self) -> int:
        """Hand new lines to the judge; how many there were."""
        text = self._rest + self._reader.read()
        lines = text.split("\n")
        self._rest = lines.pop()
        for line in lines:
            self.judge.line(self.name, line)
        return len(lines)

    def leave(self) -> None:
        """SIGTERM: commit, leave the group, end with 0."""
        self.process.terminate()
        try:
            code = self.process.wait(MEMBER_STOP_S)
            self.read()
        finally:
            self.kill()
        assert code == 0, f"{self.name} ended with {code}: {self.error_text()}"

    def kill(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.close()

    def check_alive(self) -> None:
        code = self.process.poll()
        assert code is None, f"{self.name} ended with {code}: {self.error_text()}"

    def error_text(self) -> str:
        return self.errors.read_text(errors="replace")[-2000:]


class Group:
    """The members of one group, which come and go."""

    def __init__(
        self, command: Callable[[], list[str]], directory: Path, judge: Judge, size: int = 3
    ) -> None:
        self._command = command
        self._directory = directory
        self._judge = judge
        self._started = 0
        self.members: list[Member] = []
        for _ in range(size):
            self.join()

    def join(self) -> None:
        self._started += 1
        name = f"member-{self._started}"
        self.members.append(Member(name, self._command(), self._directory, self._judge))

    def leave(self) -> None:
        """The oldest member goes."""
        self.members[0].leave()
        self.members.pop(0)

    def read(self) -> int:
        for member in self.members:
            member.check_alive()
        return sum(member.read() for member in self.members)

    def read_until(self, done: Callable[[], bool], quiet_s: float) -> bool:
        """Read until `done`, or until nothing has come for `quiet_s`."""
        deadline = time.monotonic() + quiet_s
        while not done():
            if self.read():
                deadline = time.monotonic() + quiet_s
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        while self.members:
            self.leave()

    def kill(self) -> None:
        for member in self.members:
            member.kill()


def produce(command: list[str], group: Group | None = None) -> None:
    """Run one producer to its end, reading what the group reports meanwhile."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PRODUCER_S
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, "a producer takes too long"
                if group is not None:
                    group.read()
                time.sleep(0.05)
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()[-2000:]
