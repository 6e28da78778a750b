# Generated from tests/client/test_aio_members.py by tools/async_to_sync.py; do not edit.
"""Goal: members, groups and grants are looked after with Python's types; members log in, switch and change passwords.

Method: a real server; what a change permits or forbids is tried by those it touches.
"""

from __future__ import annotations

import json

import pytest

from prefixdb import connect
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
from tests.client.harness import sync_test

PASSWORD = "correct horse"


@pytest.fixture
def guarded(prefixdb_server: ServerProcess) -> Namespace:
    """A namespace whose guardian is a member, ``gwen``."""
    name = prefixdb_server.create_namespace().name + "-guarded"
    made = prefixdb_server.guardian.guardian.namespaces.create(name, guardian=("gwen", PASSWORD)).namespace
    return Namespace(prefixdb_server, made.name, made.id, prefixdb_server.issue_token(made.id))


@sync_test
def test_a_namespace_begins_with_a_guardian_who_looks_after_its_members(guarded: Namespace) -> None:
    with connect(guarded.server.endpoint, user="gwen", password=PASSWORD, namespace=guarded.name) as db:
        me = db.whoami()
        assert (me.subject, me.guardian, me.member, me.home_namespace_id) == (
            "gwen", GuardianRole.NAMESPACE, True, guarded.id,
        )  # fmt: skip
        members = db.guardian.members
        made = members.create("alice@example.org", groups=["readers"])
        assert (made.groups, made.has_password, made.disabled, made.main_namespace_id) == (
            ("readers",),
            False,
            False,
            None,
        )
        assert made.created_at is not None
        assert members.get("alice@example.org") == made
        assert [member.name for member in members.list()] == ["alice@example.org", "gwen"]
        with pytest.raises(AlreadyExistsError):
            members.create("alice@example.org")
        with pytest.raises(NotFoundError):
            members.get("nobody")
        with pytest.raises(InvalidArgumentError, match="Nothing to update"):
            members.update("alice@example.org")
        changed = members.update("alice@example.org", groups=["writers", "readers"], disabled=True)
        assert (set(changed.groups), changed.disabled) == ({"writers", "readers"}, True)
        assert (members.update("alice@example.org", groups=[])).disabled, "what is not given stays"
        for last in (lambda: members.update("gwen", disabled=True), lambda: members.delete("gwen")):
            with pytest.raises(FailedPreconditionError) as caught:
                last()
            assert caught.value.reason is Reason.LAST_GUARDIAN
        members.delete("alice@example.org")
        with pytest.raises(NotFoundError):
            members.delete("alice@example.org")


