"""Elections: in-sync sets, eligible replicas, the last leader; nothing committed is lost."""

import random

import pytest

from fastmq.cluster import (
    BrokerState,
    ClusterImage,
    ConfigKind,
    PartitionState,
    PutBroker,
    PutConfig,
    PutPartition,
    PutTopic,
    TopicRules,
    plan_lost_directories,
    plan_power_loss,
    rules_of,
)
from fastmq.cluster.election import elect, with_isr
from fastmq.config import BrokerConfig
from fastmq.metastore.interface import Item, Put
from fastmq.metastore.keys import change_of, operation_of

TOPIC = b"t" * 16
TWO = TopicRules(min_insync=2)


def partition(isr=(1, 2, 3), elr=(), leader=1, last_known=-1):
    directories = (b"d" * 16,) * 3
    state = PartitionState(leader, 4, 7, (1, 2, 3), isr, directories)
    return state._replace(elr=elr, last_known=last_known)


def powerless(state, broker, synced=False):
    rows = [PutBroker(BrokerState(broker, 1, ()), 0), PutPartition(TOPIC, 0, state, 0)]
    image = ClusterImage().apply([*rows, PutTopic("t", TOPIC, 1, 0)], 1)
    changes = plan_power_loss(image, broker, lambda _: synced)
    return changes[0].state if changes else state


def test_who_leaves_when_too_few_are_left_is_eligible():
    state = elect(partition(), {3}, TWO)
    assert (state.leader, state.isr, state.elr) == (3, (3,), (1, 2))
    state = elect(state, (), TWO)
    assert (state.leader, state.isr, state.elr, state.last_known) == (-1, (), (1, 2, 3), 3)
    state = elect(state, {2}, TWO)
    assert (state.leader, state.isr, state.elr, state.last_known) == (2, (2,), (1, 3), -1)
    assert elect(state, {2}, TWO) is state
    state = with_isr(state, (2, 3), 2)
    assert state.elr == (), "the log goes on without the first"


def test_no_more_can_be_asked_for_than_there_are():
    """Where all of them are in sync the log goes on, whatever `min.insync.replicas` says."""
    five = TopicRules(min_insync=5)
    state = elect(partition(), {2, 3}, five)
    assert (state.isr, state.elr) == ((2, 3), (1,))
    assert with_isr(state, (1, 2, 3), 5).elr == ()


def test_who_leaves_while_enough_are_left_is_not_eligible():
    state = elect(partition(), {2, 3}, TWO)
    assert (state.leader, state.isr, state.elr) == (2, (2, 3), ())
    state = elect(state, {1}, TWO)
    assert (state.leader, state.elr) == (-1, (2, 3))


def test_a_lower_minimum_forgets_who_was_eligible_before_anybody_uses_it():
    state = partition(isr=(1,), elr=(2,))
    assert elect(state, {1, 2}, TWO) is state
    assert elect(state, {2}, TopicRules(1)).leader == -1
    assert elect(state, {1, 2}, TopicRules(1)).elr == ()


def test_a_lagging_replica_leads_only_where_that_is_allowed():
    state = elect(partition(isr=(1,)), {2, 3})
    assert (state.leader, state.elr) == (-1, (1,))
    state = elect(state, {2, 3}, TopicRules(1, is_unclean=True))
    assert (state.leader, state.isr, state.elr) == (2, (2,), ())


def test_who_lost_power_is_trusted_no_more():
    state = powerless(partition(), 1)
    assert (state.leader, state.isr, state.last_known) == (-1, (2, 3), 1)
    assert elect(state, {2, 3}, TWO).leader == 2
    assert powerless(partition(isr=(2,), elr=(1,), leader=2), 1).elr == ()
    assert powerless(partition(), 1, synced=True) == partition(), "its disk has everything"


def test_when_all_lost_power_the_last_leader_leads():
    state = partition(isr=(2, 3), leader=2)
    for broker in (1, 3, 2):
        state = elect(state, set(), TWO)
        state = powerless(state, broker)
    assert (state.leader, state.isr, state.elr, state.last_known) == (-1, (), (), 2)
    assert elect(state, {1, 3}, TWO).leader == -1
    state = elect(state, {1, 2}, TWO)
    assert (state.leader, state.isr, state.last_known) == (2, (2,), -1)


def test_rows_keep_who_is_eligible_and_who_led_last():
    state = partition(isr=(), elr=(2, 3), leader=-1, last_known=3)
    _, put = operation_of(PutPartition(TOPIC, 0, state, 0))
    assert isinstance(put, Put)
    read = change_of(Item(put.key, put.value, 1))
    assert isinstance(read, PutPartition)
    assert read.state == state


def test_rules_come_from_the_topic_and_else_from_the_broker():
    config = BrokerConfig({"min.insync.replicas": "2"})
    own = {"unclean.leader.election.enable": "true"}
    image = ClusterImage().apply([PutConfig(ConfigKind.TOPIC, "own", own, 0)], 1)
    rules = rules_of(image, config)
    assert rules("own") == (2, True)
    assert rules("other") == (2, False)


