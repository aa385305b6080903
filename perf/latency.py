"""End-to-end latency: produce, acknowledge and consume again, at a steady rate.

confluent-kafka with linger 0: one record per request, read by a consumer that polls. The time is
taken in one process: from before `produce` to the return of the consumer.
"""

import threading
import time

import harness
from confluent_kafka import Consumer, Producer, TopicPartition

RATES = (100, 1000)


def run(port: int, rate: int, seconds: float) -> dict[str, float]:
    """Quantiles of the way there and back, in ms."""
    bootstrap = f"127.0.0.1:{port}"
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "latency", "fetch.wait.max.ms": 500}
    )
    place = TopicPartition(harness.TOPIC, 0)
    _, end = consumer.get_watermark_offsets(place, timeout=10)
    consumer.assign([TopicPartition(harness.TOPIC, 0, end)])
    latencies: list[float] = []
    count = int(rate * seconds)

    def read() -> None:
        while len(latencies) < count:
            message = consumer.poll(5)
            if message is None:
                return
            latencies.append((time.monotonic_ns() - int(message.value())) / 1e6)

    reader = threading.Thread(target=read)
    reader.start()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    next_at = time.monotonic()
    for _ in range(count):
        producer.produce(harness.TOPIC, str(time.monotonic_ns()), partition=0)
        producer.poll(0)
        next_at += 1 / rate
        time.sleep(max(0.0, next_at - time.monotonic()))
    producer.flush(10)
    reader.join(30)
    consumer.close()
    ordered = sorted(latencies)
    marks = {"p50_ms": 0.50, "p99_ms": 0.99, "p999_ms": 0.999}
    found = {name: round(ordered[int(len(ordered) * q)], 3) for name, q in marks.items()}
    return {**found, "received": len(ordered), "sent": count}


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    harness.pin_to_load_cpu()
    with (
        harness.scratch(options) as root,
        harness.broker(options, root / "broker") as broker,
    ):
        run(broker.port, 100, 1)  # connections and caches
        for rate in RATES:
            for _ in range(options.rounds):
                harness.report(
                    "latency",
                    rate=rate,
                    flush=options.flush,
                    **run(broker.port, rate, options.seconds),
                )


main()
