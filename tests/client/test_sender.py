"""The producer's machine against a scripted cluster: order, sequences, epochs, time-outs."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmq.client.producer import ProducerMachine, ProducerOptions
from fastmq.errors import ClientClosed, ErrorCode, KafkaError, RequestTimedOut
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.init_producer_id import InitProducerIdResponse
from fastmq.protocol.messages.produce import (
    ProduceCurrentLeader,
    ProduceNodeEndpoint,
    ProducePartitionResponse,
    ProduceResponse,
    ProduceTopicResponse,
)
from fastmq.records import read_batches

from support.scripted import CUT, SILENT, ScriptedCluster

#: Errors that say that the batch was not written.
FINAL = (45, 47, 59, 87)
TOO_LARGE = int(ErrorCode.MESSAGE_TOO_LARGE)


class Log:
    """A partition with the producer state of a broker: duplicates known, gaps refused."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.states: dict[int, tuple[int, int]] = {}
        self.recent: deque[tuple[int, int, int, int]] = deque(maxlen=5)

    def knows(self, data: bytes) -> bool:
        """Whether the batch was written."""
        (batch,) = read_batches(data)
        h = batch.header
        return (h.producer_id, h.producer_epoch, h.base_sequence) in {r[:3] for r in self.recent}

    def append(self, data: bytes) -> tuple[int, int]:
        """(error, base offset), as a broker answers (KIP-98)."""
        (batch,) = read_batches(data)
        assert batch.crc_ok()
        h = batch.header
        if h.producer_id >= 0:
            epoch = h.producer_epoch
            for pid, known, sequence, offset in self.recent:
                if (pid, known, sequence) == (h.producer_id, epoch, h.base_sequence):
                    return 0, offset
            state = self.states.get(h.producer_id)
            if state is not None:
                if epoch < state[0]:
                    return int(ErrorCode.INVALID_PRODUCER_EPOCH), -1
                expected = 0 if epoch > state[0] else state[1]
                if h.base_sequence != expected:
                    return int(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), -1
            after = (h.base_sequence + h.record_count) & 0x7FFFFFFF
            self.states[h.producer_id] = (epoch, after)
            self.recent.append((h.producer_id, epoch, h.base_sequence, len(self.values)))
        offset = len(self.values)
        self.values += [record.value for record in batch.records()]
        return 0, offset


class Rig:
    """A machine, a cluster and its logs. `fate` says what happens to each Produce, in order."""

    def __init__(self, partitions=1, **options):
        options = {"linger_ms": 0, "batch_size": 300, "max_block_ms": 500, **options}
        self.cluster = ScriptedCluster(2, ProducerOptions, **options)
        self.cluster.topics["t"] = [1] * partitions
        self.logs = [Log() for _ in range(partitions)]
        self.fate = deque()
        self.produced = []
        self.machine = ProducerMachine(
            self.cluster.core,
            self.cluster.options,
            wake=lambda: None,
            clock=lambda: self.cluster.now_ms,
            wall_clock=lambda: 5,
        )
        self.cluster.handlers[ApiKey.PRODUCE] = self._produce
        self.produce = self.machine.accumulator.produce

    def _produce(self, node, request):
        self.produced.append((node, request))
        fate = self.fate.popleft() if self.fate else None
        if fate in FINAL and any(
            self.logs[part.index].knows(part.records)
            for part in request.topic_data[0].partition_data
        ):
            fate = None  # no broker refuses for good what it has written
        if fate is SILENT or fate is CUT:
            return fate
        rows = []
        for part in request.topic_data[0].partition_data:
            error, offset = (fate, -1) if isinstance(fate, int) else (0, -1)
            row = ProducePartitionResponse(index=part.index, error_code=error, base_offset=-1)
            if fate == "moved":
                row.error_code = int(ErrorCode.NOT_LEADER_OR_FOLLOWER)
                row.current_leader = ProduceCurrentLeader(leader_id=2, leader_epoch=9)
            elif not error:
                row.error_code, offset = self.logs[part.index].append(bytes(part.records))
                row.base_offset = offset
            rows.append(row)
        if fate == "lost":
            return CUT
        answer = ProduceResponse(
            responses=[ProduceTopicResponse(name="t", partition_responses=rows)]
        )
        if fate == "moved":
            answer.node_endpoints = [ProduceNodeEndpoint(node_id=2, host="host2", port=9002)]
        return answer

    def batches(self):
        """(sequence, epoch, count) of everything that was sent."""
        found = []
        for _, request in self.produced:
            for part in request.topic_data[0].partition_data:
                (batch,) = read_batches(part.records)
                header = batch.header
                found.append((header.base_sequence, header.producer_epoch, header.record_count))
        return found


