"""From `subscribe` to the first record with confluent-kafka, and who takes the time.

A classic group of one member on a topic with a record; the broker runs with --dev. librdkafka's own
log says when each request was sent and answered: what lies inside of these is the broker and the
way there, the rest is the client. It connects to the bootstrap address, gives that connection up
when Metadata names the broker, waits 50 ms between attempts to connect (`reconnect.backoff.ms` has
no part in it), and another 100 ms before it looks for the start of a log for which the group has no
offset.
"""

import logging
import re
import statistics
import time
from typing import Any

import harness
from confluent_kafka import Consumer, Producer

RUNS = 10
_ANSWER = re.compile(r"Received (\w+)Response \(.*rtt ([0-9.]+)ms")


class Answers(logging.Handler):
    """Adds up the round trips that librdkafka logs."""

    def __init__(self) -> None:
        super().__init__()
        self.round_trips_ms: list[tuple[str, float]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line."""
        found = _ANSWER.search(record.getMessage())
        if found:
            self.round_trips_ms.append((found[1], float(found[2])))


def start(bootstrap: str, group: str) -> tuple[float, list[tuple[str, float]]]:
    """Return milliseconds to the first record, and the requests with their round trips."""
    answers = Answers()
    log = logging.Logger("librdkafka", logging.DEBUG)
    log.addHandler(answers)
    began = time.monotonic()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "debug": "protocol",
        },
        logger=log,
    )
    consumer.subscribe([harness.TOPIC])
    while True:
        message = consumer.poll(0.002)
        if message is not None and message.error() is None:
            break
    took_ms = (time.monotonic() - began) * 1000
    seen = list(answers.round_trips_ms)
    consumer.commit(message=message, asynchronous=False)
    consumer.close()
    return took_ms, seen


def figures(runs: list[tuple[float, list[tuple[str, float]]]]) -> dict[str, Any]:
    """Medians over several starts."""
    return {
        "total_ms": round(statistics.median(total for total, _ in runs), 1),
        "broker_ms": round(statistics.median(sum(ms for _, ms in seen) for _, seen in runs), 1),
        "requests": statistics.median_low(len(seen) for _, seen in runs),
    }


def main() -> None:
    """Run and report."""
    options = harness.arguments(__doc__).parse_args()
    # --dev: a new group does not wait three seconds for more members.
    with harness.scratch(options) as root, harness.Broker(root) as broker:
        bootstrap = broker.bootstrap
        harness.create_topic(bootstrap, 1)
        producer = Producer({"bootstrap.servers": bootstrap})
        for _ in range(RUNS + 1):
            producer.produce(harness.TOPIC, b"x")
        producer.flush(10)
        new = [start(bootstrap, f"new-{i}") for i in range(RUNS)]
        again = [start(bootstrap, "again") for _ in range(RUNS)][1:]
        harness.report("group_start", group="new", **figures(new))
        harness.report("group_start", group="has committed", **figures(again))


if __name__ == "__main__":
    main()
