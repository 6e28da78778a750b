"""Goal: members, groups and grants are looked after with Python's types; members log in, switch and change passwords.

Method: a real server; what a change permits or forbids is tried by those it touches.
"""

from __future__ import annotations

import json

import pytest

from prefixdb import connect_async
from prefixdb.client.models import ALL, GrantEffect, GuardianRole, Privilege, Rule
from prefixdb.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    Reason,
    UnauthenticatedError,
)
from prefixdb.testing import Namespace, ServerProcess
from tests.client.harness import async_test

PASSWORD = "correct horse"


@pytest.fixture
def guarded(prefixdb_server: ServerProcess) -> Namespace:
    """A namespace whose guardian is a member, ``gwen``."""
    name = prefixdb_server.create_namespace().name + "-guarded"
    made = prefixdb_server.guardian.guardian.namespaces.create(name, guardian=("gwen", PASSWORD)).namespace
    return Namespace(prefixdb_server, made.name, made.id, prefixdb_server.issue_token(made.id))


@async_test
async def test_a_namespace_begins_with_a_guardian_who_looks_after_its_members(guarded: Namespace) -> None:
    async with connect_async(guarded.server.endpoint, user="gwen", password=PASSWORD, namespace=guarded.name) as db:
        me = await db.whoami()
        assert (me.subject, me.guardian, me.member, me.home_namespace_id) == (
            "gwen", GuardianRole.NAMESPACE, True, guarded.id,
        )  # fmt: skip
        members = db.guardian.members
        made = await members.create("alice@example.org", groups=["readers"])
        assert (made.groups, made.has_password, made.disabled, made.main_namespace_id) == (
            ("readers",),
            False,
            False,
            None,
        )
        assert made.created_at is not None
        assert await members.get("alice@example.org") == made
        assert [member.name async for member in members.list()] == ["alice@example.org", "gwen"]
        with pytest.raises(AlreadyExistsError):
            await members.create("alice@example.org")
        with pytest.raises(NotFoundError):
            await members.get("nobody")
        with pytest.raises(InvalidArgumentError, match="Nothing to update"):
            await members.update("alice@example.org")
        changed = await members.update("alice@example.org", groups=["writers", "readers"], disabled=True)
        assert (set(changed.groups), changed.disabled) == ({"writers", "readers"}, True)
        assert (await members.update("alice@example.org", groups=[])).disabled, "what is not given stays"
        for last in (lambda: members.update("gwen", disabled=True), lambda: members.delete("gwen")):
            with pytest.raises(FailedPreconditionError) as caught:
                await last()
            assert caught.value.reason is Reason.LAST_GUARDIAN
        await members.delete("alice@example.org")
        with pytest.raises(NotFoundError):
            await members.delete("alice@example.org")


