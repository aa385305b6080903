"""Helpers that several tests share; `tests` is on the path, so `from support.broker import Broker`.

Nothing here is a double of the product: `broker` drives a real `fastmq serve`, `clients` wraps
clients that others wrote.
"""
