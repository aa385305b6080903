"""`fastmq.Admin`: administration from programs that block."""

import random
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from fastmq.client.admin import cluster as _cluster
from fastmq.client.admin import configs as _configs
from fastmq.client.admin import groups as _groups
from fastmq.client.admin import lag as _lag
from fastmq.client.admin import offsets as _offsets
from fastmq.client.admin import partitions as _partitions
from fastmq.client.admin import reassignments as _reassignments
from fastmq.client.admin import topics as _topics
from fastmq.client.admin.results import (
    ClusterDescription,
    CommittedOffset,
    ConfigValue,
    CreatedTopic,
    FoundOffset,
    GroupDescription,
    GroupListing,
    LogDir,
    NewTopic,
    OffsetMove,
    PartitionLag,
    Reassignment,
    TopicDescription,
)
from fastmq.client.admin.steps import Steps, run_steps
from fastmq.client.core import ClientCore
from fastmq.client.fronts.positions import (
    PartitionOffsets,
    PartitionPositions,
    Position,
    each,
    partition_name,
    partition_names,
    position_number,
)
from fastmq.client.options import ClientOptions, read_options
from fastmq.client.pumps.blocking import BlockingPump, monotonic_ms
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import KafkaError

__all__ = ["Admin"]

T = TypeVar("T")

Setting = str | int | float | bool


