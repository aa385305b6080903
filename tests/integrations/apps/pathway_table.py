"""Pathway: a table that follows a topic, written to another."""

import os
import sys
import threading
import time

import pathway as pw
from confluent_kafka import Consumer

bootstrap, source, target, group, count = sys.argv[1:]
settings = {
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": "6000",
}
records = pw.io.kafka.read(settings, topic=source, format="plaintext", autocommit_duration_ms=100)
shouted = records.select(data=pw.apply_with_type(str.upper, str, records.data))
pw.io.kafka.write(shouted, {"bootstrap.servers": bootstrap}, topic_name=target, format="json")


def end_when_done():
    """Pathway runs for ever; the process ends when everything came out."""
    consumer = Consumer({**settings, "group.id": f"{group}-watch"})
    consumer.subscribe([target])
    seen, deadline = 0, time.monotonic() + 60
    while seen < int(count) and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        seen += message is not None and message.error() is None
    consumer.close()
    os._exit(0 if seen >= int(count) else 1)


threading.Thread(target=end_when_done, daemon=True).start()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
