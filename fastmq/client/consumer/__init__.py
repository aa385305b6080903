"""Consumers: pure machines on a `ClientCore`.

`machine` puts together what the others are for: `membership` and `assignors` (groups), `fetcher`
(records, ahead of the program), `commits` (offsets); `state` is what a partition's position is.
The records themselves are read in Cython (`fastmq._native.consumer`).
"""

from fastmq.client.consumer.machine import ConsumerMachine
from fastmq.client.consumer.options import ConsumerOptions, check_consumer_options

__all__ = ["ConsumerMachine", "ConsumerOptions", "check_consumer_options"]
