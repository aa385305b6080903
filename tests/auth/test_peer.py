"""Brokers prove to each other that they have the cluster's secret."""

import pytest

from fastmq.auth import PeerClient, PeerIdentity, PeerServer
from fastmq.errors import AuthenticationError

SECRET = b"s" * 32
ME = PeerIdentity(3, 1 << 40)


def both(client_secret: bytes = SECRET) -> tuple[PeerClient, PeerServer]:
    return PeerClient(client_secret, ME, b"c" * 32), PeerServer(SECRET, b"n" * 32)


def test_both_sides_know_the_other_in_the_end() -> None:
    client, server = both()
    proof = client.prove(server.respond(b""))
    assert server.identity is None
    client.check(server.respond(proof))
    assert server.identity == ME


def test_another_secret_proves_nothing() -> None:
    client, server = both(b"t" * 32)
    with pytest.raises(AuthenticationError, match="secret"):
        server.respond(client.prove(server.respond(b"")))
    assert server.identity is None


def test_a_listener_without_the_secret_is_noticed() -> None:
    client, _ = both()
    impostor = PeerServer(b"t" * 32, b"n" * 32)
    client.prove(impostor.respond(b""))
    with pytest.raises(AuthenticationError, match="secret"):
        client.check(b"x" * 32)


def test_what_was_listened_to_does_not_work_again() -> None:
    client, server = both()
    proof = client.prove(server.respond(b""))
    server.respond(proof)
    again = PeerServer(SECRET, b"m" * 32)
    again.respond(b"")
    with pytest.raises(AuthenticationError):
        again.respond(proof)
    with pytest.raises(AuthenticationError):
        server.respond(proof)


@pytest.mark.parametrize("size", [0, 1, 75, 77, 100_000])
def test_tokens_of_another_size_are_refused(size: int) -> None:
    _, server = both()
    server.respond(b"")
    with pytest.raises(AuthenticationError):
        server.respond(bytes(size))


def test_each_bit_of_a_proof_counts() -> None:
    for bit in range(76 * 8):
        client, server = both()
        proof = bytearray(client.prove(server.respond(b"")))
        proof[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationError):
            server.respond(bytes(proof))
