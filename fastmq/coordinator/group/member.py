"""One member of a classic group: what the log keeps of it, and what it is waiting for."""

from dataclasses import dataclass

from fastmq.coordinator.effects import Call

__all__ = ["Member", "Protocols"]

# The protocols (assignors) a member offers, in its order of preference, with their metadata.
Protocols = list[tuple[str, bytes]]


@dataclass(slots=True, eq=False)
class Member:
    """A member; the group owns it and changes it.

    Attributes:
        member_id: given by the coordinator.
        group_instance_id: of a static member, else None.
        client_id: of the last JoinGroup.
        client_host: of the last JoinGroup.
        session_timeout_ms: without a heartbeat for this long the member is removed.
        rebalance_timeout_ms: how long a rebalance waits for the member.
        protocols: offered at the last JoinGroup. After a restart only the one that was in use.
        assignment: from the leader of the current generation.
        join: a JoinGroup that waits for the end of the rebalance.
        sync: a SyncGroup that waits for the leader's.
        is_new: has not been told a generation yet; it cannot send heartbeats.
    """

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols
    assignment: bytes = b""
    join: Call | None = None
    sync: Call | None = None
    is_new: bool = False

    def metadata(self, protocol: str | None) -> bytes:
        """Return the metadata the member gave for a protocol, b"" if it did not offer it."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        return b""
