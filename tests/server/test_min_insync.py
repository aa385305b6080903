"""Python's Produce asks for as many replicas in sync as C's does (`fmq_replicas_are_enough`)."""

from types import SimpleNamespace

import pytest

from fastmq.errors import ErrorCode, KafkaError
from fastmq.server.handlers.produce import check_replicas


def check(replicas, isr, wanted, acks=-1, *, may_lead=True):
    topic = SimpleNamespace(
        states=[SimpleNamespace(replicas=replicas, isr=isr)],
        config=SimpleNamespace(get_int=lambda key: wanted),
    )
    context = SimpleNamespace(membership=SimpleNamespace(may_lead=may_lead))
    check_replicas(context, topic, 0, acks)


@pytest.mark.parametrize(
    ("replicas", "isr", "wanted"),
    [((1, 2, 3), (1, 2), 2), ((1, 2), (1, 2), 3), ((1,), (1,), 2), ((1, 2, 3), (1, 2, 3), 9)],
)
def test_enough_are_in_sync(replicas, isr, wanted):
    check(replicas, isr, wanted)


def test_too_few_are_in_sync():
    with pytest.raises(KafkaError) as caught:
        check((1, 2, 3), (1, 2), 3)
    assert caught.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
    check((1, 2, 3), (1, 2), 3, acks=1)


def test_who_may_have_lost_the_lead_takes_nothing_that_others_need_not_confirm():
    with pytest.raises(KafkaError) as caught:
        check((1, 2), (1, 2), 1, acks=1, may_lead=False)
    assert caught.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER
