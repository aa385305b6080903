"""The bundled client: pure cores, two pumps, thin fronts.

A client is one `ClientCore` (`core.py`): the table of nodes, cached metadata, a connection per
node and lane, routing, retries, timers. It does no I/O and knows no clock: a pump tells it the
time, what arrived and what broke, and carries out the actions it asks for. `Producer`, `Consumer`
and `Admin` are machines on a core, the same for every front.

* `pumps.blocking`: one I/O thread; other threads post calls to it and wait for results.
* `pumps.anyio`: one task, under trio or asyncio.

The public names are `fastmq.Producer`, `fastmq.aio.Producer` and so on; everything in this package
is internal. Nothing here imports anyio but `pumps.anyio` and the async fronts (`fronts/aio_*`).
Python code runs per batch, response, callback or rebalance, never per record.
"""
