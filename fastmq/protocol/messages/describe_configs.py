"""DescribeConfigs: settings of topics, brokers and others. KIP-133, KIP-226, KIP-569."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeConfigsEntry",
    "DescribeConfigsRequest",
    "DescribeConfigsResource",
    "DescribeConfigsResponse",
    "DescribeConfigsResult",
    "DescribeConfigsSynonym",
]


class DescribeConfigsResource(Message):
    """A resource; keys null means all of its settings."""

    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    configuration_keys: list[str] | None = array(string, "0+", nullable="0+")


class DescribeConfigsRequest(Message, api=ApiKey.DESCRIBE_CONFIGS):
    """Asks for settings."""

    resources: list[DescribeConfigsResource] = array(DescribeConfigsResource, "0+")
    include_synonyms: bool = boolean("1+")
    include_documentation: bool = boolean("3+")


class DescribeConfigsSynonym(Message):
    """A value that the setting would have if the ones before it were removed."""

    name: str = string("1+")
    value: str | None = string("1+", nullable="1+")
    source: int = int8("1+")


class DescribeConfigsEntry(Message):
    """One setting; the value of a sensitive one is null."""

    name: str = string("0+")
    value: str | None = string("0+", nullable="0+")
    read_only: bool = boolean("0+")
    config_source: int = int8("1+", default=-1, ignorable=True)
    is_sensitive: bool = boolean("0+")
    synonyms: list[DescribeConfigsSynonym] = array(DescribeConfigsSynonym, "1+", ignorable=True)
    config_type: int = int8("3+", ignorable=True)
    documentation: str | None = string("3+", nullable="3+", ignorable=True)


class DescribeConfigsResult(Message):
    """The settings of one resource."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    configs: list[DescribeConfigsEntry] = array(DescribeConfigsEntry, "0+")


class DescribeConfigsResponse(Message, api=ApiKey.DESCRIBE_CONFIGS):
    """Settings per resource."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    results: list[DescribeConfigsResult] = array(DescribeConfigsResult, "0+")