@sync_test
def test_a_group_permits_what_its_rules_say_at_once(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name
    with connect(endpoint, user="gwen", password=PASSWORD, namespace=name) as db:
        groups = db.guardian.groups
        rules = (Rule(prefix=b"log/", read=True), Rule(3, b"own/", read=True, write=True))
        made = groups.create("auditors", rules)
        assert (made.rules, made.built_in) == (rules, False)
        assert "log/" not in repr(made)
        assert groups.get("auditors") == made
        names = [group.name for group in groups.list()]
        assert names == sorted([*names]) and {"auditors", "guardians", "readers", "writers"} <= set(names)
        db.put("log/1", b"v")
        db.guardian.members.create("audrey", password=PASSWORD, groups=["auditors"])
        with connect(endpoint, user="audrey", password=PASSWORD, namespace=name) as audrey:
            assert audrey.get("log/1") == b"v"
            audrey.database(3).put("own/1", b"v")
            for refused in (
                lambda: audrey.get("k"),
                lambda: audrey.put("log/1", b"v"),
                lambda: audrey.database(2).put("own/1", b"v"),
            ):
                with pytest.raises(PermissionDeniedError):
                    refused()
            groups.update("auditors", [Rule(prefix=b"k", read=True)])
            assert audrey.get("k") is None
            groups.delete("auditors")
            with pytest.raises(PermissionDeniedError):
                audrey.get("k")
        with pytest.raises(NotFoundError):
            groups.get("auditors")
        with pytest.raises(FailedPreconditionError) as caught:
            groups.update("writers", [])
        assert caught.value.reason is Reason.GROUP_BUILT_IN


@sync_test
def test_a_changed_password_ends_other_logins_and_this_one_goes_on(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name
    with (
        connect(endpoint, user="gwen", password=PASSWORD, namespace=name) as gwen,
        connect(endpoint, user="gwen", password=PASSWORD, namespace=name) as elsewhere,
    ):
        gwen.put("k", b"v")
        elsewhere.get("k")
        with pytest.raises(UnauthenticatedError) as caught:
            gwen.change_password("wrong password", "battery staple")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        gwen.change_password(PASSWORD, "battery staple")
        assert gwen.get("k") == b"v"
        with pytest.raises(UnauthenticatedError) as caught:
            elsewhere.get("k")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        with pytest.raises(InvalidArgumentError):
            gwen.change_password("battery staple", "short")
        gwen.guardian.members.set_password("gwen", PASSWORD)
    with connect(endpoint, user="gwen", password=PASSWORD, namespace=name) as db:
        assert db.get("k") == b"v"


@sync_test
def test_logging_out_ends_the_login_or_every_login(guarded: Namespace) -> None:
    endpoint, name = guarded.server.endpoint, guarded.name

    def gwen():  # type: ignore[no-untyped-def]
        return connect(endpoint, user="gwen", password=PASSWORD, namespace=name)

    with gwen() as one, gwen() as two:
        one.put("k", b"v")
        two.get("k")
        old = (two._connection._access._login.ready(), one._connection._access._login.ready())
        one.logout()
        assert two.get("k") == b"v"
        with gwen() as three:
            three.logout(everywhere=True)
        for token in old:
            with connect(endpoint, token=token) as stolen:
                with pytest.raises(UnauthenticatedError) as caught:
                    stolen.get("k")
                assert caught.value.reason is Reason.TOKEN_REVOKED
        assert two.get("k") == b"v", "it has the password and logs in again"


@sync_test
def test_a_member_of_namespace_0_uses_what_is_granted_and_switches(
    prefixdb_server: ServerProcess, place: Namespace
) -> None:
    other = prefixdb_server.create_namespace()
    endpoint, name = prefixdb_server.endpoint, f"guest-{place.id}"
    with connect(endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        made = db.guardian.members.create(name, password=PASSWORD, privileges=["namespaces.use"])
        assert made.privileges == (Privilege.NAMESPACES_USE,)
        grants = db.guardian.grants
        allowed = grants.allow(name, place.name, ["writers"])
        assert (allowed.effect, allowed.namespace_id, allowed.namespace_name, allowed.groups) == (
            GrantEffect.ALLOW, place.id, place.name, ("writers",),
        )  # fmt: skip
        assert (grants.allow(name, ALL, ["readers"])).namespace_id is None
        assert [grant.namespace_id for grant in grants.list(name)] == [place.id, None]
        for into in (place.name, place.id):
            with connect(endpoint, user=name, password=PASSWORD, home="default", namespace=into) as guest:
                guest.put("k", b"v")
                me = guest.whoami()
                assert (me.namespace_id, me.home_namespace_id, me.subject, me.member) == (place.id, 0, name, True)
                assert me.privileges == (Privilege.NAMESPACES_USE,)
        # A login that landed at home goes elsewhere by exchange.
        with connect(endpoint, user=name, password=PASSWORD) as guest:
            guest.login()
            seen = [namespace.id for namespace in guest.guardian.namespaces.list()]
            assert {place.id, other.id} <= set(seen)
            token = guest._connection._access._login.ready()
            with connect(endpoint, token=token, namespace=place.name) as elsewhere:
                assert elsewhere.get("k") == b"v"
            with connect(endpoint, token=token, namespace=other.id) as elsewhere:
                assert elsewhere.get("k") is None
                with pytest.raises(PermissionDeniedError):
                    elsewhere.put("k", b"v")
                grants.deny(name, other.id)
                with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
                    elsewhere.get("k")
            for unknown in (other.name, "no-such-namespace"):
                with connect(endpoint, token=token, namespace=unknown) as elsewhere:
                    with pytest.raises(PermissionDeniedError, match="may not use namespace"):
                        elsewhere.get("k")
        main = db.guardian.members.update(name, main_namespace=place.id)
        assert (main.main_namespace_id, main.main_namespace_name) == (place.id, place.name)
        with connect(endpoint, user=name, password=PASSWORD) as guest:
            assert (guest.login()).namespace_id == place.id
            assert guest.get("k") == b"v"
        assert (db.guardian.members.update(name, main_namespace=None)).main_namespace_id is None
        grants.revoke(name, ALL)
        with pytest.raises(NotFoundError):
            grants.revoke(name, ALL)
        with pytest.raises(InvalidArgumentError, match="no privilege 'everything'"):
            db.guardian.members.update(name, privileges=["everything"])
        assert (db.guardian.members.update(name, privileges=[Privilege.AUDIT])).privileges == (Privilege.AUDIT,)
        with connect(endpoint, user=name, password=PASSWORD) as guest:
            assert [line for line in guest.guardian.audit.read(newest=3)]


@sync_test
def test_the_audit_is_read_as_it_was_written(prefixdb_server: ServerProcess) -> None:
    with connect(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        lines = [line for line in db.guardian.audit.read()]
        assert lines == (prefixdb_server.data_dir / "audit.jsonl").read_text().splitlines()[: len(lines)]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert len([line for line in db.guardian.audit.read(newest=2)]) == 2
        for wrong in (-1, 2**32):
            with pytest.raises(InvalidArgumentError):
                _ = [line for line in db.guardian.audit.read(wrong)]


@sync_test
def test_a_key_that_signs_no_longer_can_be_removed(own_server: ServerProcess) -> None:
    with connect(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        keys = db.guardian.keys
        [old] = keys.list()
        with pytest.raises(FailedPreconditionError) as caught:
            keys.remove(old.kid)
        assert caught.value.reason is Reason.SIGNING_KEY_IN_USE
        new = keys.rotate()
        member = own_server.password_file("gwen", groups=["guardians"])
        with connect(own_server.endpoint, user="gwen", password_file=member) as gwen:
            gwen.guardian.keys.remove(old.kid)
            assert [key.kid for key in gwen.guardian.keys.list()] == [new.kid]
            with pytest.raises(NotFoundError):
                gwen.guardian.keys.remove(old.kid)
        with pytest.raises(UnauthenticatedError):
            keys.list()
