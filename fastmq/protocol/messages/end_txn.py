"""EndTxn: commit or abort a transaction. KIP-98; KIP-890 from version 5 on."""

from fastmq.protocol._message import Message, boolean, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = ["EndTxnRequest", "EndTxnResponse"]


class EndTxnRequest(Message, api=ApiKey.END_TXN):
    """Commits, or aborts when `committed` is false."""

    transactional_id: str = string("0+")
    producer_id: int = int64("0+")
    producer_epoch: int = int16("0+")
    committed: bool = boolean("0+")


class EndTxnResponse(Message, api=ApiKey.END_TXN):
    """An error, or since version 5 the id and epoch for the next transaction."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
    producer_id: int = int64("5+", default=-1, ignorable=True)
    producer_epoch: int = int16("5+", default=-1, ignorable=True)
