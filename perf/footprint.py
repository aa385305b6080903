"""Start-up time, idle memory, and what thousands of idle partitions cost.

Targets (DESIGN 10): a fresh process answers Metadata in < 300 ms; < 60 MiB idle; < 2 KiB per idle
partition; 3,000 topics created in one request in < 6 s, and a restart with them in < 2 s.
"""

import socket
import struct
import time

import harness
from confluent_kafka.admin import AdminClient, NewTopic

from support.broker import Broker

TOPICS = 3000
METADATA_0 = struct.pack(">hhih4si", 3, 0, 1, 4, b"perf", 0)


def first_answer(broker: Broker) -> float:
    """Seconds from the start of the process to the first Metadata answer."""
    began = time.monotonic()
    broker.start()
    with socket.create_connection(("127.0.0.1", broker.port), 10) as sock:
        sock.sendall(struct.pack(">i", len(METADATA_0)) + METADATA_0)
        assert sock.recv(4), "no answer"
    return time.monotonic() - began


def main() -> None:
    options = harness.arguments(__doc__).parse_args()
    with harness.scratch(options) as root:
        times = []
        for i in range(max(5, options.rounds)):
            broker = Broker(root / f"fresh-{i}", dev=False)
            times.append(first_answer(broker))
            idle_mib = broker.rss_bytes() / (1 << 20)
            broker.stop()
        harness.report(
            "start-up",
            median_s=round(sorted(times)[len(times) // 2], 3),
            worst_s=round(max(times), 3),
        )
        harness.report("idle", rss_mib=round(idle_mib, 1))
        many_topics(Broker(root / "many", dev=False))


def warm_up(broker: Broker) -> None:
    """Load what the first request for a topic loads, and wait for what follows the start."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic("warm-up", 1, 1)])["warm-up"].exception(20)
    time.sleep(1)


def many_topics(broker: Broker) -> None:
    """Create, use, restart and delete thousands of topics."""
    broker.start()
    warm_up(broker)
    rss_before, fds_before = broker.rss_bytes(), broker.fd_count()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    names = [f"topic-{i}" for i in range(TOPICS)]
    began = time.monotonic()
    created = admin.create_topics([NewTopic(n, 1, 1) for n in names], request_timeout=60)
    for future in created.values():
        future.result(60)
    create_s = time.monotonic() - began
    time.sleep(1)
    per_partition = (broker.rss_bytes() - rss_before) / TOPICS
    fds = broker.fd_count() - fds_before
    broker.stop()
    restart_s = first_answer(broker)
    warm_up(broker)
    idle_per_partition = (broker.rss_bytes() - rss_before) / TOPICS
    began = time.monotonic()
    for future in admin.delete_topics(names, request_timeout=60).values():
        future.result(60)
    delete_s = time.monotonic() - began
    broker.stop()
    harness.report(
        "3000 topics",
        create_s=round(create_s, 2),
        delete_s=round(delete_s, 2),
        restart_s=round(restart_s, 2),
        bytes_per_partition_after_create=round(per_partition),
        bytes_per_partition_after_restart=round(idle_per_partition),
        descriptors=fds,
    )


main()
