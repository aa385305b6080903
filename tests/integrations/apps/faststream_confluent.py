"""FastStream on confluent-kafka: records of one topic go to another, in upper case."""

import asyncio
import sys

from faststream import FastStream
from faststream.confluent import KafkaBroker

bootstrap, source, target, group, count = sys.argv[1:]
broker = KafkaBroker(bootstrap)
app = FastStream(broker)
seen = 0


@broker.subscriber(source, group_id=group, auto_offset_reset="earliest")
@broker.publisher(target)
async def shout(text: str) -> str:
    global seen
    seen += 1
    if seen == int(count):
        asyncio.get_running_loop().call_later(0.5, app.exit)
    return text.upper()


asyncio.run(app.run())
