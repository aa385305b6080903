"""docs/CONFIG.md is what the table says."""

from pathlib import Path

from fastmq.config.doc import config_markdown

ROOT = Path(__file__).parents[2]


def test_config_md_is_fresh() -> None:
    on_disk = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")
    assert on_disk == config_markdown(), "run: python -m fastmq.config > docs/CONFIG.md"
