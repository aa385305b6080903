"""IncrementalAlterConfigs: set, delete, append to or subtract from settings. KIP-339."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "IncrementalAlterConfigsEntry",
    "IncrementalAlterConfigsRequest",
    "IncrementalAlterConfigsResource",
    "IncrementalAlterConfigsResponse",
    "IncrementalAlterConfigsResult",
]


class IncrementalAlterConfigsEntry(Message):
    """One change; `config_operation` is 0 set, 1 delete, 2 append, 3 subtract."""

    name: str = string("0+")
    config_operation: int = int8("0+")
    value: str | None = string("0+", nullable="0+")


class IncrementalAlterConfigsResource(Message):
    """The changes of one resource."""

    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    configs: list[IncrementalAlterConfigsEntry] = array(IncrementalAlterConfigsEntry, "0+")


class IncrementalAlterConfigsRequest(Message, api=ApiKey.INCREMENTAL_ALTER_CONFIGS):
    """Changes settings, or with `validate_only` says whether it could."""

    resources: list[IncrementalAlterConfigsResource] = array(IncrementalAlterConfigsResource, "0+")
    validate_only: bool = boolean("0+")


class IncrementalAlterConfigsResult(Message):
    """The result for one resource."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    resource_type: int = int8("0+")
    resource_name: str = string("0+")


class IncrementalAlterConfigsResponse(Message, api=ApiKey.INCREMENTAL_ALTER_CONFIGS):
    """Results per resource."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    responses: list[IncrementalAlterConfigsResult] = array(IncrementalAlterConfigsResult, "0+")
