"""Celery through kombu's confluentkafka transport: tasks go through the broker, to a file."""

import sys
import time
from pathlib import Path

from celery import Celery
from celery.contrib.testing.worker import start_worker

bootstrap, source, target, group, count = sys.argv[1:]
out = Path(sys.argv[0] + ".out")
app = Celery("integration", broker=f"confluentkafka://{bootstrap}//")
app.conf.task_default_queue = source
app.conf.broker_connection_retry_on_startup = True


@app.task(name="shout")
def shout(text):
    with out.open("a") as file:
        file.write(text.upper() + "\n")


for number in range(int(count)):
    shout.delay(f"record {number}")
with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if out.exists() and len(out.read_text().splitlines()) >= int(count):
            break
        time.sleep(0.1)
print(out.read_text(), end="")
