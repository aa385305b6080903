"""The client's core against a scripted cluster: routing, retries, time-outs, metadata."""

import itertools

import pytest

from fastmq.client.calls import (
    AnyNode,
    Controller,
    Coordinator,
    CoordinatorKind,
    Leader,
    Node,
    Request,
)
from fastmq.errors import ClientClosed, ConnectionFailed, ErrorCode, KafkaError, RequestTimedOut
from fastmq.protocol import ApiKey
from fastmq.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataResponse

from support.scripted import CUT, SILENT, ScriptedCluster

GROUP = Coordinator(CoordinatorKind.GROUP, "g")
BEAT = HeartbeatRequest(group_id="g", generation_id=1, member_id="m")


def error_of(response):
    return response.error_code


def cluster(**options):
    made = ScriptedCluster(**options)
    made.topics["t"] = [2, 3]
    made.coordinators["g"] = 3
    made.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: ListOffsetsResponse()
    made.handlers[ApiKey.HEARTBEAT] = lambda node, request: HeartbeatResponse()
    made.handlers[ApiKey.CREATE_TOPICS] = lambda node, request: CreateTopicsResponse()
    return made


def send(made, target, request, **more):
    got = []
    call = made.core.send(target, request, got.append, **more)
    assert got == []  # never before `send` returns
    made.settle()
    return got, call


def test_every_target_finds_its_node():
    made = cluster()
    made.controller = 2
    got, _ = send(made, Leader("t", 1), ListOffsetsRequest(replica_id=-1))
    assert isinstance(got[0], ListOffsetsResponse)
    for target, request in (
        (Controller(), CreateTopicsRequest()),
        (GROUP, BEAT),
        (Node(1), ListOffsetsRequest(replica_id=-1)),
    ):
        assert len(send(made, target, request)[0]) == 1
    others = [row for row in made.requests if not isinstance(row[1], MetadataRequest)]
    assert [node for node, r in others if not hasattr(r, "coordinator_keys")] == [3, 2, 3, 1]


def test_the_bootstrap_connection_becomes_that_of_its_node():
    made = cluster(nodes=1)
    links = made.core._links
    links._bootstrap = {-1: links._bootstrap[-1]._replace(host="host1")}
    send(made, AnyNode(), MetadataRequest(topics=[]))
    send(made, Controller(), CreateTopicsRequest())
    assert made.connects == [1]


def test_coordinators_have_a_connection_of_their_own():
    made = cluster()
    send(made, Node(3), ListOffsetsRequest(replica_id=-1))
    made.advance(10)
    send(made, GROUP, BEAT)
    send(made, GROUP, BEAT)
    assert made.connects.count(3) == 2
    assert len(made.sent(ApiKey.FIND_COORDINATOR)) == 1


def test_a_coordinator_that_moves_is_looked_up_again():
    made = cluster()
    answers = iter([16, 14, 0])
    made.handlers[ApiKey.HEARTBEAT] = lambda node, request: HeartbeatResponse(
        error_code=next(answers)
    )
    got, _ = send(made, GROUP, BEAT, error_of=error_of)
    made.coordinators["g"] = 1
    made.advance(2000)
    assert [r.error_code for r in got] == [0]
    assert [node for node, _ in made.sent(ApiKey.HEARTBEAT)] == [3, 1, 1]


def test_errors_that_are_not_retriable_are_the_callers():
    made = cluster()
    made.handlers[ApiKey.HEARTBEAT] = lambda node, request: HeartbeatResponse(error_code=25)
    got, _ = send(made, GROUP, BEAT, error_of=error_of)
    assert [r.error_code for r in got] == [25]


def test_a_retriable_error_is_handed_over_when_the_time_is_up():
    made = cluster()
    made.handlers[ApiKey.HEARTBEAT] = lambda node, request: HeartbeatResponse(error_code=14)
    got, _ = send(made, GROUP, BEAT, error_of=error_of, timeout_ms=1000)
    made.advance(5000)
    assert [r.error_code for r in got] == [14]
    assert 3 <= len(made.sent(ApiKey.HEARTBEAT)) <= 8


