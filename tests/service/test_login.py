"""Goal: login, refresh, logout, exchange and change of password keep what auth.proto says, to the letter.

Method: a real server over the wire with members of every kind; the audit file is read back as text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from argon2 import PasswordHasher

from prefixdb import limits
from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceIssue, NamespaceState, Privilege
from prefixdb.catalog.passwords import needs_rehash
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.v1 import auth_pb2 as pb
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import namespaces_pb2
from tests.support.clocks import HeldClock
from tests.support.server import PASSWORD, Caller, RunningServer, eventually, reference, running

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


def test_a_refresh_token_works_once_and_its_second_use_ends_everything_of_its_login(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice")
        alice, elsewhere = await server.login("alice", home=acme), await server.login("alice", home=acme)
        again = await alice.refreshed()
        assert again.tokens.namespace_id == acme.id and again.tokens.refresh_token != alice.tokens.refresh_token
        assert (await who(alice)).jti != (await who(again)).jti, "the older access token lives on until it expires"
        third = await again.refreshed()
        await refused(alice.refreshed(), Reason.TOKEN_REVOKED)
        for caller in (alice, again, third):
            await refused(caller.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        await refused(third.refreshed(), Reason.TOKEN_REVOKED)
        assert (await who(elsewhere)).subject == "alice", "another login of the member was ended"
        reused = [line for line in audit_lines(server) if "twice" in line["target"]]
        assert [line["result"] for line in reused] == ["TOKEN_REVOKED"] and "alice" in reused[0]["target"]

    play(tmp_path, scenario)


def test_two_refreshes_at_once_do_not_both_succeed(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        token = (await server.login("max")).tokens.refresh_token
        outcomes = await asyncio.gather(*(refresh(server, token) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(outcome, pb.Tokens) for outcome in outcomes) <= 1
        assert {outcome.reason for outcome in outcomes if isinstance(outcome, PrefixdbError)} == {Reason.TOKEN_REVOKED}

    play(tmp_path, scenario)


def test_a_refresh_looks_at_the_member_again(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales = server.create("sales")
        identities = server.app.authority.identities
        for name in ("disabled", "removed", "renewed", "ungranted"):
            server.member(0, name, groups=())
            grant(server, name, sales, "readers")
        callers = {name: await server.login(name, into=sales) for name in ("disabled", "removed", "ungranted")}
        await asyncio.to_thread(identities.members.update, 0, "disabled", disabled=True)
        await asyncio.to_thread(identities.members.delete, 0, "removed")
        await asyncio.to_thread(identities.grants.delete, "ungranted", sales.id)
        await refused(callers["disabled"].refreshed(), Reason.TOKEN_REVOKED)
        await refused(callers["removed"].refreshed(), Reason.TOKEN_REVOKED)
        await refused(callers["ungranted"].refreshed(), Reason.NOT_PERMITTED)
        grant(server, "ungranted", sales, "readers")
        back = await callers["ungranted"].refreshed()
        assert (await who(back)).namespace_id == sales.id, "a refusal must not have spent the token"
        await asyncio.to_thread(server.app.registry.suspend, sales.id, NamespaceState.SUSPENDED, "")
        await refused(back.refreshed(), Reason.NAMESPACE_SUSPENDED)
        await asyncio.to_thread(server.app.registry.resume, sales.id)
        assert (await back.refreshed()).tokens.namespace_id == sales.id

    play(tmp_path, scenario)


def test_a_spent_refresh_token_is_noticed_also_while_its_namespace_is_suspended(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice")
        alice = await server.login("alice", home=acme)
        fresh = await alice.refreshed()
        await asyncio.to_thread(server.app.registry.suspend, acme.id, NamespaceState.SUSPENDED, "")
        await refused(alice.refreshed(), Reason.TOKEN_REVOKED)
        await asyncio.to_thread(server.app.registry.resume, acme.id)
        await refused(fresh.refreshed(), Reason.TOKEN_REVOKED)

    play(tmp_path, scenario)


def test_what_is_no_refresh_token_refreshes_nothing(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        login = await server.login("max")
        for token in ("", "x", login.token or "", server.guardian.token or "", "a" * 60_000):
            await refused(refresh(server, token), Reason.TOKEN_INVALID)
            await refused(logout(server, token), Reason.TOKEN_INVALID)
            await refused(logout(server, token, everywhere=True), Reason.TOKEN_INVALID)

    play(tmp_path, scenario)


def test_a_refresh_token_ends_after_its_week_and_lives_on_when_it_is_used(tmp_path: Path) -> None:
    clock = HeldClock()

    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        kept = unused = await server.login("max")
        unused = await server.login("max")
        for _ in range(3):
            clock.advance((limits.REFRESH_TOKEN_S - 60) * 1000)
            kept = await kept.refreshed()
        await refused(unused.refreshed(), Reason.TOKEN_EXPIRED)
        clock.advance((limits.REFRESH_TOKEN_S + limits.TOKEN_LEEWAY_S) * 1000)
        await refused(kept.refreshed(), Reason.TOKEN_EXPIRED)

    play(tmp_path, scenario, clock=clock)


def test_a_logout_ends_its_login_and_on_demand_all_of_the_member_and_nobody_elses(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        server.member(0, "eve")
        eve = await server.login("eve")
        one, two, three = [await server.login("max") for _ in range(3)]
        await logout(server, one.tokens.refresh_token)
        await refused(who(one), Reason.TOKEN_REVOKED)
        await refused(one.refreshed(), Reason.TOKEN_REVOKED)
        await logout(server, one.tokens.refresh_token)
        assert (await who(two)).subject == "max"
        await refused(logout(server, one.tokens.refresh_token, everywhere=True), Reason.TOKEN_REVOKED)
        assert (await who(two)).subject == "max", "a login that is over ended others"
        spent = two.tokens.refresh_token
        two = await two.refreshed()
        await refused(logout(server, spent, everywhere=True), Reason.TOKEN_REVOKED)
        await refused(who(two), Reason.TOKEN_REVOKED)
        assert (await who(three)).subject == "max", "a spent token ended another login"
        four = await server.login("max")
        await logout(server, four.tokens.refresh_token, everywhere=True)
        for caller in (three, four):
            await refused(who(caller), Reason.TOKEN_REVOKED)
        assert (await who(eve)).subject == "eve"
        lines = [line for line in audit_lines(server) if line["method"].endswith("/Logout") and line["result"] == "ok"]
        assert [(line["user"], line["namespace_id"]) for line in lines] == [("max", "0")] * 3
        assert lines[-1]["target"] == "every login"

    play(tmp_path, scenario)


def test_a_logout_works_while_the_namespace_is_suspended(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme = server.create("acme")
        server.member(acme, "alice")
        alice = await server.login("alice", home=acme)
        await asyncio.to_thread(server.app.registry.suspend, acme.id, NamespaceState.SUSPENDED, "")
        await logout(server, alice.tokens.refresh_token)
        await asyncio.to_thread(server.app.registry.resume, acme.id)
        await refused(who(alice), Reason.TOKEN_REVOKED)
        again = await server.login("alice", home=acme)
        await asyncio.to_thread(server.app.registry.ban, acme.id, by="test", grace_ms=60_000)
        await refused(logout(server, again.tokens.refresh_token), Reason.NAMESPACE_BANNED)

    play(tmp_path, scenario)


def test_an_exchange_goes_where_a_grant_covers_and_back_and_ends_with_the_login(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales, support = server.create("sales"), server.create("support")
        server.member(0, "max", groups=("readers",), privileges=(Privilege.NAMESPACES_USE,))
        server.member(0, "stuck", groups=())
        server.member(sales, "tenant", groups=("guardians",))
        grant(server, "max", sales, "writers")
        grant(server, "max", None, "readers")
        grant(server, "stuck", sales, "writers")
        home = await server.login("max")
        guest = await home.exchanged("sales")
        assert not guest.tokens.refresh_token and guest.tokens.namespace_name == "sales"
        assert list((await who(guest)).groups) == ["writers"]
        onward = await guest.exchanged(support)
        assert list((await who(onward)).groups) == ["readers"]
        back = await onward.exchanged(0)
        assert (await who(back)).namespace_id == 0 and list((await who(back)).groups) == ["readers"]
        for nowhere in ("nowhere", 77):
            await refused(home.exchanged(nowhere), Reason.NOT_PERMITTED)
        stuck = await server.login("stuck", into=sales)
        await refused((await server.login("stuck")).exchanged(sales), Reason.NOT_PERMITTED)
        await refused(stuck.exchanged(support), Reason.NOT_PERMITTED)
        assert (await stuck.exchanged(0)).tokens.namespace_id == 0, "home is always open"
        await refused((await server.login("tenant", home=sales)).exchanged(sales), Reason.NOT_PERMITTED)
        await refused(server.guardian.exchanged(sales), Reason.NOT_PERMITTED)
        bad = pb.ExchangeRequest()
        await refused(home.call(home.auth.Exchange, bad), Reason.BAD_FIELD, "namespace")
        await asyncio.to_thread(server.app.registry.suspend, support.id, NamespaceState.SUSPENDED, "")
        await refused(home.exchanged(support), Reason.NAMESPACE_SUSPENDED)
        await logout(server, home.tokens.refresh_token)
        for caller in (home, guest, onward, back):
            with pytest.raises(PrefixdbError):
                await who(caller)
        await refused(who(guest), Reason.TOKEN_REVOKED)

    play(tmp_path, scenario)


def test_a_deny_wins_over_every_grant_and_shuts_out_who_is_in(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales = server.create("sales")
        server.member(0, "max", groups=(), privileges=(Privilege.NAMESPACES_USE,))
        grant(server, "max", None, "writers")
        home = await server.login("max")
        guest = await home.exchanged(sales)
        grant(server, "max", sales)
        await refused(who(guest), Reason.NOT_PERMITTED)
        await refused(home.exchanged(sales), Reason.NOT_PERMITTED)
        await refused(server.login("max", into=sales), Reason.NOT_PERMITTED)
        assert (await who(home)).namespace_id == 0

    play(tmp_path, scenario)


def test_a_change_of_password_ends_every_login_begins_one_and_leaves_service_tokens(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales = server.create("sales")
        server.member(0, "max", groups=("readers",), privileges=(Privilege.NAMESPACES_USE,))
        grant(server, "max", sales, "writers")
        service = server.caller(0, subject="max")
        here, there = await server.login("max"), await server.login("max", into=sales)
        back = await there.exchanged(0)
        for caller, old, new, field in (
            (here, "wrong password", "another password", None),
            (here, PASSWORD, "short", "new_password"),
            (here, PASSWORD, "x" * 1025, "new_password"),
            (here, "x" * 1025, "another password", "old_password"),
        ):
            reason = Reason.BAD_FIELD if field else Reason.BAD_CREDENTIALS
            await refused(change(caller, old, new), reason, field)
        await refused(change(service, PASSWORD, "another password"), Reason.NOT_PERMITTED)
        assert (await who(here)).subject == "max"
        fresh = await change(back, PASSWORD, "another password")
        for caller in (here, there, back):
            await refused(who(caller), Reason.TOKEN_REVOKED)
            if caller.tokens.refresh_token:
                await refused(caller.refreshed(), Reason.TOKEN_REVOKED)
        assert (await who(fresh)).namespace_id == 0, "it stays where it was"
        assert (await who(await fresh.refreshed())).namespace_id == sales.id, "its login lands where it landed"
        assert (await who(service)).subject == "max"
        await refused(server.login("max"), Reason.BAD_CREDENTIALS)
        assert (await server.login("max", "another password")).token

    play(tmp_path, scenario)


def test_a_guest_changes_its_password_where_it_is(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        sales = server.create("sales")
        server.member(0, "max", groups=())
        server.member(sales, "max", "the password of another max")
        grant(server, "max", sales, "readers")
        fresh = await change(await server.login("max", into=sales), PASSWORD, "another password")
        me = await who(fresh)
        assert (me.namespace_id, me.home_namespace_id) == (sales.id, 0)
        assert (await server.login("max", "another password")).tokens.namespace_id == 0
        assert (await server.login("max", "the password of another max", home=sales)).token

    play(tmp_path, scenario)


def test_trying_old_passwords_is_slowed_down_like_logins(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        server.member(0, "max")
        caller = await server.login("max")
        for _ in range(6):
            await refused(change(caller, "wrong password", "another password"), Reason.BAD_CREDENTIALS)
        limited = await refused(change(caller, PASSWORD, "another password"), Reason.RATE_LIMITED)
        assert limited.retry_after_ms and limited.retry_after_ms <= 1_000
        await refused(server.login("max"), Reason.RATE_LIMITED)

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
    monkeypatch.setattr("prefixdb.service.transfers.PUBLIC_ARRIVAL_MS_MAX", 100)

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
