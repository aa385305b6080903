"""The program's side of a consumer, without a broker."""

from collections import deque
from types import SimpleNamespace

from fastmq._native.consumer import Chunk
from fastmq.client.consumer.state import PartitionState
from fastmq.client.fronts.reading import Reading
from fastmq.client.topic_partition import TopicPartition
from fastmq.compression import decompress
from fastmq.records import NewRecord, build_batch
from fastmq.records.control import build_marker


def at(batch: bytes, offset: int) -> bytes:
    return offset.to_bytes(8) + bytes(batch)[8:]


def test_the_position_passes_markers_that_hold_no_record():
    """A reader that ends at the end of the log must see that it is there."""
    name = TopicPartition("t", 0)
    state = PartitionState(name)
    state.seek(0)
    marker = build_marker(
        commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=1
    )
    block = at(build_batch([NewRecord(None, b"v")]), 0) + at(marker, 1)
    chunk = Chunk(block, "t", 0, 0, decompress, version=state.version)
    posted = []
    fetcher = SimpleNamespace(chunks=deque([(state, chunk)]), took=lambda *_: None)
    machine = SimpleNamespace(fetcher=fetcher, states={name: state})
    reading = Reading(machine, posted.append)
    assert [record.value for record in reading.next_run().rest()] == [b"v"]
    reading.stream.feed(None)
    assert reading.next_run() is None
    assert state.delivered == 2