def test_a_cut_connection_is_made_again_after_a_back_off_that_grows():
    made = cluster()
    left = [CUT, CUT, CUT]
    times = []

    def answer(node, request):
        times.append(made.now_ms)
        return left.pop() if left else ListOffsetsResponse()

    made.handlers[ApiKey.LIST_OFFSETS] = answer
    got, _ = send(made, Leader("t", 0), ListOffsetsRequest(replica_id=-1))
    made.advance(5000)
    assert isinstance(got[0], ListOffsetsResponse)
    assert len(got) == 1
    waits = [b - a for a, b in itertools.pairwise(times)]
    assert waits == sorted(waits)
    assert 80 <= waits[0] <= 200


def test_without_retries_the_first_failure_is_the_answer():
    made = cluster()
    made.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: CUT
    got, _ = send(made, Leader("t", 0), ListOffsetsRequest(replica_id=-1), retry=False)
    assert isinstance(got[0], ConnectionFailed)
    assert "broker 2 at host2:9002: it was cut" in str(got[0])


def test_requests_in_flight_fail_with_their_connection_exactly_once():
    made = cluster()
    made.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: SILENT
    results = [
        send(made, Node(2), ListOffsetsRequest(replica_id=-1), retry=False)[0] for _ in range(4)
    ]
    made.advance(10)
    assert results == [[], [], [], []]
    made.cut(2)
    made.advance(200_000)
    assert [[type(r) for r in got] for got in results] == [[ConnectionFailed]] * 4


def test_a_broker_that_does_not_answer_loses_its_connection():
    made = cluster(request_timeout_ms=1000)
    silent = [True]
    made.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: (
        SILENT if silent[0] else ListOffsetsResponse()
    )
    got, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    once, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1), retry=False)
    made.advance(900)
    assert got == once == []
    silent[0] = False
    made.advance(2000)
    assert isinstance(got[0], ListOffsetsResponse)
    assert isinstance(once[0], ConnectionFailed | RequestTimedOut)
    assert made.connects.count(2) == 2


def test_a_deadline_ends_a_call_and_its_late_answer_is_dropped():
    made = cluster()
    send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    made.late = True
    got, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1), timeout_ms=500)
    made.advance(600)
    assert [type(r) for r in got] == [RequestTimedOut]
    assert "broker 2" in str(got[0])
    made.release()
    later, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    assert len(got) == 1
    assert len(later) == 1


def test_nobody_to_ask_is_told_with_the_reason():
    made = cluster(default_api_timeout_ms=3000)
    made.down = {1, 2, 3}
    got, _ = send(made, AnyNode(), MetadataRequest(topics=[]))
    made.advance(4000)
    assert [type(r) for r in got] in ([RequestTimedOut], [ConnectionFailed])
    assert "ECONNREFUSED" in str(got[0])
    unknown, _ = send(made, Leader("nowhere", 0), ListOffsetsRequest(replica_id=-1))
    made.down = set()
    made.advance(4000)
    assert "no leader is known for nowhere-0 (UNKNOWN_TOPIC_OR_PARTITION)" in str(unknown[0])


def test_another_node_is_asked_when_one_is_down():
    made = cluster()
    made.core.want_topics(["t"])
    made.advance(50)
    made.down = {1}
    made.cut(1)
    got, _ = send(made, AnyNode(), MetadataRequest(topics=[]))
    made.advance(1000)
    assert isinstance(got[0], MetadataResponse)
    assert made.requests[-1][0] in (2, 3)


def test_a_cancelled_call_is_not_answered():
    made = cluster()
    send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    made.late = True
    got, call = send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    call.cancel()
    made.release()
    made.advance(100_000)
    assert got == []


def test_close_answers_everything_once():
    made = cluster()
    made.handlers[ApiKey.LIST_OFFSETS] = lambda node, request: SILENT
    got = []
    for target in (Node(2), Leader("nowhere", 0), Coordinator(CoordinatorKind.GROUP, "none")):
        made.core.send(target, ListOffsetsRequest(replica_id=-1), got.append)
    made.settle()
    made.core.close()
    assert [type(r) for r in got] == [ClientClosed] * 3
    made.core.send(Node(2), ListOffsetsRequest(replica_id=-1), got.append)
    assert len(got) == 4
    made.advance(100_000)
    assert len(got) == 4


