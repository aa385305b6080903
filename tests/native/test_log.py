"""The log of the C library, on a real file system, against a list of batches in Python.

A rule-based state machine appends, reads, searches, rolls, truncates, deletes from the start, and
ends the log cleanly, without a close (as a kill does), or with a torn tail; after each step the log
must be what the list says.
"""

import contextlib
import shutil
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from support.batches import as_stored, batch
from support.native import native

OUT_OF_RANGE, OUT_OF_ORDER = 1, 45
SEGMENT_BYTES = 1_400
INT64_MAX = 2**63 - 1


class Stored(NamedTuple):
    """One batch of the model."""

    offset: int
    count: int
    data: bytes
    timestamp: int
    epoch: int

    @property
    def next(self) -> int:
        return self.offset + self.count


class LogMachine(RuleBasedStateMachine):
    """A log and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.ffi, self.lib = native().ffi, native().lib
        self.env = self.lib.fmq_env_system()
        self.dir = Path(tempfile.mkdtemp(prefix="fastmq-log-"))
        files = self.ffi.new("fmq_files **")
        assert self.lib.fmq_files_create(self.env, 4, files) == 0
        self.files = files[0]
        self.log = None
        self.batches: list[Stored] = []
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.timestamp = 1_000
        self.sequences: Counter[int] = Counter()
        self.last_of: dict[int, Stored] = {}

    @initialize()
    def begin(self) -> None:
        self.open(clean=False)

    def teardown(self) -> None:
        if self.log is not None:
            self.lib.fmq_log_close(self.log, False)
        self.lib.fmq_files_destroy(self.files)
        shutil.rmtree(self.dir)

    def open(self, *, clean: bool, recovery_point: int = 0):
        options = self.ffi.new("fmq_log_open_options *")
        path = self.ffi.new("char[]", str(self.dir).encode())
        options.dir, options.log_start, options.clean = path, self.start, clean
        options.recovery_point = recovery_point
        config = options.config
        config.segment_bytes, config.segment_ms = SEGMENT_BYTES, INT64_MAX
        config.retention_ms = config.retention_bytes = -1
        config.producer_id_expiration_ms = 86_400_000
        config.index_interval_bytes, config.segment_index_bytes = 200, 10 << 20
        config.max_message_bytes = 1 << 20
        config.timestamp_before_max_ms = config.timestamp_after_max_ms = INT64_MAX
        config.cleanup_delete = True
        out, found = self.ffi.new("fmq_log **"), self.ffi.new("fmq_recovery *")
        assert self.lib.fmq_log_open(self.env, self.files, options, out, found) == 0
        self.log = out[0]
        return found

    # Changes.

    def append(self, data: bytes):
        block = self.ffi.new("uint8_t[]", data)
        request = self.ffi.new(
            "native_append *",
            {"data": block, "size": len(data), "leader_epoch": self.epoch, "now_ms": 5_000},
        )
        return self.lib.native_log_append(self.log, request), request

    def note(self, data: bytes, count: int) -> Stored:
        stored = as_stored(data, self.end, self.epoch)
        self.batches.append(Stored(self.end, count, stored, self.timestamp, self.epoch))
        self.end += count
        return self.batches[-1]

    @rule(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=4), step=st.integers(-20, 50))
    def append_batch(self, sizes, step) -> None:
        self.timestamp += step
        data = batch(*(b"v" * size for size in sizes), timestamp=self.timestamp)
        code, result = self.append(data)
        assert code == 0
        stored = self.note(data, len(sizes))
        assert (result.base_offset, result.last_offset) == (stored.offset, self.end - 1)

    @rule(producer=st.integers(1, 3), count=st.integers(1, 3))
    def append_with_sequence(self, producer, count) -> None:
        sequence = self.sequences[producer]
        data = batch(
            *(b"p" for _ in range(count)),
            timestamp=self.timestamp,
            producer_id=producer,
            epoch=0,
            sequence=sequence,
        )
        code, _ = self.append(data)
        assert code == 0
        self.sequences[producer] += count
        self.last_of[producer] = self.note(data, count)

    @rule(producer=st.integers(1, 3))
    def repeat_the_last(self, producer) -> None:
        stored = self.last_of.get(producer)
        if stored is None:
            return
        code, result = self.append(stored.data)
        assert code == 0
        assert result.duplicate
        assert (result.base_offset, result.last_offset) == (stored.offset, stored.next - 1)

    @rule(producer=st.integers(1, 3))
    def skip_a_sequence(self, producer) -> None:
        if producer in self.last_of:
            gap = self.sequences[producer] + 1
            data = batch(b"gap", producer_id=producer, epoch=0, sequence=gap)
            assert self.append(data)[0] == OUT_OF_ORDER

    @rule()
    def next_epoch(self) -> None:
        self.epoch += 1

    @rule(part=st.floats(0, 1))
    def truncate(self, part) -> None:
        at = self.start + int((self.end - self.start) * part)
        kept = [stored for stored in self.batches if stored.next <= at]
        assert self.lib.fmq_log_truncate_to(self.log, at) == 0
        # Whole batches go: the one that holds the offset too, with all behind it.
        if len(kept) < len(self.batches):
            self.end = self.batches[len(kept)].offset
            self.start = min(self.start, self.end)
        self.forget_behind(kept)

    @rule(part=st.floats(0, 1))
    def delete_from_the_start(self, part) -> None:
        self.start += int((self.end - self.start) * part)
        assert self.lib.fmq_log_advance_start(self.log, self.start) == 0

    def forget_behind(self, kept: list[Stored]) -> None:
        self.batches = kept
        # What was cut away may be sent again or continued, as the table of producers says.
        self.last_of.clear()
        views = self.ffi.new("fmq_producer_view[8]")
        count = self.lib.fmq_log_producers(self.log, views, 8)
        known = {views[i].producer_id: views[i].last_sequence + 1 for i in range(count)}
        for producer in list(self.sequences):
            self.sequences[producer] = known.get(producer, 0)
        for producer, following in known.items():
            sent = [
                struct.unpack_from(">i", stored.data, 53)[0] + stored.count
                for stored in self.batches
                if struct.unpack_from(">q", stored.data, 43)[0] == producer
            ]
            # Those before the start of the log are remembered, too.
            assert not sent or sent[-1] == following

    # Ends.

    @rule()
    def restart_cleanly(self) -> None:
        assert self.lib.fmq_log_close(self.log, True) == 0
        found = self.open(clean=True, recovery_point=self.end)
        assert not found.recovered

    @rule(flush=st.booleans())
    def restart_after_a_kill(self, flush) -> None:
        point = 0
        if flush:
            assert self.lib.fmq_log_flush(self.log) == 0
            point = self.end
        assert self.lib.fmq_log_close(self.log, False) == 0
        found = self.open(clean=False, recovery_point=point)
        assert found.bytes_truncated == 0

    @precondition(lambda self: self.batches and self.batches[-1].next > self.start)
    @rule(part=st.floats(0, 0.99), noise=st.binary(max_size=80))
    def restart_with_a_torn_tail(self, part, noise) -> None:
        assert self.lib.fmq_log_close(self.log, False) == 0
        last = self.batches[-1]
        path = max(self.dir.glob("*.log"))
        size = path.stat().st_size
        if size < len(last.data):  # the newest segment is empty
            self.open(clean=False)
            return
        torn = last.data[: int(len(last.data) * part)]
        content = path.read_bytes()[: size - len(last.data)]
        path.write_bytes(content + torn + noise)
        found = self.open(clean=False)
        if torn + noise[: len(last.data) - len(torn)] == last.data:
            self.check_all()
            return
        assert found.bytes_truncated == len(torn) + len(noise)
        self.end = max(last.offset, self.start)
        self.forget_behind(self.batches[:-1])

    # What must hold.

    def read(self, offset: int, limit: int, max_bytes: int):
        out = self.ffi.new("fmq_slice *")
        code = self.lib.fmq_log_read(self.log, offset, limit, max_bytes, True, out)
        if code != 0:
            return code, b"", 0
        data = self.ffi.new("uint8_t[]", max(out.size, 1))
        if out.size:
            assert self.lib.fmq_slice_read(out, data, True) == 0
            self.lib.fmq_segment_unref(out.segment)
        return 0, bytes(self.ffi.buffer(data, out.size)), out.next_offset

    @rule(part=st.floats(0, 1), max_bytes=st.integers(0, 2_000))
    def read_some(self, part, max_bytes) -> None:
        offset = self.start + int((self.end - self.start) * part)
        code, data, following = self.read(offset, self.end, max_bytes)
        assert code == 0
        wanted = [stored for stored in self.batches if stored.next > offset]
        if not wanted:
            assert data == b""
            return
        count = next(i for i, stored in enumerate(wanted, 1) if stored.next == following)
        assert data == b"".join(stored.data for stored in wanted[:count])
        assert count == 1 or len(data) <= max_bytes

    @rule(delta=st.integers(-60, 60))
    def search_by_time(self, delta) -> None:
        asked = self.timestamp + delta
        out = self.ffi.new("fmq_slice *")
        assert self.lib.fmq_log_find_timestamp(self.log, asked, self.end, out) == 0
        found = [
            stored
            for stored in self.batches
            if stored.timestamp >= asked and stored.next > self.start
        ]
        assert (out.size == 0) == (not found)
        if found:
            assert out.base_offset == found[0].offset
            self.lib.fmq_segment_unref(out.segment)

    @rule(part=st.floats(0, 1))
    def epoch_of_an_offset(self, part) -> None:
        live = [stored for stored in self.batches if stored.next > self.start]
        if live:
            stored = live[min(int(len(live) * part), len(live) - 1)]
            offset = max(stored.offset, self.start)
            assert self.lib.fmq_log_epoch_of(self.log, offset) == stored.epoch

    @invariant()
    def bounds_are_those_of_the_model(self) -> None:
        if self.log is not None:
            assert self.lib.fmq_log_start(self.log) == self.start
            assert self.lib.fmq_log_end(self.log) == self.end
            assert self.lib.fmq_files_open_count(self.files) <= 4
            assert self.read(self.end + 1, self.end + 1, 100)[0] == OUT_OF_RANGE
            if self.start > 0:
                assert self.read(self.start - 1, self.end, 100)[0] == OUT_OF_RANGE

    def check_all(self) -> None:
        with contextlib.suppress(StopIteration):
            offset = self.start
            for stored in self.batches:
                if stored.next > offset:
                    assert self.read(offset, self.end, 0)[1] == stored.data
                    offset = stored.next

    @rule()
    def everything_is_there(self) -> None:
        self.check_all()


TestLog = LogMachine.TestCase
TestLog.settings = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    phases=(Phase.generate,),
    derandomize=True,
)
