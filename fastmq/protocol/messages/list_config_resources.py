"""ListConfigResources: names of the resources that have settings. KIP-714, KIP-1142."""

from fastmq.protocol._message import Message, array, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["ListConfigResourcesRequest", "ListConfigResourcesResponse", "ListedConfigResource"]

_CLIENT_METRICS = 16


class ListConfigResourcesRequest(Message, api=ApiKey.LIST_CONFIG_RESOURCES):
    """Asks for types; version 0 means client metrics, an empty list all types."""

    resource_types: list[int] = array(int8, "1+")


class ListedConfigResource(Message):
    """A resource."""

    resource_name: str = string("0+")
    resource_type: int = int8("1+", default=_CLIENT_METRICS, ignorable=True)


class ListConfigResourcesResponse(Message, api=ApiKey.LIST_CONFIG_RESOURCES):
    """The resources."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    config_resources: list[ListedConfigResource] = array(ListedConfigResource, "0+")
