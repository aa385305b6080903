"""The brokers that are compared: how each is found, started with its own defaults, and stopped.

Every broker runs on the broker's core, on 127.0.0.1, with its data in a directory of its own.
While another one is measured it is paused (SIGSTOP): it costs nothing, stays warm (a JVM that
starts afresh would be measured while it compiles), and rounds can go A B C A B C within a minute.
"""

from compare.peers.base import Peer, PeerMissing, Running
from compare.peers.fastmq import Fastmq
from compare.peers.kafka import Kafka
from compare.peers.nats import Nats
from compare.peers.rabbitmq import RabbitMq
from compare.peers.redis import Redis

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Fastmq, Kafka, Nats, Redis, RabbitMq)}

__all__ = ["PEERS", "Peer", "PeerMissing", "Running"]
