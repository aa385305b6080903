"""InitProducerId for idempotent producers.

There are no transactions: a transactional id gets an error that every client takes as final.
A producer that brings its id gets the next epoch of it (KIP-360), or a new id when the epochs are
used up or the id was never given out here. Source: KIP-98, KIP-360.
"""

from typing import Final

from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request
from fastmq.server.routes import Deferred

__all__ = ["NO_TRANSACTIONS", "NO_TRANSACTIONS_CODE", "handle_init_producer_id"]

# The one error that librdkafka, the Java client and the others all treat as fatal for a
# transactional producer; anything that says "not now" is retried for ever.
NO_TRANSACTIONS_CODE: Final = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
NO_TRANSACTIONS: Final = "this broker has no transactions; produce without a transactional id"

# Kafka keeps the last epoch of an int16 for fencing.
_LAST_EPOCH: Final = 32_766


def handle_init_producer_id(
    context: BrokerContext, request: Request, message: InitProducerIdRequest
) -> InitProducerIdResponse | Deferred:
    """Give out a producer id, or the next epoch of one."""
    if message.transactional_id is not None:
        raise KafkaError(NO_TRANSACTIONS_CODE, NO_TRANSACTIONS)
    producer_id, epoch = message.producer_id, message.producer_epoch
    if (producer_id < 0) != (epoch < 0):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, "producer id and epoch must be given both or neither"
        )
    if 0 <= epoch < _LAST_EPOCH and context.producer_ids.was_given(producer_id):
        return InitProducerIdResponse(producer_id=producer_id, producer_epoch=epoch + 1)
    drawn = context.producer_ids.next_nowait()
    if drawn is not None:
        return InitProducerIdResponse(producer_id=drawn, producer_epoch=0)

    async def draw() -> InitProducerIdResponse:
        return InitProducerIdResponse(
            producer_id=await context.producer_ids.next(), producer_epoch=0
        )

    return request.defer(draw)
