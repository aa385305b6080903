"""Listeners: addresses, what is advertised, and what is refused."""

import pytest

from fastmq.config import listener_from_address, split_address
from fastmq.config.listeners import parse_listeners
from fastmq.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        (":0", ("", 0)),
        ("[::1]:9092", ("::1", 9092)),
        ("[::]:65535", ("::", 65535)),
        ("kafka.example:1", ("kafka.example", 1)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text, key="listen") == expected
    assert listener_from_address(text).startswith("PLAINTEXT://")


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", "host:x", "host:65536", "::1:9092", "[::1]", "[::1", "a b:1", ":-1"],
)
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^listen: "):
        split_address(text, key="listen")


def test_advertised_falls_back_to_the_listener() -> None:
    first, second, third = parse_listeners(
        ["PLAINTEXT://10.0.0.1:9092", "inside://:0", "V6://[::]:19092"],
        ["INSIDE://broker.example:29092"],
        [],
    )
    assert (first.advertised_host, first.advertised_port) == ("10.0.0.1", 9092)
    assert (second.name, second.port) == ("INSIDE", 0)
    assert (second.advertised_host, second.advertised_port) == ("broker.example", 29092)
    assert (third.host, third.advertised_host, third.advertised_port) == ("::", "", 19092)


@pytest.mark.parametrize(
    ("listeners", "advertised", "protocols", "message"),
    [
        (["PLAINTEXT:127.0.0.1:1"], [], [], "is not NAME://"),
        (["A://h:1", "a://h:2"], [], [], "A is given twice"),
        (["A://h:1", "B://h:1"], [], [], "share port 1"),
        (["SSL://h:1"], [], ["SSL:SSL"], "SSL is SSL by .* only PLAINTEXT"),
        (["A://h:1"], ["B://h:1"], [], "B is not in listeners"),
        (["A://h:1"], ["A://0.0.0.0:1"], [], "clients cannot connect to 0.0.0.0"),
        (["A://h:1"], ["A://:1"], [], "an empty host"),
        (["A://h:1"], [], ["A"], "not NAME:PROTOCOL"),
        (["A B://h:1"], [], [], "not a listener name"),
        ([f"L{n}://h:{n + 1}" for n in range(33)], [], [], "at most 32"),
    ],
)
def test_refused(
    listeners: list[str], advertised: list[str], protocols: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_listeners(listeners, advertised, protocols)


def test_controller_listeners_are_not_opened() -> None:
    made = parse_listeners(["A://h:1", "C://h:2"], ["C://h:2"], [], ["c"])
    assert [listener.name for listener in made] == ["A"]
    with pytest.raises(ConfigError, match="none is left"):
        parse_listeners(["C://h:2"], [], [], ["C"])
