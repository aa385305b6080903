"""What `fastmq protocol` prints."""

import pytest

from fastmq.protocol._show import list_apis, show
from fastmq.protocol.api import APIS


def test_list_names_every_api_with_its_versions() -> None:
    lines = list_apis().splitlines()
    assert len(lines) == 1 + len(APIS)
    assert lines[1].split() == ["0", "Produce", "3-13", "9+"]


def test_show_renders_types_tags_and_nesting() -> None:
    text = show("Fetch", 12)
    assert "Fetch (key 1) version 12\nflexible" in text
    assert "  topics: [struct]\n    topic: string\n    partitions: [struct]\n" in text
    assert "  cluster_id: nullable string (tag 0, default null)" in text
    assert "      diverging_epoch: struct (tag 0)\n        epoch: int32 (default -1)\n" in text
    assert "topic_id" not in text
    assert "topic_id: uuid" in show("Fetch", 13)


@pytest.mark.parametrize("name", ["find_coordinator", "FindCoordinatorRequest", "10"])
def test_names_are_found_in_other_spellings(name: str) -> None:
    assert show(name).startswith("FindCoordinator (key 10) version 6\n")


def test_every_version_of_every_api_can_be_shown() -> None:
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1):
            assert api.name + "Response" in show(api.name, version)


def test_wrong_names_and_versions_are_answered_helpfully() -> None:
    with pytest.raises(ValueError, match=r"did you mean Metadata\?"):
        show("Metdata", 1)
    with pytest.raises(ValueError, match="protocol list"):
        show("zzz", None)
    with pytest.raises(ValueError, match="Fetch has versions 4 to 18, not 3"):
        show("Fetch", 3)
