"""ListTransactions: the transactional ids that this broker coordinates. KIP-664, KIP-994."""

from fastmq.protocol._message import Message, array, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = ["ListTransactionsRequest", "ListTransactionsResponse", "ListedTransaction"]


class ListTransactionsRequest(Message, api=ApiKey.LIST_TRANSACTIONS):
    """The filters; an empty list, -1 or null lets all pass."""

    state_filters: list[str] = array(string, "0+")
    producer_id_filters: list[int] = array(int64, "0+")
    duration_filter: int = int64("1+", default=-1)
    transactional_id_pattern: str | None = string("2+", nullable="2+", default=None)


class ListedTransaction(Message):
    """A transactional id."""

    transactional_id: str = string("0+")
    producer_id: int = int64("0+")
    transaction_state: str = string("0+")


class ListTransactionsResponse(Message, api=ApiKey.LIST_TRANSACTIONS):
    """The transactional ids that match."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
    unknown_state_filters: list[str] = array(string, "0+")
    transaction_states: list[ListedTransaction] = array(ListedTransaction, "0+")
