"""The yardstick of a Python server: one trio task per connection around `wait_readable`.

Speaks to `load --blind 1` as `limit_server --mode echo` does: every frame gets 60 bytes with its
correlation id. Prints its port, then serves until it is ended by a signal.
"""

import socket
import struct
import sys

import trio

ANSWER = struct.pack(">I", 60)
REST = bytes(56)


async def serve(sock: socket.socket) -> None:
    buffer = b""
    with sock:
        while True:
            await trio.lowlevel.wait_readable(sock)
            received = sock.recv(256 << 10)
            if not received:
                return
            buffer += received
            answers = []
            at = 0
            while len(buffer) - at >= 4:
                end = at + 4 + int.from_bytes(buffer[at : at + 4])
                if end > len(buffer):
                    break
                answers.append(ANSWER + buffer[at + 8 : at + 12] + REST)
                at = end
            buffer = buffer[at:]
            if answers:
                sock.send(b"".join(answers))


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        listener.setblocking(False)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                nursery.start_soon(serve, sock)


trio.run(main)
