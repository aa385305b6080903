"""Build of the native parts; everything declarative is in pyproject.toml.

`FASTMQ_DEBUG=1` builds with assertions that only make sense while developing, AddressSanitizer
and UndefinedBehaviorSanitizer (run Python with libasan preloaded, `make debug` shows how).
`FASTMQ_POLLER=poll` builds the engine on poll(2) instead of what the system does better.
"""

import os
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
DEBUG = os.environ.get("FASTMQ_DEBUG") == "1"
POLLER = os.environ.get("FASTMQ_POLLER", "")

CFLAGS = ["-std=gnu11", "-g", "-fno-strict-aliasing", "-fvisibility=hidden"]
if POLLER not in ("", "poll"):
    sys.exit(f"FASTMQ_POLLER is {POLLER!r}: only poll may be asked for, or nothing at all")
CFLAGS += ["-DFMQ_USE_POLL"] if POLLER else []
CFLAGS += ["-O1", "-fsanitize=address,undefined", "-DFMQ_DEBUG"] if DEBUG else ["-O2"]
# Generated C is not ours to keep free of warnings; `make lint` compiles csrc with -Werror.
CFLAGS += ["-Wno-unused-function"]
LDFLAGS = ["-fsanitize=address,undefined"] if DEBUG else []

NO_COMPILER = """
fastmq builds its hot path from C and cannot compile a C program here: {reason}
  Debian, Ubuntu:  apt-get install gcc python3-dev
  Fedora:          dnf install gcc python3-devel
  Alpine:          apk add gcc musl-dev python3-dev
  macOS:           xcode-select --install
Another compiler is taken from the environment variable CC.
"""


class BuildExt(build_ext):
    """Builds the extensions, after making sure that the compiler works at all."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.cython_c_in_temp = True  # generated C stays out of the source tree

    def build_extensions(self) -> None:
        self._require_compiler()
        super().build_extensions()

    def _require_compiler(self) -> None:
        """Compile the smallest extension: a broken `cc` or missing headers end with advice."""
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch) / "probe.c"
            probe.write_text("#include <Python.h>\n#include <stdint.h>\n")
            try:
                self.compiler.compile([str(probe)], output_dir=scratch)
            except (CompileError, OSError) as error:
                sys.exit(NO_COMPILER.format(reason=str(error).splitlines()[0]))


def native(name: str, *, csrc: bool) -> Extension:
    """One Cython module of fastmq/_native; exactly one of them links csrc."""
    sources = [f"fastmq/_native/{name}.pyx"]
    if csrc:
        sources += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc" / "src").glob("*.c"))
    extension = Extension(
        f"fastmq._native.{name}",
        sources,
        include_dirs=["csrc/include"],
        depends=sorted(
            str(p.relative_to(ROOT))
            for p in [*(ROOT / "csrc").rglob("*.h"), *(ROOT / "fastmq" / "_native").glob("*.pxi")]
        ),
        # Assertions of the library stay on: Python's own flags would switch them off.
        extra_compile_args=[*CFLAGS, "-UNDEBUG"] if csrc else CFLAGS,
        extra_link_args=LDFLAGS,
        libraries=["pthread"] if csrc else [],
    )
    extension.cython_directives = {"language_level": "3", "freethreading_compatible": False}
    return extension


def main() -> None:
    if sys.platform == "win32":
        sys.exit("fastmq does not run on Windows (it needs POSIX sockets and files). Use WSL.")
    names = sorted(p.stem for p in (ROOT / "fastmq" / "_native").glob("*.pyx"))
    setup(
        cmdclass={"build_ext": BuildExt},
        ext_modules=[native(name, csrc=name == "core") for name in names],
        cffi_modules=["fastmq/_native/_syscalls_build.py:ffibuilder"],
    )


main()
