"""What administrators do to topics: planned on the image, committed to the store, put into effect.

One request at a time: plan on the image, commit to the store, and let `RunningTopics` put into
effect what the image then says. A plan that another broker's changes overtook is made anew.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from fastmq.cluster import (
    Change,
    ConfigKind,
    Move,
    MoveAnswer,
    NewPartitions,
    NewTopic,
    Quota,
    TopicPlan,
    plan_add_partitions,
    plan_config,
    plan_create_topics,
    plan_delete_topics,
    plan_moves,
    plan_unregister,
)
from fastmq.cluster.names import is_internal_topic
from fastmq.config import TopicConfig
from fastmq.errors import ErrorCode, KafkaError
from fastmq.ids import new_uuid
from fastmq.server.running_topics import RunningTopics, Topic
from fastmq.server.store import ChangedMeanwhileError

__all__ = ["Topic", "TopicManager"]

_T = TypeVar("_T")

# Plans that were overtaken by another broker's changes are made anew so often.
_PLANS_MAX = 5


class TopicManager(RunningTopics):
    """The topics of this broker, and what may be done to them."""

    async def create(
        self,
        requests: Iterable[NewTopic],
        *,
        validate_only: bool = False,
        internal: bool = False,
    ) -> list[TopicPlan]:
        """Create topics; each plan says what became of one request.

        Args:
            requests: what is wanted.
            validate_only: only say whether it could be done.
            internal: it is the broker that wants them; others may not create internal topics.
        """
        requests = list(requests)
        config = self._config()

        def plan() -> list[TopicPlan]:
            plans = plan_create_topics(
                self.image,
                requests,
                default_partitions=config.get_int("num.partitions"),
                default_replication_factor=config.get_int("default.replication.factor"),
                new_id=lambda: new_uuid(self._random_bytes),
                quota=Quota() if internal else self._quota(),
            )
            return plans if internal else [_refuse_internal(plan) for plan in plans]

        return await self._carry_out(plan, validate_only=validate_only)

    async def create_automatically(self, names: Iterable[str]) -> dict[str, ErrorCode]:
        """Create topics with default settings; return the errors that remain by name."""
        plans = await self.create([NewTopic(name) for name in names])
        return {
            plan.name: plan.error.code
            for plan in plans
            if plan.error is not None and plan.error.code != ErrorCode.TOPIC_ALREADY_EXISTS
        }

    async def create_internal(
        self, name: str, *, partitions: int, replication_factor: int, configs: dict[str, str]
    ) -> None:
        """Create a topic of the broker's own, if it does not exist.

        Raises:
            KafkaError: it cannot be created.
        """
        if name in self._topics:
            return
        request = NewTopic(name, partitions, replication_factor, configs=dict(configs))
        for plan in await self.create([request], internal=True):
            if plan.error is not None and plan.error.code != ErrorCode.TOPIC_ALREADY_EXISTS:
                raise plan.error

    async def add_partitions(
        self, requests: Iterable[NewPartitions], *, validate_only: bool = False
    ) -> list[TopicPlan]:
        """Add partitions to topics; each plan says what became of one request."""
        requests = list(requests)

        def plan() -> list[TopicPlan]:
            # A group finds its coordinator by the number of partitions: it must never change.
            plans = plan_add_partitions(self.image, requests, self._quota())
            return [_refuse_internal(plan) for plan in plans]

        return await self._carry_out(plan, validate_only=validate_only)

    async def delete(self, names: Iterable[str] = (), ids: Iterable[bytes] = ()) -> list[TopicPlan]:
        """Delete topics; each plan says what became of one request, names first."""
        names, ids = list(names), list(ids)

        def plan() -> list[TopicPlan]:
            return [_refuse_internal(p) for p in plan_delete_topics(self.image, names, ids)]

        return await self._carry_out(plan, validate_only=False)

    async def alter_config(
        self,
        name: str,
        change: Callable[[TopicConfig], dict[str, str]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Change the overrides of a topic.

        Args:
            name: of the topic.
            change: makes the new overrides from the present settings, or refuses. Called when
                nobody else can change them.
            validate_only: change nothing.

        Raises:
            KafkaError: there is no such topic.
            ConfigError: what `change` raises.
        """

        async def attempt() -> None:
            topic = self._topics.get(name)
            if topic is None:
                raise KafkaError(self.missing_code(name), f"there is no topic {name}")
            overrides = change(topic.config)
            changes = plan_config(self.image, ConfigKind.TOPIC, name, overrides)
            if changes and not validate_only:
                await self._commit(list(changes))

        await self._repeat(attempt)

    async def move(
        self, moves: Iterable[Move], *, may_change_factor: bool = True
    ) -> list[MoveAnswer]:
        """Begin, change or cancel reassignments; see `plan_moves`."""
        moves = list(moves)

        async def attempt() -> list[MoveAnswer]:
            changes, answers = plan_moves(self.image, moves, may_change_factor=may_change_factor)
            if changes:
                await self._commit(changes)
            return answers

        return await self._repeat(attempt)

    async def unregister(self, broker_id: int) -> None:
        """Remove a broker that has no partitions; see `plan_unregister`."""

        async def attempt() -> None:
            await self._commit(plan_unregister(self.image, broker_id))

        await self._repeat(attempt)

    # Inside.

    def _quota(self) -> Quota:
        config = self._config()
        return Quota(config.get_int("fastmq.topics.max"), config.get_int("fastmq.partitions.max"))

    async def _carry_out(
        self, plan: Callable[[], list[TopicPlan]], *, validate_only: bool
    ) -> list[TopicPlan]:
        """Plan and commit; each plan says what became of one request."""

        async def attempt() -> list[TopicPlan]:
            plans = plan()
            # A topic that is asked for by name and by id has two plans and goes once.
            made = {plan.name: plan for plan in plans if plan.error is None}
            if made and not validate_only:
                await self._commit([change for plan in made.values() for change in plan.changes])
            return plans

        return await self._repeat(attempt)

    async def _repeat(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Run an attempt under the lock, again when another broker's changes overtook it."""
        for _ in range(_PLANS_MAX - 1):
            try:
                async with self._store.lock:
                    return await attempt()
            except ChangedMeanwhileError:
                continue
        async with self._store.lock:
            return await attempt()

    async def _commit(self, changes: list[Change]) -> None:
        """Commit and put into effect; a stop waits for it, so that store and disk agree."""
        with trio.CancelScope(shield=True):
            try:
                await self._store.commit(changes)
            finally:
                # Also what others did meanwhile.
                await self._put_into_effect()


def _refuse_internal(plan: TopicPlan) -> TopicPlan:
    """Refuse what clients must not do to the topics that the broker keeps its state in."""
    if plan.error is not None or not is_internal_topic(plan.name):
        return plan
    error = KafkaError(
        ErrorCode.INVALID_TOPIC_EXCEPTION, f"{plan.name} belongs to the broker itself"
    )
    return TopicPlan(plan.name, error, None, {}, ())
