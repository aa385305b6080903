"""Helpers that several tests share; `tests` is on the path, so `from support.broker import Broker`.

Nothing here is a double of the product: `broker` drives a real `fastmq serve`, `apache_kafka` a
real Kafka, `clients` wraps clients that others wrote.
"""
