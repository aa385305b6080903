"""UpdateFeatures: set the levels of features for the whole cluster. KIP-584, KIP-1022."""

from fastmq.protocol._message import Message, array, boolean, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "FeatureUpdate",
    "UpdatableFeatureResult",
    "UpdateFeaturesRequest",
    "UpdateFeaturesResponse",
]


class FeatureUpdate(Message):
    """A feature; upgrade type 1 upgrade only, 2 safe downgrade, 3 unsafe downgrade."""

    feature: str = string("0+")
    max_version_level: int = int16("0+")
    allow_downgrade: bool = boolean("0")
    upgrade_type: int = int8("1+", default=1)


class UpdateFeaturesRequest(Message, api=ApiKey.UPDATE_FEATURES):
    """Sets levels, or with `validate_only` says whether it could."""

    timeout_ms: int = int32("0+", default=60000)
    feature_updates: list[FeatureUpdate] = array(FeatureUpdate, "0+")
    validate_only: bool = boolean("1+")


class UpdatableFeatureResult(Message):
    """The result for one feature."""

    feature: str = string("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")


class UpdateFeaturesResponse(Message, api=ApiKey.UPDATE_FEATURES):
    """One result for all since version 2."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    results: list[UpdatableFeatureResult] = array(UpdatableFeatureResult, "0-1", ignorable=True)
