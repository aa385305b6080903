"""A load by confluent-kafka, in a process of its own: `rdkafka_client.py '{"what": ...}'`.

Prints "counting" when the warm-up is over and one line of JSON at the end, as the C generators do.
The client's settings are the same against every broker.
"""

import json
import os
import sys
import threading
import time
from typing import Any

from confluent_kafka import Consumer, Producer

STALL_S = 60


def payload(size: int) -> bytes:
    """Text that compresses about as well as JSON events do."""
    words = (
        f'{{"id":{i * 7919 % 100003},"user":"u{i * 31 % 997}","value":{i % 89}.{i % 7}}},'
        for i in range(size // 30 + 2)
    )
    return "".join(words).encode()[:size]


def produce(request: dict[str, Any]) -> dict[str, Any]:
    """Produce at full rate for a time; counts what was acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": request["bootstrap"],
            "acks": request.get("acks", -1),
            "compression.type": request.get("codec", "none"),
            "linger.ms": 5,
            "batch.size": request.get("batch_bytes", 1_000_000),
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 512_000,
        }
    )
    value = payload(request["record_bytes"])
    topic, partitions = request["topic"], request["partitions"]
    count = 0

    def run_until(end: float) -> None:
        nonlocal count
        while time.monotonic() < end:
            for _ in range(500):
                try:
                    producer.produce(topic, value, partition=count % partitions)
                    count += 1
                except BufferError:
                    producer.poll(0.005)
            producer.poll(0)

    run_until(time.monotonic() + request["warmup_s"])
    before, began, cpu = count - len(producer), time.monotonic(), time.process_time()
    print("counting", flush=True)
    run_until(began + request["seconds"])
    acknowledged = count - len(producer)
    seconds = time.monotonic() - began
    result = {"records": acknowledged - before, "seconds": seconds}
    result["load_cpu_s"] = round(time.process_time() - cpu, 3)
    # The line goes out before the rest is flushed: the broker's CPU time is read when it comes.
    print(json.dumps(result), flush=True)
    assert producer.flush(STALL_S) == 0, "not everything was acknowledged"
    return {}


def consume(request: dict[str, Any]) -> dict[str, Any]:
    """Fill the topic, then consume it from its beginning."""
    filler = Producer(
        {
            "bootstrap.servers": request["bootstrap"],
            "compression.type": request.get("codec", "none"),
            "linger.ms": 20,
            "batch.size": request.get("batch_bytes", 1_000_000),
            "queue.buffering.max.messages": 500_000,
        }
    )
    value, topic, partitions = (
        payload(request["record_bytes"]),
        request["topic"],
        request["partitions"],
    )
    records = request["records"]
    for i in range(records):
        while True:
            try:
                filler.produce(topic, value, partition=i % partitions)
                break
            except BufferError:
                filler.poll(0.01)
    assert filler.flush(STALL_S) == 0
    consumer = Consumer(
        {
            "bootstrap.servers": request["bootstrap"],
            "group.id": topic,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 1 << 20,
            "queued.max.messages.kbytes": 65536,
        }
    )
    from confluent_kafka import TopicPartition

    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    print("counting", flush=True)
    began, cpu, seen = time.monotonic(), time.process_time(), 0
    while seen < records and time.monotonic() - began < STALL_S:
        seen += len(consumer.consume(10_000, 0.5))
    result = {"records": seen, "seconds": time.monotonic() - began}
    result["load_cpu_s"] = round(time.process_time() - cpu, 3)
    consumer.close()
    return result


def group(request: dict[str, Any]) -> dict[str, Any]:
    """Many consumers of one group, a thread each; done when every partition's records were seen."""
    producer = Producer({"bootstrap.servers": request["bootstrap"], "linger.ms": 5})
    partitions, per_partition = request["partitions"], 100
    for p in range(partitions):
        for _ in range(per_partition):
            producer.produce(request["topic"], bytes(request["record_bytes"]), partition=p)
        producer.poll(0)
    assert producer.flush(STALL_S) == 0
    wanted = partitions * per_partition
    seen, lock, done = [0], threading.Lock(), threading.Event()
    print("counting", flush=True)
    began, cpu = time.monotonic(), time.process_time()

    def run() -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": request["bootstrap"],
                "group.id": request["topic"],
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 45000,
                "partition.assignment.strategy": "range",
            }
        )
        consumer.subscribe([request["topic"]])
        while not done.is_set() and time.monotonic() - began < STALL_S:
            messages = consumer.consume(500, 0.2)
            with lock:
                seen[0] += sum(m.error() is None for m in messages)
                if seen[0] >= wanted:
                    done.set()
        consumer.close()

    threads = [threading.Thread(target=run) for _ in range(request["consumers"])]
    for thread in threads:
        thread.start()
    done.wait(STALL_S)
    result = {"records": min(seen[0], wanted), "seconds": time.monotonic() - began}
    result["load_cpu_s"] = round(time.process_time() - cpu, 3)
    print(json.dumps(result), flush=True)
    for thread in threads:
        thread.join(STALL_S)
    return {}


def main() -> None:
    request = json.loads(sys.argv[1])
    cores = range(os.cpu_count() or 1)
    if request["cpu"] is not None:
        os.sched_setaffinity(0, {request["cpu"] % len(cores)})
    else:  # the load shares the cores with the broker
        os.sched_setaffinity(0, cores)
    result = {"produce": produce, "consume": consume, "group": group}[request["what"]](request)
    if result:
        print(json.dumps(result), flush=True)


main()
