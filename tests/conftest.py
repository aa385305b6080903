"""Fixtures of the whole suite: a broker process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.broker import Broker


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Start brokers with the arguments of `Broker`; they are stopped, and must end with 0."""
    with ExitStack() as stack:
        count = 0

        def make(**options: Any) -> Broker:
            nonlocal count
            count += 1
            return stack.enter_context(Broker(tmp_path / f"broker-{count}", **options))

        yield make


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """One broker in dev mode on a free port."""
    return make_broker()
