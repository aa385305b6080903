"""Requests and responses with their headers, as they lie in a frame after its length prefix.

Request header: api_key int16, version int16, correlation_id int32, client_id nullable string
(never compact), and in flexible versions tagged fields. Response header: correlation_id int32,
and in flexible versions tagged fields; ApiVersions never has these, so that a client can read the
answer to a version that the broker does not know.

Source: protocol guide, headers; KIP-482, KIP-511.
"""

import struct
from typing import NamedTuple

from fastmq._native import decoder, encoder
from fastmq.errors import ProtocolError
from fastmq.protocol._message import Buffer, Message, table
from fastmq.protocol.api import APIS, ApiKey, request_class, response_class

__all__ = [
    "RequestHeader",
    "decode_request",
    "decode_request_header",
    "decode_response",
    "encode_request",
    "encode_request_parts",
    "encode_response",
]

_REQUEST_HEADER = struct.Struct(">hhih")
_CORRELATION_ID = struct.Struct(">i")


class RequestHeader(NamedTuple):
    """What every request begins with; the body begins at `body_offset` of the frame."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    body_offset: int


def decode_request_header(frame: Buffer) -> RequestHeader:
    """Decode the header of a request.

    For an API or version that is not in the table, `body_offset` is the end of the client id: such
    a body cannot be read anyway.

    Raises:
        ProtocolError: the bytes are no header.
    """
    try:
        api_key, version, correlation_id, length = _REQUEST_HEADER.unpack_from(frame)
    except struct.error:
        raise ProtocolError("request is shorter than its header") from None
    offset = _REQUEST_HEADER.size
    client_id = None
    if length >= 0:
        if offset + length > len(frame):
            raise ProtocolError("client id is longer than the request")
        try:
            client_id = str(frame[offset : offset + length], "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("client id is not UTF-8") from None
        offset += length
    elif length != -1:
        raise ProtocolError("length of the client id is negative")
    api = APIS.get(api_key)
    if api is not None and api.supports(version) and api.flexible(version):
        offset = _skip_tags(frame, offset)
    return RequestHeader(api_key, version, correlation_id, client_id, offset)


def _skip_tags(frame: Buffer, offset: int) -> int:
    count, offset = decoder.decode_uvarint(frame, offset)
    for _ in range(count):
        _, offset = decoder.decode_uvarint(frame, offset)
        size, offset = decoder.decode_uvarint(frame, offset)
        offset += size
        if offset > len(frame):
            raise ProtocolError("tagged field of the header is longer than the frame")
    return offset


def decode_request(frame: Buffer) -> tuple[RequestHeader, Message]:
    """Decode a whole request.

    Bytes behind the message are ignored, as Kafka does: librdkafka 2.16 sends three too many in
    the Metadata request for all topics.

    Raises:
        ProtocolError: the API or version is unknown, or the bytes are malformed.
    """
    header = decode_request_header(frame)
    api = APIS.get(header.api_key)
    if api is None or not api.supports(header.version):
        raise ProtocolError(f"API {header.api_key} version {header.version} is not known")
    cls = request_class(header.api_key)
    message, _ = decoder.decode(table(cls, header.version), frame, header.body_offset)
    assert isinstance(message, Message)
    return header, message


def encode_request(
    version: int, correlation_id: int, client_id: str | None, message: Message
) -> bytes:
    """Encode a request with its header; the API is the message's."""
    header = _request_header(version, correlation_id, client_id, message)
    return encoder.encode(table(type(message), version), message, header)


def encode_request_parts(
    version: int, correlation_id: int, client_id: str | None, message: Message
) -> list[bytes | memoryview]:
    """Encode a request as pieces for a gathering write, the length prefix first.

    Large `records` are not copied: they must stay as they are until they are sent.
    """
    header = _request_header(version, correlation_id, client_id, message)
    parts = encoder.encode_parts(table(type(message), version), message, header)
    size = sum(map(len, parts))
    return [size.to_bytes(4, "big") + bytes(parts[0]), *parts[1:]]


def _request_header(
    version: int, correlation_id: int, client_id: str | None, message: Message
) -> bytes:
    name = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(name)
    header = _REQUEST_HEADER.pack(message.API_KEY, version, correlation_id, length) + name
    return header + b"\0" if version >= message.FLEXIBLE_FROM else header


def encode_response(api_key: int, version: int, correlation_id: int, message: Message) -> bytes:
    """Encode a response from its correlation id on.

    Raises:
        ValueError: the message is none of this API and version, or does not fit it.
    """
    if message.API_KEY != api_key:
        raise ValueError(f"{type(message).__name__} does not answer API {api_key}")
    header = _CORRELATION_ID.pack(correlation_id)
    if version >= message.FLEXIBLE_FROM and api_key != ApiKey.API_VERSIONS:
        header += b"\0"
    return encoder.encode(table(type(message), version), message, header)


def decode_response(api_key: int, version: int, frame: Buffer) -> tuple[int, Message]:
    """Decode a response; return its correlation id and the message.

    Raises:
        ProtocolError: the bytes are malformed, or some are left.
    """
    if len(frame) < _CORRELATION_ID.size:
        raise ProtocolError("response is shorter than its header")
    (correlation_id,) = _CORRELATION_ID.unpack_from(frame)
    offset = _CORRELATION_ID.size
    if APIS[api_key].flexible(version) and api_key != ApiKey.API_VERSIONS:
        offset = _skip_tags(frame, offset)
    message, end = decoder.decode(table(response_class(api_key), version), frame, offset)
    if end != len(frame):
        raise ProtocolError(f"{len(frame) - end} bytes follow the response")
    assert isinstance(message, Message)
    return correlation_id, message
