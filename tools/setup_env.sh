#!/usr/bin/env bash
# Make the virtual environment in .venv, with everything that `make test` and `make demo` need.
#
# It installs what is missing and nothing else: Python's venv module from Debian when the interpreter came without it,
# then the pinned Python packages. Run again it does nothing until pyproject.toml or the pins change.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=tools/constraints.txt
stamp=.venv/.ready

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
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >"$log" 2>&1; then
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

fingerprint() { cat pyproject.toml setup.py "$pins" tools/setup_env.sh | cksum; }

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]; then
    exit 0
fi

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
.venv/bin/pip install --quiet --disable-pip-version-check -c "$pins" --editable '.[dev]'
fingerprint >"$stamp"
say "ready"
