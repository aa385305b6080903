"""Build of the native parts; everything declarative is in pyproject.toml."""

import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent

if sys.platform == "win32":
    sys.exit("fastmq does not run on Windows (it needs epoll or kqueue, and sendfile). Use WSL.")

if not any(shutil.which(name) for name in (os.environ.get("CC", "cc").split()[0], "gcc", "clang")):
    sys.exit(
        "fastmq needs a C compiler to build its hot path and found none.\n"
        "  Debian, Ubuntu:  apt-get install gcc python3-dev\n"
        "  Fedora:          dnf install gcc python3-devel\n"
        "  macOS:           xcode-select --install"
    )

CFLAGS = ["-std=gnu11", "-O2", "-g", "-fno-strict-aliasing", "-fvisibility=hidden"]
# Generated C is not ours to keep free of warnings.
CYTHON_CFLAGS = [*CFLAGS, "-Wno-unused-function"]


def native(name: str, *, csrc: bool) -> Extension:
    """One Cython module of fastmq/_native; exactly one of them links csrc."""
    path = Path("fastmq") / "_native" / f"{name}.pyx"
    sources = [str(path)]
    if csrc:
        sources += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc" / "src").glob("*.c"))
    return Extension(
        f"fastmq._native.{name}",
        sources,
        include_dirs=["csrc/include"],
        depends=sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.h")),
        extra_compile_args=CYTHON_CFLAGS,
        libraries=["pthread"] if csrc else [],
    )


def extensions() -> list[Extension]:
    names = sorted(p.stem for p in (ROOT / "fastmq" / "_native").glob("*.pyx"))
    return [native(name, csrc=name == "core") for name in names]


setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives={"language_level": "3", "freethreading_compatible": False},
        build_dir="build/cython",
    )
)
