"""`fastmq.aio.Admin`: administration from async programs, under trio and asyncio."""

import random
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

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
from fastmq.client.pumps.anyio import AnyioPump
from fastmq.client.pumps.poller import monotonic_ms
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ClientClosed, KafkaError

__all__ = ["Admin"]

T = TypeVar("T")

Setting = str | int | float | bool


class Admin:
    """Administers a cluster: the methods of `fastmq.Admin`, as coroutines.

    Used as an async context manager. A call that is cancelled ends at once; what it asked for may
    be done nevertheless.

    Example:
        async with Admin("127.0.0.1:9092") as admin:
            await admin.create_topic("events", partitions=6)

    Args:
        bootstrap_servers: "host:port,host:port" or a list; without a port: 9092.
        options: as in `fastmq.Admin`.

    Raises:
        ConfigError: an option is unknown or cannot be.
    """

    # Any: options have many types; `read_options` checks them.
    def __init__(
        self, bootstrap_servers: str | list[str] = "127.0.0.1:9092", **options: Any
    ) -> None:
        self._options = read_options(ClientOptions, bootstrap_servers, options)
        self._pump: AnyioPump | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._ended: anyio.Event | None = None

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise ClientClosed("this client was used already; make a new one")
        core = ClientCore(self._options, now_ms=monotonic_ms(), choose=random.randrange)
        self._pump = AnyioPump(core)
        self._ended = anyio.Event()
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run_pump, name="fastmq-admin")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._pump is not None
        assert self._ended is not None
        assert self._tasks is not None
        self._pump.stop()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()  # it only has to close sockets
        # Without the body's error, so that it leaves as it is and not in a group.
        await self._tasks.__aexit__(None, None, None)

    async def _run_pump(self) -> None:
        assert self._pump is not None
        assert self._ended is not None
        try:
            await self._pump.run()
        finally:
            self._ended.set()

    async def _run(self, steps: Steps[T], timeout_ms: int | None = None) -> T:
        pump = self._pump
        if pump is None:
            raise ClientClosed("the client is not open: use it with `async with`")
        result: T = await pump.call(
            lambda done: run_steps(pump.core, steps, done, timeout_ms=timeout_ms)
        )
        return result

    # ----------------------------------------------------------------------------------- topics

    async def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        *,
        replication_factor: int | None = None,
        config: Mapping[str, Setting] | None = None,
        if_not_exists: bool = False,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Create a topic."""
        topic = NewTopic(name, partitions, replication_factor, config or {})
        (created,) = await self.create_topics(
            [topic], if_not_exists=if_not_exists, validate_only=validate_only
        )
        return created

    async def create_topics(
        self,
        topics: Iterable[NewTopic],
        *,
        if_not_exists: bool = False,
        validate_only: bool = False,
    ) -> list[CreatedTopic]:
        """Create several topics."""
        return await self._run(
            _topics.create_topics(
                topics,
                if_not_exists=if_not_exists,
                validate_only=validate_only,
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    async def delete_topics(self, names: str | Iterable[str], *, if_exists: bool = False) -> None:
        """Delete topics with all their records."""
        await self._run(
            _topics.delete_topics(
                each(names), if_exists=if_exists, timeout_ms=self._options.request_timeout_ms
            )
        )

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """Return the names of all topics, sorted."""
        found = await self._run(_topics.describe_topics(None, internal=internal))
        return [topic.name for topic in found]

    async def describe_topics(
        self, names: str | Iterable[str] | None = None, *, internal: bool = True
    ) -> list[TopicDescription]:
        """Return topics with their partitions, leaders and replicas."""
        return await self._run(
            _topics.describe_topics(None if names is None else each(names), internal=internal)
        )

    async def add_partitions(self, topic: str, total: int, *, validate_only: bool = False) -> None:
        """Raise a topic's number of partitions to `total`."""
        await self._run(
            _topics.add_partitions(
                topic,
                total,
                assignments=None,
                validate_only=validate_only,
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    # --------------------------------------------------------------------------------- settings

    async def topic_config(
        self, topic: str, names: Iterable[str] | None = None, *, documentation: bool = False
    ) -> dict[str, ConfigValue]:
        """Return a topic's settings by name."""
        return await self._run(
            _configs.describe(_configs.topic(topic), names, documentation=documentation)
        )

    async def topic_configs(
        self, topics: Iterable[str], names: Iterable[str]
    ) -> dict[str, dict[str, ConfigValue]]:
        """Return some settings of many topics; those that are gone are left out."""
        return await self._run(_configs.describe_topics(topics, names))

    async def broker_config(
        self,
        node_id: int | None = None,
        names: Iterable[str] | None = None,
        *,
        documentation: bool = False,
    ) -> dict[str, ConfigValue]:
        """Return a broker's settings by name; None: what was set for all brokers."""
        return await self._run(
            _configs.describe(_configs.broker(node_id), names, documentation=documentation)
        )

    async def alter_topic_config(
        self,
        topic: str,
        set: Mapping[str, Setting] | None = None,  # noqa: A002 - what it does
        *,
        delete: Iterable[str] = (),
        append: Mapping[str, Setting] | None = None,
        subtract: Mapping[str, Setting] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change some of a topic's settings; all of the changes or none."""
        await self._run(
            _configs.alter(
                _configs.topic(topic),
                set_=set,
                delete=delete,
                append=append,
                subtract=subtract,
                validate_only=validate_only,
            )
        )

    async def alter_broker_config(
        self,
        node_id: int | None,
        set: Mapping[str, Setting] | None = None,  # noqa: A002 - what it does
        *,
        delete: Iterable[str] = (),
        append: Mapping[str, Setting] | None = None,
        subtract: Mapping[str, Setting] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change some of a broker's settings; None: for all brokers."""
        await self._run(
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

    async def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """Return the consumer groups of all brokers, sorted by name."""
        return await self._run(_groups.list_groups(states, types))

    async def describe_groups(self, names: str | Iterable[str]) -> list[GroupDescription]:
        """Return groups with their members and what these are assigned."""
        return await self._run(_groups.describe_groups(each(names)))

    async def delete_groups(self, names: str | Iterable[str], *, if_exists: bool = False) -> None:
        """Delete groups with their committed offsets; they must not have members."""
        await self._run(_groups.delete_groups(each(names), if_exists=if_exists))

    async def remove_members(
        self,
        group: str,
        members: Iterable[str] | None = None,
        *,
        reason: str = "removed by an administrator",
    ) -> list[str]:
        """Remove members (None: all) from a group; return their ids."""
        return await self._run(_groups.remove_members(group, members, reason=reason))

    async def group_lag(self, group: str) -> list[PartitionLag]:
        """Return how far a group is behind, per partition."""
        return await self._run(_lag.group_lag(group))

    # ---------------------------------------------------------------------------------- offsets

    async def committed_offsets(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        """Return the offsets that a group has committed."""
        return await self._run(_offsets.committed_offsets(group))

    async def alter_offsets(self, group: str, offsets: PartitionOffsets) -> None:
        """Set committed offsets of a group without members."""
        await self._run(_offsets.alter_offsets(group, partition_names(offsets)))

    async def reset_offsets(
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
        """Move committed offsets, or with `execute=False` say how they would be moved."""
        return await self._run(
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

    async def delete_offsets(self, group: str, partitions: Iterable[tuple[str, int]]) -> None:
        """Delete committed offsets of partitions that no member reads."""
        await self._run(
            _offsets.delete_offsets(group, [partition_name(name) for name in partitions])
        )

    async def list_offsets(
        self,
        at: PartitionPositions,
        *,
        committed_only: bool = False,
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the offset of a position in each partition."""
        return await self._run(
            _partitions.list_offsets(
                {partition_name(name): position_number(one) for name, one in at.items()},
                committed_only=committed_only,
            )
        )

    async def topic_offsets(
        self, topics: str | Iterable[str], at: Position
    ) -> dict[TopicPartition, FoundOffset]:
        """Return the offset of a position in all partitions of topics."""
        names = await self._run(_partitions.partitions_of(each(topics)))
        return await self.list_offsets(dict.fromkeys(names, at))

    # ------------------------------------------------------------------ records and the cluster

    async def delete_records(self, before: PartitionOffsets) -> dict[TopicPartition, int]:
        """Delete the records below an offset in each partition; return the first offsets left."""
        return await self._run(
            _partitions.delete_records(
                partition_names(before), timeout_ms=self._options.request_timeout_ms
            )
        )

    async def describe_cluster(self, *, fenced: bool = False) -> ClusterDescription:
        """Return the brokers and which of them is the controller.

        Args:
            fenced: brokers that are registered and do not serve, too.
        """
        return await self._run(_cluster.describe_cluster(fenced=fenced))

    async def describe_log_dirs(self, node_ids: Iterable[int] | None = None) -> list[LogDir]:
        """Return the log directories of brokers (None: all) with the sizes of partitions."""
        return await self._run(_cluster.describe_log_dirs(node_ids))

    # ----------------------------------------------------------------- where partitions are

    async def reassign(self, moves: Mapping[tuple[str, int], Sequence[int] | None]) -> None:
        """Begin to move partitions to other brokers, or (None) cancel moves."""
        await self._run(
            _reassignments.reassign(
                {partition_name(name): wanted for name, wanted in moves.items()},
                timeout_ms=self._options.request_timeout_ms,
            )
        )

    async def list_reassignments(
        self, partitions: Iterable[tuple[str, int]] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """Return the moves that are under way, of some partitions or (None) of all."""
        names = None if partitions is None else [partition_name(one) for one in partitions]
        return await self._run(
            _reassignments.list_reassignments(names, timeout_ms=self._options.request_timeout_ms)
        )

    async def elect_leaders(
        self, partitions: Iterable[tuple[str, int]] | None = None, *, unclean: bool = False
    ) -> dict[TopicPartition, KafkaError | None]:
        """Elect preferred leaders, or uncleanly any; tell by partition why that was not done."""
        names = None if partitions is None else [partition_name(one) for one in partitions]
        return await self._run(
            _reassignments.elect_leaders(
                names, unclean=unclean, timeout_ms=self._options.request_timeout_ms
            )
        )

    async def cordon_broker(self, node_id: int, log_dirs: str | Sequence[str] = "*") -> None:
        """Give a broker ("*"), or some of its directories, no new partitions."""
        paths = [log_dirs] if isinstance(log_dirs, str) else list(log_dirs)
        await self._run(_cluster.cordon_broker(node_id, paths))

    async def uncordon_broker(self, node_id: int) -> None:
        """Give a broker new partitions again."""
        await self._run(_cluster.cordon_broker(node_id, ()))

    async def unregister_broker(self, node_id: int) -> None:
        """Remove a broker that has no partitions and does not come back."""
        await self._run(_reassignments.unregister_broker(node_id))
