"""Goal: every declaration says what Kafka's own message definitions say.

Method: kafka-python carries those definitions; compare names, order, types, versions, nullability,
tags, defaults and ignorability, field by field, in the versions that we have.
"""

import importlib.resources
import json
import re
from typing import Any

import pytest

from fastmq._native import schema
from fastmq.protocol._message import Field, Message, version_range
from fastmq.protocol.api import APIS, request_class, response_class

pytest.importorskip("kafka")

_KINDS = {
    "bool": schema.BOOL,
    "int8": schema.INT8,
    "int16": schema.INT16,
    "int32": schema.INT32,
    "int64": schema.INT64,
    "uint16": schema.UINT16,
    "uint32": schema.UINT32,
    "float64": schema.FLOAT64,
    "uuid": schema.UUID,
    "string": schema.STRING,
    "bytes": schema.BYTES,
    "records": schema.RECORDS,
}


def _definition(name: str) -> dict[str, Any] | None:
    resource = importlib.resources.files("kafka.protocol.schemas.resources") / f"{name}.json"
    if not resource.is_file():
        return None
    text = re.sub(r"^\s*//.*$", "", resource.read_text(), flags=re.MULTILINE)
    found: dict[str, Any] = json.loads(text)
    return found


def _span(text: str | None, low: int, high: int) -> tuple[int, int]:
    if text in (None, "", "none"):
        return (0, -1)
    first, last = version_range(text)
    first, last = max(first, low), min(last, high)
    return (first, last) if first <= last else (0, -1)


def _default(definition: dict[str, Any]) -> object:
    text = definition.get("default")
    kind = definition["type"]
    if text == "null":
        return None
    if kind.startswith("[]"):
        return ()
    if kind == "bool":
        return str(text).lower() == "true"
    if kind.startswith(("int", "uint")):
        return int(str(text or 0), 0)
    if kind == "float64":
        return float(text or 0)
    return {"string": text or "", "bytes": b"", "uuid": bytes(16), "records": None}.get(kind)


def _compare(
    path: str,
    cls: type[Message],
    definition: list[dict[str, Any]],
    structs: dict[str, Any],
    span: tuple[int, int],
) -> list[str]:
    low, high = span
    wanted = [d for d in definition if _span(d["versions"], low, high) != (0, -1)]
    ours = [f for f in cls.__fields__ if _span(f.versions, low, high) != (0, -1)]
    names = [d["name"].lower() for d in wanted]
    if [f.name.replace("_", "") for f in ours] != names:
        return [f"{path}: fields {[f.name for f in ours]}, wanted {[d['name'] for d in wanted]}"]
    faults = []
    for field, fact in zip(ours, wanted, strict=True):
        faults += _compare_field(f"{path}.{field.name}", field, fact, structs, span)
    return faults


def _compare_field(
    path: str, field: Field, fact: dict[str, Any], structs: dict[str, Any], span: tuple[int, int]
) -> list[str]:
    low, high = span
    kind = fact["type"]
    inner = kind.removeprefix("[]")
    expected = schema.ARRAY if kind != inner else _KINDS.get(kind, schema.STRUCT)
    is_struct = inner not in _KINDS
    present = _span(fact["versions"], low, high)
    pairs = {
        "versions": (_span(field.versions, low, high), present),
        "nullable": (
            _span(field.nullable, *present),
            _span(fact.get("nullableVersions"), *present),
        ),
        "kind": (field.kind, expected),
        "tag": (field.tag, fact.get("tag")),
        "struct": (field.struct is not None, is_struct),
    }
    if present != (low, high) and field.tag is None:
        # A tagged field is one that a peer may not know: ours may always be left out.
        pairs["ignorable"] = (field.ignorable, fact.get("ignorable", False))
    if not is_struct or kind != inner:
        pairs["default"] = (field.default, _default(fact))
    if kind != inner and not is_struct:
        pairs["element"] = (field.element, _KINDS[inner])
    faults = [
        f"{path}: {what} {got!r}, wanted {want!r}"
        for what, (got, want) in pairs.items()
        if got != want
    ]
    if is_struct and field.struct is not None:
        nested = fact.get("fields") or structs[inner]
        faults += _compare(path, field.struct, nested, structs, present)
    return faults


_CASES = [
    (key, side)
    for key in sorted(APIS)
    for side in ("Request", "Response")
    if _definition(APIS[key].name + side) is not None
]


@pytest.mark.parametrize(("key", "side"), _CASES)
def test_declarations_agree_with_kafkas_definitions(key: int, side: str) -> None:
    api = APIS[key]
    definition = _definition(api.name + side)
    assert definition is not None
    cls = request_class(key) if side == "Request" else response_class(key)
    structs = {s["name"]: s["fields"] for s in definition.get("commonStructs", [])}
    flexible = version_range(definition["flexibleVersions"].replace("none", "32767+"))[0]
    assert flexible == api.flexible_from
    first, last = version_range(definition["validVersions"])
    span = (max(first, api.min_version), min(last, api.max_version))
    faults = _compare(cls.__name__, cls, definition["fields"], structs, span)
    assert not faults, "\n".join(faults)
