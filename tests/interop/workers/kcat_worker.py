"""kcat: the command line tool, fed and read through pipes."""

import signal
import subprocess
import sys
import threading
from typing import Any

from jobs import Output, Stop, records, run


def produce(job: dict[str, Any]) -> None:
    command = ["kcat", "-P", "-b", job["bootstrap"], "-t", job["topic"], "-K", "\t", "-z"]
    command += [job["codec"], "-X", f"acks={job['acks']}"]
    command += ["-X", f"enable.idempotence={str(job['idempotent']).lower()}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as kcat:
        assert kcat.stdin is not None
        for key, value in records(job):
            kcat.stdin.write(key + b"\t" + value + b"\n")
    assert kcat.returncode == 0, kcat.returncode


def consume(job: dict[str, Any], stop: Stop, output: Output) -> None:
    command = ["kcat", "-b", job["bootstrap"], "-G", job["group"], "-u", "-f", "%p %o %s\n"]
    command += ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000"]
    command.append(job["topic"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as kcat:
        assert kcat.stdout is not None
        # kcat says on stderr what it is assigned, not in step with its records.
        watcher = threading.Thread(target=note_assignments, args=(kcat, output))
        watcher.start()
        signal.signal(signal.SIGTERM, lambda *_: kcat.terminate())
        if stop.asked:
            kcat.terminate()
        for line in kcat.stdout:
            partition, offset, value = line.rstrip(b"\n").split(b" ", 2)
            output.record(int(partition), int(offset), value)
            output.flush()
        watcher.join()


def note_assignments(kcat: "subprocess.Popen[bytes]", output: Output) -> None:
    assert kcat.stderr is not None
    for line in kcat.stderr:
        if b"assigned:" in line:
            output.assigned()
        else:
            sys.stderr.buffer.write(line)


run(produce, consume)
