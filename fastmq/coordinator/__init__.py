"""Coordinators: pure state machines behind the internal topics.

A coordinator is a set of shards, one per partition of its internal topic (`__consumer_offsets`
for groups, later `__transaction_state`). A shard is a machine without I/O, clock, randomness or
async: a request or a deadline goes in together with `now_ms`, `Effects` come out (records to
append, replies to send). Durable state changes only in `replay(key, value)`, so the live path,
a restart, a failover and a test run the same code.

* `effects` is the contract between a shard and the driver that owns the partition.
* `timers` keeps a shard's deadlines.
* `group` is the group coordinator: classic groups, committed offsets.

What is not here: reading or appending to the log, waiting for the high watermark, sockets,
authorization, resolving topic ids. All of that is the server's.
"""
