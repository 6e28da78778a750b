"""What the tests of logins and administration share: scenes over the wire, and short words for the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import auth_pb2 as pb
from tests.support.server import Caller, RunningServer, running

Scenario = Callable[[RunningServer], Awaitable[None]]


def play(tmp_path: Path, scenario: Scenario, **options: Any) -> None:
    """Run a scenario against a fresh server."""

    async def main() -> None:
        async with running(tmp_path / "data", **options) as server:
            await scenario(server)

    asyncio.run(main())


async def refused(call: Awaitable[Any], reason: Reason, field: str | None = None) -> PrefixdbError:
    """Check that a call is refused with a reason, and names the field when it is one field's fault."""
    with pytest.raises(PrefixdbError) as caught:
        await call
    assert caught.value.reason is reason, caught.value
    assert caught.value.metadata.get("field") == field
    return caught.value


async def who(caller: Caller) -> pb.WhoAmIResponse:
    """Return what the server says the caller is."""
    answer: pb.WhoAmIResponse = await caller.call(caller.auth.WhoAmI, pb.WhoAmIRequest())
    return answer


async def refresh(server: RunningServer, token: str) -> pb.Tokens:
    caller = server.nobody()
    return (await caller.call(caller.auth.Refresh, pb.RefreshRequest(refresh_token=token))).tokens  # type: ignore[no-any-return]


async def logout(server: RunningServer, token: str, *, everywhere: bool = False) -> None:
    caller = server.nobody()
    await caller.call(caller.auth.Logout, pb.LogoutRequest(refresh_token=token, everywhere=everywhere))


async def change(caller: Caller, old: str, new: str) -> Caller:
    request = pb.ChangePasswordRequest(old_password=old, new_password=new)
    tokens = (await caller.call(caller.auth.ChangePassword, request)).tokens
    return Caller(caller.channel, tokens.access_token, tokens)


def audit_lines(server: RunningServer) -> list[dict[str, Any]]:
    text = (server.app.config.data_dir / "audit.jsonl").read_text(encoding="ascii")
    return [json.loads(line) for line in text.splitlines()]


def grant(server: RunningServer, member: str, namespace: Any, *groups: str) -> None:
    effect = GrantEffect.ALLOW if groups else GrantEffect.DENY
    server.app.authority.identities.grants.set(member, namespace, effect, groups)
