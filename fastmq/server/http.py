"""The smallest HTTP/1.0 responder that a metrics scraper needs.

One GET per connection, a bounded request, a deadline, a bounded number of peers at once. It is not
a web server and never grows into one.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from fastmq.limits import METRICS_CONNECTIONS_MAX, METRICS_REQUEST_BYTES_MAX

__all__ = ["Page", "serve_pages"]

logger = logging.getLogger(__name__)

Page = Callable[[], Awaitable[tuple[str, bytes]]]
"""Returns (content type, body)."""

Finder = Callable[[str], tuple[str, bytes] | None]
"""Makes the page of a path that is not among the fixed ones; None when there is none."""

_DEADLINE_S = 10.0


async def serve_pages(
    listeners: list[trio.SocketListener],
    pages: dict[str, Page],
    find: Finder = lambda _: None,
) -> None:
    """Answer GET requests for `pages` (by path), or what `find` makes, until cancelled."""
    limiter = trio.CapacityLimiter(METRICS_CONNECTIONS_MAX)

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            if limiter.available_tokens < 1:
                return
            async with limiter:
                with trio.move_on_after(_DEADLINE_S):
                    try:
                        await _answer(stream, pages, find)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        logger.debug("a scraper went away")

    await trio.serve_listeners(handle, listeners)


async def _answer(stream: trio.SocketStream, pages: dict[str, Page], find: Finder) -> None:
    head = bytearray()
    while head.find(b"\r\n\r\n") < 0 and head.find(b"\n\n") < 0:
        chunk = await stream.receive_some(4096)
        if not chunk or len(head) + len(chunk) > METRICS_REQUEST_BYTES_MAX:
            return
        head += chunk
    method, _, rest = head.split(b"\n", 1)[0].strip().partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    page = pages.get(path)
    if bytes(method) not in (b"GET", b"HEAD"):
        await _send(stream, "405 Method Not Allowed", "text/plain", b"GET only\n")
    else:
        try:
            made = find(path) if page is None else await page()
        except Exception:
            logger.exception("page %s failed", path)
            await _send(stream, "500 Internal Server Error", "text/plain", b"see the log\n")
            return
        if made is None:
            known = "".join(f"{name}\n" for name in sorted(pages)).encode()
            await _send(stream, "404 Not Found", "text/plain", b"here are:\n" + known)
            return
        content_type, body = made
        await _send(stream, "200 OK", content_type, b"" if bytes(method) == b"HEAD" else body)


async def _send(stream: trio.SocketStream, status: str, content_type: str, body: bytes) -> None:
    head = (
        f"HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    await stream.send_all(head.encode("latin-1") + body)
