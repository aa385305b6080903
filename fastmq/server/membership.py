"""This broker's place in a cluster: its registration, its session, and the controller's duties.

A broker registers when its directories are open (a new epoch, fenced) and enters when clients can
connect: its endpoints, no longer fenced, and a session, which is a key under a lease. The session
is renewed as long as this broker does its work: its event loop runs, its reactor turns, and its
disk answers. Who does not lets the session run out, so that others lead, and enters anew when he
does again. Who registers the same id ends the incarnation before: that one finds a larger epoch
and stops.

Every broker stands ready to be the controller. Who creates the controller's key is it, as long as
its session's lease lives; each of its transactions is guarded by the key's revision, so one that
was replaced and does not know it yet changes nothing. What it does is `fastmq.cluster.controller`.
"""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

from fastmq.cluster import (
    BrokerState,
    Change,
    ClusterImage,
    DropController,
    DropSession,
    Election,
    Endpoint,
    IsrAnswer,
    IsrProposal,
    PutBroker,
    PutController,
    PutSession,
    plan_alter_partition,
    plan_cluster,
    plan_distrust,
    plan_elections,
    plan_preferred_leaders,
    rules_of,
)
from fastmq.cluster.controller import live_brokers
from fastmq.cluster.election import RulesOf
from fastmq.config import BrokerConfig
from fastmq.errors import ConfigError, ErrorCode, FastmqError, KafkaError
from fastmq.limits import CONTROLLER_CHANGES_MAX
from fastmq.metastore import Compare, Metastore, MetastoreError
from fastmq.metastore.keys import CONTROLLER_KEY
from fastmq.metastore.lease import LeaseKeeper
from fastmq.server.leftovers import Leftovers
from fastmq.server.store import ChangedMeanwhileError, ClusterStore

