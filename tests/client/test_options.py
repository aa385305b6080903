"""The options of clients: addresses, types, names that are nearly right, the document."""

from pathlib import Path

import pytest

from fastmq.client.options import ClientOptions, read_options
from fastmq.client.options_doc import options_markdown
from fastmq.client.producer import ProducerOptions
from fastmq.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "OPTIONS.md"


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("a:1", [("a", 1)]),
        ("a", [("a", 9092)]),
        (" a:1 , b:2,", [("a", 1), ("b", 2)]),
        (["a:1", "[::1]:2", "[::1]", "::1"], [("a", 1), ("::1", 2), ("::1", 9092), ("::1", 9092)]),
    ],
)
def test_addresses(given, addresses):
    assert list(read_options(ClientOptions, given, {}).bootstrap_servers) == addresses


@pytest.mark.parametrize("given", ["", ",", [], "a:", ":1", "a:x", "a:0", "a:65536", "a:-1"])
def test_addresses_that_are_none(given):
    with pytest.raises(ConfigError):
        read_options(ClientOptions, given, {})


def test_kafkas_own_spelling_is_taken():
    read = read_options(ProducerOptions, "a", {"linger.ms": 1, "client.id": "me"})
    assert (read.linger_ms, read.client_id) == (1, "me")
    with pytest.raises(ConfigError, match="given twice"):
        read_options(ProducerOptions, "a", {"linger.ms": 1, "linger_ms": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"request_timeout": 1}, "did you mean request_timeout_ms"),
        ({"zzz": 1}, "there are: acks, allow_auto"),
        ({"retries": True}, "retries takes int, not bool"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"client_id": None}, "client_id takes str"),
        ({"bootstrap_servers": "a"}, "unknown option"),
        ({"security_protocol": "SSL"}, "security_protocol must be one of 'PLAINTEXT'"),
    ],
)
def test_what_is_wrong_is_told(options, message):
    with pytest.raises(ConfigError, match=message):
        read_options(ProducerOptions, "a", options)


def test_the_document_is_fresh():
    assert DOCUMENT.read_text() == options_markdown(), "run `make docs`"
