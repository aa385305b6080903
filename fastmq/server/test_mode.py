"""What a broker for tests has that others do not: faults on request, a clock that can be moved.

`fastmq.testing` makes a `TestMode` and hands it to `run_broker`, which refuses it unless every
listener is on loopback. There is no configuration key, option or request for it: a broker that was
started in any other way has no such code on its paths.
"""

import errno
import ipaddress
from typing import TYPE_CHECKING

import trio

from fastmq.config import BrokerConfig, split_address
from fastmq.errors import ConfigError
from fastmq.protocol import Message
from fastmq.protocol.api import ApiKey
from fastmq.server.failures import error_response
from fastmq.server.faults import Faults, Rule, Verdict, merge_refused, split_request

if TYPE_CHECKING:
    from fastmq.server.context import BrokerContext
    from fastmq.server.dispatch import Dispatcher, Request

__all__ = ["TestMode"]

_SPLIT = frozenset({ApiKey.PRODUCE, ApiKey.FETCH})
_FAULT_TEXT = "a fault that the test asked for"


class TestMode:
    """Faults and clock of one broker. Everything but `check` runs in the broker's event loop.

    Attributes:
        faults: the rules.
        context: of the running broker; None before it serves.
    """

    # Pytest takes classes of this name for tests.
    __test__ = False

    def __init__(self) -> None:
        self.faults = Faults()
        self.context: BrokerContext | None = None
        self._nursery: trio.Nursery | None = None

    @staticmethod
    def check(config: BrokerConfig) -> None:
        """Check that nobody but this machine reaches the broker.

        Raises:
            ConfigError: a listener is not on loopback.
        """
        hosts = [listener.host for listener in config.listeners]
        key = "fastmq.metrics.listener"
        if address := config.get_str(key):
            hosts.append(split_address(address, key=key)[0])
        for host in hosts:
            if not _is_loopback(host):
                raise ConfigError(
                    f"test mode is refused: {host or 'every address'} is not on loopback; "
                    "listen on 127.0.0.1"
                )

    def attach(self, context: "BrokerContext", nursery: trio.Nursery) -> None:
        """Begin to serve with a broker that starts."""
        self.context = context
        self._nursery = nursery
        self.faults.name_of = self._name_of
        self.faults.on_data_rules = self._route_data
        context.clock.on_advanced(lambda: context.engine.set_wall_offset(context.clock.ahead_ms))

    def set_disk_full(self, *, full: bool) -> None:
        """Let writes to logs fail as on a disk without room, or work again."""
        assert self.context is not None
        self.context.engine.set_write_error(errno.ENOSPC if full else 0)

    def intercept(self, dispatcher: "Dispatcher", request: "Request") -> bool:
        """Do what a rule says about a request; False when none does."""
        rule = self.faults.find(request.api_key, request.client_id, request.message)
        if rule is None:
            return False
        if rule.verdict is Verdict.DROP:
            request.close()
        elif rule.verdict is Verdict.LOSE_ANSWER:
            request.is_lost = True
            dispatcher.start(request)
        elif rule.verdict is Verdict.DELAY:
            assert self._nursery is not None
            # One task for each connection at most: nothing else of it runs meanwhile.
            self._nursery.start_soon(self._start_late, dispatcher, request, rule.delay_s)
        else:
            self._refuse(rule, dispatcher, request)
        return True

    @staticmethod
    async def _start_late(dispatcher: "Dispatcher", request: "Request", delay_s: float) -> None:
        await trio.sleep(delay_s)
        dispatcher.start(request)

    def _refuse(self, rule: Rule, dispatcher: "Dispatcher", request: "Request") -> None:
        message, left = request.message, False
        if rule.topic is not None and request.api_key in _SPLIT:
            message = split_request(rule, request.message, self._name_of)
            left = bool(getattr(request.message, "topic_data", None)) or bool(
                getattr(request.message, "topics", None)
            )
        if getattr(message, "acks", 1) == 0:
            # Nobody waits for an answer; a broker that cannot append hangs up.
            request.close()
            return
        refusal = error_response(request.api_key, request.version, message, rule.code, _FAULT_TEXT)
        if not left:
            request.reply(refusal)
            return

        def merged(response: Message) -> Message:
            both: Message = merge_refused(response, refusal)
            return both

        request.on_answer = merged
        dispatcher.start(request)

    def _name_of(self, topic_id: bytes) -> str | None:
        assert self.context is not None
        topic = self.context.topics.by_id(topic_id)
        return None if topic is None else topic.name

    def _route_data(self, produce: bool, fetch: bool) -> None:
        assert self.context is not None
        self.context.topics.route_to_python(produce=produce, fetch=fetch)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
