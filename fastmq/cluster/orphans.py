"""Rows that nobody will finish: what a death between two transactions has left. Pure.

A topic with many partitions is made, grown and deleted in several transactions. Whoever dies in
between leaves partitions without a topic (or beyond those that the topic counts), and overrides of
a topic that does not exist. Clients never see these, but they would be in the way of the next who
grows the topic, and a topic of the same name would inherit the settings.

Somebody may just be at it, and that cannot be seen from outside. So the controller removes only
what it has seen twice, some seconds apart, and lets nobody finish afterwards: it removes the first
loose partition of a topic first, and each transaction that goes on with a topic demands that row
(`fastmq.metastore.metadata`). One that was interrupted for long finds it gone and is planned anew.
"""

from collections.abc import Collection
from typing import NamedTuple

from fastmq.cluster.changes import Change, ConfigKind, DropConfig, DropPartition, DropTopic
from fastmq.cluster.image import ClusterImage

__all__ = ["Orphan", "find_orphans", "plan_orphans"]


class Orphan(NamedTuple):
    """A row that leads nowhere; the same one at another revision is another orphan.

    Attributes:
        topic_id: of loose partitions; empty for another row.
        name: of a topic whose row counts partitions that do not exist, or that has overrides and
            no row; empty for partitions.
        is_config: which of the two.
        revision: of the row; of loose partitions the first one's.
    """

    topic_id: bytes
    name: str
    is_config: bool
    revision: int


def find_orphans(image: ClusterImage) -> set[Orphan]:
    """Return what may be left over, or just be under way."""
    found = {Orphan(b"", name, False, revision) for name, revision in image.half_topics.items()}
    for topic_id, partitions in image.loose.items():
        found.add(Orphan(topic_id, "", False, partitions[min(partitions)].revision))
    # A topic that is being made has its partitions before its overrides.
    if not any(topic_id not in image.topic_names for topic_id in image.loose):
        found.update(
            Orphan(b"", name, True, image.config_revision(ConfigKind.TOPIC, name))
            for name in image.config_names(ConfigKind.TOPIC)
            if name not in image.topics
        )
    return found


def plan_orphans(image: ClusterImage, known: Collection[Orphan]) -> list[Change]:
    """Return the changes that remove what was an orphan before and still is one."""
    changes: list[Change] = []
    for orphan in sorted(find_orphans(image).intersection(known)):
        if orphan.topic_id:
            partitions = sorted(image.loose[orphan.topic_id].items())
            changes += [
                DropPartition(orphan.topic_id, index, state.revision) for index, state in partitions
            ]
        elif orphan.is_config:
            changes.append(DropConfig(ConfigKind.TOPIC, orphan.name, orphan.revision))
        else:
            changes.append(DropTopic(orphan.name, orphan.revision))
    return changes
