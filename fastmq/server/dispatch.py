"""From frames to answers: the loop over `Engine.take`.

The engine gives one frame of a connection at a time and wants exactly one `reply` for it. A frame
is decoded, its handler looked up by API key, and the handler is of one of three kinds:

* `INLINE`: called in place; returns the response, or DEFERRED when it keeps the `Request` and
  answers later (coordinators), or `request.defer(...)` when it finds that it has to wait.
* `SLOW`: run by one of `SLOW_WORKERS` tasks, because it waits for the disk or the store.
* `DATA`: Produce and Fetch that came here; they wait for commits and for data, so they have as many
  workers of their own and never keep the others waiting.

The queues before the workers cannot outgrow the number of connections.

Errors become response codes here and nowhere else: a `KafkaError` turns into the API's error
response (`failures`), any other exception into UNKNOWN_SERVER_ERROR and a log line with its
traceback. Bytes that no version allows, an unknown key or an unsupported version close the
connection: there is no answer that such a peer could read. ApiVersions alone is answered in
version 0 with error 35 and our ranges, so that a newer client can ask again.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import trio

from fastmq._native import core
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.limits import CONNECTIONS_MAX, SLOW_WORKERS, TAKE_EVENTS_MAX
from fastmq.protocol import Message, decode_request, encode_response
from fastmq.protocol.api import APIS, ApiKey
from fastmq.server.connections import Connection, ConnectionTable
from fastmq.server.failures import error_response, unsupported_api_versions
from fastmq.server.routes import DEFERRED, Deferred, Kind, Route

if TYPE_CHECKING:
    from fastmq.server.context import BrokerContext

__all__ = ["Dispatcher", "Request", "RequestMetrics", "partition_error_code"]

logger = logging.getLogger(__name__)

SlowHandler = Callable[..., Awaitable[Message | None]]
Continuation = Callable[[], Awaitable[Message | None]]
Intercept = Callable[["Dispatcher", "Request"], bool]
"""Takes a request over before it is handled (faults in tests), or returns False."""


@dataclass(slots=True, eq=False)
class Request:
    """One frame on its way to an answer. Answered exactly once, by `reply` or by the dispatcher.

    `on_answer` and `is_lost` are for faults in tests: the response passes through the one, and a
    lost answer becomes a closed connection.
    """

    conn_id: int
    connection: Connection
    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    message: Message
    started_ns: int
    dispatcher: "Dispatcher" = field(repr=False)
    answered: bool = False
    on_answer: Callable[[Message], Message] | None = None
    is_lost: bool = False

    def reply(self, response: object) -> None:
        """Send the response; None sends nothing (acks=0) and lets the next frame run."""
        assert response is None or isinstance(response, Message)
        self.dispatcher.answer(self, response)

    def reply_encoded(self, payload: bytes) -> None:
        """Send bytes that are encoded already, from the correlation id on."""
        self.dispatcher.answer_encoded(self, payload)

    def refuse(self, code: ErrorCode, text: str = "") -> None:
        """Send the API's error response."""
        self.reply(error_response(self.api_key, self.version, self.message, code, text))

    def defer(self, continuation: Continuation) -> Deferred:
        """Let a slow worker produce the response; return what the handler returns then."""
        self.dispatcher.run_slow(self, continuation)
        return DEFERRED

    def close(self) -> None:
        """Answer nothing and end the connection."""
        self.dispatcher.hang_up(self)


@dataclass(slots=True)
class RequestMetrics:
    """Counters of one API; read by the metrics page."""

    count: int = 0
    errors: int = 0
    total_ns: int = 0
    max_ns: int = 0


