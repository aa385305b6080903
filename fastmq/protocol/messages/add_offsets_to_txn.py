"""AddOffsetsToTxn: put the offsets of a group into a transaction. KIP-98."""

from fastmq.protocol._message import Message, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = ["AddOffsetsToTxnRequest", "AddOffsetsToTxnResponse"]


class AddOffsetsToTxnRequest(Message, api=ApiKey.ADD_OFFSETS_TO_TXN):
    """Names the transaction and the group."""

    transactional_id: str = string("0+")
    producer_id: int = int64("0+")
    producer_epoch: int = int16("0+")
    group_id: str = string("0+")


class AddOffsetsToTxnResponse(Message, api=ApiKey.ADD_OFFSETS_TO_TXN):
    """Nothing but an error."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
