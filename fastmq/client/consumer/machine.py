"""A consumer without a front: subscription, positions, membership, fetcher on a core. Pure.

Everything here is called in the pump's thread or task. The program's side takes chunks off
`fetcher.chunks` and steps off `steps`, and tells what it did by calls that it posts.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastmq.client.admin.offsets import committed_offsets
from fastmq.client.admin.partitions import list_offsets, partitions_of
from fastmq.client.admin.results import EARLIEST, LATEST
from fastmq.client.admin.steps import run_steps
from fastmq.client.consumer.commits import Committer
from fastmq.client.consumer.fetcher import Fetcher
from fastmq.client.consumer.membership import Membership
from fastmq.client.consumer.options import ConsumerOptions, duration_ms_of
from fastmq.client.consumer.state import PartitionState, Subscription
from fastmq.client.consumer.steps import Step, StepKind
from fastmq.client.core import ClientCore
from fastmq.client.timers import Timer
from fastmq.client.topic_partition import TopicPartition
from fastmq.errors import ErrorCode, FastmqError, KafkaError, LogTruncated

__all__ = ["ConsumerMachine"]

_log = logging.getLogger("fastmq.client")

_RESETS = {"earliest": EARLIEST, "latest": LATEST}


class ConsumerMachine:
    """Everything of a consumer but threads, tasks and sockets.

    Args:
        core: the client's core, for this machine alone.
        options: the consumer's.
        notify: called when the program has something to look at; must be quick.
        wall_ms: the time in ms since 1970, for `auto_offset_reset="by_duration:..."`.

    Attributes:
        states: the partitions that the consumer has; replaced, never changed, so that the program
            may look at it from its own thread.
        steps: partitions given and taken, to be run in the program's next poll.
        errors: to be raised by it.
        last_poll_ms: when the program polled last; None while it waits in a poll.
    """

    def __init__(
        self,
        core: ClientCore,
        options: ConsumerOptions,
        *,
        notify: Callable[[], None],
        wall_ms: Callable[[], int],
    ) -> None:
        self._core = core
        self._wall_ms = wall_ms
        self._options = options
        self._notify = notify
        self.subscription = Subscription()
        self.states: dict[TopicPartition, PartitionState] = {}
        self.steps: deque[Step] = deque()
        self.errors: deque[FastmqError] = deque()
        self.last_poll_ms: int | None = core.now_ms
        self.fetcher = Fetcher(
            core,
            options,
            lambda: self.states,
            on_chunk=notify,
            on_out_of_range=self._out_of_range,
            on_truncated=self._truncated,
            on_error=self.fail,
        )
        self.membership: Membership | None = None
        if options.group_id is not None:
            self.membership = Membership(core, options, self)
        self.committer = Committer(core, options, self.membership, self._epoch_before)
        self._auto_commit: Timer | None = None
        self._held: set[TopicPartition] = set()
        self._resolve_failures = 0
        self._resolve_timer: Timer | None = None

    # --------------------------------------------------------------------------------- program

    def subscribe(
        self, topics: Iterable[str] = (), pattern: "re.Pattern[str] | None" = None
    ) -> None:
        """Read topics as a member of the group."""
        assert self.membership is not None
        self.subscription = Subscription(frozenset(topics), pattern)
        if pattern is not None:
            self._core.want_all_topics()
        else:
            self._core.want_topics(self.subscription.topics)
        self.membership.join()
        self._start_auto_commit()

    def assign(self, names: Iterable[TopicPartition]) -> None:
        """Read partitions that the program chose itself."""
        wanted = set(names)
        self.take_away([name for name in self.states if name not in wanted])
        new = [name for name in wanted if name not in self.states]
        self._core.want_topics({name.topic for name in wanted})
        self._add(new)
        self._resolve()
        self._start_auto_commit()

    def unsubscribe(self, done: Callable[[Any], None]) -> None:
        """Leave the group, or give up what was assigned."""
        self.subscription = Subscription()
        self._core.want_all_topics(False)
        self.take_away(list(self.states))
        self.steps.clear()
        if self.membership is not None:
            self.membership.leave(lambda: done(None))
        else:
            done(None)

    def close(self, done: Callable[[Any], None]) -> None:
        """Leave the group; `done(None)` when that is over."""
        if self._auto_commit is not None:
            self._auto_commit.cancel()
        if self.membership is None:
            done(None)
        else:
            self.membership.leave(lambda: done(None))

    def polled(self) -> None:
        """The program has polled after it did not for too long."""
        if self.membership is not None:
            self.membership.polled()

    def step_done(self, step: Step) -> None:
        """The program has run a step."""
        if step.kind is StepKind.ASSIGNED:
            self._held.difference_update(step.names)
        step.done()
        self._resolve()

    def seek(self, name: TopicPartition, offset: int) -> None:
        """Go on at an offset. Raises KeyError for a partition that the consumer does not have."""
        self.states[name].seek(offset)
        self._moved()

    def seek_to(self, names: Iterable[TopicPartition], position: int) -> None:
        """Go on at a position (EARLIEST, LATEST, a time in ms)."""
        for name in names:
            self.states[name].reset(position)
        self._moved()

    def _moved(self) -> None:
        self.fetcher.drop_stale()
        self._resolve()

    def committed(self, done: Callable[[Any], None]) -> None:
        """Look up what the group has committed."""
        assert self._options.group_id is not None
        run_steps(self._core, committed_offsets(self._options.group_id), done)

    def list_offsets(
        self, positions: Mapping[TopicPartition, int], done: Callable[[Any], None]
    ) -> None:
        """Look offsets of positions up."""
        committed_only = self._options.isolation_level == "read_committed"
        run_steps(self._core, list_offsets(positions, committed_only=committed_only), done)

    def partitions_of(self, topic: str, done: Callable[[Any], None]) -> None:
        """Look the partitions of a topic up."""
        run_steps(self._core, partitions_of([topic]), done)

    # ------------------------------------------------------------------------------------- host

    def subscribed_topics(self) -> frozenset[str]:
        """Return the topics to subscribe to now."""
        pattern = self.subscription.pattern
        if pattern is None:
            return self.subscription.topics
        return frozenset(
            name
            for name, info in self._core.metadata.topics.items()
            if pattern.fullmatch(name) and not info.is_internal
        )

    def owned(self) -> tuple[TopicPartition, ...]:
        """Return the partitions that the consumer has."""
        return tuple(self.states)

    def queue_step(self, step: Step) -> None:
        """Let the program's next poll run a step."""
        self.steps.append(step)
        self._notify()

    def give(self, names: Iterable[TopicPartition]) -> None:
        """Add partitions; they are fetched from once their step is done."""
        new = list(names)
        self._held.update(new)
        self._core.want_topics({name.topic for name in new})
        self._add(new)

    def take_away(self, names: Iterable[TopicPartition]) -> None:
        """Remove partitions."""
        gone = set(names)
        for name in gone & self.states.keys():
            self.states[name].is_live = False
        self.states = {name: s for name, s in self.states.items() if name not in gone}
        self._held -= gone
        self.fetcher.drop_stale()

    def fail(self, error: FastmqError) -> None:
        """Let the program's next poll raise an error."""
        self.errors.append(error)
        self._notify()

    def ms_since_poll(self) -> int:
        """Return for how long the program has not polled; 0 while it waits in a poll."""
        last_ms = self.last_poll_ms
        return 0 if last_ms is None else self._core.now_ms - last_ms

    # -------------------------------------------------------------------------------- positions

    def _epoch_before(self, name: TopicPartition, offset: int) -> int:
        state = self.states.get(name)
        return -1 if state is None else state.epoch_before(offset)

    def _add(self, names: Iterable[TopicPartition]) -> None:
        self.states = {**self.states, **{name: PartitionState(name) for name in names}}

    def _out_of_range(self, state: PartitionState) -> None:
        if self._options.auto_offset_reset == "none":
            asked = state.fetch_offset
            state.fetch_offset = -1
            state.is_resolving = True  # until the program seeks
            self.fail(
                KafkaError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"{state.name} has no offset {asked} (any more): seek or set auto_offset_reset",
                )
            )
            return
        state.reset(self._reset_position())
        self._resolve()

    def _truncated(self, state: PartitionState, diverged_at: int) -> None:
        """Records before the position are gone, from an offset on."""
        topic, partition = state.name
        message = (
            f"{state.name} was truncated at {diverged_at}: a leader was elected that did not have "
            f"all records; {state.fetch_offset} was reached"
        )
        if self._options.auto_offset_reset == "none":
            state.reset(LATEST)
            state.is_resolving = True  # until the program seeks
            error = LogTruncated(f"{message}; seek to go on", topic, partition, diverged_at)
            self.fail(error)
        else:
            _log.warning("%s; reading on there", message)
            at = state.delivered
            state.seek(diverged_at if at < 0 else min(at, diverged_at))
        self.fetcher.drop_stale()

    def _reset_position(self) -> int:
        policy = self._options.auto_offset_reset
        back_ms = duration_ms_of(policy)
        return _RESETS[policy] if back_ms is None else max(0, self._wall_ms() - back_ms)

    def _resolve(self) -> None:
        """Find where to begin, wherever that is not known, and fetch."""
        unknown = [
            state
            for name, state in self.states.items()
            if state.fetch_offset < 0 and not state.is_resolving and name not in self._held
        ]
        resets = {s.name: s.reset_to for s in unknown if s.reset_to is not None}
        others = [s for s in unknown if s.reset_to is None]
        for state in unknown:
            state.is_resolving = True
        versions = {state.name: state.version for state in unknown}
        if resets:
            self.list_offsets(resets, lambda result: self._found_resets(versions, resets, result))
        if others and self._options.group_id is not None:
            self.committed(lambda result: self._found_committed(others, versions, result))
        elif others:
            self._apply_policy(others)
        self.fetcher.fetch()

    def _still(self, name: TopicPartition, versions: Mapping[TopicPartition, int]) -> bool:
        state = self.states.get(name)
        return state is not None and state.version == versions[name]

    # Any: the result or an exception, as `run_steps` says.
    def _found_resets(
        self,
        versions: Mapping[TopicPartition, int],
        asked: Mapping[TopicPartition, int],
        result: Any,
    ) -> None:
        names = [name for name in asked if self._still(name, versions)]
        if isinstance(result, Exception):
            self._resolve_again([self.states[name] for name in names], result)
            return
        self._resolve_failures = 0
        late = {}
        for name in names:
            offset = result[name].offset
            if offset >= 0:
                self.states[name].seek(offset)
            else:
                late[name] = LATEST  # no record is as late as the time: only new ones can be
        for name, position in late.items():
            self.states[name].reset(position)
        self._resolve()

    def _found_committed(
        self, states: list[PartitionState], versions: Mapping[TopicPartition, int], result: Any
    ) -> None:
        states = [state for state in states if self._still(state.name, versions)]
        if isinstance(result, Exception):
            self._resolve_again(states, result)
            return
        self._resolve_failures = 0
        left = []
        for state in states:
            state.is_resolving = False
            found = result.get(state.name)
            if found is None:
                left.append(state)
            else:
                state.seek(found.offset, found.leader_epoch)
        self._apply_policy(left)
        self._resolve()

    def _apply_policy(self, states: list[PartitionState]) -> None:
        if not states:
            return
        policy = self._options.auto_offset_reset
        if policy == "none":
            for state in states:
                state.is_resolving = True  # until the program seeks
            names = ", ".join(str(state.name) for state in states[:3])
            self.fail(
                KafkaError(
                    ErrorCode.OFFSET_NOT_AVAILABLE,
                    f"nothing is committed for {names}; seek, or set auto_offset_reset",
                )
            )
            return
        position = self._reset_position()
        for state in states:
            state.reset(position)
        self._resolve()

    def _resolve_again(self, states: list[PartitionState], error: Exception) -> None:
        """After a failure: a back-off later, and told when it does not pass."""
        for state in states:
            state.is_resolving = False
        if self._core.is_closed:
            return
        if not (isinstance(error, KafkaError) and error.retriable):
            self.fail(error if isinstance(error, FastmqError) else KafkaError(-1, str(error)))
        self._resolve_failures += 1
        when_ms = self._core.now_ms + self._core.backoff_ms(self._resolve_failures)
        if self._resolve_timer is not None:
            self._resolve_timer.cancel()
        self._resolve_timer = self._core.call_at(when_ms, self._resolve)

    # ------------------------------------------------------------------------------ auto commit

    def _start_auto_commit(self) -> None:
        options = self._options
        wanted = options.enable_auto_commit and options.group_id is not None
        if wanted and self._auto_commit is None:
            self._auto_commit = self._core.call_at(
                self._core.now_ms + options.auto_commit_interval_ms, self._commit_now_and_then
            )

    def _commit_now_and_then(self) -> None:
        self._auto_commit = None
        self.commit_consumed(lambda _: None)
        self._start_auto_commit()

    def commit_consumed(
        self, done: Callable[[Any], None], names: Iterable[TopicPartition] | None = None
    ) -> None:
        """Commit what the program is done with, of some or all partitions."""
        chosen = self.states.keys() if names is None else names
        states = self.states
        offsets = {
            name: states[name].consumed
            for name in chosen
            if name in states and states[name].consumed >= 0
        }
        self.committer.commit(offsets, done, only_new=True)
