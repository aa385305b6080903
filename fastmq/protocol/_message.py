"""Message classes: how fields are declared, and the tables that the codec walks.

A class body names its fields with the functions below (`int32`, `string`, `array`, ...). The
metaclass takes these declarations out, makes the fields slots and keeps the declarations in
`__fields__`; nothing is parsed or compiled until a version of the class is first used, which makes
the import of a schema cheap. `table` then builds what `fastmq._native.schema` interprets and keeps
it per class and version.

To a type checker a declaration is a default value of the field's Python type: that is why the
functions claim to return `int`, `str` and so on, and why every field is optional in constructors.

Version ranges are written as in Kafka's protocol guide: "0+", "3-5", "4", or "" for none. Field
order is wire order. Structs that are not messages themselves take versions, and whether they are
flexible, from the message they are part of.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

from fastmq._native import decoder, encoder, schema
from fastmq.protocol.api import APIS, NEVER

__all__ = [
    "Buffer",
    "Field",
    "Message",
    "array",
    "boolean",
    "decode",
    "encode",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "raw",
    "records",
    "string",
    "struct",
    "table",
    "uint16",
    "uint32",
    "uuid",
    "varint",
    "varlong",
    "version_range",
]

#: What `records` and `bytes` fields take.
Buffer = bytes | bytearray | memoryview

T = TypeVar("T")
S = TypeVar("S", bound="Message")

_LATEST = 32767
# How the codec makes a default: the value itself, a new list, a new struct.
_VALUE, _LIST, _STRUCT = 0, 1, 2


class Field:
    """The declaration of one field. `name` is set when its class is made."""

    __slots__ = (
        "default",
        "element",
        "how",
        "ignorable",
        "kind",
        "name",
        "nullable",
        "struct",
        "tag",
        "versions",
    )

    name: str

    def __init__(
        self,
        kind: int,
        versions: str,
        *,
        default: object,
        nullable: str = "",
        tag: int | None = None,
        ignorable: bool = False,
        how: int = _VALUE,
        element: int = 0,
        struct: "type[Message] | None" = None,
    ) -> None:
        self.kind = kind
        self.versions = versions
        self.default = default
        self.nullable = nullable
        self.tag = tag
        self.ignorable = ignorable
        self.how = how
        self.element = element
        self.struct = struct


@cache
def version_range(text: str) -> tuple[int, int]:
    """Read "0+", "3-5", "4" or "" as (first, last), inclusive; last < first when empty."""
    if not text:
        return 0, -1
    if text.endswith("+"):
        return int(text[:-1]), _LATEST
    first, _, last = text.partition("-")
    return int(first), int(last or first)


# Any in the scalars' bodies: a declaration plays the part of a value, as said in the docstring.


def boolean(
    versions: str, *, default: bool = False, tag: int | None = None, ignorable: bool = False
) -> bool:
    """Declare a bool."""
    field: Any = Field(schema.BOOL, versions, default=default, tag=tag, ignorable=ignorable)
    return cast("bool", field)


def _integer(kind: int) -> Callable[..., int]:
    def declare(
        versions: str, *, default: int = 0, tag: int | None = None, ignorable: bool = False
    ) -> int:
        field: Any = Field(kind, versions, default=default, tag=tag, ignorable=ignorable)
        return cast("int", field)

    return declare


int8 = _integer(schema.INT8)
int16 = _integer(schema.INT16)
int32 = _integer(schema.INT32)
int64 = _integer(schema.INT64)
uint16 = _integer(schema.UINT16)
uint32 = _integer(schema.UINT32)
varint = _integer(schema.VARINT)
varlong = _integer(schema.VARLONG)


def float64(
    versions: str, *, default: float = 0.0, tag: int | None = None, ignorable: bool = False
) -> float:
    """Declare a float of 64 bits."""
    field: Any = Field(schema.FLOAT64, versions, default=default, tag=tag, ignorable=ignorable)
    return cast("float", field)


def uuid(
    versions: str,
    *,
    default: bytes = bytes(16),
    tag: int | None = None,
    ignorable: bool = False,
) -> bytes:
    """Declare a UUID, which is 16 bytes; all zero means none."""
    field: Any = Field(schema.UUID, versions, default=default, tag=tag, ignorable=ignorable)
    return cast("bytes", field)


def string(
    versions: str,
    *,
    nullable: str = "",
    default: str | None = "",
    tag: int | None = None,
    ignorable: bool = False,
) -> str:
    """Declare a string, null allowed in the versions `nullable`."""
    field: Any = Field(
        schema.STRING, versions, default=default, nullable=nullable, tag=tag, ignorable=ignorable
    )
    return cast("str", field)


def raw(
    versions: str,
    *,
    nullable: str = "",
    default: bytes | None = b"",
    tag: int | None = None,
    ignorable: bool = False,
) -> bytes:
    """Declare bytes; any buffer may be encoded."""
    field: Any = Field(
        schema.BYTES, versions, default=default, nullable=nullable, tag=tag, ignorable=ignorable
    )
    return cast("bytes", field)


def records(versions: str, *, nullable: str = "", ignorable: bool = False) -> Buffer:
    """Declare record batches: decoded to a memoryview of the input, encoded from any buffer."""
    field: Any = Field(
        schema.RECORDS, versions, default=None, nullable=nullable, ignorable=ignorable
    )
    return cast("Buffer", field)


_SCALARS: dict[object, int] = {
    boolean: schema.BOOL,
    int8: schema.INT8,
    int16: schema.INT16,
    int32: schema.INT32,
    int64: schema.INT64,
    uint16: schema.UINT16,
    uint32: schema.UINT32,
    float64: schema.FLOAT64,
    uuid: schema.UUID,
    string: schema.STRING,
    raw: schema.BYTES,
}


def array(
    element: Callable[..., T],
    versions: str,
    *,
    nullable: str = "",
    default: tuple[()] | None = (),
    tag: int | None = None,
    ignorable: bool = False,
) -> list[T]:
    """Declare a list of `element`: a struct class, or one of the scalar functions above.

    `default` is () for a new empty list, or None.
    """
    kind = _SCALARS.get(element, schema.STRUCT)
    field: Any = Field(
        schema.ARRAY,
        versions,
        default=default,
        nullable=nullable,
        tag=tag,
        ignorable=ignorable,
        how=_VALUE if default is None else _LIST,
        element=kind,
        struct=cast("type[Message]", element) if kind == schema.STRUCT else None,
    )
    return cast("list[T]", field)


def struct(
    cls: type[S],
    versions: str,
    *,
    nullable: str = "",
    tag: int | None = None,
    ignorable: bool = False,
) -> S:
    """Declare a struct of its own.

    The default is a new `cls()`, or None if the field is tagged or may be null: a tagged struct
    is left out when None, which the peer reads as a struct of defaults.
    """
    none = bool(nullable) or tag is not None
    field: Any = Field(
        schema.STRUCT,
        versions,
        default=None if none else cls,
        nullable=nullable,
        tag=tag,
        ignorable=ignorable,
        how=_VALUE if none else _STRUCT,
        struct=cls,
    )
    return cast("S", field)


def _unknown() -> dict[int, bytes] | None:
    """Declare the slot of unknown tagged fields, which is in no table."""
    field: Any = Field(schema.BYTES, "", default=None)
    return cast("dict[int, bytes] | None", field)


@dataclass_transform(kw_only_default=True, eq_default=False)
class _MessageMeta(type):
    """Turns field declarations into slots. `api` or `versions` and `flexible` mark a message."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        api: int | None = None,
        versions: str = "0+",
        flexible: str = "",
    ) -> "_MessageMeta":
        fields = []
        for key, value in namespace.items():
            if type(value) is Field:
                value.name = key
                fields.append(value)
        for field in fields:
            del namespace[field.name]
        namespace["__slots__"] = tuple(field.name for field in fields)
        if bases[0] is schema.MessageBase:
            return super().__new__(mcs, name, bases, namespace)
        namespace["__fields__"] = tuple(fields)
        namespace["_tables"] = {}
        namespace["API_KEY"] = -1 if api is None else int(api)
        if api is None:
            namespace["MIN_VERSION"], namespace["MAX_VERSION"] = version_range(versions)
            namespace["FLEXIBLE_FROM"] = version_range(flexible)[0] if flexible else NEVER
        else:
            row = APIS[api]
            namespace["MIN_VERSION"], namespace["MAX_VERSION"] = row.min_version, row.max_version
            namespace["FLEXIBLE_FROM"] = row.flexible_from
        if bases[0] is not Message:
            raise TypeError(f"{name} must derive from Message itself: fields are not inherited")
        cls = super().__new__(mcs, name, bases, namespace)
        layout = [(field.name, field.how, field.default) for field in fields]
        layout.append(("unknown_tags", _VALUE, None))
        type.__setattr__(cls, "__layout__", schema.Layout(cls, layout))
        return cls


