"""InitProducerId: a producer id and epoch for idempotence and transactions. KIP-98, KIP-360."""

from fastmq.protocol._message import Message, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = ["InitProducerIdRequest", "InitProducerIdResponse"]


class InitProducerIdRequest(Message, api=ApiKey.INIT_PRODUCER_ID):
    """Asks for an id; with `producer_id` set, for a higher epoch of that one."""

    transactional_id: str | None = string("0+", nullable="0+")
    transaction_timeout_ms: int = int32("0+")
    producer_id: int = int64("3+", default=-1)
    producer_epoch: int = int16("3+", default=-1)


class InitProducerIdResponse(Message, api=ApiKey.INIT_PRODUCER_ID):
    """The id and epoch to use."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
    producer_id: int = int64("0+", default=-1)
    producer_epoch: int = int16("0+")
