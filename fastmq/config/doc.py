"""The text of docs/CONFIG.md, made from the table of keys."""

from collections.abc import Iterable

from fastmq.config.broker_keys import BROKER_KEYS, DEV_PROFILE, REFUSED_KEYS
from fastmq.config.topic_keys import TOPIC_KEYS
from fastmq.config.types import Key, value_text

__all__ = ["config_markdown"]

_HEAD = """\
# Configuration

<!-- Made by `python -m fastmq.config > docs/CONFIG.md`; a test keeps it fresh. Do not edit. -->

Keys have Kafka's names and units; keys that Kafka does not have begin with `fastmq.`. An unknown
key stops the start, with the key that was probably meant.

## Where settings come from

Later wins:

1. the defaults below;
2. `--dev`: {dev};
3. the file given with `--config`: Java's `.properties` format (a Kafka `server.properties` works),
   or TOML when its name ends in `.toml` (tables and dotted keys are joined with dots; a key that is
   also the beginning of another is written in quotes: `"fastmq.flush" = "ack"`);
4. environment variables: `FASTMQ_` and the key in upper case with dots as `_`, as
   `FASTMQ_NUM_PARTITIONS=3`; keys of our own are not prefixed twice: `FASTMQ_FLUSH=ack`;
5. `--override key=value`;
6. for keys marked *dynamic*, what was altered while the broker ran: for all brokers, then for one;
7. for topics, what was given when the topic was created or altered.

Lists are written with commas. A topic key that is not set takes the broker key named beside it.
"""


def config_markdown() -> str:
    """Return the whole document."""
    dev = ", ".join(f"`{name}={value}`" for name, value in DEV_PROFILE.items())
    parts = [
        _HEAD.format(dev=dev),
        "\n## Broker keys\n",
        *_entries(BROKER_KEYS),
        "\n## Topic keys\n",
        *_entries(TOPIC_KEYS),
        "\n## Keys that are refused\n\nKeys of Kafka that would promise what is not kept:\n\n",
        *(f"* `{name}{'*' if name.endswith('.') else ''}`: {why}.\n" for name, why in REFUSED_KEYS),
    ]
    return "".join(parts)


def _entries(keys: Iterable[Key]) -> Iterable[str]:
    return (_entry(key) for key in sorted(keys, key=lambda key: key.name))


def _entry(key: Key) -> str:
    facts = [key.type.name.lower(), f"default {_code(key)}"]
    if key.validator is not None:
        facts.append(key.validator.doc)
    if key.synonyms:
        facts.append("broker key " + ", ".join(f"`{name}`" for name, _ in key.synonyms))
    if key.scope.value == "dynamic":
        facts.append("*dynamic*")
    effect = f" **No effect here:** {key.no_effect}." if key.no_effect else ""
    return f"\n### `{key.name}`\n\n{key.doc}{effect}\n\n{'; '.join(facts)}.\n"


def _code(key: Key) -> str:
    text = value_text(key.default)
    if text is None:
        return "null"
    return f"`{text}`" if text else "empty"
