"""Goal: members, groups and grants are looked after as members.proto says, and every change counts at once.

Method: a real server driven by a namespace's guardian and a cluster's; what the changes do is seen by those they touch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb import limits
from prefixdb.catalog.entities import Guardian, Privilege
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import members_pb2 as pb
from tests.service.logins import audit_lines, play, refused
from tests.support.server import PASSWORD, Caller, RunningServer, eventually, reference


def ask(caller: Caller, method: str, **fields: Any) -> Awaitable[Any]:
    """Call a method of the service with the fields of its request."""
    return caller.call(getattr(caller.members, method), getattr(pb, f"{method}Request")(**fields))


def mask(*paths: str) -> FieldMask:
    return FieldMask(paths=paths)


async def guardian_of(server: RunningServer, name: str = "acme") -> tuple[Any, Caller]:
    """Return a new namespace and its guardian, who logged in."""
    namespace = server.create(name)
    server.member(namespace, "gina", groups=("guardians",))
    return namespace, await server.login("gina", home=namespace)


def test_a_member_is_created_shown_listed_changed_and_removed(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, gina = await guardian_of(server)
        made = (await ask(gina, "CreateMember", name="al+ice@x.org", password=PASSWORD, groups=["readers"])).member
        assert (made.name, list(made.groups), made.disabled, made.has_password) == (
            "al+ice@x.org",
            ["readers"],
            False,
            True,
        )
        assert made.created_at.seconds and made.password_changed_at.seconds and not made.HasField("main_namespace_id")
        assert (await ask(gina, "GetMember", name=made.name)).member == made
        assert [member.name for member in (await ask(gina, "ListMembers")).members] == [made.name, "gina"]
        alice = await server.login(made.name, home=acme)
        await refused(alice.call(alice.key_value.Put, kv.PutRequest(key=b"k")), Reason.NOT_PERMITTED)
        changed = await ask(gina, "UpdateMember", name=made.name, groups=["writers"], update_mask=mask("groups"))
        assert list(changed.member.groups) == ["writers"]
        await alice.call(alice.key_value.Put, kv.PutRequest(key=b"k"))
        changed = await ask(
            gina, "UpdateMember", name=made.name, groups=["x"], disabled=True, update_mask=mask("disabled")
        )
        assert changed.member.disabled and list(changed.member.groups) == ["writers"], "the mask says what changes"
        await refused(alice.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        await refused(server.login(made.name, home=acme), Reason.BAD_CREDENTIALS)
        await ask(gina, "UpdateMember", name=made.name, update_mask=mask("disabled"))
        await refused(alice.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        alice = await server.login(made.name, home=acme)
        await ask(gina, "DeleteMember", name=made.name)
        await refused(alice.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        for method in ("GetMember", "DeleteMember"):
            await refused(ask(gina, method, name=made.name), Reason.MEMBER_NOT_FOUND)
        await refused(ask(gina, "SetPassword", name=made.name, password=PASSWORD), Reason.MEMBER_NOT_FOUND)

    play(tmp_path, scenario)


def test_a_member_without_a_password_logs_in_once_a_guardian_has_set_one(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, gina = await guardian_of(server)
        made = (await ask(gina, "CreateMember", name="alice")).member
        assert not made.has_password and not made.HasField("password_changed_at") and not made.groups
        await refused(server.login("alice", "", home=acme), Reason.BAD_CREDENTIALS)
        await ask(gina, "SetPassword", name="alice", password="first password")
        alice = await server.login("alice", "first password", home=acme)
        await ask(gina, "SetPassword", name="alice", password="second password")
        await refused(alice.refreshed(), Reason.TOKEN_REVOKED)
        await refused(server.login("alice", "first password", home=acme), Reason.BAD_CREDENTIALS)
        assert (await server.login("alice", "second password", home=acme)).token

    play(tmp_path, scenario)


def test_the_last_guardian_who_can_log_in_stays(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        _, gina = await guardian_of(server)
        await ask(gina, "CreateMember", name="powerless", groups=["guardians"])
        for attempt in (
            ask(gina, "DeleteMember", name="gina"),
            ask(gina, "UpdateMember", name="gina", disabled=True, update_mask=mask("disabled")),
            ask(gina, "UpdateMember", name="gina", groups=["writers"], update_mask=mask("groups")),
        ):
            await refused(attempt, Reason.LAST_GUARDIAN)
        await ask(gina, "SetPassword", name="powerless", password=PASSWORD)
        await ask(gina, "DeleteMember", name="gina")
        await refused(ask(gina, "ListMembers"), Reason.TOKEN_REVOKED)

    play(tmp_path, scenario)


def test_a_group_is_created_shown_listed_changed_and_removed_and_its_rules_count_at_once(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, gina = await guardian_of(server)
        rules = [auth_pb2.Rule(database=3, prefix=b"q/", read=True), auth_pb2.Rule(prefix=b"w/", write=True)]
        made = (await ask(gina, "CreateGroup", name="auditors", rules=rules)).group
        assert (made.name, list(made.rules), made.built_in) == ("auditors", rules, False)
        assert (await ask(gina, "GetGroup", name="auditors")).group == made
        listed = {group.name: group.built_in for group in (await ask(gina, "ListGroups")).groups}
        assert listed == {"auditors": False, "guardians": True, "readers": True, "writers": True}
        await ask(gina, "CreateMember", name="alice", password=PASSWORD, groups=["auditors"])
        alice = await server.login("alice", home=acme)
        await alice.get(kv.GetRequest(database=3, key=b"q/1"))
        await refused(alice.get(kv.GetRequest(key=b"q/1")), Reason.NOT_PERMITTED)
        changed = await ask(gina, "UpdateGroup", name="auditors", rules=rules[1:])
        assert list(changed.group.rules) == rules[1:]
        await refused(alice.get(kv.GetRequest(database=3, key=b"q/1")), Reason.NOT_PERMITTED)
        await alice.call(alice.key_value.Put, kv.PutRequest(database=9, key=b"w/1"))
        await ask(gina, "DeleteGroup", name="auditors")
        await refused(alice.call(alice.key_value.Put, kv.PutRequest(database=9, key=b"w/1")), Reason.NOT_PERMITTED)
        assert not (await ask(gina, "GetMember", name="alice")).member.groups, "taken from its members"
        for method in ("GetGroup", "UpdateGroup", "DeleteGroup"):
            extra = {"rules": rules} if method == "UpdateGroup" else {}
            await refused(ask(gina, method, name="auditors", **extra), Reason.GROUP_NOT_FOUND)
        for name in ("guardians", "writers", "readers"):
            await refused(ask(gina, "UpdateGroup", name=name, rules=rules), Reason.GROUP_BUILT_IN)
            await refused(ask(gina, "DeleteGroup", name=name), Reason.GROUP_BUILT_IN)

    play(tmp_path, scenario)


def test_fields_are_checked_and_named(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, gina = await guardian_of(server)
        boss, ref = server.guardian, reference(acme)
        server.member(0, "max")
        for name in ("", "-a", "a b", "a\0", "ä", "a" * 129):
            for method in ("CreateMember", "GetMember", "DeleteMember", "SetPassword"):
                await refused(ask(gina, method, name=name), Reason.BAD_NAME)
            await refused(ask(gina, "UpdateMember", name=name, update_mask=mask("groups")), Reason.BAD_NAME)
            for method in ("CreateGroup", "GetGroup", "UpdateGroup", "DeleteGroup"):
                await refused(ask(gina, method, name=name), Reason.BAD_NAME)
            for method in ("SetGrant", "DeleteGrant"):
                await refused(ask(boss, method, member=name, all=True), Reason.BAD_NAME)
        for password in ("short", "x" * 7, "x" * 1025):
            await refused(ask(gina, "CreateMember", name="a", password=password), Reason.BAD_FIELD, "password")
            await refused(ask(gina, "SetPassword", name="gina", password=password), Reason.BAD_FIELD, "password")
        await refused(ask(gina, "SetPassword", name="gina"), Reason.BAD_FIELD, "password")
        await refused(ask(gina, "CreateMember", name="gina"), Reason.MEMBER_EXISTS)
        await refused(ask(gina, "CreateMember", name="a", groups=["nobody"]), Reason.GROUP_NOT_FOUND)
        for groups in (["a b"], ["readers"] * 2, [f"g{number}" for number in range(33)]):
            await refused(ask(gina, "CreateMember", name="a", groups=groups), Reason.BAD_FIELD, "groups")
            update = ask(gina, "UpdateMember", name="gina", groups=groups, update_mask=mask("groups"))
            await refused(update, Reason.BAD_FIELD, "groups")
            await refused(
                ask(boss, "SetGrant", member="max", namespace=ref, effect=1, groups=groups), Reason.BAD_FIELD, "groups"
            )
        for paths in ((), ("name",), ("groups", "password")):
            update = ask(gina, "UpdateMember", name="gina", update_mask=mask(*paths))
            await refused(update, Reason.BAD_FIELD, "update_mask")
        for rules in (
            [auth_pb2.Rule()],
            [auth_pb2.Rule(read=True)] * (limits.GROUP_RULES_MAX + 1),
            [auth_pb2.Rule(read=True, prefix=b"p" * (limits.KEY_BYTES_MAX + 1))],
        ):
            await refused(ask(gina, "CreateGroup", name="g", rules=rules), Reason.BAD_FIELD, "rules")
        database = ask(gina, "CreateGroup", name="g", rules=[auth_pb2.Rule(read=True, database=65536)])
        with pytest.raises(PrefixdbError) as caught:
            await database
        assert caught.value.reason is Reason.BAD_FIELD
        await refused(ask(gina, "CreateGroup", name="readers"), Reason.GROUP_EXISTS)
        for privileges in ([0], [5], [1, 1]):
            create = ask(boss, "CreateMember", name="a", privileges=privileges)
            await refused(create, Reason.BAD_FIELD, "privileges")
        main = ask(boss, "CreateMember", name="a", main_namespace=reference("nowhere"))
        await refused(main, Reason.NAMESPACE_NOT_FOUND)
        for kind in ("ListMembers", "ListGroups"):
            await refused(ask(gina, kind, page_size=1001), Reason.BAD_FIELD, "page_size")
            await refused(ask(gina, kind, page_token="nonsense"), Reason.BAD_FIELD, "page_token")

    play(tmp_path, scenario)


def test_grants_are_checked_set_replaced_listed_and_taken_back(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, boss, ref = server.create("acme"), server.guardian, None
        ref = reference(acme)
        server.member(0, "max")
        server.member(0, "eve")
        for fields, reason, field in (
            ({}, Reason.BAD_FIELD, "target"),
            ({"all": False}, Reason.BAD_FIELD, "target"),
            ({"namespace": reference("nowhere")}, Reason.NAMESPACE_NOT_FOUND, None),
            ({"namespace": reference(0)}, Reason.BAD_FIELD, "namespace"),
            ({"namespace": ref, "effect": 0}, Reason.BAD_FIELD, "effect"),
            ({"namespace": ref, "effect": 3}, Reason.BAD_FIELD, "effect"),
            ({"namespace": ref, "groups": []}, Reason.BAD_FIELD, "groups"),
            ({"namespace": ref, "groups": ["guardians"]}, Reason.BAD_FIELD, "groups"),
            ({"namespace": ref, "effect": 2}, Reason.BAD_FIELD, "groups"),
            ({"namespace": ref, "member": "nobody"}, Reason.MEMBER_NOT_FOUND, None),
        ):
            asked = {"member": "max", "effect": 1, "groups": ["readers"]} | fields
            await refused(ask(boss, "SetGrant", **asked), reason, field)
        first = (await ask(boss, "SetGrant", member="max", namespace=ref, effect=1, groups=["readers"])).grant
        assert (first.member, first.namespace_id, first.namespace_name) == ("max", acme.id, "acme")
        assert first.effect == pb.GRANT_EFFECT_ALLOW and list(first.groups) == ["readers"] and first.created_at.seconds
        await ask(boss, "SetGrant", member="max", namespace=ref, effect=1, groups=["writers", "unknown"])
        everywhere = (await ask(boss, "SetGrant", member="max", all=True, effect=2)).grant
        assert not everywhere.HasField("namespace_id") and not everywhere.groups
        await ask(boss, "SetGrant", member="eve", namespace=ref, effect=1, groups=["readers"])
        told = [(g.member, g.namespace_name, list(g.groups)) for g in (await ask(boss, "ListGrants")).grants]
        assert told == [("eve", "acme", ["readers"]), ("max", "acme", ["writers", "unknown"]), ("max", "", [])]
        assert len((await ask(boss, "ListGrants", member="max")).grants) == 2
        assert not (await ask(boss, "ListGrants", member="nobody")).grants
        await ask(boss, "DeleteGrant", member="max", all=True)
        await refused(ask(boss, "DeleteGrant", member="max", all=True), Reason.GRANT_NOT_FOUND)
        await ask(boss, "DeleteGrant", member="max", namespace=ref)
        assert [grant.member for grant in (await ask(boss, "ListGrants")).grants] == ["eve"]
        await asyncio.to_thread(server.app.registry.ban, acme.id, by="test", grace_ms=60_000)
        assert (await ask(boss, "ListGrants")).grants[0].namespace_name == "", "a name that is gone is not shown"
        await ask(boss, "DeleteMember", name="eve")
        assert not (await ask(boss, "ListGrants")).grants, "its grants went with it"

    play(tmp_path, scenario)


def test_only_members_of_namespace_0_have_privileges_and_main_namespaces(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, gina = await guardian_of(server)
        boss, ref = server.guardian, reference(acme)
        update = {"name": "gina", "update_mask": mask("privileges", "main_namespace")}
        await refused(ask(gina, "CreateMember", name="a", privileges=[1]), Reason.BAD_FIELD, "privileges")
        await refused(ask(gina, "CreateMember", name="a", main_namespace=ref), Reason.BAD_FIELD, "main_namespace")
        await refused(ask(gina, "UpdateMember", privileges=[2], **update), Reason.BAD_FIELD, "privileges")
        await refused(ask(gina, "UpdateMember", **update), Reason.BAD_FIELD, "main_namespace")
        made = (await ask(boss, "CreateMember", name="max", privileges=[3, 1], main_namespace=ref)).member
        assert list(made.privileges) == [1, 3] and made.main_namespace_id == acme.id
        assert made.main_namespace_name == "acme"
        update["name"] = "max"
        made = (await ask(boss, "UpdateMember", privileges=[2], **update)).member
        assert list(made.privileges) == [2] and not made.HasField("main_namespace_id")

    play(tmp_path, scenario)


def test_a_change_of_one_namespaces_member_is_no_change_of_anothers_of_the_same_name(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        _, gina = await guardian_of(server, "acme")
        other, _ = await guardian_of(server, "other")
        for namespace in (other, 0):
            server.member(namespace, "alice", groups=("readers",))
        await ask(gina, "CreateMember", name="alice", password="another password", groups=["writers"])
        twins = [await server.login("alice", home=namespace) for namespace in (other, 0)]
        await ask(gina, "CreateGroup", name="extra", rules=[auth_pb2.Rule(read=True)])
        for method, fields in (
            ("SetPassword", {"password": "a third password"}),
            ("UpdateMember", {"disabled": True, "update_mask": mask("disabled")}),
            ("DeleteMember", {}),
        ):
            await ask(gina, method, name="alice", **fields)
            for twin in twins:
                assert list((await twin.call(twin.auth.WhoAmI, auth_pb2.WhoAmIRequest())).groups) == ["readers"]
        for namespace in (other, 0):
            assert (await server.login("alice", home=namespace)).token
            assert (
                server.app.authority.identities.groups.get(namespace if namespace == 0 else other.id, "extra") is None
            )

    play(tmp_path, scenario)


def test_a_cluster_guardian_helps_a_namespace_through_a_minted_token_only(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, _ = await guardian_of(server)
        boss = server.guardian
        assert "gina" not in {member.name for member in (await ask(boss, "ListMembers")).members}
        request = auth_pb2.IssueTokenRequest(
            subject="helper", groups=["guardians"], guardian=auth_pb2.GUARDIAN_NAMESPACE, namespace=reference(acme)
        )
        helper = server.nobody((await boss.call(boss.auth.IssueToken, request)).token)
        assert [member.name for member in (await ask(helper, "ListMembers")).members] == ["gina"]
        await ask(helper, "SetPassword", name="gina", password="a new password")
        assert (await server.login("gina", "a new password", home=acme)).token
        await refused(ask(helper, "ListGrants"), Reason.NOT_PERMITTED)

    play(tmp_path, scenario)


@pytest.mark.parametrize("kind", ["members", "groups", "grants"])
def test_lists_come_in_pages_of_any_size_and_miss_nothing(tmp_path: Path, kind: str) -> None:
    async def scenario(server: RunningServer) -> None:
        boss = server.guardian
        identities = server.app.authority.identities
        names = [f"n{number:02}" for number in range(23)]
        if kind == "groups":
            rule = server.app.authority.identities.groups.get(0, "readers").rules  # type: ignore[union-attr]
            for name in names:
                identities.groups.create(0, name, rule)
            names = sorted([*names, "guardians", "readers", "writers"])
        elif kind == "members":
            taken = [member.name for member in (await ask(boss, "ListMembers")).members]
            for name in names:
                server.member(0, name, "")
            names = sorted(names + taken)
        else:
            namespaces = [server.create(name) for name in names]
            server.member(0, "max", "")
            server.member(0, "eve", "")
            for namespace in namespaces:
                await ask(boss, "SetGrant", member="max", namespace=reference(namespace), effect=2)
            await ask(boss, "SetGrant", member="eve", all=True, effect=2)
            names = ["", *(record.name for record in sorted(namespaces, key=lambda record: record.id))]
        for size in (1, 7, len(names) - 1, len(names), len(names) + 1, 0):
            found, token, pages = [], "", 0
            while True:
                answer = await ask(boss, f"List{kind.title()}", page_size=size, page_token=token)
                entries = getattr(answer, kind)
                found += [entry.namespace_name if kind == "grants" else entry.name for entry in entries]
                pages, token = pages + 1, answer.next_page_token
                if not token:
                    break
            assert found == names
            assert pages == (-(-len(names) // size) if size else 1)

    play(tmp_path, scenario)


def test_every_change_is_in_the_audit_with_what_it_was_about_and_without_a_secret(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, boss, rule = server.create("acme"), server.guardian, auth_pb2.Rule(prefix=b"secret-prefix", read=True)
        await ask(boss, "CreateMember", name="max", password="secret-password", groups=["readers"], privileges=[1])
        await ask(boss, "UpdateMember", name="max", groups=["writers"], update_mask=mask("groups", "privileges"))
        await ask(boss, "SetPassword", name="max", password="secret-password")
        await ask(boss, "CreateGroup", name="own", rules=[rule])
        await ask(boss, "UpdateGroup", name="own", rules=[rule, rule])
        await ask(boss, "DeleteGroup", name="own")
        await ask(boss, "SetGrant", member="max", namespace=reference(acme), effect=1, groups=["readers"])
        await ask(boss, "SetGrant", member="max", all=True, effect=2)
        await ask(boss, "DeleteGrant", member="max", all=True)
        await ask(boss, "DeleteMember", name="max")
        await refused(ask(boss, "DeleteMember", name="max"), Reason.MEMBER_NOT_FOUND)
        outsider = server.caller(acme)
        await refused(ask(outsider, "ListMembers"), Reason.NOT_PERMITTED)
        lines = [line for line in audit_lines(server) if ".Members/" in line["method"]]
        ended = [(line["method"].split("/")[-1], line["target"], line["result"]) for line in lines]
        assert [told for told in ended if told[2] != "started"] == [
            ("CreateMember", "member max, groups readers, privileges namespaces.use, with a password", "ok"),
            ("UpdateMember", "member max: groups writers, privileges none", "ok"),
            ("SetPassword", "password of member max", "ok"),
            ("CreateGroup", "group own, 1 rule", "ok"),
            ("UpdateGroup", "group own, 2 rules", "ok"),
            ("DeleteGroup", "group own", "ok"),
            ("SetGrant", f"allow max readers in namespace {acme.id} acme", "ok"),
            ("SetGrant", "deny max in every namespace", "ok"),
            ("DeleteGrant", "max in every namespace", "ok"),
            ("DeleteMember", "member max", "ok"),
            ("DeleteMember", "member max", "MEMBER_NOT_FOUND"),
            ("ListMembers", "", "NOT_PERMITTED"),
        ]
        assert len([told for told in ended if told[2] == "started"]) == 11
        assert "secret" not in (server.app.config.data_dir / "audit.jsonl").read_text()
        assert lines[-1]["user"] == "somebody" and lines[-1]["namespace"] == "acme"

    play(tmp_path, scenario)


def test_a_change_goes_on_to_its_end_when_its_client_goes_away_while_it_waits(tmp_path: Path) -> None:
    """What is asked of gRPC about the call then must have been asked before: a call that is over ends the process."""

    async def scenario(server: RunningServer) -> None:
        hashing = server.app.hashing
        hash_password, go, begun = hashing.hash, asyncio.Event(), asyncio.Event()

        async def slow(password: str, **options: int) -> str:
            begun.set()
            await go.wait()
            return await hash_password(password, **options)

        hashing.hash = slow  # type: ignore[method-assign]
        boss = server.guardian
        request = pb.CreateMemberRequest(name="max", password=PASSWORD)
        call = boss.members.CreateMember(request, metadata=boss.metadata)
        await begun.wait()
        call.cancel()
        await eventually(lambda: server.app.gate.running == 0, "the call is over")
        go.set()
        members = server.app.authority.identities.members
        await eventually(lambda: members.get(0, "max") is not None, "the member is there")
        await eventually(lambda: audit_lines(server)[-1]["result"] == "ok", "the outcome is in the audit")
        assert audit_lines(server)[-1]["peer"].startswith("ipv4:127.0.0.1:")

    play(tmp_path, scenario)


def test_a_namespace_begins_with_a_guardian_who_can_log_in(tmp_path: Path) -> None:
    from prefixdb.v1 import namespaces_pb2 as ns

    async def scenario(server: RunningServer) -> None:
        server.member(0, "editor", groups=(), privileges=(Privilege.NAMESPACES_EDIT,))
        editor = await server.login("editor")
        first = ns.FirstGuardian(name="gina", password=PASSWORD)
        created = await editor.call(
            editor.namespaces.CreateNamespace, ns.CreateNamespaceRequest(name="acme", guardian=first)
        )
        gina = await server.login("gina", home="acme")
        me = await gina.call(gina.auth.WhoAmI, auth_pb2.WhoAmIRequest())
        assert me.guardian == int(Guardian.NAMESPACE) and me.namespace_id == created.namespace.id
        assert not created.guardian_token
        target = [line["target"] for line in audit_lines(server) if line["method"].endswith("/CreateNamespace")][-1]
        assert target == f"namespace {created.namespace.id} acme, guardian gina"
        for guardian, reason, field in (
            (ns.FirstGuardian(name="g", password="short"), Reason.BAD_FIELD, "password"),
            (ns.FirstGuardian(name="a b", password=PASSWORD), Reason.BAD_NAME, None),
            (ns.FirstGuardian(), Reason.BAD_NAME, None),
        ):
            request = ns.CreateNamespaceRequest(name="other", guardian=guardian)
            await refused(editor.call(editor.namespaces.CreateNamespace, request), reason, field)
        assert server.app.registry.find("other") is None

    play(tmp_path, scenario)
