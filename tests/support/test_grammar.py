"""The grammar says what the codec says, and its faults are faults."""

import random

import pytest

from fastmq.errors import ProtocolError
from fastmq.protocol import decode_request, encode_request, request_class
from fastmq.protocol.api import APIS

from support.grammar import segments, variants
from support.messages import random_message

_ALL = [(k, v) for k, api in APIS.items() for v in range(api.min_version, api.max_version + 1)]


@pytest.mark.parametrize("key", APIS)
def test_the_pieces_make_up_what_the_codec_encodes(key):
    rng = random.Random(key)
    for version in range(APIS[key].min_version, APIS[key].max_version + 1):
        for _ in range(5):
            message = random_message(request_class(key), version, rng)
            parts = segments(message, version)
            assert b"".join(part.data for part in parts) == encode_request(
                version, 0, "fuzz", message
            )


def test_most_faults_are_found_by_the_codec_and_some_are_values():
    rng = random.Random(1)
    refused = total = 0
    for key, version in _ALL[::5]:
        message = random_message(request_class(key), version, rng)
        for frame in variants(segments(message, version), rng):
            total += 1
            try:
                decode_request(frame)
            except ProtocolError:
                refused += 1
    assert total > 20_000
    assert 0.2 < refused / total < 0.9
