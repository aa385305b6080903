"""An idempotent producer while the leaders of its partitions die and come back."""

import threading
import time

import pytest

import fastmq

from support.cluster import Cluster, leaders
from support.fronts import stored

COUNT = 60_000
KEYS = 11


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.timeout(240)
def test_leaders_die_while_records_pass(tmp_path):
    with Cluster(tmp_path / "cluster") as cluster:
        addresses = cluster.all_addresses
        with fastmq.Admin(cluster.bootstrap) as admin:
            admin.create_topic("led", partitions=3, replication_factor=3)
        deaths = []

        def kill_a_leader():
            victim = next(node for node in leaders(addresses[0], "led").values() if node != 1)
            cluster.process_of(victim).kill()
            deaths.append(victim)

        killers = []
        options = {"linger_ms": 1, "batch_size": 8_000, "buffer_memory": 1 << 20}
        with fastmq.Producer(cluster.bootstrap, **options) as producer:
            deliveries = []
            for n in range(COUNT):
                if n in (COUNT // 3, 2 * COUNT // 3):
                    killers.append(threading.Thread(target=kill_a_leader))
                    killers[-1].start()
                deliveries.append(producer.produce("led", b"%d" % n, b"%d" % (n % KEYS)))
                if n % 1000 == 0:
                    deliveries[-1].result(100)  # so that the deaths come while records pass
        for killer in killers:
            killer.join(30)
        assert len(deaths) == 2
        assert [d.exception() for d in deliveries if d.exception()] == []
        seen = {}
        for partition, leader in settled_leaders(addresses[0]).items():
            last = {}
            for record in stored(addresses[leader - 1], "led", partition):
                number = int(record.value)
                assert number not in seen, f"record {number} is there twice"
                assert number > last.get(record.key, -1), f"key {record.key} is out of order"
                last[record.key] = number
                seen[number] = (partition, record.offset)
        assert len(seen) == COUNT, f"{COUNT - len(seen)} records are lost"
        for n, delivery in enumerate(deliveries):
            where = delivery.result()
            assert where.offset < 0 or seen[n] == (where.partition, where.offset)


def settled_leaders(address):
    """Who leads, once every partition is led."""
    deadline = time.monotonic() + 60
    while True:
        found = leaders(address, "led")
        if len(found) == 3 and min(found.values()) > 0:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)
