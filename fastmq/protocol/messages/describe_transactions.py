"""DescribeTransactions: the state of transactional ids. KIP-664."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeTransactionsRequest",
    "DescribeTransactionsResponse",
    "TransactionState",
    "TransactionTopic",
]


class DescribeTransactionsRequest(Message, api=ApiKey.DESCRIBE_TRANSACTIONS):
    """Asks for transactional ids."""

    transactional_ids: list[str] = array(string, "0+")


class TransactionTopic(Message):
    """Partitions in the transaction."""

    topic: str = string("0+")
    partitions: list[int] = array(int32, "0+")


class TransactionState(Message):
    """A transactional id and its transaction."""

    error_code: int = int16("0+")
    transactional_id: str = string("0+")
    transaction_state: str = string("0+")
    transaction_timeout_ms: int = int32("0+")
    transaction_start_time_ms: int = int64("0+")
    producer_id: int = int64("0+")
    producer_epoch: int = int16("0+")
    topics: list[TransactionTopic] = array(TransactionTopic, "0+")


class DescribeTransactionsResponse(Message, api=ApiKey.DESCRIBE_TRANSACTIONS):
    """States per transactional id."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    transaction_states: list[TransactionState] = array(TransactionState, "0+")
