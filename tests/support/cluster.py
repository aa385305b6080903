"""Several brokers in child processes: `fastmq serve --brokers N`."""

import json
from pathlib import Path
from typing import Any

import psutil

from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

from support.broker import Broker
from support.raw import RawClient


class Cluster(Broker):
    """A supervisor and its brokers, with node ids from 1 on.

    Args:
        root: as of `Broker`.
        count: how many.
        options: as of `Broker`.
    """

    def __init__(self, root: Path, count: int = 3, **options: Any) -> None:
        super().__init__(root, args=("--brokers", str(count)), **options)
        self.count = count

    def ready(self) -> dict[str, Any]:
        """What the ready file says."""
        found: dict[str, Any] = json.loads(self.ready_path.read_text())
        return found

    @property
    def all_addresses(self) -> list[str]:
        """host:port of each broker."""
        return str(self.ready()["listeners"]["PLAINTEXT"]).split(",")

    @property
    def bootstrap(self) -> str:
        """What clients call `bootstrap.servers`: all of them."""
        return str(self.ready()["listeners"]["PLAINTEXT"])

    def process_of(self, node_id: int) -> psutil.Process:
        """The process of one broker now."""
        for child in psutil.Process(self.pid).children():
            if f"node.id={node_id}" in child.cmdline():
                return child
        raise LookupError(f"broker {node_id} is not running")


def leaders(address: str, name: str) -> dict[int, int]:
    """Who leads each partition of a topic, as one broker has it; empty when it does not know it."""
    with RawClient(address) as client:
        request = MetadataRequest(topics=[MetadataRequestTopic(name=name)])
        request.allow_auto_topic_creation = False
        response = client.call(request, 9)
    return {p.partition_index: p.leader_id for p in response.topics[0].partitions}