def test_versions_that_do_not_meet_are_told():
    made = cluster()
    made.versions[ApiKey.LIST_OFFSETS] = (0, 3)
    request = Request(ApiKey.LIST_OFFSETS, lambda version: ListOffsetsRequest(replica_id=-1), low=5)
    got, _ = send(made, Node(2), request)
    assert isinstance(got[0], KafkaError)
    assert got[0].code == ErrorCode.UNSUPPORTED_VERSION
    got, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    assert isinstance(got[0], ListOffsetsResponse)


def test_metadata_is_refreshed_by_age_and_on_error_but_not_in_a_hurry():
    made = cluster(metadata_max_age_ms=10_000)
    made.core.want_topics(["t"])
    made.advance(50)
    assert len(made.sent(ApiKey.METADATA)) == 1
    for _ in range(20):
        made.core.refresh_metadata()
        made.advance(5)
    assert len(made.sent(ApiKey.METADATA)) in (2, 3)
    made.advance(21_000)
    assert len(made.sent(ApiKey.METADATA)) in (4, 5)


def test_a_topic_that_appears_is_found():
    made = cluster()
    made.core.want_topics(["new"])
    made.advance(500)
    assert made.core.metadata.topics == {}
    made.topics["new"] = [1]
    heard = []
    made.core.on_metadata(lambda: heard.append(dict(made.core.metadata.topics)))
    made.advance(1500)
    assert made.core.metadata.leader("new", 0) == 1
    assert "new" in heard[0]


def test_a_leader_epoch_does_not_go_back():
    made = cluster()
    made.epochs["t"] = 5
    made.topic_ids["t"] = b"1" * 16
    made.core.want_topics(["t"])
    made.advance(50)
    made.epochs["t"], made.topics["t"] = 4, [1, 1]
    made.core.refresh_metadata()
    made.advance(1000)
    assert made.core.metadata.leader("t", 0) == 2
    made.topic_ids["t"] = b"2" * 16  # made again: it begins anew
    made.core.refresh_metadata()
    made.advance(1000)
    assert made.core.metadata.leader("t", 0) == 1


def test_after_a_long_silence_it_begins_at_the_bootstrap_servers_again():
    made = cluster(metadata_recovery_rebootstrap_trigger_ms=20_000)
    made.core.want_topics(["t"])
    made.advance(100)
    made.nodes = [2, 3]
    made.down = {1, 2, 3}
    made.cut(1)
    made.core.refresh_metadata()
    made.advance(60_000)
    assert made.core.metadata.nodes == {}
    made.down = set()
    made.advance(5_000)
    assert sorted(made.core.metadata.nodes) == [2, 3]


def test_idle_connections_are_closed():
    made = cluster(connections_max_idle_ms=60_000, metadata_max_age_ms=100_000_000)
    send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    made.advance(20)
    open_before = len(made._buffers)
    made.advance(200_000)
    assert open_before >= 1
    assert len(made._buffers) == 0
    got, _ = send(made, Node(2), ListOffsetsRequest(replica_id=-1))
    assert len(got) == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_all_topics_or_those_that_are_wanted(wanted):
    made = cluster()
    made.topics["other"] = [1]
    made.core.want_topics(["t"])
    made.core.want_all_topics(wanted)
    made.advance(500)
    assert set(made.core.metadata.topics) == ({"t", "other"} if wanted else {"t"})
    del made.topics["t"]
    made.core.unwant_topics(["t"])
    made.core.refresh_metadata()
    made.advance(1000)
    assert "t" not in made.core.metadata.topics


def test_what_an_answer_brings_about_may_end_the_link_of_those_behind_it():
    made = cluster()
    send(made, Node(1), ListOffsetsRequest(replica_id=-1))
    got, chunks = [], []
    take = made.core.on_data
    made.core.on_data = lambda channel, data, _: chunks.append((channel, data))
    made.core.send(Node(1), ListOffsetsRequest(replica_id=-1), lambda _: made.core.close())
    made.core.send(Node(1), ListOffsetsRequest(replica_id=-1), got.append)
    made.settle()
    (channel, first), (_, second) = chunks
    take(channel, first + second, made.now_ms)
    assert isinstance(got[0], ClientClosed)
