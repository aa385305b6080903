"""Which broker coordinates a group or a transactional id: a cache with look-ups.

One look-up per key is under way at a time; calls that wait for it are parked here. A coordinator is
forgotten when it says that it is none, or cannot be reached.

Source: KIP-699 for the list of keys in version 4.
"""

from typing import TYPE_CHECKING, Any

from fastmq.client.calls import AnyNode, Call, Coordinator, Request
from fastmq.client.metadata import NodeAddress
from fastmq.errors import ErrorCode, KafkaError
from fastmq.protocol import ApiKey, Message

if TYPE_CHECKING:
    from fastmq.client.core import ClientCore

__all__ = ["CoordinatorCache"]

_KEYS_LISTED_FROM = 4


class CoordinatorCache:
    """Coordinators by kind and key."""

    def __init__(self, core: "ClientCore") -> None:
        self._core = core
        self._nodes: dict[Coordinator, int] = {}
        self._parked: dict[Coordinator, list[Call]] = {}

    def find(self, target: Coordinator, call: Call) -> int | None:
        """The node, or None: then the call is parked until the look-up is done."""
        node_id = self._nodes.get(target)
        if node_id is not None and self._core.node_address(node_id) is not None:
            return node_id
        waiting = self._parked.get(target)
        if waiting is not None:
            waiting.append(call)
            return None
        self._parked[target] = [call]
        self._core.send(
            AnyNode(),
            Request(ApiKey.FIND_COORDINATOR, lambda version: _request(target, version)),
            lambda result: self._found(target, result),
            error_of=_error_of,
        )
        return None

    def forget(self, target: Coordinator) -> None:
        """Look it up again before the next call to it."""
        self._nodes.pop(target, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._nodes.clear()

    def close(self) -> list[Call]:
        """Return the calls that wait for look-ups, and forget them."""
        calls = [call for waiting in self._parked.values() for call in waiting]
        self._parked.clear()
        return calls

    # Any: a response or an exception, as `ClientCore.send` says.
    def _found(self, target: Coordinator, result: Any) -> None:
        calls = [call for call in self._parked.pop(target, []) if not call.is_done]
        if isinstance(result, Exception):
            error = result
        elif (code := _error_of(result)) != ErrorCode.NONE:
            error = KafkaError(code, f"no coordinator for {target.kind.name.lower()} {target.key}")
        else:
            address = _address(result)
            # The same name as in the metadata, which may be newer; but it may be missing there.
            self._core.metadata.nodes.setdefault(address.node_id, address)
            self._nodes[target] = address.node_id
            for call in calls:
                self._core.reroute(call)
            return
        for call in calls:
            call.finish(error)


def _request(target: Coordinator, version: int) -> Message:
    from fastmq.protocol.messages.find_coordinator import FindCoordinatorRequest

    if version >= _KEYS_LISTED_FROM:
        return FindCoordinatorRequest(key_type=int(target.kind), coordinator_keys=[target.key])
    return FindCoordinatorRequest(key=target.key, key_type=int(target.kind))


def _error_of(response: Any) -> int:
    row = response.coordinators[0] if response.coordinators else response
    return int(row.error_code)


def _address(response: Any) -> NodeAddress:
    row = response.coordinators[0] if response.coordinators else response
    return NodeAddress(row.node_id, row.host, row.port)
