"""For the tests of programs that talk to a broker: a real one, started in a fraction of a second.

    from fastmq.testing import Broker

    def test_orders_are_forwarded():
        with Broker() as broker:
            forward_orders(broker.bootstrap_servers)
            assert broker.topic("orders").wait_for_records(2)[0].value == b"first"

`Broker()` is a child process that ends with its parent, however that ends.
`Broker(in_process=True)` is the same broker on a thread of this process: it starts faster, its
clock can be moved (`broker.clock.advance(hours=2)`) and faults asked for
(`broker.faults.error("Produce", "NOT_ENOUGH_REPLICAS", times=1)`). Both keep their data in a
temporary directory, sync nothing, let groups form without delay and create topics on first use.

The pytest plugin that comes with the package has the fixtures `fastmq_broker`, `fastmq_topic` and
`fastmq_group`; docs/TESTING.md is the guide. Nothing of the package imports this one.
"""

from fastmq.testing.broker import Broker, BrokerFailedError
from fastmq.testing.clock import VirtualClock
from fastmq.testing.faults import Fault, FaultInjector
from fastmq.testing.groups import Group
from fastmq.testing.topics import Record, Topic

__all__ = [
    "Broker",
    "BrokerFailedError",
    "Fault",
    "FaultInjector",
    "Group",
    "Record",
    "Topic",
    "VirtualClock",
]
