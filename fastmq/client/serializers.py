"""Serializers for values and keys: plain callables, from an object to bytes."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["serialize_json", "serialize_msgpack", "serialize_msgspec"]

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
