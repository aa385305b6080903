"""The topics in a consumer's subscription blob.

Members of groups with the protocol type "consumer" send their subscription as an opaque blob; the
coordinator reads only the list of topics from it, to know which offsets are still in use. The
blob comes from a client and is not trusted: every length is checked before it is used, and
anything odd makes the subscription unreadable, never an exception. What follows the topics is not
looked at, unlike in `fastmq.protocol.consumer_protocol`: clients exist that write a newer version
without its fields.

Source: ConsumerProtocolSubscription v0-3: version int16, topics array of string (int32 count,
int16 lengths), user data and newer fields.
"""

from struct import Struct

from fastmq.coordinator.group.limits import SUBSCRIBED_TOPICS_MAX

__all__ = ["PROTOCOL_TYPE", "subscribed_topics"]

PROTOCOL_TYPE = "consumer"

_HEAD = Struct(">hi")
_LENGTH = Struct(">h")


def subscribed_topics(subscription: bytes) -> frozenset[str] | None:
    """Return the topics that a subscription names, None when it cannot be read.

    Args:
        subscription: the metadata a member gave for its protocol.
    """
    if len(subscription) < _HEAD.size:
        return None
    version, count = _HEAD.unpack_from(subscription)
    if version < 0 or not 0 <= count <= SUBSCRIBED_TOPICS_MAX:
        return None
    topics = set()
    position = _HEAD.size
    for _ in range(count):
        start = position + _LENGTH.size
        if start > len(subscription):
            return None
        (length,) = _LENGTH.unpack_from(subscription, position)
        position = start + length
        if length < 0 or position > len(subscription):
            return None
        try:
            topics.add(subscription[start:position].decode())
        except UnicodeDecodeError:
            return None
    return frozenset(topics)