class Model:
    """Logs as lists of records; what is committed; a leader that knows what others have fetched."""

    def __init__(self, rng):
        self.rng = rng
        self.rules = TopicRules(rng.randint(1, 3))
        self.state = partition()
        self.live = {1, 2, 3}
        self.logs = {1: [], 2: [], 3: []}
        self.committed = []
        self.next_record = 0
        self.excused = False
        self.lead()

    def lead(self):
        self.known = {}
        self.epoch_start = len(self.logs.get(self.state.leader, ()))

    def elect(self):
        before = self.state
        was_hopeless = not before.isr and not before.elr
        self.state = elect(before, self.live, self.rules)
        if self.state.leader_epoch == before.leader_epoch:
            return
        leader = self.state.leader
        if leader < 0:
            return
        assert leader in self.live
        log = self.logs[leader]
        if was_hopeless and leader == before.last_known:
            # What power cuts have taken everywhere is gone; the rest goes on.
            self.committed = [r for r, own in zip(self.committed, log, strict=False) if r == own]
        assert log[: len(self.committed)] == self.committed, "committed records are lost"
        self.lead()

    def append(self):
        if self.state.leader >= 0:
            self.logs[self.state.leader].append(self.next_record)
            self.next_record += 1
            self.advance()

    def fetch(self, broker):
        leader = self.state.leader
        if leader < 0 or broker == leader or broker not in self.live:
            return
        log, own = self.logs[leader], self.logs[broker]
        same = next(
            (n for n, (a, b) in enumerate(zip(log, own, strict=False)) if a != b),
            min(len(log), len(own)),
        )
        self.logs[broker] = log[: same + self.rng.randint(0, 3)]
        self.known[broker] = len(self.logs[broker])
        self.advance()

    def advance(self):
        state = self.state
        if state.leader < 0 or len(state.isr) < self.rules.min_insync:
            return
        others = [self.known.get(b, 0) for b in state.isr if b != state.leader]
        log = self.logs[state.leader]
        mark = min([len(log), *others])
        if mark > len(self.committed):
            self.committed = log[:mark]

    def change_isr(self, broker):
        state = self.state
        if state.leader < 0 or broker == state.leader or broker not in self.live:
            return
        if broker in state.isr:
            isr = tuple(b for b in state.isr if b != broker)
        elif self.known.get(broker, -1) >= max(len(self.committed), self.epoch_start):
            isr = (*state.isr, broker)
        else:
            return
        self.state = with_isr(state, isr, self.rules.min_insync)
        self.advance()

    def kill(self, broker):
        self.live.discard(broker)
        self.elect()

    def revive(self, broker):
        self.live.add(broker)
        self.elect()

    def cut_power(self, broker):
        self.kill(broker)
        log = self.logs[broker]
        del log[self.rng.randint(0, len(log)) :]
        self.known.pop(broker, None)  # its broker epoch is another now (KIP-903)
        before = self.state.leader
        self.state = powerless(self.state, broker)
        if before == broker:
            self.lead()
        self.elect()


@pytest.mark.parametrize("seed", range(60))
def test_no_clean_election_loses_what_was_committed(seed):
    rng = random.Random(seed)
    model = Model(rng)
    actions = [model.append, *[model.fetch] * 4, model.change_isr, model.kill, *[model.revive] * 2]
    if seed % 2:
        actions.append(model.cut_power)
    for _ in range(300):
        action = rng.choice(actions)
        args = () if action == model.append else (rng.randint(1, 3),)
        action(*args)
        state = model.state
        assert not set(state.isr) & set(state.elr)
        assert state.leader == -1 or state.leader in state.isr
        assert not state.elr or len(state.isr) < model.rules.min_insync
    for broker in (1, 2, 3):
        model.revive(broker)
    assert model.state.leader >= 0, "with everybody back there is a leader"


def lost(state, here=(b"n" * 16,)):
    """The state when broker 1 starts with other directories; None when nothing changes."""
    rows = [PutBroker(BrokerState(1, 1, ()), 0), PutPartition(TOPIC, 0, state, 0)]
    image = ClusterImage().apply([*rows, PutTopic("t", TOPIC, 1, 0)], 1)
    changes = plan_lost_directories(image, 1, here)
    return changes[0].state if changes else None


def test_who_comes_with_an_empty_directory_counts_as_nothing():
    state = lost(partition())
    assert (state.leader, state.isr, state.elr) == (-1, (2, 3), ())
    assert state.directories == (b"n" * 16, b"d" * 16, b"d" * 16)
    assert elect(state, {1, 2, 3}, TWO).leader == 2
    state = lost(partition(isr=(2,), elr=(1,), leader=2))
    assert (state.leader, state.isr, state.elr) == (2, (2,), ())
    # It had everything alone: nobody leads, not even as the last that did, until it is asked for.
    for alone in (partition(isr=(1,)), partition(isr=(), leader=-1, last_known=1)):
        state = lost(alone)
        assert (state.leader, state.isr, state.last_known) == (-1, (), -1)
        assert elect(state, {1, 2, 3}, TWO) is state
        assert elect(state, {1, 2, 3}, TopicRules(1, is_unclean=True)).leader == 1
    assert lost(partition(), here=(b"n" * 16, b"d" * 16)) is None
    assert lost(partition()._replace(directories=(bytes(16), b"d" * 16, b"d" * 16))) is None


def test_lost_partitions_are_spread_over_the_directories_that_are_here():
    states = [partition()] * 4
    rows = [PutPartition(TOPIC, n, state, 0) for n, state in enumerate(states)]
    image = ClusterImage().apply([*rows, PutTopic("t", TOPIC, 4, 0)], 1)
    changes = plan_lost_directories(image, 1, [b"n" * 16, b"m" * 16])
    assert sorted(change.state.directories[0][:1] for change in changes) == [b"m", b"m", b"n", b"n"]
