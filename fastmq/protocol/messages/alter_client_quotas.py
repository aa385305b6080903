"""AlterClientQuotas. KIP-546."""

from fastmq.protocol._message import Message, array, boolean, float64, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "AlterClientQuotasEntity",
    "AlterClientQuotasEntry",
    "AlterClientQuotasOp",
    "AlterClientQuotasRequest",
    "AlterClientQuotasResponse",
    "AlterClientQuotasResult",
]


class AlterClientQuotasEntity(Message):
    """One part of an entity; a null name is the default."""

    entity_type: str = string("0+")
    entity_name: str | None = string("0+", nullable="0+")


class AlterClientQuotasOp(Message):
    """Sets or removes one quota."""

    key: str = string("0+")
    value: float = float64("0+")
    remove: bool = boolean("0+")


class AlterClientQuotasEntry(Message):
    """The changes for one entity."""

    entity: list[AlterClientQuotasEntity] = array(AlterClientQuotasEntity, "0+")
    ops: list[AlterClientQuotasOp] = array(AlterClientQuotasOp, "0+")


class AlterClientQuotasRequest(Message, api=ApiKey.ALTER_CLIENT_QUOTAS):
    """Changes quotas, or with `validate_only` says whether it could."""

    entries: list[AlterClientQuotasEntry] = array(AlterClientQuotasEntry, "0+")
    validate_only: bool = boolean("0+")


class AlterClientQuotasResult(Message):
    """The result for one entity."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    entity: list[AlterClientQuotasEntity] = array(AlterClientQuotasEntity, "0+")


class AlterClientQuotasResponse(Message, api=ApiKey.ALTER_CLIENT_QUOTAS):
    """Results per entity."""

    throttle_time_ms: int = int32("0+")
    entries: list[AlterClientQuotasResult] = array(AlterClientQuotasResult, "0+")
