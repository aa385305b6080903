"""The pytest plugin, loaded by every pytest run in an environment that has fastmq.

It therefore imports pytest only; everything else is imported by the first test that uses a
fixture. Registered as the entry point `fastmq` of the group `pytest11`.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastmq.testing import Broker, Group, Topic

__all__ = [
    "fastmq_broker",
    "fastmq_group",
    "fastmq_topic",
    "pytest_addoption",
    "pytest_configure",
    "pytest_load_initial_conftests",
]

# A topic name may have 249 characters; what makes it unique follows.
_NAME_CHARS_MAX = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("fastmq")
    group.addoption(
        "--fastmq-in-process",
        action="store_true",
        default=None,
        help="run fastmq_broker on a thread of the test process (clock and faults need it)",
    )
    group.addoption(
        "--fastmq-config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of fastmq_broker; may be repeated",
    )
    parser.addini("fastmq_in_process", "as --fastmq-in-process", type="bool", default=False)
    parser.addini("fastmq_config", "settings of fastmq_broker, KEY=VALUE a line", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "fastmq_topic(partitions=1, config={}): how the fixture fastmq_topic makes its topic",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Have our modules imported as they are.

    pytest parses every module of a package that brings a plugin, to rewrite its assertions. We have
    none for it, it makes imports several times slower, and a broker on a thread imports while the
    tests do: CPython 3.11 fails then ("AST constructor recursion depth mismatch"), because threads
    share the parser's depth. pytest has no option for it; where its hook is another one, the
    modules are rewritten as before.
    """
    hook = getattr(early_config.pluginmanager, "rewrite_hook", None)
    marked = getattr(hook, "_must_rewrite", None)
    if isinstance(marked, set):
        marked -= {name for name in marked if name.partition(".")[0] == "fastmq"}


@pytest.fixture(scope="session")
def fastmq_broker(pytestconfig: pytest.Config) -> Iterator["Broker"]:
    """A broker for the session, one per worker of pytest-xdist; `.bootstrap_servers`."""
    from fastmq.testing import Broker

    in_process = pytestconfig.getoption("fastmq_in_process")
    if in_process is None:
        in_process = pytestconfig.getini("fastmq_in_process")
    lines = [*pytestconfig.getini("fastmq_config"), *pytestconfig.getoption("fastmq_config")]
    with Broker(in_process=bool(in_process), config=dict(_setting(line) for line in lines)) as made:
        yield made


@pytest.fixture
def fastmq_topic(fastmq_broker: "Broker", request: pytest.FixtureRequest) -> Iterator["Topic"]:
    """A topic that no other test has; the marker `fastmq_topic` says how it is made."""
    marker = request.node.get_closest_marker("fastmq_topic")
    settings = {} if marker is None else marker.kwargs
    name = fastmq_broker.unique_name(_plain(request.node.name))
    topic = fastmq_broker.create_topic(name, **settings)
    yield topic
    if fastmq_broker.is_running():
        topic.delete()


@pytest.fixture
def fastmq_group(fastmq_broker: "Broker", request: pytest.FixtureRequest) -> "Group":
    """A consumer group that no other test has; `.group_id`."""
    return fastmq_broker.group(fastmq_broker.unique_name(_plain(request.node.name)))


def _plain(name: str) -> str:
    """Return a test's name with what topics may not have replaced."""
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", name)[:_NAME_CHARS_MAX].strip("-") or "test"


def _setting(line: str) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    if not equals:
        raise pytest.UsageError(f"--fastmq-config {line}: write KEY=VALUE")
    return key.strip(), value.strip()
