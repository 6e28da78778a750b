"""Goal: a login keeps what auth.proto says, to the letter: whom it lets in, where it lands, what is written down of it.

Method: a real server over the wire with members of every kind; the audit file is read back as text.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from argon2 import PasswordHasher

from prefixdb import limits
from prefixdb.catalog.entities import Guardian, NamespaceIssue, NamespaceState, Privilege
from prefixdb.catalog.passwords import needs_rehash
from prefixdb.errors import Reason, error
from prefixdb.v1 import auth_pb2 as pb
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import namespaces_pb2
from tests.service.logins import audit_lines, change, grant, logout, play, refresh, refused, who
from tests.support.server import PASSWORD, RunningServer, eventually, reference


def test_a_login_gives_both_tokens_and_the_access_token_is_the_member_in_its_namespace(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice", groups=("readers",))
        for home in ("acme", acme.id):
            alice = await server.login("alice", home=home)
            tokens = alice.tokens
            assert (tokens.namespace_id, tokens.namespace_name) == (acme.id, "acme")
            now_s = server.app.clock.now_ms() / 1000
            assert abs(tokens.access_expires_at.seconds - now_s - limits.ACCESS_TOKEN_S) < 5
            assert abs(tokens.refresh_expires_at.seconds - now_s - limits.REFRESH_TOKEN_S) < 5
            me = await who(alice)
            assert (me.subject, me.namespace_id, me.home_namespace_id, me.member) == ("alice", acme.id, acme.id, True)
            assert list(me.groups) == ["readers"] and me.guardian == pb.GUARDIAN_UNSPECIFIED and not me.privileges
            assert [(rule.read, rule.write) for rule in me.rules] == [(True, False)]
            await refused(alice.call(alice.key_value.Put, kv.PutRequest(key=b"k")), Reason.NOT_PERMITTED)
            await refused(server.nobody(tokens.refresh_token).get(kv.GetRequest(key=b"k")), Reason.TOKEN_INVALID)
        service = await who(server.caller(acme))
        assert (service.member, service.home_namespace_id) == (False, acme.id)

    play(tmp_path, scenario)


def test_a_guardian_who_logs_in_is_one_and_who_stops_being_one_is_none_at_once(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        members = server.app.authority.identities.members
        for home, guardian in ((acme, pb.GUARDIAN_NAMESPACE), (0, pb.GUARDIAN_CLUSTER)):
            home_id = home if isinstance(home, int) else home.id
            for name in ("first", "second"):
                server.member(home, name, groups=("guardians",))
            first = await server.login("first", home=home)
            assert (await who(first)).guardian == guardian
            await asyncio.to_thread(members.update, home_id, "first", groups=("readers",))
            refusal = Reason.NOT_PERMITTED if home is acme else Reason.TOKEN_REVOKED
            await refused(first.call(first.auth.ListTokens, pb.ListTokensRequest()), refusal)

    play(tmp_path, scenario)


def test_what_is_wrong_with_a_message_is_told_before_any_password_is_looked_at(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        nobody = server.nobody()
        login = nobody.auth.Login
        empty = namespaces_pb2.NamespaceRef()
        server.app.hashing.close()  # Whatever would hash now is told that the server drains.
        at_most = "x" * limits.PASSWORD_BYTES_MAX
        await refused(nobody.call(login, pb.LoginRequest(user="a", password=at_most)), Reason.DRAINING)
        long = pb.LoginRequest(user="a", password=at_most + "x")
        await refused(nobody.call(login, long), Reason.BAD_FIELD, "password")
        await refused(nobody.call(login, pb.LoginRequest(user="a", namespace=empty)), Reason.BAD_FIELD, "namespace")
        await refused(nobody.call(login, pb.LoginRequest(user="a", into=empty)), Reason.BAD_FIELD, "into")
        # A field and its length take a few bytes themselves.
        for size, reason in ((64 * 1024 - 4, Reason.DRAINING), (64 * 1024 - 3, Reason.REQUEST_TOO_LARGE)):
            await refused(nobody.call(login, pb.LoginRequest(user="a" * size)), reason)

    play(tmp_path, scenario)


def test_a_member_of_namespace_0_lands_where_it_asks_and_a_grant_covers(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales, support = server.create("sales"), server.create("support")
        server.member(0, "max", groups=("readers",), privileges=(Privilege.NAMESPACES_USE,))
        grant(server, "max", sales, "writers")
        here = await who(await server.login("max"))
        assert (here.namespace_id, list(here.groups)) == (0, ["readers"])
        for into in ("sales", sales.id):
            guest = await server.login("max", into=into)
            there = await who(guest)
            assert (there.namespace_id, there.home_namespace_id, there.member) == (sales.id, 0, True)
            assert list(there.groups) == ["writers"] and there.guardian == pb.GUARDIAN_UNSPECIFIED
            assert list(there.privileges) == [pb.PRIVILEGE_NAMESPACES_USE]
            await guest.call(guest.key_value.Put, kv.PutRequest(key=b"k", value=b"of sales"))
        assert (await server.login("max", into="default")).tokens.namespace_id == 0
        for into in (support, "nowhere", 77):
            await refused(server.login("max", into=into), Reason.NOT_PERMITTED)
        tenant = server.member(sales, "max")
        assert tenant.groups == ("writers",)
        await refused(server.login("max", home=sales, into=support), Reason.NOT_PERMITTED)
        assert (await server.login("max", home=sales, into=sales)).tokens.namespace_id == sales.id

    play(tmp_path, scenario)


def test_a_login_lands_in_the_main_namespace_and_is_told_what_is_left_when_that_is_gone(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        main, other, denied = server.create("main"), server.create("other"), server.create("denied")
        issue = NamespaceIssue(main.id, main.incarnation)
        server.member(0, "max", groups=(), main_namespace=issue)
        for namespace in (main, other, denied):
            grant(server, "max", namespace, "readers")
        assert (await server.login("max")).tokens.namespace_id == main.id
        await asyncio.to_thread(server.app.registry.suspend, main.id, NamespaceState.SUSPENDED, "")
        await refused(server.login("max"), Reason.NAMESPACE_SUSPENDED)
        await asyncio.to_thread(server.app.registry.ban, main.id, by="test", grace_ms=60_000)
        grant(server, "max", denied)
        gone = await refused(server.login("max"), Reason.MAIN_NAMESPACE_GONE)
        assert gone.metadata["usable"].split(",") == ["default", "other"]
        await refused(server.login("max", "wrong password"), Reason.BAD_CREDENTIALS)
        assert (await server.login("max", into="other")).tokens.namespace_id == other.id

    play(tmp_path, scenario)


def test_a_login_with_a_hash_of_an_older_cost_renews_it_and_ends_nothing(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        members = server.app.authority.identities.members
        old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
        assert needs_rehash(old)
        members.create(0, "max", password_hash=old, groups=("readers",))
        first, second = await server.login("max"), await server.login("max")
        found = members.get(0, "max")
        assert found is not None and not needs_rehash(found.password_hash)
        assert (await who(first)).subject == (await who(second)).subject == "max"
        before = found.password_hash
        await server.login("max")
        assert members.get(0, "max").password_hash == before  # type: ignore[union-attr]

    play(tmp_path, scenario)


def test_a_password_that_is_changed_while_it_is_compared_begins_no_login(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        members, hashing = server.app.authority.identities.members, server.app.hashing
        new = server.member(0, "other").password_hash
        verify = hashing.verify

        async def slow(*arguments: Any, **options: Any) -> bool:
            right = await verify(*arguments, **options)
            await asyncio.to_thread(members.set_password, 0, "max", new)
            return right

        hashing.verify = slow  # type: ignore[method-assign]
        await refused(server.login("max"), Reason.BAD_CREDENTIALS)

    play(tmp_path, scenario)


def test_logins_and_their_refusals_are_in_the_audit_and_passwords_are_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice")
        alice = await server.login("alice", home=acme)
        await refused(server.login("alice", "wrong-password-1", home=acme), Reason.BAD_CREDENTIALS)
        await refused(server.login("wrong-password-2", home=acme), Reason.BAD_CREDENTIALS)
        await refused(server.login("alice", "wrong-password-3", home="nowhere"), Reason.BAD_CREDENTIALS)
        fresh = await change(alice, PASSWORD, "the-next-password")
        await asyncio.to_thread(server.app.registry.suspend, acme.id, NamespaceState.SUSPENDED, "")
        await refused(server.login("alice", "the-next-password", home=acme), Reason.NAMESPACE_SUSPENDED)
        lines = audit_lines(server)
        logins = [line for line in lines if line["method"] == "/prefixdb.v1.Auth/Login"]
        member = f"member alice of namespace {acme.id} acme"
        told = [(line["user"], line["target"], line["result"]) for line in logins]
        assert told[0][0] == "alice" and told[0][1].startswith("login ") and told[0][2] == "ok"
        assert told[1:] == [
            ("", member, "BAD_CREDENTIALS"),
            ("", "nobody of that name", "BAD_CREDENTIALS"),
            ("", "nobody of that name", "BAD_CREDENTIALS"),
            ("", member, "NAMESPACE_SUSPENDED"),
        ]
        assert logins[0]["namespace_id"] == str(acme.id) and logins[0]["namespace"] == "acme"
        assert all(line["peer"].startswith("ipv4:127.0.0.1:") and line["request_id"] for line in logins)
        changes = [line["result"] for line in lines if line["method"].endswith("/ChangePassword")]
        assert changes == ["started", "ok"]
        text = (server.app.config.data_dir / "audit.jsonl").read_text() + caplog.text
        for secret in ("password", PASSWORD, alice.token, alice.tokens.refresh_token, fresh.tokens.refresh_token):
            assert str(secret) not in text.replace("own password of", "").replace("guardian's password", "").replace(
                "guardian.password", ""
            )

    caplog.set_level("DEBUG")
    play(tmp_path, scenario)


def test_what_a_guest_does_is_audited_under_the_name_of_its_home(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales = server.create("sales")
        server.member(0, "max", groups=())
        grant(server, "max", sales, "readers")
        guest = await server.login("max", into=sales)
        await guest.exchanged(0)
        await refused(guest.call(guest.auth.ListTokens, pb.ListTokensRequest()), Reason.NOT_PERMITTED)
        exchange, refusal = audit_lines(server)[-2:]
        assert [(line["user"], line["namespace_id"], line["namespace"]) for line in (exchange, refusal)] == [
            ("max", "0", "default")
        ] * 2
        assert exchange["target"] == "access to namespace 0 default" and exchange["result"] == "ok"
        assert refusal["target"] == f"as a guest of namespace {sales.id} sales"

    play(tmp_path, scenario)


def test_without_an_audit_nobody_logs_in_and_who_is_in_stays(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max", privileges=(Privilege.NAMESPACES_USE,))
        caller, leaver = await server.login("max"), await server.login("max")
        logins = server.app.authority.identities.logins
        await logout(server, leaver.tokens.refresh_token)

        async def record(entry: object) -> None:
            raise error(Reason.AUDIT_UNAVAILABLE)

        server.app.audit.record = record  # type: ignore[method-assign]
        ended: list[str] = []
        end = logins.end
        logins.end = lambda home, member, family: (ended.append(family), end(home, member, family))[1]  # type: ignore[method-assign]
        await refused(server.login("max"), Reason.AUDIT_UNAVAILABLE)
        assert len(ended) == 1 and logins.get(0, "max", ended[0]) is None, "the login is not left behind"
        await refused(caller.exchanged(0), Reason.AUDIT_UNAVAILABLE)
        await refused(change(caller, PASSWORD, "another password"), Reason.AUDIT_UNAVAILABLE)
        await refused(server.login("max", "wrong password"), Reason.BAD_CREDENTIALS)
        caller = await caller.refreshed()
        assert (await who(caller)).subject == "max"
        await logout(server, caller.tokens.refresh_token)
        await refused(who(caller), Reason.TOKEN_REVOKED)

    play(tmp_path, scenario)


def test_a_login_goes_on_to_its_end_when_its_client_goes_away(tmp_path: Path) -> None:
    """Otherwise a thief could try passwords and leave before the failure is counted."""

    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        hashing = server.app.hashing
        verify, go, begun = hashing.verify, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any, **options: Any) -> bool:
            begun.set()
            await go.wait()
            return await verify(*arguments, **options)

        hashing.verify = slow  # type: ignore[method-assign]
        nobody = server.nobody()
        call = nobody.auth.Login(pb.LoginRequest(user="max", password="wrong password"))
        await begun.wait()
        call.cancel()
        await eventually(lambda: server.app.gate.running == 0, "the call is over")
        go.set()
        await eventually(lambda: len(server.app.throttle._members) == 1, "it is still counted")
        await eventually(lambda: any("BAD_CREDENTIALS" in line["result"] for line in audit_lines(server)), "audited")

    play(tmp_path, scenario)


def test_a_server_that_drains_or_halted_gives_no_tokens(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        token = (await server.login("max")).tokens.refresh_token
        for reason in (Reason.DRAINING, Reason.INTERNAL):
            server.app.gate.close(error(reason))
            await refused(server.login("max"), reason)
            await refused(refresh(server, token), reason)
            await refused(logout(server, token), reason)

    play(tmp_path, scenario)


def test_logins_are_counted_and_a_message_that_does_not_come_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.service.arrivals.PUBLIC_ARRIVAL_MS_MAX", 100)

    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        await server.login("max")
        await refused(server.login("max", "wrong password"), Reason.BAD_CREDENTIALS)
        silent = server.channel.stream_unary("/prefixdb.v1.Auth/Login")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await silent
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        text = server.app.metrics.render().decode()
        for code in ("OK", "UNAUTHENTICATED", "DEADLINE_EXCEEDED"):
            assert f'prefixdb_calls_total{{code="{code}",method="/prefixdb.v1.Auth/Login"}} 1.0' in text

    play(tmp_path, scenario)


def test_the_last_failures_of_a_name_slow_it_down_over_the_wire(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice")
        server.member(acme, "bob")
        for _ in range(6):
            await refused(server.login("alice", "wrong password", home="acme"), Reason.BAD_CREDENTIALS)
        limited = await refused(server.login("alice", home="acme"), Reason.RATE_LIMITED)
        assert limited.retry_after_ms and limited.retry_after_ms <= 1_000
        assert (await server.login("bob", home="acme")).token, "somebody else waits"
        assert reference(acme).id == acme.id

    play(tmp_path, scenario)


def test_minted_and_service_tokens_open_no_login(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice", "")
        await refused(server.login("alice", "", home=acme), Reason.BAD_CREDENTIALS)
        service = server.caller(acme, subject="alice", guardian=Guardian.NAMESPACE)
        request = pb.ChangePasswordRequest(old_password="", new_password=PASSWORD)
        await refused(service.call(service.auth.ChangePassword, request), Reason.NOT_PERMITTED)

    play(tmp_path, scenario)
