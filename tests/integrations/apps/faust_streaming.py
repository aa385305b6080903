"""Faust: an agent that counts words in a table with a changelog and passes records on."""

import asyncio
import os
import signal
import sys

import faust

bootstrap, source, target, group, count = sys.argv[1:]
app = faust.App(
    group,
    broker=f"kafka://{bootstrap}",
    value_serializer="raw",
    topic_partitions=1,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    datadir=sys.argv[0] + ".data",
)
incoming = app.topic(source, value_type=bytes)
outgoing = app.topic(target, value_type=bytes)
counts = app.Table("counts", default=int, partitions=1)


@app.agent(incoming)
async def shout(stream):
    async for text in stream:
        counts["all"] += 1
        await outgoing.send(value=text.upper())
        if counts["all"] == int(count):
            asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), signal.SIGTERM)


worker = faust.Worker(app, loglevel="info", logfile=None, quiet=False)
worker.execute_from_commandline()
