"""ApiVersions: which APIs and features a broker has. KIP-35, KIP-511, KIP-584."""

from fastmq.protocol._message import Message, array, boolean, int16, int32, int64, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "ApiVersion",
    "ApiVersionsRequest",
    "ApiVersionsResponse",
    "FinalizedFeature",
    "SupportedFeature",
]


class ApiVersionsRequest(Message, api=ApiKey.API_VERSIONS):
    """Asks for the versions; the first request on most connections."""

    client_software_name: str = string("3+", ignorable=True)
    client_software_version: str = string("3+", ignorable=True)


class ApiVersion(Message):
    """The versions of one API, inclusive."""

    api_key: int = int16("0+")
    min_version: int = int16("0+")
    max_version: int = int16("0+")


class SupportedFeature(Message):
    """The levels of a feature that the broker can work at."""

    name: str = string("3+")
    min_version: int = int16("3+")
    max_version: int = int16("3+")


class FinalizedFeature(Message):
    """The levels of a feature that the whole cluster has agreed on."""

    name: str = string("3+")
    max_version_level: int = int16("3+")
    min_version_level: int = int16("3+")


class ApiVersionsResponse(Message, api=ApiKey.API_VERSIONS):
    """The APIs and features; version 0 also answers versions that the broker does not know."""

    error_code: int = int16("0+")
    api_keys: list[ApiVersion] = array(ApiVersion, "0+")
    throttle_time_ms: int = int32("1+", ignorable=True)
    supported_features: list[SupportedFeature] = array(
        SupportedFeature, "3+", tag=0, ignorable=True
    )
    finalized_features_epoch: int = int64("3+", tag=1, default=-1, ignorable=True)
    finalized_features: list[FinalizedFeature] = array(
        FinalizedFeature, "3+", tag=2, ignorable=True
    )
    zk_migration_ready: bool = boolean("3+", tag=3, ignorable=True)
