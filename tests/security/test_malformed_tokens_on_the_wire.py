"""Goal: whoever sends a token that is not good learns one thing only, and always the same bytes.

Method: more than sixty malformed and forged tokens are made from a good one of each kind and sent over the wire, to the
calls they are for and to those they are not for; the status, the message and the details of all replies must form a set
of one.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import grpc

from prefixdb.catalog.entities import Guardian
from prefixdb.limits import TOKEN_BYTES_MAX
from prefixdb.rpcstatus import DETAILS_KEY
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.security.forging_issuers import OtherIssuer, write_issuers
from tests.security.forging_issuers import encode as issued
from tests.support.server import RunningServer, running


def encode(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> dict[str, Any]:
    """Return the JSON object in a part of a token."""
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def malformed(good: str) -> list[str]:
    """Return tokens that are wrong in one way each."""
    header, payload, signature = good.split(".")
    head, claims = decode(header), decode(payload)

    def with_header(**changes: Any) -> str:
        changed = {name: value for name, value in (head | changes).items() if value is not None}
        return f"{encode(json.dumps(changed).encode())}.{payload}.{signature}"

    def with_claims(**changes: Any) -> str:
        changed = {name: value for name, value in (claims | changes).items() if value is not None}
        return f"{header}.{encode(json.dumps(changed).encode())}.{signature}"

    found = [
        "x", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "null", "{}", "Bearer", good[:-1], good + "A", good[1:],
        good + ".", "." + good, good + "=", good + "==", good.replace(".", ",", 1), f"{payload}.{header}.{signature}",
        f"{header}.{payload}.", f"{header}..{signature}", f".{payload}.{signature}", f"{header}.{header}.{signature}",
        f"{header}.{payload}.{signature[::-1]}", f"{header}.{payload}.{'A' * 86}", good.upper(), good.lower(),
        f"{header} .{payload}.{signature}", f"{header}.{payload}\x20.{signature}", good * 2, f"{good} {good}",
        "A" * TOKEN_BYTES_MAX, "A" * (TOKEN_BYTES_MAX + 1), f"{'A' * 1300}.{'A' * 1300}.{'A' * 1300}",
        f"{encode(b'[]')}.{payload}.{signature}", f"{encode(b'null')}.{payload}.{signature}",
        f"{encode(chr(123).encode() * 900)}.{payload}.{signature}", f"{encode(b'[' * 900)}.{payload}.{signature}",
        f"{encode(b'{}')}.{payload}.{signature}", f"{header}.{encode(b'{}')}.{signature}",
        f"{header}.{encode(json.dumps(claims).encode('utf-16'))}.{signature}",
        header + ".__4." + signature,
    ]  # fmt: skip
    found += [with_header(alg=alg) for alg in ("none", "None", "HS256", "RS256", "ES256", "eddsa", "", None, 1)]
    found += [with_header(kid=kid) for kid in ("", "0" * 16, "../keys/x", None, 7, [])]
    found += [with_header(jku="https://x"), with_header(jwk={}), with_header(typ="at+jwt"), with_header(crit=["exp"])]
    found += [
        with_claims(ns="0"), with_claims(ns=0), with_claims(inc="1"), with_claims(exp=2**40), with_claims(exp=None),
        with_claims(groups=["guardians"]), with_claims(guardian="cluster"), with_claims(sub=None), with_claims(aud="x"),
    ]  # fmt: skip
    return found


async def reply_to(server: RunningServer, token: str) -> tuple[Any, ...]:
    """Return (status, message, details) of a Get with the token."""
    metadata = (("authorization", f"Bearer {token}"),)
    return await refusal(server.nobody().key_value.Get(pb.GetRequest(key=b"k"), metadata=metadata, timeout=10))


async def reply_to_refresh(server: RunningServer, token: str) -> tuple[Any, ...]:
    """Return the same of a Refresh; Logout must say it too."""
    auth = server.nobody().auth
    replies = [
        await refusal(auth.Refresh(auth_pb2.RefreshRequest(refresh_token=token), timeout=10)),
        await refusal(auth.Logout(auth_pb2.LogoutRequest(refresh_token=token), timeout=10)),
    ]
    assert replies[0] == replies[1]
    return replies[0]


async def refusal(call: Any) -> tuple[Any, ...]:
    try:
        await call
    except grpc.aio.AioRpcError as failure:
        trailers = dict(failure.trailing_metadata() or ())
        assert set(trailers) <= {DETAILS_KEY}, "a trailer that others do not have"
        return failure.code(), failure.details(), trailers.get(DETAILS_KEY)
    raise AssertionError("a malformed token was accepted")


def test_sixty_malformed_tokens_get_one_identical_reply(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            good = server.token(acme.id, groups=("writers",))
            assert not (await server.nobody(good).get(pb.GetRequest(key=b"k"))).found
            tokens = malformed(good)
            tokens += [server.forged_token(acme), server.forged_token(acme, Guardian.NAMESPACE)]
            assert len(set(tokens) - {good}) >= 60
            replies = {await reply_to(server, token) for token in set(tokens) - {good}}
            assert len(replies) == 1, replies
            assert next(iter(replies))[0] is grpc.StatusCode.UNAUTHENTICATED
            assert len(server.app.sessions) == 1, "a token that was refused is remembered"

    asyncio.run(main())


def test_tokens_of_logins_and_of_other_issuers_get_the_same_reply_wherever_they_do_not_belong(tmp_path: Path) -> None:
    async def main() -> None:
        issuer = OtherIssuer(tmp_path)
        file = write_issuers(tmp_path / "issuers.toml", issuer)
        async with running(tmp_path / "data", settings={"auth.issuers": str(file)}) as server:
            acme = server.create("acme")
            server.member(acme, "ann")
            ann = await server.login("ann", home=acme)
            access, refresh = ann.tokens.access_token, ann.tokens.refresh_token
            record = {"ns": str(acme.id), "inc": str(acme.incarnation)}
            now_s = server.app.clock.now_ms() // 1000
            times = {"iat": now_s, "exp": now_s + 600}
            claims = {"iss": issuer.iss, "aud": "prefixdb", "sub": "zoe", "jti": "j", "groups": ["readers"], **record}
            foreign = issued(issuer.header(), {**claims, **times, "typ": "access"}, issuer.key)
            for good in (access, foreign):
                assert not (await server.nobody(good).get(pb.GetRequest(key=b"k"))).found
            for_calls = {*malformed(access), *malformed(foreign), *malformed(refresh), refresh} - {access, foreign}
            for_refresh = {*malformed(refresh), access, foreign, server.token(acme.id), ""} - {refresh}
            for_refresh = {token for token in for_refresh if token.isprintable()}
            replies = {await reply_to(server, token) for token in for_calls}
            replies |= {await reply_to_refresh(server, token) for token in for_refresh}
            assert len(replies) == 1, replies
            assert len(for_calls) >= 180 and len(for_refresh) >= 60
            assert (await ann.refreshed()).tokens.refresh_token != refresh, "none of it has ended or spent the login"

    asyncio.run(main())


def test_anything_but_one_bearer_entry_is_a_missing_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            good = server.token(server.create("acme").id)
            odd: list[Any] = [
                (),
                (("authorization", good),),
                (("authorization", f"bearer {good}"),),
                (("authorization", f"BEARER {good}"),),
                (("authorization", f"Bearer{good}"),),
                (("authorization", f"Basic {good}"),),
                (("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")),
                (("authorization", f"Bearer {good}"), ("authorization", "")),
                (("x-authorization", f"Bearer {good}"),),
                (("authorization-bin", f"Bearer {good}".encode()),),
                (("cookie", f"authorization=Bearer {good}"),),
            ]
            replies = set()
            for metadata in odd:
                try:
                    await server.nobody().key_value.Get(pb.GetRequest(key=b"k"), metadata=metadata, timeout=10)
                except grpc.aio.AioRpcError as failure:
                    details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY)
                    replies.add((failure.code(), failure.details(), details))
                else:
                    raise AssertionError(f"accepted: {metadata[0][0]}")
            assert len(replies) == 1
            assert "TOKEN_MISSING" in str(next(iter(replies))[2])

    asyncio.run(main())
