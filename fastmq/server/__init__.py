"""The broker process: the outer ring that waits.

One trio nursery per process. The C engine owns every data connection after accept and serves
Produce and Fetch by itself; this package does the rest:

* `broker` starts and stops everything in order; `cli` is its only caller besides tests.
* `listeners` accepts and hands descriptors to the engine; `connections` counts them.
* `dispatch` takes frames from the engine and answers them; `handlers` has one function per API.
* `topics` keeps the cluster image, the metadata store and the engine's partitions in step.
* `coordinators` drives the pure group machines: log appends, timers, replay at start.
* `background` does what nobody waits for: retention, checkpoints, expiry.
* `metrics` and `logging` tell the operator.

Rules: nothing here loops over records of ordinary topics; nothing is done per Produce or Fetch; a
request never gets a task of its own (slow handlers share a few workers); what blocks on the disk
runs in worker threads. This package never imports `fastmq.client`.
"""
