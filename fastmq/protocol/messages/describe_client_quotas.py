"""DescribeClientQuotas. KIP-546."""

from fastmq.protocol._message import Message, array, boolean, float64, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeClientQuotasComponent",
    "DescribeClientQuotasEntity",
    "DescribeClientQuotasEntry",
    "DescribeClientQuotasRequest",
    "DescribeClientQuotasResponse",
    "DescribeClientQuotasValue",
]


class DescribeClientQuotasComponent(Message):
    """One part of the filter; match type 0 exact, 1 the default entity, 2 any that is named."""

    entity_type: str = string("0+")
    match_type: int = int8("0+")
    match: str | None = string("0+", nullable="0+")


class DescribeClientQuotasRequest(Message, api=ApiKey.DESCRIBE_CLIENT_QUOTAS):
    """The filter; `strict` leaves out entities that have other parts too."""

    components: list[DescribeClientQuotasComponent] = array(DescribeClientQuotasComponent, "0+")
    strict: bool = boolean("0+")


class DescribeClientQuotasEntity(Message):
    """One part of an entity; a null name is the default."""

    entity_type: str = string("0+")
    entity_name: str | None = string("0+", nullable="0+")


class DescribeClientQuotasValue(Message):
    """A quota."""

    key: str = string("0+")
    value: float = float64("0+")


class DescribeClientQuotasEntry(Message):
    """The quotas of one entity."""

    entity: list[DescribeClientQuotasEntity] = array(DescribeClientQuotasEntity, "0+")
    values: list[DescribeClientQuotasValue] = array(DescribeClientQuotasValue, "0+")


class DescribeClientQuotasResponse(Message, api=ApiKey.DESCRIBE_CLIENT_QUOTAS):
    """The entities that match; null with an error."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    entries: list[DescribeClientQuotasEntry] | None = array(
        DescribeClientQuotasEntry, "0+", nullable="0+"
    )