class Message(schema.MessageBase, metaclass=_MessageMeta):
    """A message, or a struct in one. Mutable, compared by value, not hashable.

    Attributes:
        unknown_tags: tagged fields that the decoder did not know, by tag; encoded again as they
            came. None when there are none.
    """

    API_KEY: ClassVar[int]
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]
    __fields__: ClassVar[tuple[Field, ...]]
    __layout__: ClassVar[schema.Layout]
    _tables: ClassVar[dict[tuple[int, bool], schema.Table]]

    unknown_tags: dict[int, bytes] | None = _unknown()


def table(cls: type[Message], version: int) -> schema.Table:
    """Return the codec's table of a message class in one version, building it at the first use.

    Raises:
        ValueError: the class has no such version.
    """
    found = cls._tables.get((version, version >= cls.FLEXIBLE_FROM))
    if found is not None:
        return found
    if not cls.MIN_VERSION <= version <= cls.MAX_VERSION:
        raise ValueError(
            f"{cls.__name__} has versions {cls.MIN_VERSION} to {cls.MAX_VERSION}, not {version}"
        )
    return _build(cls, version, version >= cls.FLEXIBLE_FROM)


def _build(cls: type[Message], version: int, flexible: bool) -> schema.Table:
    found = cls._tables.get((version, flexible))
    if found is not None:
        return found
    fields, tagged, absent = [], [], []
    for field in cls.__fields__:
        if not _has(field.versions, version):
            absent.append((field.name, field.how, field.default, field.ignorable))
            continue
        inner = None if field.struct is None else _build(field.struct, version, flexible)
        nullable = _has(field.nullable, version)
        row = (field.name, field.kind, field.element, inner, nullable, field.how, field.default)
        if field.tag is None:
            fields.append(row)
        else:
            tagged.append((field.tag, *row))
    tagged.sort(key=lambda row: row[0])
    built = schema.Table(cls, flexible, fields, tagged, absent)
    cls._tables[version, flexible] = built
    return built


def _has(versions: str, version: int) -> bool:
    first, last = version_range(versions)
    return first <= version <= last


def encode(message: Message, version: int) -> bytes:
    """Encode a message without any header.

    Raises:
        ValueError, TypeError: a value does not fit its field, or is set in a field that this
            version lacks and that may not be dropped.
    """
    return encoder.encode(table(type(message), version), message)


def decode(cls: type[S], version: int, data: Buffer, offset: int = 0) -> tuple[S, int]:
    """Decode a message that begins at `offset`, and return it with the position after it.

    `records` of the result borrow from `data`; everything else is copied.

    Raises:
        ProtocolError: the bytes are no such message.
    """
    message, position = decoder.decode(table(cls, version), data, offset)
    return cast("S", message), position