@async_test
async def test_a_group_permits_what_its_rules_say_at_once(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name
    async with connect_async(endpoint, user="gwen", password=PASSWORD, namespace=name) as db:
        groups = db.guardian.groups
        rules = (Rule(prefix=b"log/", read=True), Rule(3, b"own/", read=True, write=True))
        made = await groups.create("auditors", rules)
        assert (made.rules, made.built_in) == (rules, False)
        assert "log/" not in repr(made)
        assert await groups.get("auditors") == made
        names = [group.name async for group in groups.list()]
        assert names == sorted([*names]) and {"auditors", "guardians", "readers", "writers"} <= set(names)
        await db.put("log/1", b"v")
        await db.guardian.members.create("audrey", password=PASSWORD, groups=["auditors"])
        async with connect_async(endpoint, user="audrey", password=PASSWORD, namespace=name) as audrey:
            assert await audrey.get("log/1") == b"v"
            await audrey.database(3).put("own/1", b"v")
            for refused in (
                lambda: audrey.get("k"),
                lambda: audrey.put("log/1", b"v"),
                lambda: audrey.database(2).put("own/1", b"v"),
            ):
                with pytest.raises(PermissionDeniedError):
                    await refused()
            await groups.update("auditors", [Rule(prefix=b"k", read=True)])
            assert await audrey.get("k") is None
            await groups.delete("auditors")
            with pytest.raises(PermissionDeniedError):
                await audrey.get("k")
        with pytest.raises(NotFoundError):
            await groups.get("auditors")
        with pytest.raises(FailedPreconditionError) as caught:
            await groups.update("writers", [])
        assert caught.value.reason is Reason.GROUP_BUILT_IN


@async_test
async def test_a_changed_password_ends_other_logins_and_this_one_goes_on(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name
    async with (
        connect_async(endpoint, user="gwen", password=PASSWORD, namespace=name) as gwen,
        connect_async(endpoint, user="gwen", password=PASSWORD, namespace=name) as elsewhere,
    ):
        await gwen.put("k", b"v")
        await elsewhere.get("k")
        with pytest.raises(UnauthenticatedError) as caught:
            await gwen.change_password("wrong password", "battery staple")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        await gwen.change_password(PASSWORD, "battery staple")
        assert await gwen.get("k") == b"v"
        with pytest.raises(UnauthenticatedError) as caught:
            await elsewhere.get("k")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        with pytest.raises(InvalidArgumentError):
            await gwen.change_password("battery staple", "short")
        await gwen.guardian.members.set_password("gwen", PASSWORD)
    async with connect_async(endpoint, user="gwen", password=PASSWORD, namespace=name) as db:
        assert await db.get("k") == b"v"


@async_test
async def test_logging_out_ends_the_login_or_every_login(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name

    def gwen():  # type: ignore[no-untyped-def]
        return connect_async(endpoint, user="gwen", password=PASSWORD, namespace=name)

    async with gwen() as one, gwen() as two:
        await one.put("k", b"v")
        await two.get("k")
        old = (two._connection._access._login.ready(), one._connection._access._login.ready())
        await one.logout()
        assert await two.get("k") == b"v"
        async with gwen() as three:
            await three.logout(everywhere=True)
        for token in old:
            async with connect_async(endpoint, token=token) as stolen:
                with pytest.raises(UnauthenticatedError) as caught:
                    await stolen.get("k")
                assert caught.value.reason is Reason.TOKEN_REVOKED
        assert await two.get("k") == b"v", "it has the password and logs in again"


@async_test
async def test_a_member_of_namespace_0_uses_what_is_granted_and_switches(
    prefixdb_server: ServerProcess, place: Namespace
) -> None:
    other = prefixdb_server.create_namespace()
    endpoint, name = prefixdb_server.endpoint, f"guest-{place.id}"
    async with connect_async(endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        made = await db.guardian.members.create(name, password=PASSWORD, privileges=["namespaces.use"])
        assert made.privileges == (Privilege.NAMESPACES_USE,)
        grants = db.guardian.grants
        allowed = await grants.allow(name, place.name, ["writers"])
        assert (allowed.effect, allowed.namespace_id, allowed.namespace_name, allowed.groups) == (
            GrantEffect.ALLOW, place.id, place.name, ("writers",),
        )  # fmt: skip
        assert (await grants.allow(name, ALL, ["readers"])).namespace_id is None
        assert [grant.namespace_id async for grant in grants.list(name)] == [place.id, None]
        for into in (place.name, place.id):
            async with connect_async(endpoint, user=name, password=PASSWORD, home="default", namespace=into) as guest:
                await guest.put("k", b"v")
                me = await guest.whoami()
                assert (me.namespace_id, me.home_namespace_id, me.subject, me.member) == (place.id, 0, name, True)
                assert me.privileges == (Privilege.NAMESPACES_USE,)
        # A login that landed at home goes elsewhere by exchange.
        async with connect_async(endpoint, user=name, password=PASSWORD) as guest:
            await guest.login()
            seen = [namespace.id async for namespace in guest.guardian.namespaces.list()]
            assert {place.id, other.id} <= set(seen)
            token = guest._connection._access._login.ready()
            async with connect_async(endpoint, token=token, namespace=place.name) as elsewhere:
                assert await elsewhere.get("k") == b"v"
            async with connect_async(endpoint, token=token, namespace=other.id) as elsewhere:
                assert await elsewhere.get("k") is None
                with pytest.raises(PermissionDeniedError):
                    await elsewhere.put("k", b"v")
                await grants.deny(name, other.id)
                with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
                    await elsewhere.get("k")
            for unknown in (other.name, "no-such-namespace"):
                async with connect_async(endpoint, token=token, namespace=unknown) as elsewhere:
                    with pytest.raises(PermissionDeniedError, match="may not use namespace"):
                        await elsewhere.get("k")
        main = await db.guardian.members.update(name, main_namespace=place.id)
        assert (main.main_namespace_id, main.main_namespace_name) == (place.id, place.name)
        async with connect_async(endpoint, user=name, password=PASSWORD) as guest:
            assert (await guest.login()).namespace_id == place.id
            assert await guest.get("k") == b"v"
        assert (await db.guardian.members.update(name, main_namespace=None)).main_namespace_id is None
        await grants.revoke(name, ALL)
        with pytest.raises(NotFoundError):
            await grants.revoke(name, ALL)
        with pytest.raises(InvalidArgumentError, match="no privilege 'everything'"):
            await db.guardian.members.update(name, privileges=["everything"])
        assert (await db.guardian.members.update(name, privileges=[Privilege.AUDIT])).privileges == (Privilege.AUDIT,)
        async with connect_async(endpoint, user=name, password=PASSWORD) as guest:
            assert [line async for line in guest.guardian.audit.read(newest=3)]


@async_test
async def test_the_audit_is_read_as_it_was_written(prefixdb_server: ServerProcess) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        lines = [line async for line in db.guardian.audit.read()]
        assert lines == (prefixdb_server.data_dir / "audit.jsonl").read_text().splitlines()[: len(lines)]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert len([line async for line in db.guardian.audit.read(newest=2)]) == 2
        for wrong in (-1, 2**32):
            with pytest.raises(InvalidArgumentError):
                _ = [line async for line in db.guardian.audit.read(wrong)]


@async_test
async def test_a_key_that_signs_no_longer_can_be_removed(own_server: ServerProcess) -> None:
    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        keys = db.guardian.keys
        [old] = await keys.list()
        with pytest.raises(FailedPreconditionError) as caught:
            await keys.remove(old.kid)
        assert caught.value.reason is Reason.SIGNING_KEY_IN_USE
        new = await keys.rotate()
        member = own_server.password_file("gwen", groups=["guardians"])
        async with connect_async(own_server.endpoint, user="gwen", password_file=member) as gwen:
            await gwen.guardian.keys.remove(old.kid)
            assert [key.kid for key in await gwen.guardian.keys.list()] == [new.kid]
            with pytest.raises(NotFoundError):
                await gwen.guardian.keys.remove(old.kid)
        with pytest.raises(UnauthenticatedError):
            await keys.list()