class Dispatcher:
    """Takes frames from the engine and runs their handlers."""

    def __init__(
        self,
        engine: core.Engine,
        connections: ConnectionTable,
        routes: Mapping[int, Route],
        context: "BrokerContext",
        intercept: "Intercept | None" = None,
    ) -> None:
        self._intercept = intercept
        self._engine = engine
        self._connections = connections
        self._routes = routes
        self._context = context
        self._handlers: dict[int, Callable[..., object]] = {}
        self._queues = {
            kind: trio.open_memory_channel[tuple[Request, Continuation]](CONNECTIONS_MAX)
            for kind in (Kind.SLOW, Kind.DATA)
        }
        self.metrics: dict[int, RequestMetrics] = {key: RequestMetrics() for key in routes}
        self.open_requests = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            for kind, (_, queue) in self._queues.items():
                for number in range(SLOW_WORKERS):
                    nursery.start_soon(self._worker, queue, name=f"{kind.value} worker {number}")
            await self._take_loop()

    async def _take_loop(self) -> None:
        engine = self._engine
        descriptor = engine.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            while events := engine.take(TAKE_EVENTS_MAX):
                for event in events:
                    try:
                        self._on_event(event)
                    except Exception:
                        # Whatever it was, the other connections are to be served.
                        logger.exception("event %r failed", event[:2])
                self._context.after_events()
                if len(events) < TAKE_EVENTS_MAX:
                    break
                await trio.lowlevel.checkpoint()

    def _on_event(self, event: tuple[object, ...]) -> None:
        kind = event[0]
        if kind == core.EVENT_FRAME:
            self._on_frame(*cast("tuple[int, int, int, int, bytes]", event[1:]))
        elif kind == core.EVENT_APPENDED:
            self._context.on_appended(*cast("tuple[int, int]", event[1:3]))
        elif kind == core.EVENT_CLOSED:
            self._connections.remove(cast("int", event[1]))
            logger.debug("connection %d closed: %s", event[1], event[2])
        elif kind == core.EVENT_DIR_OFFLINE:
            self._context.on_dir_offline(*cast("tuple[int, int]", event[1:3]))
        elif kind == core.EVENT_FETCHER:
            self._context.on_fetcher(cast("int", event[1]))
        elif kind == core.EVENT_CORRUPT:
            self._context.on_corrupt(*cast("tuple[bytes, int, int, int]", event[1:5]))
        elif kind == core.EVENT_REPLICAS:
            self._context.on_replicas()
        else:
            raise AssertionError(f"unknown engine event {event!r}")

    def _on_frame(
        self, conn_id: int, api_key: int, version: int, correlation_id: int, frame: bytes
    ) -> None:
        connection = self._connections.get(conn_id)
        if connection is None:
            # Closed meanwhile; the engine drops the reply but wants one.
            self._send(conn_id, None, close=True)
            return
        api = APIS.get(api_key)
        if api is None or api_key not in self._routes or not api.supports(version):
            self._on_unsupported(connection, api_key, version, correlation_id)
            return
        try:
            header, message = decode_request(frame)
        except ProtocolError as exc:
            logger.warning(
                "closing a connection from %s: malformed %s v%d request: %s",
                connection.host,
                api.name,
                version,
                exc,
            )
            self._send(conn_id, None, close=True)
            return
        request = Request(
            conn_id,
            connection,
            api_key,
            version,
            correlation_id,
            header.client_id,
            message,
            time.perf_counter_ns(),
            self,
        )
        self.open_requests += 1
        if self._intercept is None or not self._intercept(self, request):
            self.start(request)

    def _on_unsupported(
        self, connection: Connection, api_key: int, version: int, correlation_id: int
    ) -> None:
        if api_key == ApiKey.API_VERSIONS:
            payload = unsupported_api_versions(
                correlation_id, [key for key, route in self._routes.items() if route.advertised]
            )
            self._send(connection.conn_id, payload)
            return
        logger.warning(
            "closing a connection from %s: it asked for API key %d version %d, which is not served",
            connection.host,
            api_key,
            version,
        )
        self._send(connection.conn_id, None, close=True)

    def start(self, request: Request) -> None:
        """Run the handler of a request."""
        try:
            handler = self._handler(request.api_key)
            kind = self._routes[request.api_key].kind
            if kind is not Kind.INLINE:
                slow = cast("SlowHandler", handler)
                self._enqueue(kind, request, partial(slow, self._context, request, request.message))
                return
            response = handler(self._context, request, request.message)
        except Exception as exc:  # noqa: BLE001 - the one place where errors become answers
            self._fail(request, exc)
            return
        if response is not DEFERRED:
            self.answer(request, cast("Message | None", response))

    def run_slow(self, request: Request, continuation: Continuation) -> None:
        """Let a worker produce the response of a request whose handler found that it waits."""
        self._enqueue(Kind.SLOW, request, continuation)

    def _enqueue(self, kind: Kind, request: Request, continuation: Continuation) -> None:
        # One frame per connection at a time is in Python: there is room for all of them.
        self._queues[kind][0].send_nowait((request, continuation))

    async def _worker(self, queue: trio.MemoryReceiveChannel[tuple[Request, Continuation]]) -> None:
        async for request, continuation in queue:
            try:
                response = await continuation()
            except Exception as exc:  # noqa: BLE001 - the one place where errors become answers
                self._fail(request, exc)
            else:
                if not request.answered:
                    self.answer(request, response)

    def _handler(self, api_key: int) -> Callable[..., object]:
        handler = self._handlers.get(api_key)
        if handler is None:
            handler = self._handlers[api_key] = self._routes[api_key].load()
        return handler

    def _fail(self, request: Request, exc: Exception) -> None:
        if request.answered:
            logger.error("%s failed after its answer", APIS[request.api_key].name, exc_info=exc)
            return
        if isinstance(exc, KafkaError):
            code, text = exc.code, exc.message
        elif isinstance(exc, core.PartitionError):
            code, text = partition_error_code(exc), str(exc)
        elif isinstance(exc, ProtocolError):
            logger.warning("closing a connection from %s: %s", request.connection.host, exc)
            self.hang_up(request)
            return
        else:
            code, text = ErrorCode.UNKNOWN_SERVER_ERROR, "the broker failed; its log says why"
            logger.error("%s v%d failed", APIS[request.api_key].name, request.version, exc_info=exc)
        self.metrics[request.api_key].errors += 1
        request.refuse(code, text)

    def answer(self, request: Request, response: Message | None) -> None:
        """Encode and send the response of a request; None sends nothing."""
        payload = None
        if request.is_lost:
            self.hang_up(request)
            return
        if response is not None:
            if request.on_answer is not None:
                response = request.on_answer(response)
            try:
                payload = encode_response(
                    request.api_key, request.version, request.correlation_id, response
                )
            except Exception:
                # A response that cannot be encoded is a bug of ours; the peer must not hang.
                logger.exception("cannot encode the answer to %s", APIS[request.api_key].name)
                self.hang_up(request)
                return
        self._finish(request)
        self._send(request.conn_id, payload)

    def answer_encoded(self, request: Request, payload: bytes) -> None:
        """Send an encoded response."""
        if request.is_lost:
            self.hang_up(request)
            return
        self._finish(request)
        self._send(request.conn_id, payload)

    def hang_up(self, request: Request) -> None:
        """End the connection of a request without an answer."""
        self._finish(request)
        self._send(request.conn_id, None, close=True)

    def _send(self, conn_id: int, payload: bytes | None, *, close: bool = False) -> None:
        try:
            self._engine.reply(conn_id, payload, close=close)
        except OSError as exc:
            # No memory for this answer: its connection goes, the broker stays.
            logger.error("cannot answer: %s", exc)  # noqa: TRY400
            self._engine.close_connection(conn_id)

    def _finish(self, request: Request) -> None:
        assert not request.answered, "a request was answered twice"
        request.answered = True
        self.open_requests -= 1
        metrics = self.metrics[request.api_key]
        took_ns = time.perf_counter_ns() - request.started_ns
        metrics.count += 1
        metrics.total_ns += took_ns
        metrics.max_ns = max(metrics.max_ns, took_ns)


def partition_error_code(exc: core.PartitionError) -> ErrorCode:
    """Return what a client is told about an engine's error."""
    try:
        return ErrorCode(exc.code) if exc.code else ErrorCode.KAFKA_STORAGE_ERROR
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
