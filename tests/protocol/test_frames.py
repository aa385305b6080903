"""Headers, whole frames, and what is refused at both ends."""

import pytest

from fastmq.errors import ProtocolError
from fastmq.protocol import (
    ApiKey,
    decode,
    decode_request,
    decode_request_header,
    decode_response,
    encode,
    encode_request,
    encode_response,
)
from fastmq.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    SupportedFeature,
)
from fastmq.protocol.messages.fetch import FetchPartitionData, FetchReplicaState, FetchRequest
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic


def test_golden_api_versions_request_3() -> None:
    request = ApiVersionsRequest(client_software_name="lib", client_software_version="1.0")
    frame = encode_request(3, 7, "me", request)
    assert frame.hex() == "0012000300000007" + "00026d65" + "00" + "046c6962" + "04312e30" + "00"
    header, decoded = decode_request(frame)
    assert header == (18, 3, 7, "me", 13)
    assert decoded == request


def test_golden_metadata_request_1_with_null_topics() -> None:
    frame = encode_request(1, 1, None, MetadataRequest(topics=None))
    assert frame.hex() == "0003000100000001" + "ffff" + "ffffffff"
    assert decode_request(frame)[1] == MetadataRequest(topics=None)


def test_golden_metadata_response_1() -> None:
    response = MetadataResponse(
        brokers=[MetadataBroker(node_id=1, host="h", port=9092)], controller_id=1
    )
    wanted = "00000001" + "00000001" + "000168" + "00002384" + "ffff" + "00000001" + "00000000"
    assert encode(response, 1).hex() == wanted


def test_golden_produce_9_with_records() -> None:
    request = ProduceRequest(
        acks=-1,
        timeout_ms=1000,
        topic_data=[
            ProduceTopic(name="t", partition_data=[ProducePartition(index=2, records=b"abc")])
        ],
    )
    wanted = "00" + "ffff" + "000003e8" + "02" + "0274" + "02" + "00000002" + "04616263" + "000000"
    assert encode(request, 9).hex() == wanted


def test_api_versions_response_never_has_header_tags() -> None:
    response = ApiVersionsResponse(api_keys=[ApiVersion(api_key=18, max_version=4)])
    assert encode_response(18, 3, 5, response).hex() == (
        "00000005" + "0000" + "02" + "001200000004" + "00" + "00000000" + "00"
    )
    assert decode_response(18, 3, encode_response(18, 3, 5, response)) == (5, response)


def test_flexible_response_has_header_tags() -> None:
    assert (
        encode_response(12, 4, 5, HeartbeatResponse()).hex() == "00000005" + "00" + "0" * 12 + "00"
    )
    assert encode_response(12, 3, 5, HeartbeatResponse()).hex() == "00000005" + "0" * 12


def test_header_of_an_unknown_version_is_read() -> None:
    header = decode_request_header(bytes.fromhex("0012006300000007") + b"\0\2me" + b"\xff\xff")
    assert header == (18, 99, 7, "me", 12)


def test_tags_in_a_request_header_are_skipped() -> None:
    frame = bytes.fromhex("000c000400000001ffff") + b"\2\0\1x\7\2yz" + b"\1\0\0\0\0\1\0\0"
    header, request = decode_request(frame)
    assert header.body_offset == 18
    assert request == HeartbeatRequest()


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\3\0\1\0\0\0\1\xff",
        b"\0\3\0\1\0\0\0\1\xff\xfe",
        b"\0\3\0\1\0\0\0\1\0\5ab",
        b"\0\3\0\1\0\0\0\1\0\1\xff",
        b"\0\x0c\0\4\0\0\0\1\xff\xff",
        b"\0\x0c\0\4\0\0\0\1\xff\xff\1",
        b"\0\x0c\0\4\0\0\0\1\xff\xff\1\0\x7f",
        b"\0\x0c\0\4\0\0\0\1\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_malformed_headers_are_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request_header(frame)


def test_bytes_behind_a_request_are_ignored() -> None:
    """librdkafka sends three too many in the Metadata request for all topics."""
    frame = encode_request(3, 1, None, HeartbeatRequest(group_id="g"))
    assert decode_request(frame + b"\1\0\0") == decode_request(frame)


def test_unknown_api_and_version_are_refused() -> None:
    for frame in (
        b"\x03\xe7\0\0\0\0\0\1\xff\xff",
        b"\0\3\0\x63\0\0\0\1\xff\xff",
    ):
        with pytest.raises(ProtocolError):
            decode_request(frame)


def test_produce_before_version_3_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_request(b"\0\0\0\2\0\0\0\1\xff\xff\0\1\0\0\0\0\0\0\0\0")


def test_records_borrow_from_the_frame() -> None:
    topic = ProduceTopic(partition_data=[ProducePartition(records=b"batch")])
    frame = bytearray(encode(ProduceRequest(topic_data=[topic]), 9))
    decoded, _ = decode(ProduceRequest, 9, frame)
    borrowed = decoded.topic_data[0].partition_data[0].records
    assert isinstance(borrowed, memoryview)
    frame[frame.index(b"batch")] = ord("h")
    assert bytes(borrowed) == b"hatch"


