"""Goal: our bytes are what other implementations of the protocol write and read.

Method: random messages of every API and version. kio encodes the same message to the same bytes
(fields are matched by position, so order and type are checked too), and kafka-python reads our
bytes to the same values.
"""

import datetime
import io
import random
import re
import types
import typing
import uuid
from importlib import import_module
from typing import Any

import pytest

from fastmq.protocol import Message, decode, encode
from fastmq.protocol.api import APIS
from fastmq.protocol.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from fastmq.protocol.messages.api_versions import ApiVersionsResponse

from support.messages import message_classes, present, random_message

kio_serial = pytest.importorskip("kio.serial")
pytest.importorskip("kafka")

_ROUNDS = 12
_CASES = [
    *message_classes(),
    *(
        (cls, v)
        for cls in (ConsumerProtocolAssignment, ConsumerProtocolSubscription)
        for v in range(4)
    ),
]
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _kio_class(cls: type[Message], version: int) -> Any:
    if cls.API_KEY < 0:
        name, module = cls.__name__, "data"
    else:
        name = APIS[cls.API_KEY].name
        module = cls.__name__.removeprefix(name).lower()
    package = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    try:
        found = import_module(f"kio.schema.{package}.v{version}.{module}")
    except ModuleNotFoundError:
        return None
    return getattr(found, cls.__name__)


def _kio_scalar(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "error_code":
        errors = import_module("kio.schema.errors")
        return errors.ErrorCode(value)
    if kind == "uuid":
        return uuid.UUID(bytes=value) if any(value) else None
    if kind.startswith("timedelta"):
        return datetime.timedelta(milliseconds=value)
    if kind == "datetime_i64":
        return None if value == -1 else _EPOCH + datetime.timedelta(milliseconds=value)
    return value


def _kio_value(hint: Any, kind: str | None, value: Any, version: int) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        element = typing.get_args(hint)[0]
        return tuple(_kio_value(element, kind, item, version) for item in value)
    if isinstance(value, Message):
        return _to_kio(hint, value, version)
    assert kind is not None
    return _kio_scalar(kind, value)


def _to_kio(kio_class: Any, message: Message, version: int) -> Any:
    ours = [field for field in type(message).__fields__ if present(field, version)]
    theirs = list(kio_class.__dataclass_fields__.values())
    # ClassVars are among __dataclass_fields__, marked by a private type.
    theirs = [f for f in theirs if f._field_type.name == "_FIELD"]
    hints = typing.get_type_hints(kio_class)
    assert len(ours) == len(theirs), (kio_class, [f.name for f in ours], [f.name for f in theirs])
    values = {}
    for field, other in zip(ours, theirs, strict=True):
        value = getattr(message, field.name)
        if field.tag is not None:
            assert other.metadata["tag"] == field.tag
            if value is None and field.struct is not None:
                continue  # a tagged struct that is left out; theirs has a default for it
        values[other.name] = _kio_value(
            hints[other.name], other.metadata.get("kafka_type"), value, version
        )
    return kio_class(**values)


@pytest.mark.parametrize(
    ("cls", "version"), _CASES, ids=[f"{cls.__name__}-{v}" for cls, v in _CASES]
)
def test_bytes_equal_kios(cls: type[Message], version: int) -> None:
    kio_class = _kio_class(cls, version)
    if kio_class is None:
        pytest.skip("kio does not know this version")
    write = kio_serial.entity_writer(kio_class)
    rng = random.Random(f"{cls.__name__} {version}")
    for _ in range(_ROUNDS):
        message = random_message(cls, version, rng)
        buffer = io.BytesIO()
        write(buffer, _to_kio(kio_class, message, version))
        assert encode(message, version).hex() == buffer.getvalue().hex(), message
        assert decode(cls, version, buffer.getvalue()) == (message, buffer.tell())


def _kafka_classes() -> dict[str, Any]:
    for module in ("admin", "consumer", "metadata", "producer", "sasl"):
        import_module(f"kafka.protocol.{module}")
    base = import_module("kafka.protocol.api_message").ApiMessage
    found: dict[str, Any] = {}
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.__name__, cls)
        waiting += cls.__subclasses__()
    return found


_KAFKA = _kafka_classes()


def _check_same(ours: Any, theirs: Any, version: int, path: str) -> None:
    if isinstance(ours, Message):
        if theirs is None:
            return
        for field in type(ours).__fields__:
            # kafka-python turns these bit fields into sets, under other names.
            if not present(field, version) or field.name.endswith("authorized_operations"):
                continue
            value = getattr(ours, field.name)
            if value is None and field.tag is not None:
                continue
            _check_same(value, getattr(theirs, field.name), version, f"{path}.{field.name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), path
        for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            _check_same(mine, other, version, f"{path}[{i}]")
    elif isinstance(theirs, uuid.UUID):
        assert ours == theirs.bytes, path
    elif ours == bytes(16):
        assert theirs in (None, ours), path
    else:
        assert ours == theirs, path


_KAFKA_CASES = [
    (cls, version)
    for cls, version in message_classes()
    if cls.__name__ in _KAFKA and version <= _KAFKA[cls.__name__].max_version
]


@pytest.mark.parametrize(
    ("cls", "version"), _KAFKA_CASES, ids=[f"{cls.__name__}-{v}" for cls, v in _KAFKA_CASES]
)
def test_kafka_python_reads_our_bytes(cls: type[Message], version: int) -> None:
    other = _KAFKA[cls.__name__]
    rng = random.Random(f"{cls.__name__} {version}")
    for _ in range(_ROUNDS):
        message = random_message(cls, version, rng)
        if isinstance(message, ApiVersionsResponse):
            message.error_code = 0  # kafka-python takes an error for an answer of version 0
        decoded = other.decode(encode(message, version), version=version)
        _check_same(message, decoded, version, cls.__name__)
