"""fastmq: a distributed message queue that speaks Kafka's protocol, with a C hot path."""

from fastmq._version import __version__

__all__ = ["__version__"]