class Admin:
    """Administers a cluster: topics, settings, groups, offsets, records.

    Methods wait until the cluster has answered, are safe to call from several threads, and raise
    `fastmq.errors.KafkaError`: refusals with a `code` and what to do about it, `RequestTimedOut`
    after `default_api_timeout_ms`. Where several things are named and some are refused,
    `SomeFailed` tells which; the others are done. An attempt whose answer was lost is repeated, so
    that a topic may be reported to exist that this very call has made.

    Example:
        with Admin("127.0.0.1:9092") as admin:
            admin.create_topic("events", partitions=6, config={"retention.ms": 3_600_000})
            print(sum(part.lag for part in admin.group_lag("readers")))

    Args:
        bootstrap_servers: "host:port,host:port" or a list; without a port: 9092.
        options: as in `fastmq.client.options.ClientOptions`, for example `client_id`,
            `request_timeout_ms`, `default_api_timeout_ms`.

    Raises:
        ConfigError: an option is unknown or cannot be.
    """

    # Any: options have many types; `read_options` checks them.
    def __init__(
        self, bootstrap_servers: str | list[str] = "127.0.0.1:9092", **options: Any
    ) -> None:
        read = read_options(ClientOptions, bootstrap_servers, options)
        core = ClientCore(read, now_ms=monotonic_ms(), choose=random.randrange)
        self._options = read
        self._pump = BlockingPump(core, name="fastmq-admin")
        self._pump.start()

    def close(self) -> None:
        """Close the connections; calls of other threads fail with `ClientClosed`."""
        self._pump.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, steps: Steps[T], timeout_ms: int | None = None) -> T:
        core = self._pump.core
        result: T = self._pump.call(
            lambda done: run_steps(core, steps, done, timeout_ms=timeout_ms)
        )
        return result

    # ----------------------------------------------------------------------------------- topics

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        *,
        replication_factor: int | None = None,
        config: Mapping[str, Setting] | None = None,
        if_not_exists: bool = False,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Create a topic.

        Args:
            name: 1 to 249 of a-z A-Z 0-9 . _ -
            partitions: None: the broker's `num.partitions`.
            replication_factor: None: the broker's `default.replication.factor`.
            config: settings by Kafka's names, such as `{"retention.ms": 3_600_000}`.
            if_not_exists: whether a topic that exists is fine, as it is.
            validate_only: only say whether it could be made.

        Raises:
            KafkaError: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_CONFIG, ...
        """
        topic = NewTopic(name, partitions, replication_factor, config or {})
        (created,) = self.create_topics(
            [topic], if_not_exists=if_not_exists, validate_only=validate_only
        )
        return created

    def create_topics(
        self,
        topics: Iterable[NewTopic],
        *,
        if_not_exists: bool = False,
        validate_only: bool = False,
    ) -> list[CreatedTopic]:
        """Create several topics; as `create_topic`.

        Raises:
            SomeFailed: several were refused; the others are made.
        """
        return self._run(
            _topics.create_topics(
                topics,
                if_not_exists=if_not_exists,
                validate_only=validate_only,
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    def delete_topics(self, names: str | Iterable[str], *, if_exists: bool = False) -> None:
        """Delete topics with all their records.

        Args:
            names: one or several.
            if_exists: whether a topic that is missing is fine.
        """
        self._run(
            _topics.delete_topics(
                each(names), if_exists=if_exists, timeout_ms=self._options.request_timeout_ms
            )
        )

    def list_topics(self, *, internal: bool = False) -> list[str]:
        """Return the names of all topics, sorted.

        Args:
            internal: whether to include the brokers' own, such as `__consumer_offsets`.
        """
        found = self._run(_topics.describe_topics(None, internal=internal))
        return [topic.name for topic in found]

    def describe_topics(
        self, names: str | Iterable[str] | None = None, *, internal: bool = True
    ) -> list[TopicDescription]:
        """Return topics with their partitions, leaders and replicas.

        Args:
            names: one or several; None: all.
            internal: whether to include the brokers' own.

        Raises:
            KafkaError: UNKNOWN_TOPIC_OR_PARTITION.
        """
        return self._run(
            _topics.describe_topics(None if names is None else each(names), internal=internal)
        )

    def add_partitions(self, topic: str, total: int, *, validate_only: bool = False) -> None:
        """Raise a topic's number of partitions.

        Keys go to other partitions afterwards: the order per key holds only among records that
        were produced before, and among those produced after.

        Args:
            topic: its name.
            total: partitions that it shall have, more than it has.
            validate_only: only say whether it could be done.

        Raises:
            KafkaError: INVALID_PARTITIONS, UNKNOWN_TOPIC_OR_PARTITION.
        """
        self._run(
            _topics.add_partitions(
                topic,
                total,
                assignments=None,
                validate_only=validate_only,
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    # --------------------------------------------------------------------------------- settings

    def topic_config(
        self, topic: str, names: Iterable[str] | None = None, *, documentation: bool = False
    ) -> dict[str, ConfigValue]:
        """Return a topic's settings by name.

        Args:
            topic: its name.
            names: of the settings; None: all.
            documentation: whether to ask for what they mean, too.
        """
        return self._run(
            _configs.describe(_configs.topic(topic), names, documentation=documentation)
        )

    def topic_configs(
        self, topics: Iterable[str], names: Iterable[str]
    ) -> dict[str, dict[str, ConfigValue]]:
        """Return some settings of many topics, in few requests; topics that are gone are left out.

        Args:
            topics: their names.
            names: of the settings.
        """
        return self._run(_configs.describe_topics(topics, names))

    def broker_config(
        self,
        node_id: int | None = None,
        names: Iterable[str] | None = None,
        *,
        documentation: bool = False,
    ) -> dict[str, ConfigValue]:
        """Return a broker's settings by name.

        Args:
            node_id: of the broker; None: what was set for all brokers.
            names: of the settings; None: all.
            documentation: whether to ask for what they mean, too.
        """
        return self._run(
            _configs.describe(_configs.broker(node_id), names, documentation=documentation)
        )

    def alter_topic_config(
        self,
        topic: str,
        set: Mapping[str, Setting] | None = None,  # noqa: A002 - what it does
        *,
        delete: Iterable[str] = (),
        append: Mapping[str, Setting] | None = None,
        subtract: Mapping[str, Setting] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change some of a topic's settings; all of the changes or none.

        Args:
            topic: its name.
            set: new values by name.
            delete: names that get the broker's default again.
            append: what to add to lists, such as `cleanup.policy`.
            subtract: what to take from lists.
            validate_only: only say whether it could be done.

        Raises:
            KafkaError: INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION.
        """
        self._run(
            _configs.alter(
                _configs.topic(topic),
                set_=set,
                delete=delete,
                append=append,
                subtract=subtract,
                validate_only=validate_only,
            )
        )

    def alter_broker_config(
        self,
        node_id: int | None,
        set: Mapping[str, Setting] | None = None,  # noqa: A002 - what it does
        *,
        delete: Iterable[str] = (),
        append: Mapping[str, Setting] | None = None,
        subtract: Mapping[str, Setting] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change some of a broker's settings, without a restart; as `alter_topic_config`.

        Args:
            node_id: of the broker; None: for all brokers.
            set: new values by name.
            delete: names that get the value of the file, or the default, again.
            append: what to add to lists.
            subtract: what to take from lists.
            validate_only: only say whether it could be done.
        """
        self._run(
            _configs.alter(
                _configs.broker(node_id),
                set_=set,
                delete=delete,
                append=append,
                subtract=subtract,
                validate_only=validate_only,
            )
        )

    # ----------------------------------------------------------------------------------- groups

    def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """Return the consumer groups of all brokers, sorted by name.

        Args:
            states: only these, such as "Stable" or "Empty".
            types: only these: "classic", "consumer".
        """
        return self._run(_groups.list_groups(states, types))

    def describe_groups(self, names: str | Iterable[str]) -> list[GroupDescription]:
        """Return groups with their members and what these are assigned.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND.
        """
        return self._run(_groups.describe_groups(each(names)))

    def delete_groups(self, names: str | Iterable[str], *, if_exists: bool = False) -> None:
        """Delete groups with their committed offsets; they must not have members.

        Raises:
            KafkaError: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND.
        """
        self._run(_groups.delete_groups(each(names), if_exists=if_exists))

    def remove_members(
        self,
        group: str,
        members: Iterable[str] | None = None,
        *,
        reason: str = "removed by an administrator",
    ) -> list[str]:
        """Remove members from a group. Consumers that still run join again.

        Args:
            group: its name.
            members: member ids or instance ids; None: all.
            reason: for the broker's log.

        Returns:
            The ids of those that were removed.
        """
        return self._run(_groups.remove_members(group, members, reason=reason))

    def group_lag(self, group: str) -> list[PartitionLag]:
        """Return how far a group is behind, per partition that it has committed or is assigned.

        Raises:
            KafkaError: GROUP_ID_NOT_FOUND.
        """
        return self._run(_lag.group_lag(group))

    # ---------------------------------------------------------------------------------- offsets

    def committed_offsets(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        """Return the offsets that a group has committed; none when there is no such group."""
        return self._run(_offsets.committed_offsets(group))

    def alter_offsets(self, group: str, offsets: PartitionOffsets) -> None:
        """Set committed offsets. The group must have no members.

        Args:
            group: its name; it is made when there is none.
            offsets: of the next record to read, by (topic, partition).

        Raises:
            KafkaError: UNKNOWN_MEMBER_ID while the group has members.
        """
        self._run(_offsets.alter_offsets(group, partition_names(offsets)))

    def reset_offsets(
        self,
        group: str,
        topics: Iterable[str] = (),
        *,
        partitions: Iterable[tuple[str, int]] = (),
        to: Position = "committed",
        offset: int | None = None,
        shift: int = 0,
        explicit: PartitionOffsets | None = None,
        execute: bool = True,
    ) -> list[OffsetMove]:
        """Move committed offsets, or say how they would be moved. The group must have no members.

        Args:
            group: its name.
            topics: whole topics; with no `partitions` either: all that the group has committed.
            partitions: single partitions.
            to: "earliest", "latest", "committed" (where it is) or a time.
            offset: this offset in each partition, instead of `to`.
            shift: added to each; negative to go back.
            explicit: offsets by (topic, partition), instead of all that.
            execute: False: change nothing.

        Returns:
            The moves; offsets that a partition does not have become its first or its end.
        """
        return self._run(
            _lag.reset_offsets(
                group,
                topics=topics,
                partitions=[partition_name(name) for name in partitions],
                to=position_number(to),
                offset=offset,
                shift=shift,
                explicit=None if explicit is None else partition_names(explicit),
                execute=execute,
            )
        )

    def delete_offsets(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Delete committed offsets of partitions that no member reads.

        Raises:
            KafkaError: GROUP_SUBSCRIBED_TO_TOPIC, GROUP_ID_NOT_FOUND.
        """
        self._run(_offsets.delete_offsets(group, [partition_name(name) for name in partitions]))

    def list_offsets(
        self,
        at: PartitionPositions,
        *,
        committed_only: bool = False,
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the offset of a position in each partition.

        Args:
            at: per (topic, partition) "earliest", "latest" (the end), "max-timestamp" or a time:
                the first record that is not older, -1 when there is none.
            committed_only: whether "latest" stops before transactions that are not decided.
        """
        return self._run(
            _partitions.list_offsets(
                {partition_name(name): position_number(one) for name, one in at.items()},
                committed_only=committed_only,
            )
        )

    def topic_offsets(
        self, topics: str | Iterable[str], at: Position
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the offset of a position in all partitions of topics; as `list_offsets`."""
        names = self._run(_partitions.partitions_of(each(topics)))
        return self.list_offsets(dict.fromkeys(names, at))

    # ------------------------------------------------------------------ records and the cluster

    def delete_records(self, before: PartitionOffsets) -> dict[TopicPartition, int]:
        """Delete the records below an offset in each partition.

        Args:
            before: the first offset to keep, by (topic, partition); -1: keep none.

        Returns:
            The first offsets that are left.

        Raises:
            KafkaError: OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION.
        """
        return self._run(
            _partitions.delete_records(
                partition_names(before), timeout_ms=self._options.request_timeout_ms
            )
        )

    def describe_cluster(self, *, fenced: bool = False) -> ClusterDescription:
        """Return the brokers and which of them is the controller.

        Args:
            fenced: brokers that are registered and do not serve, too.
        """
        return self._run(_cluster.describe_cluster(fenced=fenced))

    def describe_log_dirs(self, node_ids: Iterable[int] | None = None) -> list[LogDir]:
        """Return the log directories of brokers (None: all) with the sizes of partitions."""
        return self._run(_cluster.describe_log_dirs(node_ids))

    # ----------------------------------------------------------------- where partitions are

    def reassign(self, moves: Mapping[tuple[str, int], Sequence[int] | None]) -> None:
        """Move partitions to other brokers, while they serve.

        Returns when the moves have begun; `list_reassignments` tells which are not done yet.

        Args:
            moves: broker ids by partition, the preferred leader first; None cancels a move.

        Raises:
            KafkaError: INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS.
        """
        self._run(
            _reassignments.reassign(
                {partition_name(name): wanted for name, wanted in moves.items()},
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    def list_reassignments(
        self, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """Return the moves that are under way, of some partitions or (None) of all."""
        names = None if partitions is None else [partition_name(one) for one in partitions]
        return self._run(
            _reassignments.list_reassignments(names, timeout_ms=self._options.request_timeout_ms)
        )

    def elect_leaders(
        self, partitions: Iterable[tuple[str, int]] | None = None, *, unclean: bool = False
    ) -> dict[TopicPartition, KafkaError | None]:
        """Elect preferred leaders.

        Args:
            partitions: of which; None: all.
            unclean: where nobody in sync is left, let any replica lead. Records are lost.

        Returns:
            By partition why it has no other leader now, None where it has; those that need none
            are left out.
        """
        names = None if partitions is None else [partition_name(one) for one in partitions]
        return self._run(
            _reassignments.elect_leaders(
                names, unclean=unclean, timeout_ms=self._options.request_timeout_ms
            )
        )

    def cordon_broker(self, node_id: int, log_dirs: str | Sequence[str] = "*") -> None:
        """Give a broker no new partitions; what it has stays (Kafka 4.3 and newer).

        It stays so across restarts, until `uncordon_broker`. A broker that does not serve can be
        cordoned as a whole.

        Args:
            node_id: of the broker.
            log_dirs: those of its log directories that are meant; "*": all.
        """
        paths = [log_dirs] if isinstance(log_dirs, str) else list(log_dirs)
        self._run(_cluster.cordon_broker(node_id, paths))

    def uncordon_broker(self, node_id: int) -> None:
        """Give a broker new partitions again."""
        self._run(_cluster.cordon_broker(node_id, ()))

    def unregister_broker(self, node_id: int) -> None:
        """Remove a broker that has no partitions and does not come back."""
        self._run(_reassignments.unregister_broker(node_id))
