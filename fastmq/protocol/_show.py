"""Schemas as text and as JSON, for `fastmq protocol show` and `fastmq protocol list`."""

import difflib
from collections.abc import Iterator
from typing import Any

from fastmq._native import schema
from fastmq.protocol._message import Field, Message, version_range
from fastmq.protocol.api import APIS, NEVER, Api, request_class, response_class

__all__ = ["api_rows", "list_apis", "message_rows", "show"]

_NAMES = {
    schema.BOOL: "bool",
    schema.INT8: "int8",
    schema.INT16: "int16",
    schema.INT32: "int32",
    schema.INT64: "int64",
    schema.UINT16: "uint16",
    schema.UINT32: "uint32",
    schema.FLOAT64: "float64",
    schema.VARINT: "varint",
    schema.VARLONG: "varlong",
    schema.UUID: "uuid",
    schema.STRING: "string",
    schema.BYTES: "bytes",
    schema.RECORDS: "records",
}
# Defaults that go without saying.
_ZEROS = (0, "", b"", bytes(16), ())


def list_apis() -> str:
    """Render the table of APIs: key, name, versions, first flexible version."""
    lines = [f"{'Key':>3}  {'Name':<28} {'Versions':<9} Flexible"]
    for key, api in sorted(APIS.items()):
        versions = f"{api.min_version}-{api.max_version}"
        flexible = "never" if api.flexible_from == NEVER else f"{api.flexible_from}+"
        lines.append(f"{key:>3}  {api.name:<28} {versions:<9} {flexible}")
    return "\n".join(lines)


def show(name: str, version: int | None = None) -> str:
    """Render the request and response of an API, field by field.

    Args:
        name: of an API, in any case, or its key.
        version: the version to render; None renders the newest.

    Raises:
        ValueError: there is no such API or version; the message says what there is.
    """
    api, version = _chosen(name, version)
    lines = [f"{api.name} (key {int(api.key)}) version {version}"]
    if api.flexible(version):
        lines.append("flexible: lengths are compact, every struct ends with tagged fields")
    for cls in (request_class(api.key), response_class(api.key)):
        lines += ["", cls.__name__]
        lines += _struct_lines(cls, version, "  ")
    return "\n".join(lines)


# Any: JSON, here and below.
def api_rows() -> list[dict[str, Any]]:
    """Return the table of APIs for JSON."""
    return [
        {
            "key": int(key),
            "name": api.name,
            "min_version": api.min_version,
            "max_version": api.max_version,
            "flexible_from": None if api.flexible_from == NEVER else api.flexible_from,
        }
        for key, api in sorted(APIS.items())
    ]


def message_rows(name: str, version: int | None = None) -> dict[str, Any]:
    """Return the request and response of an API for JSON; as `show`."""
    api, version = _chosen(name, version)
    return {
        "key": int(api.key),
        "name": api.name,
        "version": version,
        "flexible": api.flexible(version),
        "request": _fields(request_class(api.key), version),
        "response": _fields(response_class(api.key), version),
    }


def _fields(cls: type[Message], version: int) -> list[dict[str, Any]]:
    rows = []
    for field in cls.__fields__:
        if not _within(field.versions, version):
            continue
        row: dict[str, Any] = {"name": field.name, "type": _type(field, version)}
        if field.tag is not None:
            row["tag"] = field.tag
        if field.struct is not None:
            row["fields"] = _fields(field.struct, version)
        rows.append(row)
    return rows


def _chosen(name: str, version: int | None) -> tuple[Api, int]:
    api = _find(name)
    if version is None:
        version = api.max_version
    if not api.supports(version):
        raise ValueError(
            f"{api.name} has versions {api.min_version} to {api.max_version}, not {version}"
        )
    return api, version


def _find(name: str) -> Api:
    wanted = name.replace("_", "").replace("-", "").lower()
    by_name = {api.name.lower(): api for api in APIS.values()}
    for suffix in ("", "request", "response"):
        api = by_name.get(wanted.removesuffix(suffix))
        if api is not None:
            return api
    if wanted.isdecimal() and int(wanted) in APIS:
        return APIS[int(wanted)]
    near = difflib.get_close_matches(wanted, by_name, n=1)
    if near:
        raise ValueError(f"no API is called {name!r}; did you mean {by_name[near[0]].name}?")
    raise ValueError(f"no API is called {name!r}; `fastmq protocol list` names all")


def _struct_lines(cls: type[Message], version: int, indent: str) -> Iterator[str]:
    present = [field for field in cls.__fields__ if _within(field.versions, version)]
    plain = [field for field in present if field.tag is None]
    tagged = sorted((f for f in present if f.tag is not None), key=lambda field: field.tag or 0)
    if not present:
        yield f"{indent}(no fields)"
    for field in plain + tagged:
        yield f"{indent}{field.name}: {_type(field, version)}{_notes(field, version)}"
        if field.struct is not None:
            yield from _struct_lines(field.struct, version, indent + "  ")


def _within(versions: str, version: int) -> bool:
    first, last = version_range(versions)
    return first <= version <= last


def _type(field: Field, version: int) -> str:
    kind = field.element if field.kind == schema.ARRAY else field.kind
    text = "struct" if kind == schema.STRUCT else _NAMES[kind]
    if field.kind == schema.ARRAY:
        text = f"[{text}]"
    return f"nullable {text}" if _within(field.nullable, version) else text


def _notes(field: Field, version: int) -> str:
    notes = [] if field.tag is None else [f"tag {field.tag}"]
    if field.default is None:
        if _within(field.nullable, version):
            notes.append("default null")
    elif field.default not in _ZEROS and field.kind != schema.STRUCT:
        notes.append(f"default {field.default!r}")
    return f" ({', '.join(notes)})" if notes else ""
