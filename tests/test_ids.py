"""Ids: text form, reserved values, randomness handed in."""

import random

import pytest

from fastmq.ids import METADATA_TOPIC_ID, UUID_ZERO, new_uuid, uuid_from_text, uuid_text


def test_text_is_url_safe_base64_without_padding() -> None:
    assert uuid_text(UUID_ZERO) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_text(METADATA_TOPIC_ID) == "AAAAAAAAAAAAAAAAAAAAAQ"
    assert uuid_text(b"\xfb\xff" * 8) == "-__7__v_-__7__v_-__7_w"


def test_text_round_trip() -> None:
    rng = random.Random(1)
    for _ in range(200):
        raw = rng.randbytes(16)
        assert uuid_from_text(uuid_text(raw)) == raw


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "A" * 21, "A" * 23, "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAA!", "é" * 22],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="22 base64"):
        uuid_from_text(text)


def test_new_id_is_version_4_and_never_begins_with_a_dash() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        made = new_uuid(rng.randbytes)
        assert made[6] >> 4 == 4
        assert made[8] >> 6 == 2
        assert not uuid_text(made).startswith("-")


def test_new_id_draws_again_after_a_refused_one() -> None:
    draws = iter([b"\xfb" * 16, b"\x01" * 16])
    assert new_uuid(lambda size: next(draws)).startswith(b"\x01")
