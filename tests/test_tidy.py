"""Habits that a machine can check, over the files that git knows."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_MAX = 700
SOURCES = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".c", ".h"}
TEXTS = SOURCES | {".md", ".toml", ".yaml", ".sh"}


def tracked() -> list[Path]:
    """Files under version control; those of the tree where there is no repository (sdist)."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts(suffixes: set[str]) -> list[tuple[Path, str]]:
    return [(path, path.read_text()) for path in tracked() if path.suffix in suffixes]


def test_the_changelog_has_an_unreleased_section():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:1] == ["Unreleased"]


def test_open_ends_carry_an_issue_number():
    marker = re.compile(r"\b(?:TODO|FIX" r"ME|X" r"XX|HACK)\b(?!\(#\d+\))")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(SOURCES)
        for number, line in enumerate(text.splitlines(), 1)
        if marker.search(line) and path != Path(__file__)
    ]
    assert not found, "\n".join(found)


def test_files_stay_readable_in_one_sitting():
    long = {
        str(path.relative_to(ROOT)): count
        for path, text in texts(SOURCES)
        if (count := text.count("\n")) > LINES_MAX
    }
    assert not long, f"over {LINES_MAX} lines; do two things live in one file? {long}"


def test_text_files_are_clean():
    dirty = [
        str(path.relative_to(ROOT))
        for path, text in texts(TEXTS)
        if text
        and (not text.endswith("\n") or "\r" in text or re.search(r"[ \t]$", text, re.MULTILINE))
    ]
    assert not dirty, "trailing blanks, carriage returns or no newline at the end"


def test_nothing_tells_people_to_install_the_taken_name():
    """`fastmq` on the package index is somebody else's project."""
    wrong = re.compile(r"pip3? install (?:-U |--upgrade )?[\"']?fast" r"mq")
    found = [str(path) for path, text in texts(TEXTS) if wrong.search(text)]
    assert not found


def test_markdown_files_have_one_title():
    for path, text in texts({".md"}):
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        titles = re.findall(r"^# ", prose, re.MULTILINE)
        assert len(titles) == 1, path
