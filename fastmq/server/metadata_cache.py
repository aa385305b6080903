"""Encoded Metadata answers about all topics, kept until a topic changes.

Clients and consoles ask for all topics again and again; with thousands of them the answer takes
milliseconds to build and nothing to send.
"""

from fastmq.limits import METADATA_CACHE_ENTRIES_MAX

__all__ = ["MetadataCache"]

Key = tuple[object, ...]


class MetadataCache:
    """The answers of one generation of topics."""

    def __init__(self) -> None:
        self._generation = -1
        self._bodies: dict[Key, bytes] = {}

    def get(self, key: Key, generation: int) -> bytes | None:
        """Return the answer for `key`, when it was built in this generation of topics."""
        if generation != self._generation:
            self._generation = generation
            self._bodies.clear()
        return self._bodies.get(key)

    def put(self, key: Key, body: bytes) -> None:
        """Keep an answer, built in the generation that `get` was last asked for."""
        if len(self._bodies) >= METADATA_CACHE_ENTRIES_MAX:
            self._bodies.clear()
        self._bodies[key] = body
