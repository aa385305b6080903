'''Kafka's messages: typed classes, and the codec between them and bytes.

A message is a class for all versions of it, written field by field in wire order::

    class MetadataRequest(Message, api=ApiKey.METADATA):
        """Asks for topics, leaders and brokers."""

        topics: list[MetadataRequestTopic] | None = array(MetadataRequestTopic, "0+", nullable="1+")
        allow_auto_topic_creation: bool = boolean("4+", default=True, ignorable=True)

The value in the class body names the wire type and the versions that have the field; the
annotation is what Python code sees. Constructors take keywords only and every field has a default
(`False`, 0, "", b"", 16 zero bytes for a uuid, an empty list, None for a tagged or nullable
struct, unless `default` says otherwise)::

    from fastmq.protocol import decode_request, encode_response
    from fastmq.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic

    header, request = decode_request(frame)
    answer = MetadataResponse(topics=[MetadataResponseTopic(name="events")])
    payload = encode_response(header.api_key, header.version, header.correlation_id, answer)

`encode(message, version) -> bytes` and `decode(cls, version, data, offset=0) -> (message, next)`
work on any message; `encode_request` and `decode_response` are the client's side. Frames have no
length prefix here. A field that a version lacks takes its default when decoded; encoding
another value in such a version is a ValueError unless the field is ignorable. Malformed bytes
raise `fastmq.errors.ProtocolError` and nothing else. `records` come out as a memoryview borrowed
from the frame.

`fastmq.protocol.api` is the table that answers ApiVersions; it imports no schema. Schemas live in
`fastmq.protocol.messages`, one module per API, named as the API (`list_offsets` has
`ListOffsetsRequest`), and in `fastmq.protocol.records` those of the records that coordinators
store.

This package does no I/O, knows no broker state and does not look inside record batches (that is
`fastmq.records`).
'''

from fastmq.protocol._frame import (
    RequestHeader,
    decode_request,
    decode_request_header,
    decode_response,
    encode_request,
    encode_request_parts,
    encode_response,
)
from fastmq.protocol._message import Message, decode, encode
from fastmq.protocol.api import APIS, Api, ApiKey, advertised, request_class, response_class

__all__ = [
    "APIS",
    "Api",
    "ApiKey",
    "Message",
    "RequestHeader",
    "advertised",
    "decode",
    "decode_request",
    "decode_request_header",
    "decode_response",
    "encode",
    "encode_request",
    "encode_request_parts",
    "encode_response",
    "request_class",
    "response_class",
]
