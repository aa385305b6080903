"""Frameworks that Python people use, the real packages, against a broker process.

Each runs an app of `apps/` in an environment of its own, made here from `PACKAGES` and kept in the
user's cache directory (pip's own cache holds the wheels). An environment that cannot be made is a
skip that says why. The app gets twenty records, passes them on in upper case and ends; what came
out, what was committed and what the framework keeps in topics of its own is judged from outside.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from fastmq.testing import Broker

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(300)]

APPS = Path(__file__).parent / "apps"
COUNT = 20
INSTALL_TIMEOUT_S = 200
RUN_TIMEOUT_S = 90

# By environment; the versions that were tried, so that a new release cannot break the build.
PACKAGES = {
    "faststream": [
        "faststream[kafka,confluent]==0.7.8",
        "aiokafka==0.14.0",
        "confluent-kafka==2.16.1",
    ],
    "faust": ["faust-streaming==0.15.3"],
    "quix": ["quixstreams==3.28.1"],
    "celery": ["celery==5.7.0", "kombu==5.7.0", "confluent-kafka==2.16.1"],
    "bytewax": ["bytewax==0.21.1", "confluent-kafka==2.16.1"],
    "pathway": [
        *("pathway==0.33.0", "confluent-kafka==2.16.1", "aiohttp", "aiohttp-cors", "async-lru"),
        *("beartype", "click", "diskcache", "google-cloud-bigquery", "google-cloud-pubsub"),
        *("jmespath", "numpy", "opentelemetry-api", "opentelemetry-exporter-otlp-proto-grpc"),
        *("opentelemetry-sdk", "pandas", "psutil", "pyarrow", "python-sat", "pyyaml", "rich"),
    ],
}
# Installed without what they ask for, which is a gigabyte: the list above has what is imported.
BARE = {"pathway": 1}


class Case(NamedTuple):
    """One framework.

    Attributes:
        own_topic: where it keeps state; has to hold as many records as were counted.
        commits: whether the group's offsets are to be at the end.
        is_fed: whether records are there before it starts.
    """

    framework: str
    environment: str
    app: str
    own_topic: str | None = None
    commits: bool = True
    is_fed: bool = True


CASES = [
    Case("FastStream (aiokafka)", "faststream", "faststream_aiokafka"),
    Case("FastStream (confluent-kafka)", "faststream", "faststream_confluent"),
    Case("Faust", "faust", "faust_streaming", own_topic="the-group-counts-changelog"),
    Case("Quix Streams", "quix", "quix_streams", own_topic="changelog__the-group--source--default"),
    Case("Celery (kombu, confluentkafka)", "celery", "celery_worker", None, False, False),
    Case("Bytewax", "bytewax", "bytewax_flow", commits=False),
    Case("Pathway", "pathway", "pathway_table", commits=False),
]


@pytest.fixture(scope="module")
def table():
    rows = []
    yield rows
    if rows:
        print("\n\n| framework | versions | installed | ran | result |")
        print("|---|---|---|---|---|")
        for row in rows:
            print("| " + " | ".join(row) + " |")


def environment(name):
    """The interpreter of an environment, and why there is none."""
    packages = PACKAGES[name]
    key = hashlib.sha256(f"{sys.version_info[:2]}{packages}".encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(base, "fastmq", "integrations", f"{name}-{key}")
    python = root / "bin" / "python"
    if (root / "complete").exists():
        return python, None
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        run([sys.executable, "-m", "venv", str(root)], INSTALL_TIMEOUT_S)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        # Not compiled: most of what they bring along is never imported.
        pip += ["--prefer-binary", "--no-compile"]
        bare = BARE.get(name, 0)
        run([*pip, *packages[bare:]], INSTALL_TIMEOUT_S)
        if bare:
            run([*pip, "--no-deps", *packages[:bare]], INSTALL_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        return None, (said.splitlines() or [str(error)])[-1][:200]
    (root / "complete").touch()
    return python, None


def run(command, timeout_s, cwd=None):
    return subprocess.run(
        command,
        cwd=cwd,
        timeout=timeout_s,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        # What the suite's own environment sets must not reach the other one.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )


def versions(python, packages):
    names = [p.split("=")[0].split("[")[0] for p in packages if "==" in p]
    code = (
        "import importlib.metadata as m, sys; "
        "print(*(n + ' ' + m.version(n) for n in sys.argv[1:]), sep=', ')"
    )
    return run([str(python), "-c", code, *names], 60).stdout.decode().strip()


@pytest.mark.parametrize("case", CASES, ids=[case.app for case in CASES])
def test_a_framework_works_against_the_broker(case, tmp_path, table):
    began = time.monotonic()
    python, reason = environment(case.environment)
    installed_s = time.monotonic() - began
    if python is None:
        table.append([case.framework, "", f"{installed_s:.0f} s", "", f"skipped: {reason}"])
        pytest.skip(f"{case.framework} cannot be installed: {reason}")
    row = [case.framework, versions(python, PACKAGES[case.environment]), f"{installed_s:.0f} s"]
    app = tmp_path / "app.py"
    app.write_text((APPS / f"{case.app}.py").read_text())
    expected = sorted(f"RECORD {number}" for number in range(COUNT))
    with Broker() as broker:
        source, target = broker.create_topic("source"), broker.create_topic("target")
        if case.is_fed:
            source.produce_many([(f"key {n}", f"record {n}") for n in range(COUNT)])
        began = time.monotonic()
        arguments = [broker.bootstrap_servers, "source", "target", "the-group", str(COUNT)]
        try:
            done = run([str(python), str(app), *arguments], RUN_TIMEOUT_S, tmp_path)
        except subprocess.SubprocessError as error:
            table.append([*row, f"{time.monotonic() - began:.1f} s", "FAILED"])
            output = b"".join(filter(None, (error.stdout, error.stderr))).decode(errors="replace")
            pytest.fail(f"{error}\n{output[-6000:]}\nbroker:\n{broker.log_text()[-2000:]}")
        table.append([*row, f"{time.monotonic() - began:.1f} s", "failed"])
        assert came_out(case, done, target) == expected
        if case.commits:
            assert broker.group("the-group").lag(source) == 0
        if case.own_topic is not None:
            assert len(broker.topic(case.own_topic).records()) >= COUNT
        assert "Traceback" not in broker.log_text()
    table[-1][-1] = "ok"


def came_out(case, done, target):
    """What the app made of the records, sorted."""
    if case.app == "celery_worker":
        lines = done.stdout.decode().splitlines()
        return sorted(line for line in lines if line.startswith("RECORD"))
    values = [value.decode() for value in target.values()]
    if case.app == "pathway_table":
        return sorted(json.loads(value)["data"] for value in values)
    return sorted(values)
