"""Index and producer table of the C library against lists and dictionaries in Python."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from support.native import native

STEPS = st.lists(
    st.tuples(st.integers(1, 50), st.integers(1, 5_000), st.integers(-5, 20)), max_size=40
)


class Index:
    """A segment's index, and the same as lists."""

    def __init__(self, steps) -> None:
        ffi, lib = native().ffi, native().lib
        self.env = lib.fmq_env_system()
        self.index = ffi.gc(
            ffi.new("fmq_index *"), lambda index: lib.fmq_index_free(self.env, index)
        )
        self.index.loaded = True  # what is not in memory is not in a file either
        self.offsets: list[tuple[int, int]] = []
        self.times: list[tuple[int, int]] = []
        relative = position = 0
        timestamp = 1_000
        for offset_step, position_step, time_step in steps:
            relative += offset_step
            position += position_step
            timestamp += time_step
            assert lib.fmq_index_reserve(self.env, self.index) == 0
            lib.fmq_index_add_offset(self.index, relative, position)
            lib.fmq_index_add_time(self.index, timestamp, relative)
            self.offsets.append((relative, position))
            if not self.times or timestamp > self.times[-1][0]:
                self.times.append((timestamp, relative))
        self.end = position + 1

    def check(self) -> None:
        ffi, lib = native().ffi, native().lib
        for asked in {0, 1, *(r + d for r, _ in self.offsets for d in (-1, 0, 1))}:
            found = lib.fmq_index_floor(self.index, asked)
            below = [entry for entry in self.offsets if entry[0] <= asked]
            assert (found.relative, found.position) == (below[-1] if below else (0, 0))
        for asked in {0, *(t + d for t, _ in self.times for d in (-1, 0, 1))}:
            below = [relative for timestamp, relative in self.times if timestamp < asked]
            assert lib.fmq_index_time_floor(self.index, asked) == (below[-1] if below else 0)
        end = ffi.new("fmq_index_end *")
        lib.fmq_index_get_end(self.index, end)
        assert (end.relative, end.position) == (self.offsets[-1] if self.offsets else (0, 0))
        last = self.times[-1] if self.times else (-1, 0)
        assert (end.timestamp, end.timestamp_relative) == last


@given(STEPS)
def test_look_ups_find_the_last_entry_before(steps):
    Index(steps).check()


@given(STEPS, st.integers(0, 2_000), st.integers(0, 200_000))
def test_truncation_drops_what_lies_behind(steps, relative, position):
    index = Index(steps)
    native().lib.fmq_index_truncate(index.index, position, relative)
    index.offsets = [e for e in index.offsets if e[1] < position and e[0] < relative]
    index.times = [e for e in index.times if e[1] < relative]
    index.check()


@given(STEPS)
def test_files_bring_the_tables_back(tmp_path_factory, steps):
    ffi, lib = native().ffi, native().lib
    directory = str(tmp_path_factory.mktemp("index")).encode()
    index = Index(steps)
    assert lib.fmq_index_save(index.env, index.index, directory, 7, False) == 0
    if not steps:
        return  # a table without entries gets no file
    loaded = Index([])
    loaded.offsets, loaded.times = index.offsets, index.times
    loaded.index.loaded = False
    assert lib.fmq_index_load(loaded.env, loaded.index, directory, 7, index.end) == 0
    loaded.check()
    end = ffi.new("fmq_index_end *")
    assert lib.fmq_index_read_end(index.env, directory, 7, end) == 0
    assert (end.relative, end.position) == index.offsets[-1]
    # An index that points behind the segment's end is damage.
    shorter = Index([])
    shorter.index.loaded = False
    assert lib.fmq_index_load(shorter.env, shorter.index, directory, 7, 0) == 2


SEQUENCE_MAX = 2**31 - 1
SEQUENCES = 2**31


