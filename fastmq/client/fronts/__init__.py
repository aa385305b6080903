"""What people call: thin fronts over the pure machines, blocking and async.

`admin` is `fastmq.Admin`; `aio_admin` is `fastmq.aio.Admin`, with the same methods as coroutines.
`producer` and `aio_producer` are the same for `Producer`. Only modules named `aio_*` import anyio.
A front checks its arguments, hands them to the machine and waits; it decides nothing.
"""
