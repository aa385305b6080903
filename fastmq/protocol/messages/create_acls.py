"""CreateAcls: add access rules. KIP-140, KIP-290."""

from fastmq.protocol._message import Message, array, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = ["AclCreation", "AclCreationResult", "CreateAclsRequest", "CreateAclsResponse"]


class AclCreation(Message):
    """A rule to add."""

    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    resource_pattern_type: int = int8("1+", default=3)
    principal: str = string("0+")
    host: str = string("0+")
    operation: int = int8("0+")
    permission_type: int = int8("0+")


class CreateAclsRequest(Message, api=ApiKey.CREATE_ACLS):
    """Adds rules."""

    creations: list[AclCreation] = array(AclCreation, "0+")


class AclCreationResult(Message):
    """The result for one rule, in the order of the request."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")


class CreateAclsResponse(Message, api=ApiKey.CREATE_ACLS):
    """Results per rule."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    results: list[AclCreationResult] = array(AclCreationResult, "0+")