class Producers:
    """What Kafka's rules say (KIP-98): the last five batches of each producer."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, deque[tuple[int, int, int]]]] = {}

    def check(self, pid, epoch, sequence, count) -> tuple[int, int]:
        """(error code, offset of the original or -1)."""
        if pid not in self.rows:
            return 0, -1
        known, batches = self.rows[pid]
        if epoch < known:
            return 47, -1
        expected = 0
        if epoch == known:
            for first, size, offset in batches:
                if (first, size) == (sequence, count):
                    return 0, offset
            first, size, _ = batches[-1]
            expected = (first + size) % SEQUENCES
        return (0 if sequence == expected else 45), -1

    def update(self, pid, epoch, sequence, count, offset) -> None:
        known, batches = self.rows.get(pid, (epoch, deque(maxlen=5)))
        if epoch != known:
            batches = deque(maxlen=5)
        batches.append((sequence, count, offset))
        self.rows[pid] = (epoch, batches)


ACTION = st.tuples(
    st.integers(0, 3),  # producer
    st.integers(0, 2),  # epoch
    st.sampled_from(["next", "next", "next", "repeat", "older", "gap", "zero", "wrap"]),
    st.integers(1, 4),  # records
)


def sequence_of(oracle: Producers, pid: int, how: str) -> int:
    if how == "zero" or pid not in oracle.rows:
        return SEQUENCE_MAX - 1 if how == "wrap" else 0
    batches = oracle.rows[pid][1]
    first, size, _ = batches[-1]
    if how == "repeat":
        return first
    if how == "older":
        return batches[0][0]
    return (first + size + (how == "gap")) % SEQUENCES


@given(st.lists(ACTION, max_size=60), st.booleans())
def test_sequences_are_judged_as_by_the_oracle(tmp_path_factory, actions, reload):
    ffi, lib = native().ffi, native().lib
    env = lib.fmq_env_system()
    table = ffi.gc(ffi.new("fmq_producers *"), lambda table: lib.fmq_producers_free(env, table))
    oracle = Producers()
    header = ffi.new("fmq_batch_header *")
    verdict, reason = ffi.new("fmq_producer_verdict *"), ffi.new("char **")
    offset = 0
    for pid, epoch, how, count in actions:
        sequence = sequence_of(oracle, pid, how)
        if how in ("repeat", "older") and pid in oracle.rows:
            batches = oracle.rows[pid][1]
            count = (batches[-1] if how == "repeat" else batches[0])[1]
        header.producer_id, header.producer_epoch = pid, epoch
        header.base_sequence, header.last_offset_delta = sequence, count - 1
        header.record_count, header.base_offset, header.max_timestamp = count, offset, offset
        code, original = oracle.check(pid, epoch, sequence, count)
        assert lib.fmq_producers_check(table, header, verdict, reason) == code
        assert (verdict.base_offset if verdict.duplicate else -1) == original
        if code == 0 and original < 0:
            assert lib.fmq_producers_reserve(env, table) == 0
            marker = ffi.new("fmq_txn_marker *")
            lib.fmq_producers_update(table, header, marker)
            oracle.update(pid, epoch, sequence, count, offset)
            offset += count
    if not reload:
        return
    # A snapshot keeps the newest batch of each.
    directory = str(tmp_path_factory.mktemp("producers")).encode()
    assert lib.fmq_producers_save(env, table, directory, offset) == 0
    again = ffi.gc(ffi.new("fmq_producers *"), lambda table: lib.fmq_producers_free(env, table))
    assert lib.fmq_producers_load(env, again, directory, offset) == 0
    for pid, (epoch, batches) in oracle.rows.items():
        first, size, at = batches[-1]
        header.producer_id, header.producer_epoch = pid, epoch
        header.base_sequence, header.last_offset_delta = first, size - 1
        assert lib.fmq_producers_check(again, header, verdict, reason) == 0
        assert (verdict.duplicate, verdict.base_offset) == (True, at)
