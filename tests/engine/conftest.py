"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import Harness


@pytest.fixture(params=["thread", "nested", "two-directories"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """The engine under both drivers: its own thread, and a loop of the caller's; and with two log
    directories, where appends that wait for a sync are written by the thread that syncs.
    """
    made = Harness(tmp_path, nested=request.param == "nested")
    if request.param == "two-directories":
        made.partition(topic="elsewhere", topic_id=bytes(15) + b"x", dir_id=1)
    yield made
    made.close()
