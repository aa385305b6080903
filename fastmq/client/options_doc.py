"""Writes docs/OPTIONS.md: every option of the clients, from the tables that check them.

python -m fastmq.client.options_doc > docs/OPTIONS.md
"""

from fastmq.client.consumer.options import ConsumerOptions
from fastmq.client.options import ClientOptions, option_table
from fastmq.client.producer.options import ProducerOptions

__all__ = ["options_markdown"]

_HEAD = """\
# Options of the bundled client

Kafka's names in snake case; Kafka's own spelling (`**{"linger.ms": 5}`) is taken too. Times are
milliseconds, sizes bytes. A name that does not exist is refused with the nearest one that does.
Written by `make docs`; what they are for is told in [CLIENT.md](CLIENT.md).
"""
_PARTS = (
    ("Every client", ClientOptions),
    ("Producer", ProducerOptions),
    ("Consumer", ConsumerOptions),
)


def options_markdown() -> str:
    """Return the document."""
    return _HEAD + "".join(_part(title, kind) for title, kind in _PARTS)


def _part(title: str, kind: type[ClientOptions]) -> str:
    """One table; what every client has is not repeated."""
    common = set() if kind is ClientOptions else set(option_table(ClientOptions))
    rows = [f"\n## {title}\n", "| option | default | what it does |", "|---|---|---|"]
    for name, entry in option_table(kind).items():
        if name not in common and "doc" in entry.metadata:
            rows.append(f"| `{name}` | `{entry.default!r}` | {_cell(entry.metadata['doc'])} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    import sys

    sys.stdout.write(options_markdown())
