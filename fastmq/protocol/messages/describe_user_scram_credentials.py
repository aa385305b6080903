"""DescribeUserScramCredentials: which users have SCRAM credentials. KIP-554."""

from fastmq.protocol._message import Message, array, int8, int16, int32, string
from fastmq.protocol.api import ApiKey

__all__ = [
    "DescribeUserScramCredentialsInfo",
    "DescribeUserScramCredentialsRequest",
    "DescribeUserScramCredentialsResponse",
    "DescribeUserScramCredentialsResult",
    "DescribeUserScramCredentialsUser",
]


class DescribeUserScramCredentialsUser(Message):
    """A user."""

    name: str = string("0+")


class DescribeUserScramCredentialsRequest(Message, api=ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS):
    """Asks for users, or with null or an empty list for all."""

    users: list[DescribeUserScramCredentialsUser] | None = array(
        DescribeUserScramCredentialsUser, "0+", nullable="0+"
    )


class DescribeUserScramCredentialsInfo(Message):
    """A credential; mechanism 1 is SCRAM-SHA-256, 2 is SCRAM-SHA-512."""

    mechanism: int = int8("0+")
    iterations: int = int32("0+")


class DescribeUserScramCredentialsResult(Message):
    """The credentials of one user."""

    user: str = string("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    credential_infos: list[DescribeUserScramCredentialsInfo] = array(
        DescribeUserScramCredentialsInfo, "0+"
    )


class DescribeUserScramCredentialsResponse(Message, api=ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS):
    """Credentials per user."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    results: list[DescribeUserScramCredentialsResult] = array(
        DescribeUserScramCredentialsResult, "0+"
    )
