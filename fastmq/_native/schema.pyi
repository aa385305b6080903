"""Tables that tell the codec what a message looks like, and the base of message classes."""

from collections.abc import Sequence
from typing import Final, Self, final

BOOL: Final[int]
INT8: Final[int]
INT16: Final[int]
INT32: Final[int]
INT64: Final[int]
UINT16: Final[int]
UINT32: Final[int]
FLOAT64: Final[int]
VARINT: Final[int]
VARLONG: Final[int]
UUID: Final[int]
STRING: Final[int]
BYTES: Final[int]
RECORDS: Final[int]
STRUCT: Final[int]
ARRAY: Final[int]

class MessageBase:
    """Constructor from keywords, equality and representation of message classes."""

    def __init__(self, **values: object) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class Layout:
    """Where the fields of a class lie; `fields` are (name, how, default)."""

    def __new__(cls, owner: type, fields: Sequence[tuple[str, int, object]]) -> Self: ...

@final
class Table:
    """The fields of one class in one version."""

    cls: type
    flexible: bool
    size_min: int

    def __new__(
        cls,
        owner: type,
        flexible: bool,
        fields: Sequence[tuple[object, ...]],
        tagged: Sequence[tuple[object, ...]],
        absent: Sequence[tuple[object, ...]],
    ) -> Self: ...
