"""The table is honest: a key that nothing reads says so, and a key that says so is not read."""

from pathlib import Path

import pytest

import fastmq
from fastmq.config import BROKER_TABLE, TOPIC_TABLE
from fastmq.config.types import Key

ROOT = Path(fastmq.__file__).parent
# Where keys are declared, and where two topic keys are compared whatever they do.
TABLES = {"broker_keys.py", "cluster_keys.py", "log_keys.py", "topic_keys.py", "alter.py"}
SOURCES = "\n".join(path.read_text() for path in ROOT.rglob("*.py") if path.name not in TABLES)

KEYS = [*BROKER_TABLE.values(), *TOPIC_TABLE.values()]


def is_read(key: Key) -> bool:
    return f'"{key.name}"' in SOURCES


# Broker keys that are read as the default of a topic key.
READ_AS_DEFAULTS = {
    name for key in TOPIC_TABLE.values() if is_read(key) for name, _ in key.synonyms
}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.scope.value} {key.name}")
def test_a_key_has_an_effect_unless_its_documentation_says_so(key: Key) -> None:
    has_one_value = key.validator is not None and key.validator.doc.startswith("only ")
    if key.no_effect:
        assert not is_read(key)
    else:
        assert is_read(key) or key.name in READ_AS_DEFAULTS or has_one_value
