"""A group member in a process of its own: BOOTSTRAP GROUP TOPIC ASSIGNOR [NAME].

Reads, and commits its positions all the time; with NAME it is a static member. SIGTERM makes it
leave. Whether a commit is refused is of no interest to it: the log of the broker tells.

The client commits under the generation of the moment, so what was read before a rebalance must
not be committed after it: the broker cannot tell. Now and then it even hands out a message that it
fetched in an earlier assignment, so each assignment begins with asking what is committed.
"""

import signal
import sys
import time
from types import FrameType

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

SESSION_MS = 1_000


def give_up_if_fatal(error: KafkaError) -> None:
    """End with 3: a static member whose session ended may be fenced by its own heartbeat."""
    if error.fatal() or error.code() == KafkaError._FATAL:
        sys.exit(3)


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Ask until there is an answer: the broker may be down."""
    while True:
        try:
            return consumer.committed(partitions, timeout=1)
        except KafkaException as exc:
            give_up_if_fatal(exc.args[0])


def main() -> None:
    """Work until SIGTERM."""
    bootstrap, group, topic, assignor, *name = sys.argv[1:]
    ended = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    conf: dict[str, str | int | bool] = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "session.timeout.ms": SESSION_MS,
        "max.poll.interval.ms": 10_000,
        "heartbeat.interval.ms": 100,
        "partition.assignment.strategy": assignor,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    if name:
        conf["group.instance.id"] = name[0]
    consumer = Consumer(conf)
    read: dict[int, Message] = {}
    begin: dict[int, int] = {}

    def learn(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for mark in committed(consumer, partitions):
            begin[mark.partition] = mark.offset

    def forget(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for gone in partitions:
            read.pop(gone.partition, None)

    consumer.subscribe([topic], on_assign=learn, on_revoke=forget, on_lost=forget)
    while not ended:
        due = time.monotonic() + 0.05
        while time.monotonic() < due:
            message = consumer.poll(0.02)
            if message is None:
                continue
            error = message.error()
            if error is None:
                partition = message.partition() or 0
                if (message.offset() or 0) >= begin[partition]:
                    read[partition] = message
            else:
                give_up_if_fatal(error)
        for partition, message in list(read.items()):
            try:
                consumer.commit(message, asynchronous=False)
            except KafkaException as exc:
                give_up_if_fatal(exc.args[0])
                # Once more in the next round, unless the partition is gone by then.
                break
            del read[partition]
    consumer.close()


if __name__ == "__main__":
    main()
