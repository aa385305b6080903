"""AlterConfigs: replace all settings of resources (IncrementalAlterConfigs is the better one)."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "AlterConfigsEntry",
    "AlterConfigsRequest",
    "AlterConfigsResource",
    "AlterConfigsResponse",
    "AlterConfigsResult",
]


class AlterConfigsEntry(Message):
    """One setting."""

    name: str = string("0+")
    value: str | None = string("0+", nullable="0+")


class AlterConfigsResource(Message):
    """The settings of one resource; those not named go back to their defaults."""

    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    configs: list[AlterConfigsEntry] = array(AlterConfigsEntry, "0+")


class AlterConfigsRequest(Message, api=ApiKey.ALTER_CONFIGS):
    """Replaces settings, or with `validate_only` says whether it could."""

    resources: list[AlterConfigsResource] = array(AlterConfigsResource, "0+")
    validate_only: bool = boolean("0+")


class AlterConfigsResult(Message):
    """The result for one resource."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    resource_type: int = int8("0+")
    resource_name: str = string("0+")


class AlterConfigsResponse(Message, api=ApiKey.ALTER_CONFIGS):
    """Results per resource."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    responses: list[AlterConfigsResult] = array(AlterConfigsResult, "0+")
