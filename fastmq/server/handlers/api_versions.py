"""ApiVersions: what this broker serves.

Versions that we do not know never come here: the dispatcher answers them in version 0.
Source: KIP-35, KIP-511, KIP-584.
"""

import re

from fastmq.errors import ErrorCode
from fastmq.protocol.api import advertised
from fastmq.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request
from fastmq.server.handlers import ADVERTISED

__all__ = ["handle_api_versions"]

# KIP-511's pattern for what a client calls itself.
_SOFTWARE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,254}[A-Za-z0-9])?")


def handle_api_versions(
    context: BrokerContext, request: Request, message: ApiVersionsRequest
) -> ApiVersionsResponse:
    """Answer with the ranges of all handlers; no features are finalized."""
    if request.version >= 3:
        name, version = message.client_software_name, message.client_software_version
        if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
        request.connection.software_name = name
        request.connection.software_version = version
    return ApiVersionsResponse(
        api_keys=[
            ApiVersion(api_key=key, min_version=low, max_version=high)
            for key, low, high in advertised(ADVERTISED)
        ],
    )
