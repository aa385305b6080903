"""Run the code blocks of a document against a broker: `blocks.py FILE SERVERS [--offline]`.

Python blocks run each in a fresh namespace, shell blocks with `bash -e`; all in the order of the
document, in an empty directory. The address 127.0.0.1:9092 becomes that of the broker, also for
commands that name none. A block below a line `<!-- not run: why -->` is left out, and one that
begins with `pip install` when there is no network. Standard library only: a README is tried in an
environment that has nothing but what it says.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = ["Block", "blocks_of", "run_block"]

_FENCE = re.compile(
    r"(?P<skip><!-- not run: [^\n]*-->\s*)?^```(?P<kind>python|sh)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_DEFAULT = "127.0.0.1:9092"
_TIMEOUT_S = 120


class Block(NamedTuple):
    """A piece of code in a document."""

    path: Path
    line: int
    kind: str
    code: str

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.path.name}:{self.line}"


def blocks_of(path: Path, *, offline: bool = False) -> list[Block]:
    """The blocks that are to be run."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        code = match["code"]
        if match["skip"] or (offline and code.startswith("pip install")):
            continue
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(path, line, match["kind"], code))
    return found


def run_block(block: Block, servers: str, directory: Path) -> str:
    """Run a block and return what it printed.

    Raises:
        AssertionError: it failed; the message has its output.
    """
    code = block.code.replace(_DEFAULT, servers).replace("localhost:9092", servers)
    if block.kind == "python":
        # Lines keep their numbers, so that an error names the place in the document.
        command = [sys.executable, "-c", "\n" * (block.line - 1) + code]
    else:
        command = ["bash", "-euo", "pipefail", "-c", code]
    scripts = str(Path(sys.executable).parent)
    env = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "FASTMQ_BOOTSTRAP_SERVERS": servers,
        "XDG_CONFIG_HOME": str(directory / "config"),
    }
    done = subprocess.run(
        command,
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT_S,
        text=True,
    )
    if done.returncode:
        raise AssertionError(f"{block.name} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main() -> int:
    """Run all blocks of a document, telling each."""
    path, servers = Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as directory:
        for block in blocks_of(path, offline="--offline" in sys.argv[3:]):
            print(f"--- {block.name}")
            try:
                print(run_block(block, servers, Path(directory)), end="")
            except (AssertionError, subprocess.TimeoutExpired) as error:
                print(error)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
