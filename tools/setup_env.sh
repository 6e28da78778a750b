#!/usr/bin/env bash
# Make the virtual environment in .venv, with everything that `make test` and `make demo` need.
#
# It installs what is missing and nothing else: Python's venv module from Debian when the interpreter came without it,
# the pinned Python packages, then compiler and libraries of the native store and front, which it builds, then Node's
# gRPC client, which one test uses. Run again it does nothing until pyproject.toml, the pins, the C++ sources or the
# toolchain change.
#
# PREFIXDB_NATIVE: auto (default: without compiler and libraries go on and say so), require (fail then), off (leave out).
set -euo pipefail
cd "$(dirname "$0")/.."

pins=tools/constraints.txt
packages_stamp=.venv/.ready
native_stamp=.venv/.native
node_stamp=.venv/.node
native=${PREFIXDB_NATIVE:-auto}

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        say "this needs root: $*"
        return 1
    fi
}

apt_install() {
    command -v apt-get >/dev/null || { say "no apt-get here; please install: $*"; return 1; }
    local log
    log=$(mktemp)
    if ! { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Print the first interpreter that is at least Python 3.11.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python 3.11 or later found; set PYTHON to one"
    return 1
}

packages_fingerprint() { cat pyproject.toml "$pins" tools/setup_env.sh | cksum; }

# What the extension is made of: sources, build script, compiler and RocksDB, and what was asked for.
native_fingerprint() {
    {
        echo "$native"
        cat setup.py tools/setup_env.sh prefixdb/_native/*.cc prefixdb/_native/*.h prefixdb/_native/front/*
        "${CXX:-g++}" -dumpfullversion 2>/dev/null || echo "no compiler"
        cat /usr/include/rocksdb/version.h 2>/dev/null || echo "no rocksdb"
        ls prefixdb/_native/module.*.so 2>/dev/null || echo "not built"
    } | cksum
}

install_packages() {
    local python
    python=$(find_python)
    say "using $("$python" --version) for .venv"
    if [ ! -x .venv/bin/pip ]; then
        rm -rf .venv
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            say "this Python has no venv module; installing it"
            apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
            rm -rf .venv
            "$python" -m venv .venv
        fi
    fi
    say "installing the pinned Python packages"
    # The extension is built afterwards, in place, where a build keeps what has not changed.
    PREFIXDB_NATIVE=off .venv/bin/pip install --quiet --disable-pip-version-check -c "$pins" --editable '.[dev]'
    packages_fingerprint >"$packages_stamp"
}

# Tell whether what the native store and its tests include is there; setup.py finds out in detail and links.
has_libraries() {
    local include
    include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    printf '#include <%s>\n' rocksdb/version.h nghttp2/nghttp2.h openssl/ssl.h zlib.h protozero/pbf_reader.hpp \
        doctest/doctest.h Python.h |
        "${CXX:-g++}" -std=c++20 -isystem "$include" -x c++ -fsyntax-only - 2>/dev/null
}

install_libraries() {
    local wanted=(g++ librocksdb-dev libnghttp2-dev libssl-dev libprotozero-dev zlib1g-dev doctest-dev)
    # Debian's own Python has its headers in a package; others bring them.
    if [ "$(.venv/bin/python -c 'import sys; print(sys.base_prefix)')" = /usr ]; then
        wanted+=("python$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev")
    fi
    say "installing compiler and libraries of the native store: ${wanted[*]}"
    if ! apt_install "${wanted[@]}"; then
        if [ "$native" = require ]; then
            say "PREFIXDB_NATIVE=require, but they could not be installed"
            return 1
        fi
        say "they could not be installed"
    fi
}

build_native() {
    if [ "$native" = off ]; then
        rm -f prefixdb/_native/module.*.so
    else
        has_libraries || install_libraries
        say "building the native store"
        PREFIXDB_NATIVE=$native .venv/bin/python setup.py -q build_ext --inplace >/dev/null
    fi
    native_fingerprint >"$native_stamp"
}

node_fingerprint() { { cat tests/interop/package.json; ls tests/interop/node_modules 2>/dev/null || true; } | cksum; }

# A gRPC client of another language, for tests/interop alone; without it everything else works.
install_node() {
    command -v npm >/dev/null || apt_install nodejs npm || { say "Node could not be installed; its test is skipped"; return; }
    say "installing Node's gRPC client for its test"
    if ! (cd tests/interop && npm install --no-package-lock --no-audit --no-fund --silent >/dev/null); then
        say "Node's packages could not be installed; its test is skipped"
        return
    fi
    node_fingerprint >"$node_stamp"
}

stores() {
    .venv/bin/python - <<'PYTHON'
import importlib.util

if importlib.util.find_spec("prefixdb._native.module") is None:
    print("rocksdict (the native store is not built in)")
else:
    from prefixdb._native import module

    print(f"rocksdict, native (RocksDB {module.ROCKSDB_VERSION})")
PYTHON
}

current() { [ -f "$1" ] && [ "$(cat "$1")" = "$("$2")" ]; }

if current "$packages_stamp" packages_fingerprint && current "$native_stamp" native_fingerprint &&
    current "$node_stamp" node_fingerprint; then
    exit 0
fi
current "$packages_stamp" packages_fingerprint || install_packages
current "$native_stamp" native_fingerprint || build_native
current "$node_stamp" node_fingerprint || install_node
say "ready; stores: $(stores)"