def test_batches_carry_sequences_that_count_records():
    rig = Rig()
    for n in range(6):
        rig.produce("t", b"%d" % n)
        rig.produce("t", b"%d" % n)
        rig.cluster.advance(50)
    assert rig.batches() == [(2 * n, 0, 2) for n in range(6)]
    (_, request) = rig.produced[0]
    assert request.acks == -1


def test_at_most_five_batches_of_a_partition_are_on_their_way():
    rig = Rig()
    rig.produce("t", b"first")
    rig.cluster.advance(50)
    rig.cluster.late = True
    for _ in range(20):
        rig.produce("t", b"x" * 250)
        rig.cluster.settle()
    assert len(rig.produced) == 6
    rig.cluster.release()
    assert len(rig.produced) > 6


def test_records_linger_and_full_batches_do_not():
    rig = Rig(linger_ms=100, batch_size=1000)
    rig.produce("t", b"1")
    rig.cluster.advance(20)
    assert rig.produced == []
    rig.cluster.advance(90)
    assert len(rig.produced) == 1
    for _ in range(5):
        rig.produce("t", b"x" * 250)
    rig.cluster.settle()
    assert len(rig.produced) == 2


def test_partitions_of_a_broker_share_a_request():
    rig = Rig(partitions=4, linger_ms=10)
    rig.produce("t", b"", partition=0)
    rig.cluster.advance(100)
    for partition in range(4):
        rig.produce("t", b"%d" % partition, partition=partition)
    rig.cluster.advance(50)
    assert [len(r.topic_data[0].partition_data) for _, r in rig.produced] == [1, 4]


@pytest.mark.parametrize("fate", [CUT, "lost", SILENT])
def test_what_was_not_answered_is_sent_again_as_it_was(fate):
    rig = Rig(request_timeout_ms=2000)
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.append(fate)
    deliveries = [rig.produce("t", b"%d" % n) for n in range(1, 4)]
    rig.cluster.settle()
    deliveries += [rig.produce("t", b"%d" % n) for n in range(4, 6)]
    rig.cluster.advance(10_000)
    assert all(d.exception() is None for d in deliveries)
    assert rig.logs[0].values == [b"%d" % n for n in range(6)]
    assert {epoch for _, epoch, _ in rig.batches()} == {0}


