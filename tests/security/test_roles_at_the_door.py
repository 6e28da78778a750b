"""Goal: whoever comes without a token, or with a password that gives none, gets what docs/security.md says.

Method: the table of roles once more, for callers without a token on servers that were told to let them in; and failing
logins of every kind, compared byte for byte with each other and with what was stored before. No store matters here.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from prefixdb.errors import Reason
from prefixdb.v1 import auth_pb2 as auth
from tests.security.roles import ANONYMOUS, ROLES
from tests.security.roles_stage import OTHER_MEMBER, PASSWORD, Picture, ask, on_stage
from tests.security.test_roles import cells, go_through


@pytest.mark.parametrize("anonymous", ANONYMOUS)
def test_somebody_without_a_token_is_let_in_where_that_was_asked_for_and_nobody_with_a_bad_one(
    tmp_path: Path, anonymous: str
) -> None:
    bad = [role for role in ROLES if role.refused not in {None, Reason.TOKEN_MISSING}]
    table = cells((ANONYMOUS[anonymous],)) + random.Random(6).sample(cells(tuple(bad)), 200)
    gone_through = asyncio.run(go_through(tmp_path, table, anonymous))
    assert not gone_through.wrong, "\n".join(gone_through.wrong[:40])


LOGINS = {
    Reason.BAD_CREDENTIALS: (
        {"namespace": "acme", "user": "visitor", "password": "quite another password"},
        {"namespace": "acme", "user": OTHER_MEMBER},
        {"namespace": "acme", "user": "nobody-here"},
        {"namespace": "acme", "user": "disabled-guardian"},
        {"namespace": "acme", "user": "locked", "password": ""},
        {"namespace": "unknown", "user": "visitor"},
        {"namespace": "umbra", "user": "visitor"},
        {"namespace": "shut", "user": "nobody-here"},
        {"namespace": "gone", "user": "nobody-here"},
        {"namespace": "zero", "user": "disabled-cluster-guardian"},
        {"namespace": "zero", "user": "visitor", "password": "quite another password", "into": "umbra"},
    ),
    Reason.NOT_PERMITTED: (
        {"namespace": "acme", "user": "visitor", "into": "umbra"},
        {"namespace": "acme", "user": "visitor", "into": "unknown"},
        {"namespace": "acme", "user": "visitor", "into": "zero"},
        {"namespace": "zero", "user": "visitor", "into": "umbra"},
        {"namespace": "zero", "user": "visitor", "into": "unknown"},
        {"namespace": "zero", "user": "denied-guest", "into": "acme"},
        {"namespace": "zero", "user": "cluster-guardian", "into": "acme"},
    ),
    Reason.NAMESPACE_SUSPENDED: ({"namespace": "shut", "user": "guardian-of-a-suspended-namespace"},),
    Reason.NAMESPACE_BANNED: ({"namespace": "gone", "user": "guardian-of-a-banned-namespace"},),
}
"""Logins that give nothing; the password is right where none is said."""


def test_a_login_that_fails_changes_nothing_and_tells_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with on_stage(tmp_path) as stage:
            stage.app.authority.identities.members.create(stage.id_of("acme"), "locked")
            before = Picture(stage.server)
            for reason, asked in LOGINS.items():
                told = set()
                for said in asked:
                    password = said.get("password", PASSWORD)
                    home = stage.ref(said["namespace"])
                    request = auth.LoginRequest(namespace=home, user=said["user"], password=password)
                    if "into" in said:
                        request.into.CopyFrom(stage.ref(said["into"]))
                    reply = await ask(stage.channel, "Auth/Login", request, None)
                    assert reply.reason is reason, said
                    told.add(reply.told)
                assert len(told) == 1, f"{reason.name} is told in different words"
            assert Picture(stage.server) == before

    asyncio.run(main())
