"""Random files: any text is either settings or a ConfigError, and nothing else."""

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmq.config import BROKER_TABLE, ConfigFile, load_broker_config
from fastmq.config.properties import parse_properties
from fastmq.config.types import parse_value
from fastmq.errors import ConfigError

ESCAPED = str.maketrans(
    {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "=": "\\=", ":": "\\:"}
    | {" ": "\\ ", "#": "\\#", "!": "\\!"}
)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_escaped_properties_come_back(entries: list[tuple[str, str]]) -> None:
    lines = [f"{key.translate(ESCAPED)}={value.translate(ESCAPED)}" for key, value in entries]
    parsed = parse_properties("\n".join(lines), name="f")
    assert [(key, value) for key, value, _ in parsed] == entries


@settings(deadline=None)
@given(st.text(max_size=200), st.sampled_from(["f.properties", "f.toml"]))
def test_any_text_is_settings_or_a_config_error(text: str, name: str) -> None:
    with suppress(ConfigError):
        load_broker_config(file=ConfigFile(name, text))


@settings(deadline=None)
@given(st.sampled_from(sorted(BROKER_TABLE)), st.text(max_size=30))
def test_any_value_is_accepted_or_refused(name: str, text: str) -> None:
    with suppress(ConfigError):
        parse_value(BROKER_TABLE[name], text)
    with suppress(ConfigError):
        load_broker_config(overrides=[f"{name}={text}"])


def test_mutated_file_is_settings_or_a_config_error() -> None:
    rng = random.Random(5)
    text = (
        "listeners=PLAINTEXT://[::1]:9092,B://h:1\\\n  ,C://:0\nnum.partitions = 3\nlog.dirs=a,b\n"
    )
    for _ in range(2000):
        chars = list(text)
        for _ in range(rng.randint(1, 5)):
            chars[rng.randrange(len(chars))] = rng.choice("\\=:#[],/ \n\tx9é")
        with suppress(ConfigError):
            load_broker_config(file=ConfigFile("f.properties", "".join(chars)))