@given(
    st.lists(
        st.sampled_from([None, None, None, CUT, "lost", 7, 6, 19, 45, 59, 47, 87, "moved", SILENT]),
        max_size=40,
    ),
    st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_nothing_is_twice_and_the_order_is_kept(fates, in_flight):
    rig = Rig(
        request_timeout_ms=1000,
        delivery_timeout_ms=10_000_000,
        max_in_flight_requests_per_connection=in_flight,
    )
    rig.cluster.epochs["t"] = 1
    rig.fate.extend(fates)
    deliveries = []
    for n in range(60):
        deliveries.append(rig.produce("t", b"%03d" % n + b"x" * (n * 7 % 90)))
        if n % 3 == 0:
            rig.cluster.advance(n % 7)
    rig.cluster.advance(2_000_000)
    kept = []
    for n, delivery in enumerate(deliveries):
        assert delivery.done()
        error = delivery.exception()
        if error is None:
            offset = delivery.result().offset
            assert rig.logs[0].values[offset][:3] == b"%03d" % n
            kept.append(n)
        else:
            assert error.code == 87  # the only final one
    assert [int(v[:3]) for v in rig.logs[0].values] == kept
    assert rig.machine.accumulator.memory_used == 0


def test_a_refused_sequence_raises_the_epoch_and_numbers_anew():
    rig = Rig()
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.logs[0].states[77] = (0, 5)  # the broker has lost or gained something
    rig.logs[0].recent.clear()
    deliveries = [rig.produce("t", b"x" * 200) for _ in range(3)]
    rig.cluster.advance(2000)
    assert [d.result().offset for d in deliveries] == [1, 2, 3]
    assert [row[:2] for row in rig.batches()[-3:]] == [(0, 1), (1, 1), (2, 1)]


def test_an_epoch_that_is_used_up_leads_to_a_new_producer_id():
    rig = Rig()
    ids = iter([(77, 32767), (78, 0)])

    def init(node, request):
        pid, epoch = next(ids)
        return InitProducerIdResponse(producer_id=pid, producer_epoch=epoch)

    rig.cluster.handlers[ApiKey.INIT_PRODUCER_ID] = init
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.logs[0].states[77] = (32767, 9)
    rig.logs[0].recent.clear()
    delivery = rig.produce("t", b"1")
    rig.cluster.advance(2000)
    assert delivery.result().offset == 1
    assert set(rig.logs[0].states) == {77, 78}


def test_sequences_wrap_to_zero():
    rig = Rig()
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    (partition,) = rig.machine.sender._partitions.values()
    partition.next_sequence = (1 << 31) - 2
    rig.logs[0].states[77] = (0, (1 << 31) - 2)
    for _ in range(2):
        rig.produce("t", b"")
        rig.produce("t", b"")
        rig.cluster.advance(50)
    assert [row[0] for row in rig.batches()] == [0, (1 << 31) - 2, 0]
    assert {row[1] for row in rig.batches()} == {0}


def test_a_hint_to_the_new_leader_saves_the_metadata():
    rig = Rig()
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    asked = len(rig.cluster.sent(ApiKey.METADATA))
    rig.fate.append("moved")
    delivery = rig.produce("t", b"1")
    rig.cluster.advance(5)
    assert delivery.result().offset == 1
    assert [node for node, _ in rig.produced] == [1, 1, 2]
    assert len(rig.cluster.sent(ApiKey.METADATA)) == asked


def test_without_a_hint_the_metadata_tells():
    rig = Rig()
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.cluster.topics["t"], rig.cluster.epochs["t"] = [2], 1
    rig.fate.append(int(ErrorCode.NOT_LEADER_OR_FOLLOWER))
    delivery = rig.produce("t", b"1")
    rig.cluster.advance(1000)
    assert delivery.result().offset == 1
    assert [node for node, _ in rig.produced] == [1, 1, 2]


def test_the_delivery_time_out_fails_batches_on_their_way_and_those_behind():
    failed = []
    rig = Rig(delivery_timeout_ms=3000, request_timeout_ms=60_000, on_error=failed.append)
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.append(SILENT)
    on_its_way = rig.produce("t", b"1")
    rig.cluster.advance(50)
    rig.cluster.down = {1, 2}
    rig.cluster.cut(1)
    behind = [rig.produce("t", b"x" * 200) for _ in range(10)]
    rig.cluster.advance(2_980)
    assert isinstance(on_its_way.exception(), RequestTimedOut)
    rig.cluster.advance(200)
    assert all(isinstance(d.exception(), RequestTimedOut) for d in behind)
    assert "not delivered in 3000 ms" in str(behind[0].exception())
    assert rig.machine.accumulator.memory_used == 0
    assert len(failed) > 3
    assert rig.machine.accumulator.failed_records == 1 + len(behind)
    rig.cluster.down = set()
    later = rig.produce("t", b"later")
    rig.cluster.advance(2_900)
    assert later.result().offset == 1  # the gap in the sequences is bridged
    assert rig.logs[0].values == [b"0", b"later"]


def test_a_record_that_may_be_written_is_not_written_again_after_its_time():
    rig = Rig(delivery_timeout_ms=3000)
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.append("lost")
    rig.cluster.down = {1}
    lost = rig.produce("t", b"1")
    rig.cluster.advance(2000)
    behind = rig.produce("t", b"2")
    rig.cluster.advance(1500)
    assert isinstance(lost.exception(), RequestTimedOut)
    rig.cluster.down = set()
    rig.cluster.advance(1400)
    assert behind.result().offset == 2
    assert rig.logs[0].values == [b"0", b"1", b"2"]


def test_retries_are_counted():
    rig = Rig(retries=2)
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.extend([7, 7, 7])
    delivery = rig.produce("t", b"1")
    rig.cluster.advance(10_000)
    assert delivery.exception().code == ErrorCode.REQUEST_TIMED_OUT
    assert len(rig.produced) == 4


def test_without_idempotence_batches_have_no_numbers():
    rig = Rig(enable_idempotence=False)
    delivery = rig.produce("t", b"0")
    rig.cluster.advance(50)
    assert delivery.result().offset == 0
    assert rig.batches() == [(-1, -1, 1)]
    assert rig.cluster.sent(ApiKey.INIT_PRODUCER_ID) == []


def test_a_batch_that_is_too_large_is_halved_until_it_fits():
    rig = Rig(batch_size=10_000, linger_ms=10)
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.extend([TOO_LARGE, TOO_LARGE, TOO_LARGE])
    deliveries = [rig.produce("t", b"%d" % n) for n in range(1, 9)]
    rig.cluster.advance(500)
    assert [d.result().offset for d in deliveries] == list(range(1, 9))
    assert rig.logs[0].values == [b"%d" % n for n in range(9)]
    assert {epoch for _, epoch, _ in rig.batches()} == {0}


def test_a_topic_that_does_not_come_fails_its_records_and_may_come_later():
    rig = Rig()
    lost = rig.produce("u", b"0")
    rig.cluster.advance(600)
    assert isinstance(lost.exception(), RequestTimedOut)
    rig.cluster.topics["u"] = [2]
    later = rig.produce("u", b"1")
    rig.cluster.advance(5)
    assert not later.done()


def test_flush_waits_for_what_is_there_and_can_be_given_up():
    rig = Rig(linger_ms=100_000)
    done = []
    rig.machine.flush(done.append)
    assert done == [None]
    rig.produce("t", b"0")
    rig.machine.flush(done.append)
    rig.cluster.advance(100)
    assert done == [None, None]
    rig.cluster.late = True
    rig.produce("t", b"1")
    end = rig.machine.flush(done.append)
    rig.cluster.advance(10)
    end()
    rig.cluster.release()
    assert done == [None, None]
    assert rig.machine.sender.hurries == 0


def test_close_fails_what_is_left():
    rig = Rig()
    rig.produce("t", b"0")
    rig.cluster.advance(50)
    rig.fate.extend([SILENT] * 3)
    deliveries = [rig.produce("t", b"x" * 200) for _ in range(3)]
    rig.cluster.advance(10)
    deliveries.append(rig.produce("unknown", b""))
    rig.cluster.settle()
    rig.cluster.core.close()
    assert all("was closed before" in str(d.exception()) for d in deliveries)
    with pytest.raises(KafkaError, match="closed"):
        rig.produce("t", b"")


def test_closing_fails_records_that_nobody_has_looked_at():
    """Produced and closed before the pump took a step: the topic is not even asked for."""
    cluster = ScriptedCluster(1, ProducerOptions)
    machine = ProducerMachine(cluster.core, cluster.options, wake=lambda: None, clock=lambda: 0)
    delivery = machine.accumulator.produce("t", b"x")
    machine.close()
    assert isinstance(delivery.exception(), ClientClosed)
