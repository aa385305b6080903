"""Values and keys to bytes and back."""

import msgspec
import pytest

import fastmq


class Order(msgspec.Struct):
    """What a program may send."""

    number: int
    name: str = ""


@pytest.mark.parametrize("value", [None, 1.5, "ä\n", [1, {"a": []}], {"b": True}])
def test_what_was_serialized_is_read_back(value):
    assert fastmq.deserialize_json(fastmq.serialize_json(value)) == value
    assert fastmq.deserialize_msgspec()(fastmq.serialize_msgspec(value)) == value
    assert fastmq.deserialize_msgpack()(fastmq.serialize_msgpack(value)) == value


def test_msgspec_makes_and_checks_types():
    order = Order(1, "one")
    assert fastmq.deserialize_msgspec(Order)(fastmq.serialize_msgspec(order)) == order
    assert fastmq.deserialize_msgpack(Order)(fastmq.serialize_msgpack(order)) == order
    with pytest.raises(msgspec.ValidationError, match="number"):
        fastmq.deserialize_msgspec(Order)(b'{"number": "x"}')
