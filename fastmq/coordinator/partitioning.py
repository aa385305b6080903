"""Which partition of an internal topic is responsible for a group or a transactional id."""

__all__ = ["partition_for"]


def partition_for(key: str, count: int) -> int:
    """Return the partition of the internal topic that coordinates `key`.

    Kafka takes the absolute value of Java's `String.hashCode` modulo the partition count, and its
    absolute value is the hash without the sign bit (so that the smallest int is no exception).

    Args:
        key: group id or transactional id.
        count: partitions of the internal topic, > 0.
    """
    value = 0
    units = key.encode("utf-16-be", "surrogatepass")
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (value * 31 + (high << 8 | low)) & 0xFFFFFFFF
    return (value & 0x7FFFFFFF) % count
