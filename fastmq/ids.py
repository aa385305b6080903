"""Names for numbers, and Kafka's 16-byte ids.

The `NewType`s cost nothing at run time; they keep an offset from being passed for a broker id.
Ids of topics, directories and clusters are 16 raw bytes inside the broker and 22 characters of
URL-safe base64 without padding wherever people see them, as Kafka prints them. Randomness is
handed in, so that a simulation gets the same ids from the same seed.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Final, NewType

__all__ = [
    "DIRECTORY_LOST",
    "DIRECTORY_UNASSIGNED",
    "METADATA_TOPIC_ID",
    "UUID_ZERO",
    "BrokerId",
    "Epoch",
    "Offset",
    "ProducerId",
    "RandomBytes",
    "new_uuid",
    "uuid_from_text",
    "uuid_text",
]

Offset = NewType("Offset", int)
ProducerId = NewType("ProducerId", int)
BrokerId = NewType("BrokerId", int)
Epoch = NewType("Epoch", int)

RandomBytes = Callable[[int], bytes]
"""Like `os.urandom`: n random bytes."""

UUID_ZERO: Final = bytes(16)
METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
DIRECTORY_UNASSIGNED: Final = bytes(16)
DIRECTORY_LOST: Final = bytes(15) + b"\x01"

# Kafka keeps the first hundred values for itself (KIP-516, KIP-858).
_RESERVED_BELOW: Final = 100


def uuid_text(raw: bytes) -> str:
    """Return the 22 characters that Kafka prints for 16 bytes."""
    if len(raw) != 16:
        raise ValueError(f"an id has 16 bytes, not {len(raw)}")
    return urlsafe_b64encode(raw)[:22].decode()


def uuid_from_text(text: str) -> bytes:
    """Return the 16 bytes behind `uuid_text`.

    Raises:
        ValueError: the text is not exactly 22 characters of URL-safe base64, or is not the one
            spelling of its bytes.
    """
    try:
        raw = urlsafe_b64decode(text + "==") if len(text) == 22 else b""
    except (Base64Error, UnicodeEncodeError, ValueError):
        raw = b""
    # The decoder skips foreign characters and unused bits; the round trip does not.
    if len(raw) != 16 or uuid_text(raw) != text:
        raise ValueError(f"not an id of 22 base64 characters: {text!r}")
    return raw


def new_uuid(random_bytes: RandomBytes) -> bytes:
    """Return a new random id (version 4) for a topic, a directory or a cluster.

    Never a reserved value, and never one whose text begins with `-`, which a command line would
    take for an option.
    """
    while True:
        raw = bytearray(random_bytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        made = bytes(raw)
        if int.from_bytes(made, "big") >= _RESERVED_BELOW and not uuid_text(made).startswith("-"):
            return made
