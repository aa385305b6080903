"""Random and plausible messages, driven by the declarations of their classes."""

import random
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from fastmq._native import schema
from fastmq.protocol._message import Field, Message, version_range
from fastmq.protocol.api import APIS, request_class, response_class

_RANGES = {
    schema.INT8: (-(2**7), 2**7 - 1),
    schema.INT16: (-(2**15), 2**15 - 1),
    schema.INT32: (-(2**31), 2**31 - 1),
    schema.INT64: (-(2**63), 2**63 - 1),
    schema.UINT16: (0, 2**16 - 1),
    schema.UINT32: (0, 2**32 - 1),
    schema.VARINT: (-(2**31), 2**31 - 1),
    schema.VARLONG: (-(2**63), 2**63 - 1),
}
_TEXTS = ("", "a", "topic-1", "grüße", "日本", "x" * 130, "\0", "\U0001f600")
# int64 fields that other libraries turn into times, which cannot hold every number.
_TIMES = ("time_ms", "timestamp", "timestamp_ms", "time_period_ms", "period_ms", "time")


def message_classes() -> Iterator[tuple[type[Message], int]]:
    """Every request and response in every version."""
    for key, api in sorted(APIS.items()):
        for version in range(api.min_version, api.max_version + 1):
            yield request_class(key), version
            yield response_class(key), version


def present(field: Field, version: int) -> bool:
    """Whether a version has a field."""
    first, last = version_range(field.versions)
    return first <= version <= last


def random_message(cls: type[Message], version: int, rng: random.Random) -> Message:
    """A message with random values in the fields that the version has."""
    values: dict[str, Any] = {
        field.name: _value(field, version, rng)
        for field in cls.__fields__
        # A field in five keeps its default, tagged ones more often.
        if present(field, version) and rng.random() < (0.8 if field.tag is None else 0.6)
    }
    for field in cls.__fields__:
        # A tagged struct of defaults is not sent, and so comes back as None.
        if field.tag is not None and field.struct and values.get(field.name) == field.struct():
            del values[field.name]
    return cls(**values)


def _value(field: Field, version: int, rng: random.Random) -> object:
    first, last = version_range(field.nullable)
    if first <= version <= last and rng.random() < 0.2:
        return None
    if field.kind == schema.ARRAY:
        count = rng.choice((0, 1, 1, 2, 3))
        return [_element(field, field.element, version, rng) for _ in range(count)]
    return _element(field, field.kind, version, rng)


def _element(field: Field, kind: int, version: int, rng: random.Random) -> object:
    if kind == schema.STRUCT:
        assert field.struct is not None
        return random_message(field.struct, version, rng)
    if kind == schema.BOOL:
        return rng.random() < 0.5
    if kind == schema.UUID:
        return rng.choice((bytes(16), rng.randbytes(16)))
    if kind == schema.STRING:
        return rng.choice(_TEXTS)
    if kind in (schema.BYTES, schema.RECORDS):
        return rng.randbytes(rng.choice((0, 1, 20, 200)))
    if kind == schema.FLOAT64:
        number: float = struct.unpack(">d", b"\x40" + rng.randbytes(7))[0]
        return number
    if field.name.endswith("error_code"):
        return rng.randint(-1, 129)
    if kind == schema.INT64 and field.name.endswith(_TIMES):
        return rng.randint(0, 4_000_000_000_000)
    low, high = _RANGES[kind]
    return rng.choice((0, 1, low, high, rng.randint(low, high)))


def plausible(
    cls: type[Message],
    version: int,
    topic_id: bytes,
    other: Mapping[str, Any] | None = None,
) -> Any:
    """A request as a client would send it: one element in every array, values by field name.

    Args:
        cls: the class of the request, or of a struct in one.
        version: of the request.
        topic_id: of the topic `events`.
        other: values that come before those of the table, by "field" or "Class.field".
    """
    other = other or {}
    values: dict[str, Any] = {}
    for field in cls.__fields__:
        if not present(field, version) or field.tag is not None:
            continue
        for key in (f"{cls.__name__}.{field.name}", field.name):
            if key in other:
                values[field.name] = other[key]
                break
        else:
            if field.name in _PLAUSIBLE and not (field.struct and _PLAUSIBLE[field.name]):
                values[field.name] = _PLAUSIBLE[field.name]
            elif field.name == "topic_id":
                values["topic_id"] = topic_id
            elif field.name == "topic_ids":
                values["topic_ids"] = [topic_id]
            elif field.name == "group_id":
                # No member of another case to wait for.
                values["group_id"] = f"group-{cls.__name__}-{version}"
            elif field.name == "name":
                values["name"] = "events" if "Create" not in cls.__name__ else "another"
            elif field.struct is not None:
                values[field.name] = [plausible(field.struct, version, topic_id, other)]
    return cls(**values)


_PLAUSIBLE: dict[str, Any] = {
    "topic": "events",
    "group": "group",
    "groups_names": ["group"],
    "key": "group",
    "coordinator_keys": ["group"],
    "protocol_type": "consumer",
    "session_timeout_ms": 10_000,
    "rebalance_timeout_ms": 10_000,
    "timeout_ms": 5_000,
    "max_bytes": 1 << 20,
    "partition_max_bytes": 1 << 20,
    "resource_type": 2,
    "resource_name": "events",
    "response_partition_limit": 10,
    "topic_names": ["unknown-topic"],
    "groups": ["group"],
    "offset": -1,
    "timestamp": -1,
    "validate_only": True,
    "count": 2,
    "transactional_id": None,
    "producer_id": -1,
    "producer_epoch": -1,
    "acks": 1,
    "replica_id": -1,
    "replica_state": None,
    "records": None,
    "generation_id_or_member_epoch": -1,
    "generation_id": -1,
    "member_id": "",
    "member_epoch": -1,
    "group_instance_id": None,
    "client_software_name": "sweep",
    "client_software_version": "1",
    "cursor": None,
    "states_filter": [],
    "types_filter": [],
    "configuration_keys": None,
    "configuration_key_names": None,
    "assignments": [],
    "num_partitions": 1,
    "replication_factor": 1,
    "configs": [],
    "current_leader_epoch": -1,
    "leader_epoch": 0,
    "isolation_level": 1,
}
