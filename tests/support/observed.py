"""Raw clients that note what they do for `support.history`: one record per batch, one partition."""

import time

from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastmq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastmq.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic
from fastmq.records import read_batches

from support.batches import batch
from support.broker import Broker
from support.history import FAIL, INFO, OK, Operation, Poll, Send
from support.raw import RawClient

TOPIC = "observed"


class Observed:
    """What the clients of one broker saw."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.history: list[Operation] = []

    def create_topic(self) -> None:
        topic = CreatableTopic(name=TOPIC, num_partitions=1, replication_factor=1)
        with RawClient(self.broker.bootstrap) as client:
            (made,) = client.call(CreateTopicsRequest(topics=[topic], timeout_ms=5_000), 5).topics
        assert made.error_code == 0

    def send(
        self,
        process: int,
        value: bytes,
        *,
        producer: tuple[int, int] | None = None,
        repeats: bool = False,
    ) -> Send:
        """Send one value and note it.

        Args:
            process: who sends.
            value: unique.
            producer: (producer id, sequence) of an idempotent producer in epoch 0.
            repeats: it was sent before, and counts as the same operation.
        """
        pid, sequence = producer or (-1, -1)
        epoch = -1 if producer is None else 0
        data = batch(value, producer_id=pid, epoch=epoch, sequence=sequence)
        began = time.monotonic()
        outcome, offset = self._produce(data)
        send = Send(process, TOPIC, value, began, time.monotonic(), outcome, offset)
        if repeats:
            sends = (op for op in self.history if isinstance(op, Send))
            before = next(op for op in sends if op.value == value)
            self.history.remove(before)
            send = send._replace(began=before.began)
            if outcome == OK and before.offset not in (None, offset):
                # Two acknowledgements with two offsets: both are kept for the checker.
                self.history.append(before)
        self.history.append(send)
        return send

    def _produce(self, data: bytes) -> tuple[str, int | None]:
        topic = ProduceTopic(name=TOPIC, partition_data=[ProducePartition(index=0, records=data)])
        request = ProduceRequest(acks=-1, timeout_ms=5_000, topic_data=[topic])
        try:
            with RawClient(self.broker.bootstrap) as client:
                answer = client.call(request, 9).responses[0].partition_responses[0]
        except (OSError, EOFError):
            return INFO, None
        if answer.error_code == ErrorCode.NONE:
            return OK, answer.base_offset
        return FAIL, None

    def read_all(self, process: int) -> int:
        """Read from 0 to what the broker says is the end; return the error code that ended it."""
        with RawClient(self.broker.bootstrap) as client:
            asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
            topic = ListOffsetsTopic(name=TOPIC, partitions=[asked])
            answer = client.call(ListOffsetsRequest(replica_id=-1, topics=[topic]), 5)
            end = answer.topics[0].partitions[0].offset
            offset = 0
            while offset < end:
                began = time.monotonic()
                code, rows = self._fetch(client, offset)
                rows = [row for row in rows if row[1] < end]
                if code or not rows:
                    return code
                done = time.monotonic()
                self.history.append(Poll(process, tuple(rows), began, done, assignment=process))
                offset = rows[-1][1] + 1
        return 0

    def _fetch(self, client: RawClient, offset: int) -> tuple[int, list[tuple[str, int, bytes]]]:
        asked = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            topics=[FetchTopic(topic=TOPIC, partitions=[asked])],
        )
        answer = client.call(request, 4).responses[0].partitions[0]
        rows = []
        try:
            # Like a client that leaves the checksum to the broker.
            for stored in read_batches(answer.records or b""):
                rows += [(TOPIC, row.offset, row.value or b"") for row in stored.records()]
        except KafkaError:
            return answer.error_code, [row for row in rows if row[1] >= offset]
        return answer.error_code, [row for row in rows if row[1] >= offset]
