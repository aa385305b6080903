"""Produce one record to a broker and consume it again, with confluent-kafka.

one_record.py READY_FILE
"""

import re
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer

TOPIC = "first"
VALUE = b"hello"
TIMEOUT_S = 30


def main() -> None:
    """There and back."""
    found = re.search(r"127\.0\.0\.1:\d+", Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found is None:
        sys.exit(f"no address in {sys.argv[1]}")
    bootstrap = found[0]
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(TOPIC, VALUE)
    if producer.flush(TIMEOUT_S):
        sys.exit("the record was not acknowledged")
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "probe", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([TOPIC])
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            consumer.close()
            if message.value() != VALUE:
                sys.exit(f"read {message.value()!r} instead of {VALUE!r}")
            sys.stdout.write(f"produced and consumed {VALUE!r} through {bootstrap}\n")
            return
    sys.exit("the record did not come back")


main()
