"""Fixtures of the engine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import Harness


@pytest.fixture(params=["thread", "nested"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """The engine under both drivers: its own thread, and a loop of the caller's."""
    made = Harness(tmp_path, nested=request.param == "nested")
    yield made
    made.close()
