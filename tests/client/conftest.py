"""Fixtures of the client's tests: one broker for each module, and names that belong to one test."""

import re
from collections.abc import Iterator

import pytest

from support.broker import Broker


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    root = tmp_path_factory.mktemp("shared") / "broker"
    with Broker(root, overrides={"group.min.session.timeout.ms": 100}) as broker:
        yield broker


@pytest.fixture
def broker(shared: Broker) -> Broker:
    """One for all tests of a module; those that kill theirs make it themselves."""
    return shared


@pytest.fixture
def t(request: pytest.FixtureRequest) -> str:
    """The name of a topic of the test's own; groups have it, too."""
    return "t-" + re.sub("[^a-z0-9]+", "-", request.node.name.lower())