def test_value_that_a_version_lacks_is_refused_unless_ignorable() -> None:
    with pytest.raises(ValueError, match="group_instance_id is set, but this version lacks it"):
        encode(HeartbeatRequest(group_instance_id="a"), 2)
    with pytest.raises(ValueError, match="allow_auto_topic_creation"):
        encode(MetadataRequest(allow_auto_topic_creation=False), 3)
    assert encode(HeartbeatResponse(throttle_time_ms=9), 0) == b"\0\0"


def test_absent_fields_take_their_defaults() -> None:
    decoded, _ = decode(MetadataRequest, 0, b"\0\0\0\0")
    assert decoded.allow_auto_topic_creation is True
    response, _ = decode(MetadataResponse, 0, bytes(8))
    assert (response.controller_id, response.cluster_id, response.topics) == (-1, None, [])


@pytest.mark.parametrize(
    ("message", "version", "error"),
    [
        (MetadataResponse(controller_id=2**31), 1, ValueError),
        (MetadataResponse(controller_id="x"), 1, TypeError),  # type: ignore[arg-type]
        (MetadataResponse(brokers=None), 1, ValueError),  # type: ignore[arg-type]
        (MetadataResponse(brokers=[None]), 1, TypeError),  # type: ignore[list-item]
        (MetadataResponse(brokers=[HeartbeatResponse()]), 1, TypeError),  # type: ignore[list-item]
        (MetadataResponse(brokers="ab"), 1, TypeError),  # type: ignore[arg-type]
        (MetadataRequest(topics=[MetadataRequestTopic(topic_id=b"x")]), 12, ValueError),
        (MetadataRequest(topics=[MetadataRequestTopic(name="x" * 40000)]), 8, ValueError),
        (MetadataRequest(topics=[MetadataRequestTopic(name="\ud800")]), 12, ValueError),
        (MetadataRequest(topics=None), 0, ValueError),
        (MetadataRequest(), 14, ValueError),
        (MetadataRequest(), -1, ValueError),
    ],
)
def test_values_that_do_not_fit_are_refused(
    message: MetadataRequest, version: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        encode(message, version)


def test_constructor_refuses_unknown_fields() -> None:
    with pytest.raises(TypeError, match="no field 'grp'"):
        HeartbeatRequest(grp="x")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        HeartbeatRequest().grp = 1  # type: ignore[attr-defined]


def test_messages_are_not_inherited_from() -> None:
    with pytest.raises(TypeError, match="fields are not inherited"):

        class Later(HeartbeatRequest):
            pass


def test_defaults_are_not_shared() -> None:
    first = MetadataResponse()
    first.brokers.append(MetadataBroker())
    assert MetadataResponse().brokers == []
    assert FetchPartitionData().aborted_transactions == []


def test_messages_compare_and_show_what_is_set() -> None:
    assert HeartbeatRequest(group_id="a") == HeartbeatRequest(group_id="a")
    assert HeartbeatRequest(group_id="a") != HeartbeatRequest(group_id="b")
    assert HeartbeatRequest() != HeartbeatResponse()
    assert repr(HeartbeatRequest(group_id="a")) == "HeartbeatRequest(group_id='a')"


def test_unknown_tags_survive_between_known_ones() -> None:
    response = ApiVersionsResponse(
        supported_features=[SupportedFeature(name="f", max_version=1)],
        finalized_features_epoch=3,
        zk_migration_ready=True,
        unknown_tags={9: b"later", 2**32 - 1: b""},
    )
    encoded = encode(response, 4)
    decoded, end = decode(ApiVersionsResponse, 4, encoded)
    assert (decoded, end) == (response, len(encoded))
    assert decoded.unknown_tags == {9: b"later", 2**32 - 1: b""}


def test_tagged_struct_of_defaults_is_not_sent() -> None:
    state = FetchReplicaState()
    assert encode(FetchRequest(replica_state=state), 15) == encode(FetchRequest(), 15)
    state.replica_id = 0
    assert (
        len(encode(FetchRequest(replica_state=state), 15)) == len(encode(FetchRequest(), 15)) + 15
    )


def test_tag_that_is_known_and_unknown_at_once_is_refused() -> None:
    message = ApiVersionsResponse(finalized_features_epoch=3, unknown_tags={1: b"x"})
    with pytest.raises(ValueError, match="both"):
        encode(message, 4)


@pytest.mark.parametrize("tags", ["0201 00 01 00", "0202 00 01 00", "0101 05 00", "0101 02 0000"])
def test_wrong_tag_sections_are_refused(tags: str) -> None:
    body = encode(ApiVersionsResponse(), 4)[:-1] + bytes.fromhex(tags)
    with pytest.raises(ProtocolError):
        decode(ApiVersionsResponse, 4, body)


def test_produce_is_advertised_from_0() -> None:
    from fastmq.protocol import advertised

    assert advertised([ApiKey.METADATA, ApiKey.PRODUCE]) == [(0, 0, 13), (3, 0, 13)]
