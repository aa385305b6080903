"""What this broker is to each partition that it has: leader, follower, or neither."""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from fastmq._native.core import (
    REPLICA_IN,
    REPLICA_JOINING,
    REPLICA_OUT,
    Partition,
    PartitionError,
)
from fastmq.cluster import PartitionState
from fastmq.config import TopicConfig
from fastmq.replica import InSyncSets, is_listed
from fastmq.server.fetchers import ReplicaFetchers

__all__ = ["ClusterRoles", "LoneRoles", "Roles"]

logger = logging.getLogger(__name__)

_NO_LEADER: Final = -1


class Roles(Protocol):
    """Gives partitions their roles."""

    def assume(
        self,
        handle: Partition,
        state: PartitionState,
        config: TopicConfig,
        *,
        is_new: bool = True,
    ) -> None:
        """Make a partition what its state says that it is here.

        Args:
            handle: the partition.
            state: what it is.
            config: of its topic.
            is_new: False = it was in effect already, and proposals made on it still count.
        """

    def release(self, handle: Partition) -> None:
        """Forget a partition that is to be removed."""


class LoneRoles:
    """The roles of a broker that stands alone."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id

    def assume(
        self,
        handle: Partition,
        state: PartitionState,
        config: TopicConfig,
        *,
        is_new: bool = True,
    ) -> None:
        """Lead what this broker leads."""
        del config, is_new
        if state.leader == self._node_id:
            handle.become_leader(state.leader_epoch)
        else:
            handle.become_offline()

    def release(self, handle: Partition) -> None:
        """Nothing is kept about it."""


class ClusterRoles:
    """The roles of a broker among others.

    Args:
        node_id: this broker.
        fetchers: get what is followed here.
        sets: proposals that are under way.
        is_held: says whether a replica that is out of sync is to stay so for now.
    """

    def __init__(
        self,
        node_id: int,
        fetchers: ReplicaFetchers,
        sets: InSyncSets,
        is_held: Callable[[bytes, int], bool] = lambda *_: False,
    ) -> None:
        self._node_id = node_id
        self._fetchers = fetchers
        self._sets = sets
        self._is_held = is_held
        # Of each partition that is followed here: its leader (none while held), leader epoch,
        # whether throttled.
        self._following: dict[tuple[bytes, int], tuple[int, int, bool]] = {}

    def assume(
        self,
        handle: Partition,
        state: PartitionState,
        config: TopicConfig,
        *,
        is_new: bool = True,
    ) -> None:
        """Lead, follow, or wait for a leader."""
        if is_new:
            self._sets.settle(handle.topic_id, handle.index)
        try:
            if state.leader == self._node_id:
                listed = config.get_list("leader.replication.throttled.replicas")
                self._lead(handle, state)
                handle.set_throttled(is_listed(listed, handle.index, self._node_id))
            else:
                listed = config.get_list("follower.replication.throttled.replicas")
                self._follow(
                    handle,
                    state,
                    throttled=self._node_id not in state.isr
                    and is_listed(listed, handle.index, self._node_id),
                )
        except PartitionError as exc:
            # An older epoch: the image is behind what the engine has heard already.
            logger.warning("%s-%d keeps its role: %s", handle.topic, handle.index, exc)

    def _lead(self, handle: Partition, state: PartitionState) -> None:
        key = (handle.topic_id, handle.index)
        if self._following.pop(key, None) is not None:
            self._fetchers.release(handle)
        joining = self._sets.joining(*key, state)
        others = []
        for broker in state.replicas:
            if broker in state.isr:
                standing = REPLICA_IN
            else:
                standing = REPLICA_JOINING if broker in joining else REPLICA_OUT
            if broker != self._node_id:
                others.append((broker, standing))
        handle.lead(state.leader_epoch, others)

    def _follow(self, handle: Partition, state: PartitionState, *, throttled: bool) -> None:
        key = (handle.topic_id, handle.index)
        is_held = self._node_id not in state.isr and self._is_held(*key)
        leader = _NO_LEADER if is_held else state.leader
        wanted = (leader, state.leader_epoch, throttled)
        before = self._following.get(key)
        if before == wanted:
            return
        if before is None or before[:2] != wanted[:2]:
            handle.follow(state.leader_epoch)
        self._following[key] = wanted
        if leader == _NO_LEADER:
            self._fetchers.release(handle)
        else:
            self._fetchers.assign(handle, leader, throttled=throttled)

    def release(self, handle: Partition) -> None:
        """Fetch a partition no more."""
        key = (handle.topic_id, handle.index)
        if self._following.pop(key, None) is not None:
            self._fetchers.release(handle)
        self._sets.settle(*key)
