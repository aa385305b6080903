import errno
import os
import resource
import socket

import pytest
import trio

from fastmq.config.listeners import Listener
from fastmq.errors import ConfigError
from fastmq.server.connections import Connection, ConnectionLimits, ConnectionTable
from fastmq.server.listeners import (
    AddressInUseError,
    accept_connections,
    bind_sockets,
    open_listener,
)


def spec(host="127.0.0.1", port=0, told="", told_port=0):
    return Listener("PLAINTEXT", "PLAINTEXT", host, port, told, told_port)


@pytest.mark.parametrize("send_buffer_bytes", [-1, 50_000])
async def test_accepts_and_hands_over_with_the_peers_address(nursery, send_buffer_bytes):
    listener = open_listener(7, spec(), send_buffer_bytes)
    send, receive = trio.open_memory_channel(10)

    def take_over(which, sock, host):
        send.send_nowait((which.listener_id, host, sock))

    nursery.start_soon(accept_connections, listener, take_over)
    with socket.create_connection(("127.0.0.1", listener.port)):
        listener_id, host, sock = await receive.receive()
    assert (listener_id, host) == (7, "127.0.0.1")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not sock.getblocking()
    # Linux counts its own overhead as much again; left alone, buffers of loopback are larger.
    chosen = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * send_buffer_bytes
    assert chosen == (send_buffer_bytes > 0)
    sock.close()
    listener.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="Linux has that option")
def test_connections_within_the_machine_are_not_paced(monkeypatch):
    paced = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        paced.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
    except OSError:
        pytest.skip("this kernel has no BBR, or only root may choose it")
    finally:
        paced.close()

    class Paced(socket.socket):
        """As on a machine where BBR is the default."""

        def __init__(self, family, kind):
            super().__init__(family, kind)
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")

    monkeypatch.setattr("fastmq.server.listeners.socket.socket", Paced)
    used = {}
    for host in ("127.0.0.1", "0.0.0.0"):
        (sock,) = bind_sockets(host, 0)
        used[host] = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
        sock.close()
    assert used == {"127.0.0.1": b"reno", "0.0.0.0": b"bbr"}


def test_port_taken_says_so():
    first = open_listener(0, spec())
    try:
        with pytest.raises(AddressInUseError, match=f"127.0.0.1:{first.port}: the port is taken"):
            open_listener(1, spec(port=first.port))
    finally:
        first.close()


def test_advertised_address_defaults_to_what_was_bound():
    listener = open_listener(0, spec(told="broker.example", told_port=0))
    listener.close()
    assert (listener.advertised_host, listener.advertised_port) == ("broker.example", listener.port)


def test_all_sockets_of_a_name_share_a_free_port():
    sockets = bind_sockets("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        for sock in sockets:
            sock.close()


def test_ipv6_when_there_is_any():
    try:
        listener = open_listener(0, spec(host="::1"))
    except ConfigError:
        pytest.skip("no IPv6 loopback here")
    assert listener.address == f"[::1]:{listener.port}"
    listener.close()


def test_unknown_host_is_the_operators_fault():
    with pytest.raises(ConfigError, match="cannot listen"):
        open_listener(0, spec(host="no-such-host.invalid"))


async def test_accept_survives_a_full_descriptor_table(nursery):
    listener = open_listener(0, spec())
    taken = []
    nursery.start_soon(accept_connections, listener, lambda _l, sock, _h: taken.append(sock))
    await trio.testing.wait_all_tasks_blocked()
    peers = [socket.socket() for _ in range(3)]
    for peer in peers:
        peer.setblocking(False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filler = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
        while True:
            try:
                filler.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as exc:
                assert exc.errno == errno.EMFILE  # noqa: PT017 - ends the loop
                break
        assert peers[0].connect_ex(("127.0.0.1", listener.port)) == errno.EINPROGRESS
        with trio.fail_after(5):
            # Shed, not left hanging: the peer sees the end of the stream.
            await trio.lowlevel.wait_readable(peers[0])
        assert peers[0].recv(1) == b""
    finally:
        for fd in filler:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    peers[1].connect_ex(("127.0.0.1", listener.port))
    with trio.fail_after(5):
        while not taken:  # noqa: ASYNC110 - the callback is not async
            await trio.sleep(0.01)
    for sock in [*peers, *taken]:
        sock.close()
    listener.close()


def test_connection_table_counts_by_address():
    listener = open_listener(0, spec())
    listener.close()
    table = ConnectionTable(ConnectionLimits(3, 2, {"10.0.0.9": 1}))
    table.add(Connection(1, listener, "10.0.0.1"))
    table.add(Connection(2, listener, "10.0.0.1"))
    assert "per.ip" in table.refusal("10.0.0.1")
    assert table.refusal("10.0.0.9") is None
    table.add(Connection(3, listener, "10.0.0.9"))
    assert "max.connections=3" in table.refusal("10.0.0.5")
    table.remove(1)
    assert table.refusal("10.0.0.1") is None
    assert "1 connections" in table.refusal("10.0.0.9")
    assert table.remove(99) is None
    assert len(table) == 2


def test_connections_beyond_the_rate_wait_their_turn():
    table = ConnectionTable(ConnectionLimits(100, 100, per_second=10))
    accepted_s = []
    now_s = 1000.0
    for _ in range(35):
        now_s += table.accept_delay_s(now_s) + 1e-9
        assert table.accept_delay_s(now_s) < 1e-6
        table.spend()
        accepted_s.append(now_s - 1000.0)
    # A burst of one second's worth, then one each tenth of a second.
    assert accepted_s[9] < 0.01
    assert accepted_s[-1] == pytest.approx(2.5, abs=0.05)
    table.limits = ConnectionLimits(100, 100)
    assert table.accept_delay_s(now_s) == 0.0


async def test_the_rate_delays_accept(autojump_clock, nursery):
    listener = open_listener(0, spec())
    table = ConnectionTable(ConnectionLimits(100, 100, per_second=2))
    accepted = []

    def take_over(_listener, sock, _host):
        table.spend()
        accepted.append(trio.current_time())
        sock.close()

    peers = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(5)]
    began = trio.current_time()
    nursery.start_soon(accept_connections, listener, take_over, table.accept_delay_s)
    with trio.fail_after(60):
        while len(accepted) < 5:  # noqa: ASYNC110 - the callback is not async
            await trio.sleep(0.1)
    assert accepted[1] - began < 0.01
    assert 1.4 <= accepted[4] - began < 2
    for peer in peers:
        peer.close()
    nursery.cancel_scope.cancel()
