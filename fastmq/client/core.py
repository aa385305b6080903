"""The core of every client: nodes, metadata, routing, retries, timers. Pure.

No sockets, no clock, no randomness: a pump hands in the time and what happened on the network, and
takes away actions. All calls come from one thread or task, the pump's.

For machines on the core::

    core.send(Leader("events", 3), request, on_done)      # routed, retried, answered exactly once
    core.call_at(core.now_ms + 500, self.tick)
    core.want_topics(["events"]); core.on_metadata(self.metadata_changed)

For pumps: after each call into the core carry out `take_actions()`, and call `on_timer` no later
than `next_deadline_ms()`.

**Routing.** A call goes to the link of the node that its target stands for; while that is not
known, it is parked and metadata or the coordinator is asked for. A broken connection or an answer
whose `error_of` is retriable sends the call round again after a back-off, until its deadline; with
`retry=False` the first failure ends it. Requests of one lane to one node are sent in the order in
which they were routed.

**Bounds.** Parked calls and those in flight are bounded by the machines on top, which wait for
answers; timers by the calls; links by nodes times lanes.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from fastmq.client.calls import (
    AnyNode,
    Call,
    Controller,
    Coordinator,
    ErrorOf,
    Leader,
    Node,
    OnDone,
    Request,
    Target,
)
from fastmq.client.coordinators import CoordinatorCache
from fastmq.client.link_table import LinkTable, link_name
from fastmq.client.links import Action, Channel, Link, LinkState
from fastmq.client.metadata import ClusterMetadata, NodeAddress
from fastmq.client.options import ClientOptions
from fastmq.client.refresh import MetadataRefresher
from fastmq.client.timers import Timer, TimerQueue
from fastmq.errors import (
    ClientClosed,
    ConnectionFailed,
    ErrorCode,
    FastmqError,
    KafkaError,
    ProtocolError,
    RequestTimedOut,
)
from fastmq.protocol import Message

__all__ = ["ClientCore"]

_MOVED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.REPLICA_NOT_AVAILABLE,
    }
)
_COORDINATOR_MOVED = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})


class ClientCore:
    """One client's relations with a cluster.

    Args:
        options: the client's options.
        now_ms: the time of the start, on a clock that never goes back.
        choose: returns a number below its argument: `random.randrange`, or a seeded one.
    """

    def __init__(
        self, options: ClientOptions, *, now_ms: int, choose: Callable[[int], int]
    ) -> None:
        self.options = options
        self.now_ms = now_ms
        self.metadata = ClusterMetadata()
        self.is_closed = False
        self._choose = choose
        self._timers = TimerQueue()
        self._links = LinkTable(self)
        self._parked: list[Call] = []
        self._coordinators = CoordinatorCache(self)
        self._refresher = MetadataRefresher(self)
        self._tick_listeners: list[Callable[[], None]] = []
        self._close_listeners: list[Callable[[], None]] = []

    # -------------------------------------------------------------------- for machines: requests

    def send(
        self,
        target: Target,
        request: Message | Request,
        on_done: OnDone,
        *,
        timeout_ms: int | None = -1,
        attempt_timeout_ms: int | None = None,
        retry: bool = True,
        error_of: ErrorOf | None = None,
        lane: str | None = None,
        answered: bool = True,
    ) -> Call:
        """Send a request to whoever the target stands for.

        Args:
            target: `Node`, `AnyNode`, `Controller`, `Coordinator` or `Leader`.
            request: a message, sent in the highest version that both sides know, or a `Request`
                that limits the versions or builds the message for one.
            on_done: called exactly once, with the response or an exception of `fastmq.errors`
                (never before this returns, unless the client is closed).
            timeout_ms: for everything, retries included; -1: `default_api_timeout_ms`; None: no
                limit.
            attempt_timeout_ms: for one answer; None: `request_timeout_ms`. A broker that takes
                longer loses its connection.
            retry: whether to try again after a broken connection or a retriable error.
            error_of: finds the error in a response, for `retry`; its other errors are left to
                `on_done`, which gets the response as it is.
            lane: connection to use; None: "" for most, "group" for coordinators.
            answered: False for a request without an answer; `on_done(None)` when it is written.
        """
        if isinstance(request, Message):
            message = request
            request = Request(message.API_KEY, lambda _: message)
        if timeout_ms == -1:
            timeout_ms = self.options.default_api_timeout_ms
        call = Call(
            target,
            request,
            on_done,
            deadline_ms=None if timeout_ms is None else self.now_ms + timeout_ms,
            attempt_timeout_ms=attempt_timeout_ms or self.options.request_timeout_ms,
            retry=retry,
            error_of=error_of,
            lane=("group" if isinstance(target, Coordinator) else "") if lane is None else lane,
            answered=answered,
        )
        if self.is_closed:
            call.finish(ClientClosed("the client is closed"))
            return call
        self._route(call)
        return call

    def call_at(self, when_ms: int, fn: Callable[[], None]) -> Timer:
        """Call `fn` at that time, at the earliest; the timer can be cancelled."""
        return self._timers.call_at(when_ms, fn)

    def backoff_ms(self, attempts: int) -> int:
        """How long to wait after that many failures, with some jitter (KIP-580)."""
        options = self.options
        base, most = options.retry_backoff_ms, options.retry_backoff_max_ms
        return self._jitter(min(most, base << min(max(attempts - 1, 0), 20)))

    def choose(self, count: int) -> int:
        """A random number below `count`."""
        return self._choose(count)

    def in_flight(self, node_id: int, lane: str = "") -> int:
        """Requests that a node has not answered on a lane, those that wait included."""
        return self._links.load(node_id, lane)

    # -------------------------------------------------------------------- for machines: metadata

    def want_topics(self, names: Iterable[str]) -> None:
        """Keep these topics in the metadata from now on; unknown ones are asked for at once."""
        self._refresher.want(names)

    def unwant_topics(self, names: Iterable[str]) -> None:
        """Drop these topics from the metadata."""
        self._refresher.unwant(names)

    def want_all_topics(self, wanted: bool = True) -> None:
        """Keep every topic of the cluster in the metadata, or only the wanted ones again."""
        self._refresher.want_all(wanted)

    def refresh_metadata(self) -> None:
        """Ask for metadata soon: after an error, say. Asking often asks once per back-off."""
        self._refresher.refresh()

    def on_metadata(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the metadata, before parked calls are routed."""
        self._refresher.listeners.append(listener)

    def is_ready(self, node_id: int, lane: str = "") -> bool:
        """Whether a request to the node would be sent at once; begins to connect when not.

        For machines that keep what they send until there is somebody to send it to; `on_ready`
        tells them when to look again.
        """
        address = self.node_address(node_id)
        if address is None:
            self.refresh_metadata()
            return False
        link = self._links.link_to(address, lane)
        if link.state is LinkState.READY:
            return True
        link.is_wanted = True
        self._links.connect(link)
        return False

    def on_ready(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a connection has become ready."""
        self._links.ready_listeners.append(listener)

    def on_tick(self, listener: Callable[[], None]) -> None:
        """Call `listener` in each step of the pump, before actions are taken.

        For machines that other threads leave something for (and then wake the pump).
        """
        self._tick_listeners.append(listener)

    def on_close(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the core is closed, also because its pump broke."""
        self._close_listeners.append(listener)

    def forget_coordinator(self, target: Coordinator) -> None:
        """Look the coordinator up again before the next call to it."""
        self._coordinators.forget(target)

    def metadata_changed(self) -> None:
        """Tell the listeners and route what is parked; the refresher and leader hints call it."""
        for listener in list(self._refresher.listeners):
            listener()
        self.route_parked()

    # --------------------------------------------------------------------------------- for pumps

    def take_actions(self) -> list[Action]:
        """Let the machines act, and return what is to be done now, in order, and forget it."""
        if not self.is_closed:
            for listener in self._tick_listeners:
                listener()
        return self._links.take_actions()

    def next_deadline_ms(self) -> int | None:
        """When `on_timer` has to be called at the latest; None: no need."""
        return self._timers.next_deadline_ms()

    def on_timer(self, now_ms: int) -> None:
        """Make the calls that are due; also how the core learns the time before other calls."""
        self.now_ms = max(self.now_ms, now_ms)
        self._timers.run_due(self.now_ms)

    def on_connected(self, channel: Channel, now_ms: int) -> None:
        """Take note that a connection is made."""
        self.now_ms = max(self.now_ms, now_ms)
        self._links.on_connected(channel)

    def receive_buffer(self, channel: Channel) -> memoryview:
        """Where the next bytes of a connection belong."""
        return channel.connection.receive_buffer()

    def on_received(self, channel: Channel, count: int, now_ms: int) -> None:
        """Take note of `count` bytes that were put into `receive_buffer`."""
        self.now_ms = max(self.now_ms, now_ms)
        for answer in self._links.on_received(channel, count):
            self._answered(channel.link, answer.correlation_id, answer.message)

    def on_data(self, channel: Channel, data: bytes, now_ms: int) -> None:
        """Take bytes that the pump holds: they are copied."""
        while data and channel.link.channel is channel:
            buffer = self.receive_buffer(channel)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            self.on_received(channel, count, now_ms)
            data = data[count:]

    def on_closed(self, channel: Channel, reason: str, now_ms: int) -> None:
        """Take note that a connection could not be made, or ended; `reason` is for people."""
        self.now_ms = max(self.now_ms, now_ms)
        self._links.on_closed(channel, reason)

    def close(self) -> None:
        """End everything: calls fail with `ClientClosed`, connections are closed."""
        if self.is_closed:
            return
        self.is_closed = True
        error = ClientClosed("the client was closed before the answer came")
        calls = self._parked + self._coordinators.close() + self._links.close()
        self._parked = []
        for call in calls:
            call.finish(error)
        self._timers = TimerQueue()
        for listener in self._close_listeners:
            listener()

    # ----------------------------------------------------------------------------------- routing

    def route_parked(self) -> None:
        """Try again to find where parked calls go."""
        parked = self._parked
        self._parked = []
        for call in parked:
            if not call.is_done:
                self._route(call)

    def reroute(self, call: Call) -> None:
        """Route a call that waited for its target."""
        self._route(call)

    def _route(self, call: Call) -> None:
        if call.deadline_ms is not None and not call.timers:
            if call.deadline_ms <= self.now_ms:
                # Through the timers, so that nothing is answered before `send` returns.
                call.deadline_ms = self.now_ms
            call.timers.append(self.call_at(call.deadline_ms, lambda: self._expire(call)))
        link = self._find_link(call)
        if link is None:
            return
        call.link = link
        if link.state is LinkState.READY:
            self.transmit(call, link)
            return
        link.waiting.append(call)
        self._links.connect(link)

    def _find_link(self, call: Call) -> Link | None:
        """The link of a call's target. None: the call is parked until that is known."""
        target = call.target
        if isinstance(target, AnyNode):
            return self._links.any_link(call.lane)
        if isinstance(target, Coordinator):
            node_id = self._coordinators.find(target, call)
            if node_id is None:
                return None
        elif isinstance(target, Node):
            node_id = target.node_id
        elif isinstance(target, Controller):
            node_id = self.metadata.controller_id
        else:
            leader = self.metadata.leader(target.topic, target.partition)
            node_id = -1 if leader is None else leader
            self.want_topics([target.topic])
        address = self.node_address(node_id)
        if address is None:
            self._parked.append(call)
            self.refresh_metadata()
            return None
        return self._links.link_to(address, call.lane)

    def node_address(self, node_id: int) -> NodeAddress | None:
        """Where a node listens, None when it is not known."""
        return self.metadata.nodes.get(node_id)

    def rebootstrap(self) -> None:
        """Forget the brokers and begin with the bootstrap addresses again (KIP-899, KIP-1102)."""
        self.metadata.nodes.clear()
        self._coordinators.clear()
        self._links.rebootstrap()

    # ----------------------------------------------------------------------------------- sending

    def transmit(self, call: Call, link: Link) -> None:
        """Send a call over its link, which is ready."""
        channel = link.channel
        assert channel is not None
        connection = channel.connection
        request = call.request
        try:
            call.version = connection.version_for(request.api_key, request.low, request.high)
            message = request.build(call.version)
            correlation_id = connection.send(message, call.version, answered=call.answered)
        except (FastmqError, ValueError) as error:
            # Not from here: the caller of `send` has no call yet that it could look at.
            failure = error if isinstance(error, FastmqError) else ProtocolError(str(error))
            call.timers.append(self.call_at(self.now_ms, lambda: call.finish(failure)))
            return
        call.attempts += 1
        link.last_used_ms = self.now_ms
        self._links.note_written(channel)
        if not call.answered:
            call.timers.append(self.call_at(self.now_ms, lambda: call.finish(None)))
            return
        call.correlation_id = correlation_id
        link.in_flight[correlation_id] = call
        overdue_ms = self.now_ms + call.attempt_timeout_ms
        if call.deadline_ms is None or overdue_ms < call.deadline_ms:
            call.timers.append(self.call_at(overdue_ms, lambda: self._overdue(call)))

    def _answered(self, link: Link, correlation_id: int, message: Message) -> None:
        call = link.in_flight.pop(correlation_id, None)
        if call is None:
            return  # the link was given up by what an answer before this one made of it
        link.failures = 0
        call.link = None
        if call.is_done:
            return  # given up meanwhile
        error = call.error_in(message)
        if error == ErrorCode.NONE:
            call.finish(message)
            return
        if error in _COORDINATOR_MOVED and isinstance(call.target, Coordinator):
            self.forget_coordinator(call.target)
        elif error in _MOVED:
            self.refresh_metadata()
        if not self._try_again(call, KafkaError(error)):
            call.finish(message)

    def attempt_failed(self, call: Call, error: KafkaError) -> None:
        """Deal with an attempt that brought no answer."""
        call.link = None
        if isinstance(call.target, Coordinator):
            self.forget_coordinator(call.target)
        if not call.retry or not self._try_again(call, error):
            call.finish(error)

    def _try_again(self, call: Call, error: KafkaError) -> bool:
        """Route a call again after a while. False: its time is up."""
        if call.is_done or self.is_closed:
            return False
        call.error = error
        when_ms = self.now_ms + self.backoff_ms(call.attempts)
        if call.deadline_ms is not None and when_ms >= call.deadline_ms:
            return False
        call.stop_timers()
        if call.deadline_ms is not None:
            call.timers.append(self.call_at(call.deadline_ms, lambda: self._expire(call)))
        call.timers.append(self.call_at(when_ms, lambda: self._route(call)))
        return True

    def _expire(self, call: Call) -> None:
        """End a call whose time is up; a late answer to it is dropped."""
        link = call.link
        if link is not None and call.correlation_id not in link.in_flight:
            with suppress(ValueError):
                link.waiting.remove(call)
        with suppress(ValueError):
            self._parked.remove(call)
        call.finish(RequestTimedOut(self._why_late(call)))

    def _why_late(self, call: Call) -> str:
        target = call.target
        if call.error is not None:
            return f"time is up; the last attempt: {call.error}"
        if call.link is not None:
            return f"no answer in time from {link_name(call.link)}"
        if isinstance(target, Leader):
            error = self.metadata.topic_errors.get(target.topic)
            known = f" ({error.name})" if error else ""
            return f"no leader is known for {target.topic}-{target.partition}{known}"
        return f"nobody was found for {target} in time"

    def _overdue(self, call: Call) -> None:
        """Close the connection of a broker that takes too long: answers come in order."""
        link = call.link
        if call.is_done or link is None or call.correlation_id not in link.in_flight:
            return
        timeout_ms = call.attempt_timeout_ms
        error = RequestTimedOut(f"{link_name(link)}: no answer within {timeout_ms} ms")
        del link.in_flight[call.correlation_id]
        self._links.fail(link, ConnectionFailed(f"{link_name(link)}: closed, it did not answer"))
        self.attempt_failed(call, error)

    def reconnect_backoff_ms(self, failures: int) -> int:
        """How long to leave a node alone after that many failures, with some jitter (KIP-144)."""
        options = self.options
        base, most = options.reconnect_backoff_ms, options.reconnect_backoff_max_ms
        return self._jitter(min(most, base << min(failures - 1, 20)))

    def _jitter(self, wait_ms: int) -> int:
        """Within 20 per cent, so that clients do not come back all at once."""
        spread = wait_ms // 5
        return wait_ms - spread + self._choose(2 * spread + 1)
