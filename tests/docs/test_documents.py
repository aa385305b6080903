"""The code in README and docs works as printed, and generated documents are fresh."""

import re
from pathlib import Path

import pytest

from fastmq.cli.reference import cli_markdown

from support.blocks import blocks_of, run_block
from support.broker import Broker

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "QUICKSTART.md",
    ROOT / "docs" / "CLIENT.md",
    ROOT / "docs" / "DELIVERY.md",
    ROOT / "docs" / "FROM-KAFKA.md",
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_code_of_a_document_runs(path, tmp_path):
    """All blocks of a document, one after the other, against one broker of its own."""
    blocks = blocks_of(path, offline=True)
    if not blocks:
        pytest.fail("no blocks; is the document still written in this form?")
    if any("confluent_kafka" in block.code for block in blocks):
        pytest.importorskip("confluent_kafka")
    directory = tmp_path / "here"
    directory.mkdir()
    with Broker(tmp_path / "broker") as broker:
        for block in blocks:
            run_block(block, broker.bootstrap, directory)


def test_the_command_line_reference_is_fresh():
    assert (ROOT / "docs" / "CLI.md").read_text() == cli_markdown(), "run `make docs`"


def test_links_between_documents_lead_somewhere():
    broken = []
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken


def test_a_failing_block_is_told_with_its_place(tmp_path):
    document = tmp_path / "doc.md"
    document.write_text(
        "text\n\n```python\nprint(1)\nraise SystemExit(3)\n```\n\n"
        "<!-- not run: takes a year -->\n```sh\nfalse\n```\n\n```sh\npip install x\n```\n"
    )
    first, last = blocks_of(document)
    assert (first.line, first.kind, last.code) == (4, "python", "pip install x\n")
    assert blocks_of(document, offline=True) == [first]
    with pytest.raises(AssertionError, match=r"doc\.md:4 ended with 3:\n1"):
        run_block(first, "nowhere:1", tmp_path)
