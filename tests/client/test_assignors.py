"""Assignors: complete, even, stable; the ones that Kafka specifies give Kafka's assignments."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmq.client.consumer.assignors import ASSIGNORS, Member
from fastmq.client.consumer.sticky_data import decode_sticky, encode_sticky
from fastmq.client.topic_partition import TopicPartition


def assign(name, subscriptions, counts, **more):
    members = [
        Member(member_id, frozenset(topics), **more.get(member_id, {}))
        for member_id, topics in subscriptions.items()
    ]
    return ASSIGNORS[name].assign(members, counts)


def plain(assigned):
    return {
        member_id: [f"{topic}{partition}" for topic, partition in sorted(names)]
        for member_id, names in assigned.items()
    }


def test_range_gives_runs_per_topic():
    got = assign("range", {"b": ["t", "u"], "a": ["t", "u"]}, {"t": 3, "u": 3})
    assert plain(got) == {"a": ["t0", "t1", "u0", "u1"], "b": ["t2", "u2"]}


def test_round_robin_takes_turns_over_all_topics():
    got = assign("roundrobin", {"b": ["t", "u"], "a": ["t", "u"]}, {"t": 3, "u": 3})
    assert plain(got) == {"a": ["t0", "t2", "u1"], "b": ["t1", "u0", "u2"]}
    got = assign(
        "roundrobin",
        {"a": ["t"], "b": ["t", "u"], "c": ["t", "u", "v"]},
        {
            "t": 1,
            "u": 2,
            "v": 3,
        },
    )
    assert plain(got) == {"a": ["t0"], "b": ["u0"], "c": ["u1", "v0", "v1", "v2"]}


def test_static_members_keep_their_place_when_they_come_back_with_another_id():
    before = ASSIGNORS["range"].assign(
        [
            Member("x", frozenset({"t"}), instance_id="1"),
            Member("y", frozenset({"t"}), instance_id="2"),
        ],
        {"t": 2},
    )
    after = ASSIGNORS["range"].assign(
        [
            Member("z", frozenset({"t"}), instance_id="1"),
            Member("y", frozenset({"t"}), instance_id="2"),
        ],
        {"t": 2},
    )
    assert before["x"] == after["z"]


subscriptions = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sets(st.sampled_from("tuvw"), min_size=0), min_size=1
)
partition_counts = st.dictionaries(st.sampled_from("tuvw"), st.integers(1, 9))


@pytest.mark.parametrize("name", ASSIGNORS)
@given(subscriptions=subscriptions, counts=partition_counts, seed=st.integers())
@settings(max_examples=60, deadline=None)
def test_everything_is_given_once_to_who_wants_it_in_any_order(name, subscriptions, counts, seed):
    got = assign(name, subscriptions, counts)
    given_out = [partition for names in got.values() for partition in names]
    assert len(given_out) == len(set(given_out))
    wanted = {topic for topics in subscriptions.values() for topic in topics}
    assert set(given_out) == {
        TopicPartition(t, p) for t in wanted & counts.keys() for p in range(counts[t])
    }
    assert all(name.topic in subscriptions[m] for m, names in got.items() for name in names)
    shuffled = list(subscriptions.items())
    random.Random(seed).shuffle(shuffled)
    assert plain(assign(name, dict(shuffled), counts)) == plain(got)


@pytest.mark.parametrize("name", ["sticky", "roundrobin"])
@given(members=st.integers(1, 9), counts=partition_counts)
@settings(max_examples=50, deadline=None)
def test_equal_subscriptions_give_even_shares(name, members, counts):
    got = assign(name, {str(n): list(counts) for n in range(members)}, counts)
    sizes = [len(names) for names in got.values()]
    assert max(sizes) - min(sizes) <= 1


@given(before=subscriptions, after=subscriptions, counts=partition_counts)
@settings(max_examples=80, deadline=None)
def test_sticky_moves_no_more_than_it_must(before, after, counts):
    """What a member keeps it had; and it gives up only what makes somebody else's share even."""
    old = assign("sticky", before, counts)
    had = {m: {"owned": tuple(old.get(m, ())), "generation": 1} for m in after}
    new = assign("sticky", after, counts, **had)
    moved = [
        name
        for member_id, names in new.items()
        for name in names
        if any(name in old.get(other, ()) for other in after if other != member_id)
    ]
    if after == before:
        assert not moved
        assert plain(new) == plain(old)
    sizes = {m: len(names) for m, names in new.items()}
    for member_id, names in new.items():
        for name in names:
            for other in after:
                if name.topic in after[other]:
                    assert sizes[other] + 1 >= sizes[member_id]


@given(before=subscriptions, after=subscriptions, counts=partition_counts)
@settings(max_examples=80, deadline=None)
def test_cooperative_members_never_share_a_partition_and_settle(before, after, counts):
    owned = {m: tuple(names) for m, names in assign("sticky", before, counts).items()}
    for generation in range(1, 6):
        had = {m: {"owned": owned.get(m, ()), "generation": generation} for m in after}
        got = assign("cooperative-sticky", after, counts, **had)
        for member_id, names in got.items():
            for other in after:
                if other != member_id:
                    # Nothing that somebody else still works on.
                    assert not set(names) & {
                        n
                        for n in owned.get(other, ())
                        if n.topic in after[other] and n.partition < counts.get(n.topic, 0)
                    }
        settled = all(set(owned.get(m, ())) == set(names) for m, names in got.items())
        owned = {m: tuple(names) for m, names in got.items()}
        if settled:
            break
    assert settled
    given_out = {name for names in owned.values() for name in names}
    wanted = {topic for topics in after.values() for topic in topics}
    assert len(given_out) == sum(counts[t] for t in wanted & counts.keys())


def test_of_two_owners_the_later_generation_is_right():
    zero = (TopicPartition("t", 0),)
    got = assign(
        "sticky",
        {"a": ["t"], "b": ["t"]},
        {"t": 1},
        a={"owned": zero, "generation": 3},
        b={"owned": zero, "generation": 4},
    )
    assert plain(got) == {"a": [], "b": ["t0"]}


@given(
    st.lists(
        st.builds(TopicPartition, st.text(min_size=1, max_size=9), st.integers(0, 99)), unique=True
    ),
    st.integers(-1, 1 << 30),
)
def test_sticky_data_reads_back(names, generation):
    assert decode_sticky(encode_sticky(names, generation)) == (tuple(sorted(names)), generation)


@given(st.binary(max_size=60))
def test_sticky_data_of_strangers_harms_nobody(data):
    decode_sticky(data)
