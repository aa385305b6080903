"""A TCP proxy that cuts connections, for clients that must survive it.

It forwards to one broker, which must advertise the proxy's address for clients to stay on it:
`advertise` in a Metadata answer is the broker's business (`advertised.listeners`), so the proxy's
port is chosen first. Cuts are made by bytes passed, so that they fall in the middle of requests
and of answers.
"""

import contextlib
import random
import socket
import threading
from typing import Self


class CuttingProxy:
    """Forwards connections; each is cut after a random number of bytes.

    Args:
        cut_after: (least, most) bytes of a connection, both directions together; None: never.
        seed: of the numbers between.
    """

    def __init__(self, *, cut_after: tuple[int, int] | None = None, seed: int = 1) -> None:
        self.cut_after = cut_after
        self.target: tuple[str, int] = ("127.0.0.1", 0)
        self.cuts = 0
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._thread.join(10)

    def cut_all(self) -> None:
        """Cut every connection now."""
        with self._lock:
            sockets, self._open = self._open, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self.target, 5)
            except OSError:
                if not self._closing:
                    with contextlib.suppress(UnboundLocalError):
                        near.close()
                continue
            left = self._random.randint(*self.cut_after) if self.cut_after else None
            pair = _Pair(self, near, far, left)
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=pair.forward, args=(source, sink), daemon=True).start()

    def forget(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open -= set(sockets)


class _Pair:
    """Two ends of one connection."""

    def __init__(
        self, proxy: CuttingProxy, near: socket.socket, far: socket.socket, left: int | None
    ) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._left = left
        self._lock = threading.Lock()

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                allowed = self._allow(len(data))
                sink.sendall(data[:allowed])
                if allowed < len(data):
                    self._proxy.cuts += 1
                    break
        except OSError:
            pass
        self._proxy.forget(*self._ends)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _allow(self, size: int) -> int:
        with self._lock:
            if self._left is None:
                return size
            allowed = min(size, self._left)
            self._left -= allowed
            return allowed
