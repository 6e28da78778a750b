"""Goal: what a login gives is refreshed, exchanged and ended as auth.proto says, to the letter.

Method: a real server over the wire with members of every kind; the audit file is read back as text.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefixdb import limits
from prefixdb.catalog.entities import NamespaceState, Privilege
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import auth_pb2 as pb
from prefixdb.v1 import key_value_pb2 as kv
from tests.service.logins import audit_lines, change, grant, logout, play, refresh, refused, who
from tests.support.clocks import HeldClock
from tests.support.server import PASSWORD, RunningServer


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
