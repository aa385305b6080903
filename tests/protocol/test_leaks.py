"""Goal: neither results nor failures leave anything behind. Method: trace memory over calls."""

import contextlib
import gc
import random
import tracemalloc

from fastmq.errors import ProtocolError
from fastmq.protocol import decode, encode
from fastmq.protocol.messages.metadata import MetadataBroker, MetadataResponse

from support.messages import message_classes, random_message


def _work(rng: random.Random) -> None:
    for cls, version in message_classes():
        encoded = encode(random_message(cls, version, rng), version)
        decode(cls, version, encoded)
        for _ in range(3):
            cut = encoded[: rng.randrange(len(encoded) + 1)]
            with contextlib.suppress(ProtocolError):
                decode(cls, version, cut + b"\xff\xff")
    for wrong in (2**40, "x", None):
        with contextlib.suppress(TypeError, ValueError):
            encode(MetadataResponse(brokers=[MetadataBroker(port=wrong)]), 12)  # type: ignore[arg-type]
    with contextlib.suppress(TypeError):
        MetadataResponse(wrong=[])  # type: ignore[call-arg]


def test_no_memory_is_lost() -> None:
    _work(random.Random(1))
    gc.collect()
    tracemalloc.start()
    try:
        _work(random.Random(1))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for seed in range(4):
            _work(random.Random(seed))
        gc.collect()
        # A leak of one object per message would be tens of kilobytes per round.
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
