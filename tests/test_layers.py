"""The arrows between packages, and the purity of the pure ones, read from the source.

ARCHITECTURE.md shows the picture. A package may import from those after it in `LAYERS` and from
itself; a pure package holds no I/O, clock, randomness or async code.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmq

ROOT = Path(fastmq.__file__).parent

# From the top down. The packages of one row do not import each other.
LAYERS = (
    {"cli"},
    {"server", "client"},
    {"metastore"},
    {"net"},
    {"auth"},
    {"replica"},
    {"coordinator", "scaling"},
    {"cluster"},
    {"log"},
    {"records"},
    {"compression"},
    {"protocol"},
    {"config"},
    {"_native"},
    {"errors", "ids", "limits", "_version"},
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}

# May import everything; nothing imports it.
TESTING = "testing"
# The public fronts re-export from below.
FRONTS = {"__init__", "__main__", "aio", "_pytest_plugin", TESTING}

PURE = {
    "net",
    "auth",
    "replica",
    "coordinator",
    "scaling",
    "cluster",
    "records",
    "compression",
    "protocol",
    "config",
    "errors",
    "ids",
    "limits",
}
# Of the client everything is pure but what moves bytes and what people call.
CLIENT_OUTER = {"pumps", "fronts"}
IMPURE_MODULES = {
    "asyncio",
    "anyio",
    "datetime",
    "httpx",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "trio",
    "urllib",
}
IMPURE_CALLS = {"open", "print", "input"}
IMPURE_ATTRIBUTES = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "uuid1",
    "uuid4",
    "getrandom",
    "urandom",
}


def modules() -> Iterator[tuple[str, Path]]:
    """(top-level package or module, file) for every source file."""
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyx"), *ROOT.rglob("*.pxd")]):
        top = path.relative_to(ROOT).parts[0]
        yield top.split(".")[0], path


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            if node.module == "fastmq":
                yield from ((node.lineno, f"fastmq.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def parsed(path: Path) -> ast.AST:
    """The syntax tree; of Cython files only the import lines."""
    text = path.read_text()
    if path.suffix != ".py":
        lines = [line.strip() for line in text.splitlines()]
        text = "\n".join(
            line.replace("cimport", "import")
            for line in lines
            if line.startswith(("import fastmq", "from fastmq", "cimport fastmq"))
            and not line.endswith("(")
        )
    return ast.parse(text, str(path))


def inner(name: str) -> str | None:
    """The fastmq package that a module name lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "fastmq" and len(parts) > 1 else None


def layer_faults(top: str, path: Path) -> list[str]:
    """Imports of one file that go up or sideways."""
    faults = []
    for line, name in imports(parsed(path)):
        target = inner(name)
        if target is None or target == top or target.startswith("__"):
            continue
        if target not in RANK:
            faults.append(f"{path}:{line}: {name} is in no layer")
        elif RANK[target] <= RANK[top]:
            faults.append(f"{path}:{line}: {top} imports {name}, which is not below it")
    return faults


def purity_faults(path: Path) -> list[str]:
    """What one file of a pure package should not hold."""
    tree = parsed(path)
    faults = [
        f"{path}:{line}: imports {name}"
        for line, name in imports(tree)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            faults.append(f"{path}:{node.lineno}: async code")
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in IMPURE_CALLS:
                faults.append(f"{path}:{node.lineno}: calls {called.id}()")
            elif isinstance(called, ast.Attribute) and called.attr in IMPURE_ATTRIBUTES:
                faults.append(f"{path}:{node.lineno}: calls .{called.attr}()")
    return faults


def test_every_package_has_a_layer():
    unknown = {top for top, _ in modules()} - RANK.keys() - FRONTS
    assert not unknown, "give these a place in LAYERS (and in ARCHITECTURE.md)"


def test_a_package_imports_only_from_below():
    faults = [
        fault for top, path in modules() if top not in FRONTS for fault in layer_faults(top, path)
    ]
    assert not faults, "\n".join(faults)


def test_pure_packages_are_pure():
    faults = [fault for top, path in modules() if top in PURE for fault in purity_faults(path)]
    assert not faults, "\n".join(faults)


def test_the_client_is_pure_inside_its_outer_ring():
    paths = [path for top, path in modules() if top == "client"]
    inner = [path for path in paths if path.relative_to(ROOT).parts[1] not in CLIENT_OUTER]
    assert inner, "where is the client?"
    faults = [fault for path in inner for fault in purity_faults(path)]
    assert not faults, "\n".join(faults)


def test_only_the_async_pump_and_fronts_import_an_async_library():
    for top, path in modules():
        if top == "client" and not path.stem.startswith(("anyio", "aio_")):
            names = {name.split(".")[0] for _, name in imports(parsed(path))}
            assert not names & {"trio", "anyio", "asyncio"}, path


def test_package_docstrings_say_what_the_package_is():
    packages = [p for p in ROOT.rglob("__init__.py") if p.parent != ROOT]
    silent = [str(p) for p in packages if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


@pytest.mark.parametrize(
    ("top", "source"),
    [
        ("protocol", "from fastmq.server import dispatch"),
        ("server", "import fastmq.client"),
        ("log", "def f():\n    from fastmq import coordinator"),
        ("config", "from fastmq.testing import fakes"),
    ],
)
def test_the_layer_check_catches(top, source, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert layer_faults(top, path)


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from random import choice",
        "async def f(): ...",
        "def f(p):\n    return p.read_text()",
        "open('x')",
    ],
)
def test_the_purity_check_catches(source, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert purity_faults(path)


def test_the_checks_pass_good_code(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("from fastmq.errors import KafkaError\nfrom dataclasses import dataclass\n")
    assert not layer_faults("protocol", path)
    assert not purity_faults(path)
