"""Goal: trouble that does not stop the server is told where operators look, logged once, and forgotten when mended.

Method: a real server whose other issuers' keys are broken and mended on disk; looks that fail.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from prefixdb.server import alarms
from prefixdb.server.alarms import Alarms, keep_looking
from prefixdb.v1 import maintenance_pb2
from tests.support.server import RunningServer, eventually, running


def key_set() -> str:
    """Return a key set with one key."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": base64url_encode(public).decode()}
    return json.dumps({"keys": [key]})


async def told(server: RunningServer) -> list[str]:
    """Return the alarms of the status."""
    boss = server.guardian
    return list((await boss.call(boss.maintenance.Status, maintenance_pb2.StatusRequest())).alarms)


def test_a_broken_key_set_is_told_in_status_metrics_and_log_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alarms, "ISSUERS_LOOK_S", 0.02)
    (tmp_path / "issuers.toml").write_text(
        '[[issuer]]\nname = "okta"\niss = "https://okta.example"\njwks = "okta.json"\nnamespaces = ["acme"]\n'
        'groups = ["readers"]\n'
    )
    jwks = tmp_path / "okta.json"
    jwks.write_text(key_set())

    async def main() -> None:
        settings = {"auth.issuers": tmp_path / "issuers.toml"}
        async with running(tmp_path / "data", settings=settings) as server:
            assert await told(server) == []
            assert 'prefixdb_alarms{of="issuers"} 0.0' in server.app.metrics.render().decode()
            jwks.write_text("broken")
            await eventually(server.app.alarms.texts, "the problem is seen")
            [text] = await told(server)
            assert "okta" in text
            assert 'prefixdb_alarms{of="issuers"} 1.0' in server.app.metrics.render().decode()
            assert server.app.serving, "and the server goes on"
            jwks.write_text(key_set())
            await eventually(lambda: not server.app.alarms.texts(), "the problem is gone")
            assert await told(server) == []

    asyncio.run(main())
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1 and "okta" in errors[0].getMessage()


def test_a_look_that_fails_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) != 4:
            raise RuntimeError("secret")

    async def main() -> None:
        task = asyncio.create_task(keep_looking(look, 0.0))
        await eventually(lambda: len(looks) >= 7, "it goes on looking")
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert len(caplog.records) == 2, "once before it worked, once after"


def test_every_source_is_counted_by_itself() -> None:
    found = Alarms({"one": lambda: ("a", "b"), "two": tuple})
    assert found.texts() == ("a", "b")
    assert found.counts() == {"one": 2, "two": 0}
