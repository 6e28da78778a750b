"""Build the compiled part when its libraries are there; everything else is in pyproject.toml.

The package is complete without the extension ``prefixdb._native.module``: there is a second store. What happens is
decided by the environment variable PREFIXDB_NATIVE:

    auto      build it; where a compiler or library is missing, go on without it and say what is missing (default)
    require   build it, or fail and say what is missing
    off       leave it out

Whether it can be built is found out by compiling and linking a small program, not by looking for files. An error in
our own sources is an error in every mode. ``python setup.py build_ext --inplace`` compiles changed files only.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("prefixdb/_native")
SOURCES = sorted(str(path) for path in NATIVE.rglob("*.cc"))
HEADERS = sorted(str(path) for path in NATIVE.rglob("*.h"))
MODULE = "prefixdb/_native/module.cc"
BUILDING_COMMANDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "install", "develop"}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"]

# Each stands alone, so that the first that fails names what is missing.
PROBES = [
    ("a C++20 compiler", "g++", "#include <span>\nint main() { return std::span<int>().empty() ? 0 : 1; }\n", []),
    ("Python's headers", "python3-dev", "#include <Python.h>\nint main() { return 0; }\n", []),
    (
        "RocksDB's headers, 7.8 or later",
        "librocksdb-dev",
        "#include <rocksdb/version.h>\n#if ROCKSDB_MAJOR * 1000 + ROCKSDB_MINOR < 7008\n#error too old\n#endif\n"
        "int main() { return 0; }\n",
        [],
    ),
    (
        "RocksDB's library",
        "librocksdb-dev",
        "#include <rocksdb/options.h>\n#include <rocksdb/version.h>\n"
        "int main() { return rocksdb::Options().create_if_missing ? ROCKSDB_MAJOR : 0; }\n",
        ["-lrocksdb"],
    ),
    (
        "nghttp2 with its guards against floods of resets and continuations (1.61, or 1.52 as Debian has it)",
        "libnghttp2-dev",
        "#include <nghttp2/nghttp2.h>\nint main() { nghttp2_option* option = nullptr;\nnghttp2_option_new(&option);\n"
        "nghttp2_option_set_stream_reset_rate_limit(option, 1, 1);\n"
        "nghttp2_option_set_max_continuations(option, 1); }\n",
        ["-lnghttp2"],
    ),
    (
        "OpenSSL 3",
        "libssl-dev",
        "#include <openssl/ssl.h>\n#if OPENSSL_VERSION_MAJOR < 3\n#error too old\n#endif\n"
        "int main() { return TLS_server_method() == nullptr; }\n",
        ["-lssl", "-lcrypto"],
    ),
    ("zlib", "zlib1g-dev", "#include <zlib.h>\nint main() { return zlibVersion() == nullptr; }\n", ["-lz"]),
    (
        "protozero's headers",
        "libprotozero-dev",
        "#include <protozero/pbf_reader.hpp>\n#include <protozero/pbf_writer.hpp>\nint main() { return 0; }\n",
        [],
    ),
]


def compiler() -> list[str]:
    """Return the command that compiles and links C++."""
    return shlex.split(os.environ.get("CXX", "g++"))


def system_includes() -> list[str]:
    """Return the flags for headers of others, whose warnings are not ours."""
    import pybind11

    paths = sysconfig.get_paths()
    found = dict.fromkeys([pybind11.get_include(), paths["include"], paths["platinclude"]])
    return [flag for path in found for flag in ("-isystem", path)]


def missing_part() -> str | None:
    """Return what is missing to build the extension and what brings it, or None."""
    try:
        includes = system_includes()
    except ImportError:
        return "pybind11 is not installed (Python package pybind11)"
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "probe.cc"
        for what, package, text, libraries in PROBES:
            source.write_text(text, encoding="utf-8")
            command = [*compiler(), "-std=c++20", *includes, str(source), "-o", f"{scratch}/probe", *libraries]
            try:
                probe = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as absent:
                return f"{what} is not there: {absent} (Debian package {package})"
            if probe.returncode:
                first = next((line for line in probe.stderr.splitlines() if "error" in line), probe.stderr.strip())
                return f"{what} cannot be used: {first.strip()} (Debian package {package})"
    return None


def tell(message: str) -> None:
    """Say it where a person sees it: pip hides what a build that succeeds writes, but not the terminal itself."""
    sys.stderr.write(f"prefixdb: {message}\n")
    if not sys.stderr.isatty():
        try:
            with Path("/dev/tty").open("w", encoding="utf-8") as terminal:
                terminal.write(f"\nprefixdb: {message}\n")
        except OSError:
            pass  # No terminal: a log has the line above, with `pip -v` at least.


def wanted_extensions() -> list[Extension]:
    """Return the extension modules to build, or fail when one was required and cannot be built."""
    wish = os.environ.get("PREFIXDB_NATIVE", "auto")
    if wish not in {"auto", "off", "require"}:
        raise SystemExit(f"PREFIXDB_NATIVE must be auto, off or require, not {wish!r}")
    if wish == "off" or not BUILDING_COMMANDS & set(sys.argv):
        return []
    missing = missing_part() if MODULE in SOURCES else f"this source tree has no {MODULE}"
    if missing is None:
        return [extension()]
    if wish == "require":
        raise SystemExit(f"PREFIXDB_NATIVE=require, but the native store cannot be built: {missing}")
    tell(
        f"built without the native store: {missing}. Everything works with the rocksdict store. For the native one: "
        "apt-get install g++ python3-dev librocksdb-dev libnghttp2-dev libssl-dev libprotozero-dev zlib1g-dev, then "
        "build again; PREFIXDB_NATIVE=off leaves it out quietly."
    )
    return []


def extension() -> Extension:
    """Return the extension with its flags."""
    # Warnings of compilers nobody here has seen must not keep anyone from installing a release.
    strict = ["-Werror"] if Path(".git").exists() else []
    flags = ["-std=c++20", "-O2", "-g1", "-fvisibility=hidden", *WARNINGS, *strict, *system_includes()]
    return Extension(
        "prefixdb._native.module",
        SOURCES,
        depends=[*HEADERS, "setup.py"],
        language="c++",
        include_dirs=[str(NATIVE)],
        extra_compile_args=[*flags, "-MMD", "-MP"],
        libraries=["rocksdb", "nghttp2", "ssl", "crypto", "z"],
    )


def is_stale(built: str, source: str) -> bool:
    """Tell whether an object file is older than its source, a header of ours that it includes, or this file."""
    listing = Path(built).with_suffix(".d")
    if not Path(built).exists() or not listing.exists():
        return True
    made = Path(built).stat().st_mtime_ns
    rule = listing.read_text(encoding="utf-8").replace("\\\n", " ").split("\n", 1)[0]
    used = [source, "setup.py", *rule.partition(":")[2].split()]
    return any(not Path(name).exists() or Path(name).stat().st_mtime_ns >= made for name in used)


class BuildExtension(build_ext):
    """Compiles changed files only, several at a time, and all of them when compiler, flags or RocksDB changed."""

    def build_extensions(self) -> None:
        from pybind11.setup_helpers import ParallelCompile

        os.environ.setdefault("CXX", "g++")
        stamp = Path(self.build_temp) / "toolchain.txt"
        now = self._toolchain()
        same = stamp.exists() and stamp.read_text(encoding="utf-8") == now
        stale = is_stale if same else lambda _built, _source: True
        self.force = self.force or not same
        with ParallelCompile("PREFIXDB_BUILD_JOBS", needs_recompile=stale):
            super().build_extensions()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(now, encoding="utf-8")

    def _toolchain(self) -> str:
        version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True).stdout
        probe = subprocess.run(
            [*compiler(), "-E", "-dM", "-include", "rocksdb/version.h", "-x", "c++", os.devnull],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        rocksdb = sorted(line for line in probe.stdout.splitlines() if " ROCKSDB_" in line)
        flags = [flag for each in self.extensions for flag in each.extra_compile_args]
        return "\n".join([version, *rocksdb, sys.version, *flags])


setup(ext_modules=wanted_extensions(), cmdclass={"build_ext": BuildExtension})