__all__ = ["Membership", "RemovedError", "SupersededError"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Between two attempts while the store does not answer.
_RETRY_S: Final = 0.5
# A registration that is overtaken by others' changes is planned anew so often.
_REGISTRATIONS_MAX: Final = 20
# Between two looks whether the controller has seen that this broker starts anew.
_ENTER_LOOK_S: Final = 0.02
# Between two looks whether others lead what this broker led.
_RETIRE_LOOK_S: Final = 0.01
# So often is a request planned anew when the store was changed meanwhile.
_DECISIONS_MAX: Final = 5
# Between two looks whether this broker does its work again.
_WELL_LOOK_S: Final = 0.1
# A stop tells the store that it is one, but does not wait long for it.
_LEAVE_TIMEOUT_S: Final = 2.0


class SupersededError(FastmqError):
    """Another process has registered this broker's id; this one must not go on."""


class RemovedError(FastmqError):
    """This broker was unregistered while it ran."""


class Membership:
    """A broker's session and duties.

    Args:
        node_id: of this broker.
        store: open.
        cluster: commits to it.
        registration: plans the broker's row, see `Storage.registration`.
        config: gives the broker's settings as they are now.
        boot_time_ms: a clock that goes on while the machine sleeps.
        on_valid: see `LeaseKeeper`.
        vitals: for how many milliseconds the reactor has been at one turn, and the oldest sync has
            run; beyond half the session's time-out the session is not renewed.
        effect_revision: of the newest image by which this broker has given its partitions their
            roles; `note_image` tells of a new one, too.
    """

    def __init__(
        self,
        *,
        node_id: int,
        store: Metastore,
        cluster: ClusterStore,
        registration: Callable[[ClusterImage], list[Change]],
        config: Callable[[], BrokerConfig],
        boot_time_ms: Callable[[], int],
        on_valid: Callable[[int], None] = lambda _: None,
        vitals: Callable[[], tuple[int, int]] = lambda: (0, 0),
        effect_revision: Callable[[], int] = lambda: sys.maxsize,
    ) -> None:
        self._node_id = node_id
        self._vitals = vitals
        self._effect_revision = effect_revision
        self._cluster = cluster
        self._registration = registration
        self._config = config
        session_timeout_ms = config().get_int("broker.session.timeout.ms")
        self._unwell_after_ms = session_timeout_ms // 2
        self._is_unwell = False
        self._keeper = LeaseKeeper(
            store,
            ttl_ms=session_timeout_ms,
            clock_ms=boot_time_ms,
            on_valid=on_valid,
            may_renew=self._is_well,
        )
        self._rebalanced_at = trio.current_time()
        self._leftovers = Leftovers(self._carry_out)
        self._epoch = 0
        self._endpoints: tuple[Endpoint, ...] = ()
        self._news = trio.Event()
        self._entered = trio.Event()
        self._reign = 0
        self._is_retiring = False

    @property
    def epoch(self) -> int:
        """Of this broker's registration."""
        return self._epoch

    @property
    def may_lead(self) -> bool:
        """Whether nobody can have taken this broker for dead yet."""
        return self._keeper.is_valid()

    @property
    def image(self) -> ClusterImage:
        """The cluster as the store has it."""
        return self._cluster.image

    def note_image(self) -> None:
        """Take note that there is a new image."""
        self._news.set()

    # Registration.

    async def register(self) -> None:
        """Write this broker's row, fenced; ends an incarnation before this one.

        Raises:
            ConfigError: the id belongs to another broker that lives.
            KafkaError: the store does not answer.
        """
        for attempt in range(1, _REGISTRATIONS_MAX + 1):
            async with self._cluster.lock:
                image = self._cluster.image
                changes = self._registration(image)
                row = next(change for change in changes if isinstance(change, PutBroker))
                self._check_id(image, row.state)
                changes[:0] = _end_incarnation(image, self._node_id)
                try:
                    await self._cluster.commit(changes)
                except ChangedMeanwhileError:
                    if attempt == _REGISTRATIONS_MAX:
                        raise
                    continue
            self._epoch = row.state.epoch
            return

    def _check_id(self, image: ClusterImage, state: BrokerState) -> None:
        before = image.brokers.get(state.id)
        if before is None or state.id not in image.sessions:
            return
        if set(before.directories) & set(state.directories):
            return  # an incarnation of our own
        where = ", ".join(f"{e.host}:{e.port}" for e in before.endpoints) or "an unknown address"
        raise ConfigError(
            f"node.id {state.id} belongs to a running broker at {where} (machine {before.host}); "
            "give this broker another node.id"
        )

    async def distrust(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Leave the in-sync sets of partitions that have lost records here, before `enter`.

        Raises:
            KafkaError: the store does not answer.
        """
        while partitions:
            async with self._cluster.lock:
                changes = plan_distrust(self._cluster.image, self._node_id, partitions)
                try:
                    await self._cluster.commit(changes)
                except ChangedMeanwhileError:
                    continue
            if changes:
                logger.warning(
                    "%d replicas here have lost records and count as complete no more", len(changes)
                )
            return

    # Session.

    async def enter(self, endpoints: Sequence[Endpoint]) -> None:
        """Show this broker to clients and controller; returns when it is done.

        The controller must have taken it out of the in-sync sets of others first: what it
        acknowledged before its restart, a power cut may have taken from it.

        Raises:
            ConfigError: another broker that lives has told clients the same address.
        """
        self._endpoints = tuple(endpoints)
        self._check_endpoints()
        while self._counts_as_in_sync():  # noqa: ASYNC110 - once, at the start
            await trio.sleep(_ENTER_LOOK_S)
        await self._enter()

    def _check_endpoints(self) -> None:
        image = self._cluster.image
        own = {(endpoint.host, endpoint.port) for endpoint in self._endpoints}
        for broker_id in live_brokers(image) - {self._node_id}:
            for endpoint in image.brokers[broker_id].endpoints:
                if (endpoint.host, endpoint.port) in own:
                    raise ConfigError(
                        f"{endpoint.host}:{endpoint.port} is the address of broker {broker_id}, "
                        "which serves; tell clients an address that leads to this broker only "
                        "(advertised.listeners, --advertise)"
                    )

    def _counts_as_in_sync(self) -> bool:
        """Return whether others that live still take this broker for in sync."""
        image = self._cluster.image
        live = live_brokers(image)
        return any(
            self._node_id in state.isr and not live.isdisjoint(state.isr)
            for topic in image.topics.values()
            for state in topic.partitions
        )

    def _is_well(self) -> bool:
        """Return whether this broker does its work, and may ask to be taken for alive."""
        turn_ms, sync_ms = self._vitals()
        is_unwell = max(turn_ms, sync_ms) > self._unwell_after_ms
        if is_unwell and not self._is_unwell:
            what = "its disk" if sync_ms >= turn_ms else "its reactor"
            logger.error(
                "%s has not answered for %d ms: this broker does not renew its session, so that "
                "others lead; it comes back by itself when that has passed",
                what,
                max(turn_ms, sync_ms),
            )
        elif self._is_unwell and not is_unwell:
            logger.warning("disk and reactor of this broker answer again")
        self._is_unwell = is_unwell
        return not is_unwell

    async def _enter(self) -> None:
        while True:
            while not self._is_well():  # noqa: ASYNC110 - nobody tells when a disk answers again
                await trio.sleep(_WELL_LOOK_S)
            try:
                lease = self._keeper.id or await self._keeper.acquire()
                async with self._cluster.lock:
                    image = self._cluster.image
                    row = self._own_row(image)
                    session = image.sessions.get(self._node_id)
                    shown = row._replace(fenced=False, endpoints=self._endpoints)
                    expected = 0 if session is None else session.revision
                    await self._cluster.commit(
                        [
                            PutBroker(shown, row.revision),
                            PutSession(self._node_id, self._epoch, lease, expected),
                        ]
                    )
            except ChangedMeanwhileError:
                continue
            except (KafkaError, MetastoreError) as exc:
                self._keeper.id = 0
                logger.warning("cannot enter the cluster yet: %s", exc)
                await trio.sleep(_RETRY_S)
                continue
            self._entered.set()
            return

    def _own_row(self, image: ClusterImage) -> BrokerState:
        row = image.brokers.get(self._node_id)
        if row is None:
            raise RemovedError(
                f"broker {self._node_id} was removed from the cluster (unregistered): it stops; "
                "started again, it joins anew"
            )
        if row.epoch != self._epoch:
            raise SupersededError(
                f"another process has registered as broker {self._node_id}: this one stops; "
                "every broker of a cluster needs its own node.id"
            )
        return row

    async def run(self) -> None:
        """Keep the session and do the controller's duties, until cancelled.

        Raises:
            SupersededError: another process has this broker's id now.
            RemovedError: it was unregistered.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, name="session")
            while True:
                self._news = trio.Event()
                await self._stay()
                self._rely()
                is_done = await self._govern()
                if not is_done:
                    continue
                with trio.move_on_at(min(self._rebalance_time(), self._leftovers.next_look)):
                    await self._news.wait()
                if trio.current_time() >= self._rebalance_time():
                    self._rebalanced_at = trio.current_time()
                    await self._rebalance()
                await self._leftovers.look(self.image, is_controller=self.is_controller)

    def _rebalance_time(self) -> float:
        config = self._config()
        if not config.get_bool("auto.leader.rebalance.enable"):
            return math.inf
        return self._rebalanced_at + config.get_int("leader.imbalance.check.interval.seconds")

    async def _renew(self) -> None:
        while True:
            await self._keeper.keep()
            logger.warning("the session of this broker has ended")
            self._entered = trio.Event()
            self._news.set()
            await self._entered.wait()

    async def _stay(self) -> None:
        """Enter anew where the session has ended or somebody took us for dead."""
        image = self._cluster.image
        row = self._own_row(image)
        if self._is_retiring:
            return
        session = image.sessions.get(self._node_id)
        lives = session is not None and session.epoch == self._epoch
        if self._keeper.id == 0 or row.fenced or not lives:
            await self._enter()

    def _rely(self) -> None:
        """Lead under a new session once this broker does what was decided before it.

        Others may lead what it led under the session before.
        """
        session = self._cluster.image.sessions.get(self._node_id)
        if session is not None and self._effect_revision() >= session.revision:
            self._keeper.rely()

    async def retire(self) -> None:
        """Let others lead what they can, before this broker stops; returns when they do."""
        self._is_retiring = True
        while True:
            try:
                async with self._cluster.lock:
                    row = self._own_row(self._cluster.image)
                    if row.fenced:
                        break
                    retired = row._replace(fenced=True)
                    await self._cluster.commit([PutBroker(retired, row.revision)])
            except ChangedMeanwhileError:
                continue
            except KafkaError as exc:
                logger.warning("cannot tell the cluster of the stop: %s", exc)
                return
        while self._has_successors():  # noqa: ASYNC110 - bounded by the caller, at a stop only
            await trio.sleep(_RETIRE_LOOK_S)

    def _has_successors(self) -> bool:
        """Return whether somebody could lead what is still led here."""
        image = self._cluster.image
        live = live_brokers(image)
        return any(
            state.leader == self._node_id and not live.isdisjoint(state.isr)
            for topic in image.topics.values()
            for state in topic.partitions
        )

    async def leave(self) -> None:
        """End the session, so that others need not wait for it; best effort."""
        with trio.move_on_after(_LEAVE_TIMEOUT_S, shield=True):
            try:
                await self._keeper.release()
            except MetastoreError as exc:
                logger.info("the session of this broker runs out by itself: %s", exc)

    # The controller.

    @property
    def is_controller(self) -> bool:
        """Whether this broker decides for the cluster, as far as it knows."""
        controller = self._cluster.image.controller
        return controller is not None and controller.revision == self._reign != 0

    async def _govern(self) -> bool:
        """Become the controller where there is none, and do what is to be done.

        Returns:
            False to be called again at once.
        """
        try:
            if self._cluster.image.controller is None:
                await self._become_controller()
            self._take_over_reign()
            return not self.is_controller or await self._carry_out(
                lambda image: plan_cluster(image, self._rules(image))
            )
        except ChangedMeanwhileError:
            return False
        except KafkaError as exc:
            logger.warning("the controller's duties wait: %s", exc)
            await trio.sleep(_RETRY_S)
            return False

    async def _become_controller(self) -> None:
        async with self._cluster.lock:
            before = self._cluster.image
            if before.controller is not None or not self._keeper.is_valid():
                return
            await self._cluster.commit([PutController(self._node_id, self._keeper.id, 0)])
        logger.info("broker %d is the controller", self._node_id)

    def _take_over_reign(self) -> None:
        """Reign where the key is ours though the store's answer was lost.

        The key of an incarnation before this one went with its registration.
        """
        controller = self._cluster.image.controller
        if controller is not None and controller.id == self._node_id:
            self._reign = controller.revision

    async def _carry_out(self, plan: Callable[[ClusterImage], list[Change]]) -> bool:
        """Commit what a plan finds; True when there is no more."""
        async with self._cluster.lock:
            changes = plan(self._cluster.image)
            if not changes:
                return True
            await self._commit_as_controller(changes)
        logger.info("the controller made %d changes", len(changes))
        return False

    async def alter_partition(
        self, leader_id: int, proposals: Sequence[IsrProposal]
    ) -> list[IsrAnswer]:
        """Judge what a leader proposes, and commit what is right.

        Raises:
            KafkaError: NOT_CONTROLLER, or the store does not answer.
        """

        def plan(image: ClusterImage) -> tuple[list[Change], list[IsrAnswer]]:
            live = {broker: image.brokers[broker].epoch for broker in live_brokers(image)}
            return plan_alter_partition(image, leader_id, proposals, live, self._rules(image))

        return await self._decide(plan)

    async def elect(
        self, wanted: Sequence[tuple[str, int]] | None, *, is_unclean: bool
    ) -> list[Election]:
        """Hold elections that were asked for; see `plan_elections`.

        Raises:
            KafkaError: NOT_CONTROLLER, or the store does not answer.
        """
        return await self._decide(
            lambda image: plan_elections(
                image, wanted, is_unclean=is_unclean, rules_of=self._rules(image)
            )
        )

    async def _decide(
        self, plan: Callable[[ClusterImage], tuple[list[Change], list[_T]]]
    ) -> list[_T]:
        """Commit what a plan says, as the controller, and return its answers."""
        for _ in range(_DECISIONS_MAX):
            async with self._cluster.lock:
                if not self.is_controller:
                    raise KafkaError(ErrorCode.NOT_CONTROLLER)
                changes, answers = plan(self._cluster.image)
                try:
                    await self._commit_as_controller(changes)
                except ChangedMeanwhileError:
                    continue
                return answers
        raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "changed meanwhile again and again")

    async def _commit_as_controller(self, changes: list[Change]) -> None:
        if changes:
            guard = Compare(CONTROLLER_KEY, self._reign)
            await self._cluster.commit(changes, guards=[guard], most=CONTROLLER_CHANGES_MAX)

    def _rules(self, image: ClusterImage) -> RulesOf:
        return rules_of(image, self._config())

    async def _rebalance(self) -> None:
        if self.is_controller:
            percent = self._config().get_int("leader.imbalance.per.broker.percentage")
            try:
                await self._carry_out(
                    lambda image: plan_preferred_leaders(image, imbalance_percent=percent)
                )
            except KafkaError as exc:
                logger.info("leadership is given back later: %s", exc)


def _end_incarnation(image: ClusterImage, broker_id: int) -> list[Change]:
    """Return what ends the session, and the reign, of an incarnation before this one."""
    changes: list[Change] = []
    session = image.sessions.get(broker_id)
    if session is not None:
        changes.append(DropSession(broker_id, session.revision))
    if image.controller is not None and image.controller.id == broker_id:
        changes.append(DropController(image.controller.revision))
    return changes
