"""The metrics page: Prometheus text, made when it is asked for.

Counters live where they are counted: in C, in the dispatcher, in the coordinators. A collector
reads them at each scrape, in a worker thread, so that nothing is paid per request and the client
library is imported by the first scrape, not at the start. Names are those that Kafka's metrics get
by the usual JMX exporter rules, plus ours below `fastmq_`. Labels are topics, partitions, groups
and API names: sets that are bounded by what exists on the broker. Client ids never become labels.
"""

import trio

from fastmq.config import split_address
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Dispatcher
from fastmq.server.http import Page, serve_pages
from fastmq.server.lag import LagWatch
from fastmq.server.listeners import bind_sockets

__all__ = ["serve_metrics"]


async def serve_metrics(
    context: BrokerContext,
    dispatcher: Dispatcher,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `/metrics` and `/groups` on `fastmq.metrics.listener` until cancelled.

    Reports `host:port` as started.

    Raises:
        AddressInUseError: the port is taken.
    """
    host, port = split_address(
        context.config.get_str("fastmq.metrics.listener"), key="fastmq.metrics.listener"
    )
    sockets = bind_sockets(host, port)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]

    lag = LagWatch(context)

    async def metrics_page() -> tuple[str, bytes]:
        from fastmq.server.collector import (
            render,
            take_snapshot,
        )

        # Topics and shards belong to this thread; the page is made in another.
        snapshot = take_snapshot(context, lag.groups)
        return await trio.to_thread.run_sync(render, context, dispatcher, snapshot)

    async def groups_page() -> tuple[str, bytes]:
        page = lag.page("/groups")
        assert page is not None
        return page

    bound = sockets[0].getsockname()[1]
    task_status.started(f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")
    pages: dict[str, Page] = {"/metrics": metrics_page, "/groups": groups_page}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run, name="lag")
        await serve_pages(listeners, pages, lag.page)
