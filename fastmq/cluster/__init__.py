"""The cluster as every broker sees it, and what may be done to it. Pure.

`ClusterImage` is an immutable picture of brokers, topics, partition states and overrides at one
revision of the metadata store. The planners (`plan_create_topics`, `plan_delete_topics`,
`plan_add_partitions`, ...) look at an image and return `Change`s, each guarded by the revision of
what it replaces; the metadata store applies them or refuses all of a group, and
`image.apply(changes, revision)` gives the next image, from one's own commit or from a watch alike.

This package knows neither keys nor encodings of the store (`fastmq.metastore.keys` does), asks no
clock and draws nothing at random: new ids are handed in. It does not decide who may do what.

A topic exists when its own row does: planners put partition rows before the topic's row and remove
the topic's row first, so a plan that is cut into several transactions leaves no half topic.
"""

from fastmq.cluster.alter_partition import IsrAnswer, IsrProposal, plan_alter_partition
from fastmq.cluster.changes import (
    ANY_REVISION,
    Change,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropController,
    DropPartition,
    DropSession,
    DropTopic,
    PutBroker,
    PutConfig,
    PutController,
    PutPartition,
    PutSession,
    PutTopic,
)
from fastmq.cluster.controller import (
    Election,
    plan_cluster,
    plan_elections,
    plan_preferred_leaders,
)
from fastmq.cluster.departure import plan_unregister
from fastmq.cluster.election import (
    TopicRules,
    plan_distrust,
    plan_lost_directories,
    plan_power_loss,
    rules_of,
)
from fastmq.cluster.image import (
    BrokerState,
    ClusterImage,
    ControllerState,
    Endpoint,
    PartitionState,
    SessionState,
    TopicState,
)
from fastmq.cluster.moves import Move, MoveAnswer, moving_in, plan_moves
from fastmq.cluster.names import INTERNAL_TOPICS, check_topic_name, is_internal_topic
from fastmq.cluster.orphans import Orphan, find_orphans, plan_orphans
from fastmq.cluster.placement import Placer
from fastmq.cluster.planning import (
    NewPartitions,
    NewTopic,
    Quota,
    TopicPlan,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
    plan_new_epochs,
)

__all__ = [
    "ANY_REVISION",
    "INTERNAL_TOPICS",
    "BrokerState",
    "Change",
    "ClusterImage",
    "ConfigKind",
    "ControllerState",
    "DropBroker",
    "DropConfig",
    "DropController",
    "DropPartition",
    "DropSession",
    "DropTopic",
    "Election",
    "Endpoint",
    "IsrAnswer",
    "IsrProposal",
    "Move",
    "MoveAnswer",
    "NewPartitions",
    "NewTopic",
    "Orphan",
    "PartitionState",
    "Placer",
    "PutBroker",
    "PutConfig",
    "PutController",
    "PutPartition",
    "PutSession",
    "PutTopic",
    "Quota",
    "SessionState",
    "TopicPlan",
    "TopicRules",
    "TopicState",
    "check_topic_name",
    "find_orphans",
    "is_internal_topic",
    "moving_in",
    "plan_add_partitions",
    "plan_alter_partition",
    "plan_cluster",
    "plan_config",
    "plan_create_topics",
    "plan_delete_topics",
    "plan_distrust",
    "plan_elections",
    "plan_lost_directories",
    "plan_moves",
    "plan_new_epochs",
    "plan_orphans",
    "plan_power_loss",
    "plan_preferred_leaders",
    "plan_unregister",
    "rules_of",
]
