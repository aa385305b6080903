"""The producer: from records to acknowledged batches. Pure; the fronts are in `client.fronts`.

`fastmq._native.producer.Accumulator` takes records into batches, in the application's thread.
`Sender` takes batches out, sends them to the leaders of their partitions and settles their fate.
`ProducerMachine` ties the two to a `ClientCore`. Python code runs per batch and per request.
"""

from fastmq.client.producer.machine import ProducerMachine, RecordMetadata
from fastmq.client.producer.options import ProducerOptions

__all__ = ["ProducerMachine", "ProducerOptions", "RecordMetadata"]
