"""A client that nobody here wrote gets along with the server: Node's @grpc/grpc-js, from the plain .proto files.

Goal: every KeyValue call, a login and administrative calls work from another language's gRPC, in the clear and through
TLS with client certificates, errors with their details included.
Method: ``client.js`` does it all and prints what it found; here stands what that has to be. The environment of `make
env` has Node and the two packages of ``package.json``; where they are missing the tests are skipped, but not in CI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from prefixdb import TlsOptions, connect
from tests.store.stores import DURABLE
from tests.support.certificates import issue
from tools.lab.process import ROOT, ServerProcess

HERE = Path(__file__).parent
NODE_S_MAX = 120


def node() -> str:
    """Return the interpreter, or skip."""
    found = shutil.which("node")
    if found is None or not (HERE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        if os.environ.get("CI"):
            pytest.fail("Node or its packages are missing: tools/setup_env.sh installs them")
        pytest.skip("Node and the packages of tests/interop are not installed")
    return found


def google_protos() -> Path:
    """Return the directory in which google/rpc/status.proto lies."""
    spec = find_spec("google.rpc")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))).parents[1]


def ask(given: dict[str, Any]) -> dict[str, Any]:
    """Run the client and return what it found."""
    done = subprocess.run(
        [node(), str(HERE / "client.js")],
        input=json.dumps({"protos": str(ROOT / "proto"), "google_protos": str(google_protos()), **given}),
        capture_output=True, text=True, timeout=NODE_S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "mutual TLS"])
@pytest.mark.parametrize("store", DURABLE)
def test_node_gets_along_with_the_server(tmp_path: Path, store: str, tls: bool) -> None:
    node()
    settings: dict[str, str] = {}
    given: dict[str, Any] = {}
    client_tls = None
    if tls:
        authority = issue("authority")
        issue("server", authority).write(tmp_path, "server")
        mine = issue("node", authority)
        mine.write(tmp_path, "node")
        authority.write(tmp_path, "authority")
        for name, file in (("CERT", "server.pem"), ("KEY", "server.key"), ("CLIENT_CA", "authority.pem")):
            settings[f"PREFIXDB_TLS__{name}"] = str(tmp_path / file)
        given = {"ca": authority.pem.decode(), "key": mine.key_pem.decode(), "certificate": mine.pem.decode()}
        client_tls = TlsOptions(tmp_path / "authority.pem", tmp_path / "node.pem", tmp_path / "node.key")
    with ServerProcess(tmp_path / "data", store=store, settings=settings) as server:
        server.start()
        with connect(server.address, token_file=server.guardian_token_file(), tls=client_tls) as guardian:
            made = guardian.guardian.namespaces.create("acme")
            token = guardian.guardian.tokens.issue("node", ["writers"], namespace="acme").token
            guardian.guardian.members.create("nora", password="correct horse battery", groups=["writers"])
        found = ask(
            given
            | {
                "address": server.address,
                "token": token,
                "guardian": server.guardian_token_file().read_text().strip(),
                "user": "nora",
                "password": "correct horse battery",
            }
        )
        check_rows(found["rows"])
        check_rest(found["rest"], store)
        assert made.namespace.name == "acme"


def check_rows(rows: dict[str, Any]) -> None:
    """Compare what KeyValue answered with what it has to."""
    assert rows["put"]["applied"] and rows["conditional"]["applied"]
    assert not rows["unmet"]["applied"]
    assert rows["unmet"]["current_version"] == rows["conditional"]["version"] == rows["get"]["version"]
    assert (rows["get"]["found"], rows["get"]["value"]) == (True, "two")
    assert not rows["missing"]["found"]
    assert rows["large"]["applied"]
    assert (rows["too_large"]["code"], rows["too_large"]["reason"]) == (3, "VALUE_TOO_LARGE")
    assert rows["write"]["applied"]
    assert [row["found"] for row in rows["batch"]] == [True, False, True]
    assert len(rows["batch"][2]["value"]) == 900_000
    assert rows["count"]["count"] == "2500"
    assert rows["scan"] == {"code": 0, "pages": 3, "rows": 2500}
    assert rows["first"] == "row/02499"
    first, second = rows["pipeline"]["messages"]
    assert (first["id"], second["id"], rows["pipeline"]["code"]) == ("1", "2", 0)
    assert [result["result"] for result in first["results"]] == ["put", "get", "error"]
    assert first["results"][1]["get"]["value"] == "p"
    assert first["results"][2]["error"]["reason"] == "REASON_KEY_EMPTY"
    assert not second["results"][1]["get"]["found"]
    assert rows["delete"]["applied"]
    assert (rows["empty_key"]["code"], rows["empty_key"]["reason"]) == (3, "KEY_EMPTY")
    assert (rows["no_token"]["code"], rows["no_token"]["reason"]) == (16, "TOKEN_MISSING")
    assert (rows["bad_token"]["code"], rows["bad_token"]["reason"]) == (16, "TOKEN_INVALID")
    assert rows["late"]["code"] == 4
    assert rows["cancelled"] == 1
    assert rows["gzip"] == 50_000
    assert rows["at_once"] == 300


def check_rest(rest: dict[str, Any], store: str) -> None:
    """Compare what the other services answered with what they have to."""
    assert rest["login"] and rest["create"]
    assert (rest["wrong"]["code"], rest["wrong"]["reason"]) == (16, "BAD_CREDENTIALS")
    assert rest["who"]["subject"] == "nora"
    assert (rest["forbidden"]["code"], rest["forbidden"]["reason"]) == (7, "NOT_PERMITTED")
    assert rest["status"]["store"] == store
