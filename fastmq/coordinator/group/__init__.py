"""The group coordinator: classic consumer groups and committed offsets.

`GroupCoordinatorShard` is what the server drives, one for each partition of `__consumer_offsets`.
Inside, each file is one purpose:

* `classic`, `member`: the state of a group and its members;
* `join`, `rebalance`, `sync`, `membership`: the rules of JoinGroup, of the join phase, of
  SyncGroup, of Heartbeat and LeaveGroup and of sessions that end;
* `offsets`, `offset_requests`: committed offsets, their expiry, OffsetCommit, Fetch and Delete;
* `admin`: DescribeGroups, ListGroups;
* `records`: the records of the log, in Kafka's formats;
* `answers`: answers that refuse, and translations between versions of answers;
* `step`: what a rule gets to work with.

A group's state is changed by the rules in memory while a rebalance is under way, and by `replay`
where it has to survive a restart. Other types of groups will be classes beside `ClassicGroup` in
the same shard.

Source: KIP-62, 134, 211, 341, 345, 394, 429, 559, 800, 814.
"""

from fastmq.coordinator.group.answers import error_response, single_group, single_group_response
from fastmq.coordinator.group.config import GroupConfig
from fastmq.coordinator.group.shard import GroupCoordinatorShard

__all__ = [
    "GroupConfig",
    "GroupCoordinatorShard",
    "error_response",
    "single_group",
    "single_group_response",
]
