"""Goal: the owner of a damaged data directory learns what is lost before agreeing, and a server runs on what is left.

Method: real processes: a server with rows is killed, its log and its MANIFEST are damaged, it refuses to start, the
command is run without and with consent, and the server serves the rows again to the same token.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.cli.test_serve import serving
from tests.support.crash_image import content, newest


def flags(data: Path) -> list[str]:
    """Return what a server is started with."""
    return ["--data-dir", str(data), "--listen", "127.0.0.1:0", "--http", ""]


def test_from_damage_to_a_server_that_serves_again(bare: Cli, tmp_path: Path) -> None:
    data, new, errors = tmp_path / "data", tmp_path / "new", tmp_path / "errors"
    with serving(bare, *flags(data), errors=errors) as ready:
        at = ["--endpoint", ready[1], "--token-file", str(data / "guardian.token")]
        assert bare("put", "k", "kept", *at).status == 0
    newest(data, "MANIFEST").unlink()
    (data / "store-state.json").unlink()
    before = content(data)

    told = bare.process("recover", "--data-dir", str(data), "--out", str(new))
    assert told.status == 3, told.err
    assert "There is no MANIFEST" in told.text and "add --accept-loss" in told.err
    assert not new.exists()
    for way in (["--json"], []):
        again = bare.process("recover", "--data-dir", str(data), "--out", str(new), *way)
        assert again.status == 3
    report = json.loads(bare.process("recover", "--data-dir", str(data), "--out", str(new), "--json").text)
    assert (report["written"], report["lossless"]) == (False, False)

    done = bare.process("recover", "--data-dir", str(data), "--out", str(new), "--accept-loss", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.text)
    assert report["written"] and [each["namespace_id"] for each in report["namespaces"]] == ["0"]
    assert content(data) == before
    with serving(bare, *flags(new), errors=errors) as ready:
        at = ["--endpoint", ready[1], "--token-file", str(new / "guardian.token")]
        assert bare("get", "k", *at).text == "kept"
        assert bare("put", "l", "new", *at).status == 0
    refused = bare.process("recover", "--data-dir", str(data), "--out", str(new), "--accept-loss")
    assert refused.status == 64 + 9 and "not empty" in refused.err


def test_a_directory_without_a_loss_needs_no_consent(bare: Cli, tmp_path: Path) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    with serving(bare, *flags(data), errors=tmp_path / "errors") as ready:
        assert ready
        running = bare.process("recover", "--data-dir", str(data), "--out", str(new))
        assert running.status == 64 + 9 and "running" in running.err
    done = bare.process("recover", "--data-dir", str(data), "--out", str(new))
    assert done.status == 0, done.err
    assert "nothing acknowledged at the end is missing" in done.text
    assert f"prefixdb serve --data-dir {new}" in done.err
