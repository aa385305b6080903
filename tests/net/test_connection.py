"""The client's end of a connection, fed with scripted bytes."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.net import Connection
from fastmq.net.frames import FrameReader
from fastmq.protocol import ApiKey, decode_request, encode_response
from fastmq.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from fastmq.protocol.messages.metadata import MetadataBroker, MetadataRequest, MetadataResponse
from fastmq.protocol.messages.produce import ProducePartition, ProduceRequest, ProduceTopic

OFFERED = [(0, 3, 9), (3, 0, 12), (18, 0, 4)]


def framed(payload):
    return struct.pack(">i", len(payload)) + payload


def sent(connection):
    """The requests that the connection wants to send: (header, message)."""
    data = b"".join(bytes(part) for part in connection.take_output())
    requests = []
    while data:
        (size,) = struct.unpack_from(">i", data)
        requests.append(decode_request(data[4 : 4 + size]))
        data = data[4 + size :]
    return requests


def versions(version, correlation_id, *, error=0, offered=OFFERED):
    rows = [ApiVersion(api_key=k, min_version=a, max_version=b) for k, a, b in offered]
    response = ApiVersionsResponse(error_code=error, api_keys=rows)
    return framed(encode_response(ApiKey.API_VERSIONS, version, correlation_id, response))


def opened(offered=OFFERED):
    connection = Connection(client_id="me")
    connection.start()
    sent(connection)
    assert connection.receive_data(versions(4, 0, offered=offered)) == []
    assert connection.is_ready
    return connection


def metadata(correlation_id, version=12, host="h"):
    brokers = [MetadataBroker(node_id=1, host=host, port=2)]
    response = MetadataResponse(brokers=brokers)
    return framed(encode_response(ApiKey.METADATA, version, correlation_id, response))


def test_it_opens_with_the_newest_api_versions():
    connection = Connection(client_id="me")
    connection.start()
    ((header, request),) = sent(connection)
    assert (header.api_key, header.version, header.client_id) == (18, 4, "me")
    assert request.client_software_name == "fastmq-python"
    assert not connection.is_ready


@pytest.mark.parametrize(("offered", "second"), [([(18, 0, 2)], 2), ([], 0)])
def test_a_broker_that_does_not_know_that_version_is_asked_again(offered, second):
    connection = Connection(client_id="me")
    connection.start()
    sent(connection)
    connection.receive_data(versions(0, 0, error=35, offered=offered))
    assert not connection.is_ready
    ((header, _),) = sent(connection)
    assert header.version == second
    connection.receive_data(versions(second, 1))
    assert connection.version_for(ApiKey.METADATA) == 12


def test_a_broker_that_refuses_twice_is_given_up():
    connection = Connection(client_id="me")
    connection.start()
    connection.receive_data(versions(0, 0, error=35, offered=[(18, 0, 2)]))
    with pytest.raises(ProtocolError, match="error 35"):
        connection.receive_data(versions(0, 1, error=35))


def test_the_highest_common_version_is_chosen():
    connection = opened()
    assert connection.version_for(ApiKey.PRODUCE) == 9
    assert connection.version_for(ApiKey.PRODUCE, high=5) == 5
    with pytest.raises(KafkaError, match="Produce 3 to 9, needed is 10") as caught:
        connection.version_for(ApiKey.PRODUCE, low=10)
    assert caught.value.code == ErrorCode.UNSUPPORTED_VERSION
    with pytest.raises(KafkaError, match="does not offer Fetch"):
        connection.version_for(ApiKey.FETCH)


@given(st.lists(st.integers(1, 400), max_size=60))
@settings(max_examples=60, deadline=None)
def test_answers_are_the_same_however_the_bytes_are_cut(cuts):
    connection = opened()
    for _ in range(3):
        connection.send(MetadataRequest(topics=[]), 12)
    data = b"".join(metadata(n + 1, host="h" * n * 100) for n in range(3))
    answers = []
    for cut in cuts:
        answers += connection.receive_data(data[:cut])
        data = data[cut:]
    answers += connection.receive_data(data)
    assert [a.correlation_id for a in answers] == [1, 2, 3]
    assert [len(a.message.brokers[0].host) for a in answers] == [0, 100, 200]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (framed(struct.pack(">i", 7)), "order"),
        (framed(b"\0"), "order"),
        (struct.pack(">i", -1), "frame of -1"),
        (struct.pack(">i", (100 << 20) + 1), "frame of"),
        (metadata(1) + metadata(2), "no request"),
        (framed(metadata(1)[4:] + b"\0"), "follow the response"),
    ],
)
def test_what_breaks_the_protocol(data, message):
    connection = opened()
    connection.send(MetadataRequest(topics=[]), 12)
    with pytest.raises(ProtocolError, match=message):
        connection.receive_data(data)


@given(
    st.lists(st.sampled_from([0, 1, 5, 100, 65531, 65532, 65533, 70000, 3 << 20]), max_size=6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=15, deadline=None)
def test_frames_of_every_size_in_pieces_of_every_size(sizes, rng):
    reader = FrameReader(4 << 20)
    stream = b"".join(framed(bytes([n]) * size) for n, size in enumerate(sizes))
    frames = []
    while stream:
        buffer = reader.buffer()
        assert 0 < len(buffer) <= 4 << 20
        count = min(len(buffer), len(stream), rng.choice([1, 3, 4, 1000, 65536, 1 << 20]))
        buffer[:count] = stream[:count]
        frames += reader.received(count)
        stream = stream[count:]
    assert [bytes(f) for f in frames] == [bytes([n]) * size for n, size in enumerate(sizes)]


def test_no_more_than_a_step_is_allocated_for_an_announced_length():
    reader = FrameReader(100 << 20)
    announced = struct.pack(">i", 100 << 20)
    reader.buffer()[:4] = announced
    reader.received(4)
    assert len(reader.buffer()) <= 8 << 20  # of which only what arrives becomes memory


def test_large_records_are_not_copied():
    connection = opened()
    large, small = bytearray(b"x" * 10_000), bytearray(b"y" * 100)
    partitions = [
        ProducePartition(index=0, records=large),
        ProducePartition(index=1, records=small),
    ]
    connection.send(
        ProduceRequest(acks=-1, topic_data=[ProduceTopic(name="t", partition_data=partitions)]), 9
    )
    parts = connection.take_output()
    assert [len(p) for p in parts if isinstance(p, memoryview)] == [10_000]
    large[0] = ord("z")
    data = b"".join(bytes(p) for p in parts)
    _, request = decode_request(data[4:])
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    rows = request.topic_data[0].partition_data
    assert bytes(rows[0].records) == b"z" + b"x" * 9_999
    assert bytes(rows[1].records) == bytes(small)


def test_a_request_without_an_answer_is_not_waited_for():
    connection = opened()
    connection.send(ProduceRequest(acks=0), 9, answered=False)
    connection.send(MetadataRequest(topics=[]), 12)
    (answer,) = connection.receive_data(metadata(2))
    assert answer.correlation_id == 2


def large_frame(reader, fill, size=200_000):
    data = framed(bytes([fill]) * size)
    frames = []
    while data:
        buffer = reader.buffer()
        count = min(len(buffer), len(data), 50_000)
        buffer[:count] = data[:count]
        del buffer
        frames += reader.received(count)
        data = data[count:]
    (frame,) = frames
    assert bytes(frame) == bytes([fill]) * size
    return frame


def test_a_large_frames_buffer_is_used_again_only_when_nobody_refers_to_it():
    reader = FrameReader(100 << 20)
    first = large_frame(reader, 1)
    held = memoryview(first)[100:200]
    buffer = id(first.obj)
    del first
    others = [large_frame(reader, fill) for fill in range(2, 6)]
    assert bytes(held) == b"\1" * 100
    assert [frame[0] for frame in others] == [2, 3, 4, 5]
    assert buffer not in {id(frame.obj) for frame in others}
    last = id(others[-1].obj)
    del others, held
    again = large_frame(reader, 6, 190_000)
    assert id(again.obj) == last or len(reader._kept) == 2
    seen = {id(large_frame(reader, fill, 200_000).obj) for fill in range(7, 20)}
    assert len(seen) <= 3


def test_a_reader_tells_how_much_of_a_large_frame_is_missing():
    reader = FrameReader(100 << 20)
    assert reader.missing_bytes == 0
    data = framed(bytes(200_000))
    buffer = reader.buffer()
    size = len(buffer)
    buffer[:] = data[:size]
    assert reader.received(size) == []
    assert reader.missing_bytes == len(data) - size
    while (missing := reader.missing_bytes) > 0:
        assert len(reader.buffer()) == missing
        reader.received(missing)
