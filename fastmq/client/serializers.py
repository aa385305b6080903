"""Serializers and deserializers for values and keys: plain callables, to bytes and back."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = [
    "deserialize_json",
    "deserialize_msgpack",
    "deserialize_msgspec",
    "serialize_json",
    "serialize_msgpack",
    "serialize_msgspec",
]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_msgspec: dict[str, Callable[[Any], bytes]] = {}


def serialize_json(value: Any) -> bytes:
    """Return JSON, compact and in UTF-8, with the standard library."""
    return _encode(value).encode()


def serialize_msgspec(value: Any) -> bytes:
    """Return JSON made by msgspec: dataclasses, Structs, datetimes, UUIDs too, and faster.

    Raises:
        ModuleNotFoundError: `msgspec` is not installed.
    """
    return _msgspec_encoder("json")(value)


def serialize_msgpack(value: Any) -> bytes:
    """Return MessagePack made by msgspec.

    Raises:
        ModuleNotFoundError: `msgspec` is not installed.
    """
    return _msgspec_encoder("msgpack")(value)


def _msgspec_encoder(kind: str) -> Callable[[Any], bytes]:
    """The encoder's method; made at the first use, because the package is optional."""
    found = _msgspec.get(kind)
    if found is None:
        found = _msgspec[kind] = import_module(f"msgspec.{kind}").Encoder().encode
    return found


def deserialize_json(data: bytes) -> Any:
    """Return what JSON in UTF-8 says, with the standard library."""
    return json.loads(data)


def deserialize_msgspec(type: Any = Any) -> Callable[[bytes], Any]:  # noqa: A002 - msgspec's name
    """Return a deserializer of JSON by msgspec, which checks it against a type as it reads.

    Example::

        Consumer("localhost:9092", group_id="g", topics=["orders"],
                 value_deserializer=deserialize_msgspec(Order))

    Raises:
        ModuleNotFoundError: `msgspec` is not installed.
    """
    return _msgspec_decoder("json", type)


def deserialize_msgpack(type: Any = Any) -> Callable[[bytes], Any]:  # noqa: A002 - msgspec's name
    """Return a deserializer of MessagePack by msgspec; as `deserialize_msgspec`."""
    return _msgspec_decoder("msgpack", type)


def _msgspec_decoder(kind: str, wanted: Any) -> Callable[[bytes], Any]:
    decode: Callable[[bytes], Any] = import_module(f"msgspec.{kind}").Decoder(wanted).decode
    return decode
