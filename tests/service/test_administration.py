"""Goal: the guardians' services keep the promises of their comments: answers, field checks, pages, audit lines.

Method: a real server driven over the wire by a cluster guardian, a namespace guardian and a member; the audit file is
read back as text.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb import limits
from prefixdb.catalog.entities import Guardian
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import data_key, database_span
from prefixdb.v1 import auth_pb2, maintenance_pb2
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import namespaces_pb2 as ns
from tests.service.logins import audit_lines, play, refused
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer, eventually

DAY = Duration(seconds=24 * 3600)


async def issue(caller: Caller, **fields: Any) -> auth_pb2.IssueTokenResponse:
    """Issue a service token over the wire."""
    answer: auth_pb2.IssueTokenResponse = await caller.call(
        caller.auth.IssueToken, auth_pb2.IssueTokenRequest(**fields)
    )
    return answer


async def create(caller: Caller, name: str, **fields: Any) -> ns.CreateNamespaceResponse:
    """Create a namespace over the wire."""
    answer: ns.CreateNamespaceResponse = await caller.call(
        caller.namespaces.CreateNamespace, ns.CreateNamespaceRequest(name=name, **fields)
    )
    return answer


def test_a_namespace_is_created_shown_listed_and_changed(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss = server.guardian
        created = await create(boss, "acme", id=77, labels={"tier": "gold"}, guardian_token_ttl=DAY)
        namespace = created.namespace
        assert (namespace.id, namespace.name, dict(namespace.labels)) == (77, "acme", {"tier": "gold"})
        assert namespace.state == ns.NAMESPACE_STATE_ACTIVE and namespace.incarnation and namespace.created_at.seconds
        guardian = server.nobody(created.guardian_token)
        me = await guardian.call(guardian.auth.WhoAmI, auth_pb2.WhoAmIRequest())
        assert (me.namespace_id, me.namespace_name, me.guardian) == (77, "acme", auth_pb2.GUARDIAN_NAMESPACE)
        assert me.namespace_state == ns.NAMESPACE_STATE_ACTIVE and me.jti and me.expires_at.seconds
        assert [(rule.prefix, rule.read, rule.write) for rule in me.rules] == [(b"", True, True)]
        for who, ref in ((guardian, None), (guardian, ns.NamespaceRef(id=77)), (boss, ns.NamespaceRef(name="acme"))):
            shown = await who.call(who.namespaces.GetNamespace, ns.GetNamespaceRequest(namespace=ref))
            assert shown.namespace.id == 77
        await refused(create(boss, "acme"), Reason.NAMESPACE_EXISTS)
        await refused(create(boss, "other", id=77), Reason.NAMESPACE_EXISTS)
        other = (await create(boss, "other")).namespace
        assert other.id not in {0, 77} and not (await create(boss, "third")).guardian_token
        update = ns.UpdateNamespaceRequest(
            namespace=ns.NamespaceRef(id=77),
            name="acme-2",
            labels={"ignored": "x"},
            update_mask=FieldMask(paths=["name"]),
        )
        changed = (await boss.call(boss.namespaces.UpdateNamespace, update)).namespace
        assert changed.name == "acme-2" and dict(changed.labels) == {"tier": "gold"}
        assert changed.incarnation == namespace.incarnation
        assert (await guardian.get(kv.GetRequest(key=b"k"))) == kv.GetResponse(), "its tokens go on"

    play(tmp_path, scenario)


def test_the_size_of_a_namespace_counts_what_is_still_in_memory(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        young = server.create("young")
        writer = server.caller(young)
        puts = [kv.Mutation(put=kv.Mutation.Put(key=b"%d" % number, value=b"v" * 100)) for number in range(5_000)]
        await writer.call(writer.key_value.Write, kv.WriteRequest(mutations=puts))
        boss = server.guardian
        shown = await boss.call(
            boss.namespaces.GetNamespace, ns.GetNamespaceRequest(namespace=ns.NamespaceRef(id=young.id))
        )
        assert 5_000 <= shown.namespace.approximate_rows < 5_010, "its rows and its own records"
        assert shown.namespace.approximate_bytes > 500_000

    play(tmp_path, scenario)


def test_fields_are_checked_and_named(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss = server.guardian
        service = boss.namespaces
        acme = ns.NamespaceRef(id=server.create("acme").id)
        for name in ("", "a" * 129, "ä", "a b", "-a", "a\n"):
            await refused(create(boss, name), Reason.BAD_NAME)
        await create(boss, "a" * 128)
        for bad_id in (0, 2**64 - 1):
            await refused(create(boss, "x", id=bad_id), Reason.BAD_FIELD, "id")
        await refused(create(boss, "x", labels={"": "v"}), Reason.BAD_FIELD, "labels")
        for ttl in (Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=2**62), Duration(nanos=2**30)):
            await refused(create(boss, "x", guardian_token_ttl=ttl), Reason.BAD_FIELD, "guardian_token_ttl")
            ban = ns.BanNamespaceRequest(namespace=acme, grace=ttl)
            await refused(boss.call(service.BanNamespace, ban), Reason.BAD_FIELD, "grace")
            issue = auth_pb2.IssueTokenRequest(subject="s", ttl=ttl)
            await refused(boss.call(boss.auth.IssueToken, issue), Reason.BAD_FIELD, "ttl")
        long = ns.BanNamespaceRequest(namespace=acme, grace=Duration(seconds=366 * 24 * 3600))
        await refused(boss.call(service.BanNamespace, long), Reason.BAD_FIELD, "grace")
        wordy = ns.BanNamespaceRequest(namespace=acme, reason="x" * 513)
        await refused(boss.call(service.BanNamespace, wordy), Reason.BAD_FIELD, "reason")
        for state in (0, 1, 4, 5, 99):
            suspend = ns.SuspendNamespaceRequest(namespace=acme, state=state)  # type: ignore[arg-type]
            await refused(boss.call(service.SuspendNamespace, suspend), Reason.BAD_FIELD, "state")
        for paths in ([], ["id"], ["name", "state"]):
            update = ns.UpdateNamespaceRequest(namespace=acme, name="x", update_mask=FieldMask(paths=paths))
            await refused(boss.call(service.UpdateNamespace, update), Reason.BAD_FIELD, "update_mask")
        for method, request in (
            (service.BanNamespace, ns.BanNamespaceRequest()),
            (service.ResumeNamespace, ns.ResumeNamespaceRequest(namespace=ns.NamespaceRef())),
            (service.ReclaimReport, ns.ReclaimReportRequest()),
        ):
            await refused(boss.call(method, request), Reason.BAD_FIELD, "namespace")
        for method, request in (
            (service.GetNamespace, ns.GetNamespaceRequest(namespace=ns.NamespaceRef(id=5))),
            (service.BanNamespace, ns.BanNamespaceRequest(namespace=ns.NamespaceRef(name="nobody"))),
        ):
            await refused(boss.call(method, request), Reason.NAMESPACE_NOT_FOUND)
        scopes: list[dict[str, Any]] = [{}, {"all": False}, {"everyone": False}]
        for scope in scopes:
            revoke = auth_pb2.RevokeTokensRequest(**scope)
            await refused(boss.call(boss.auth.RevokeTokens, revoke), Reason.BAD_FIELD, "scope")
        nothing = ns.ReclaimReportRequest(namespace=acme)
        await refused(boss.call(service.ReclaimReport, nothing), Reason.REPORT_NOT_FOUND)
        for guardian in (3, -1):
            issue = auth_pb2.IssueTokenRequest(subject="s", guardian=guardian)  # type: ignore[arg-type]
            await refused(boss.call(boss.auth.IssueToken, issue), Reason.BAD_FIELD, "guardian")

    play(tmp_path, scenario)


def test_lists_page_in_order_and_refuse_tokens_that_are_not_theirs(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss = server.guardian
        for number in (5, 3, 900, 2**63, 2**64 - 2):
            server.app.registry.create(f"n{number}", namespace_id=number)
        for _ in range(4):
            server.token(3)
        found, token = [], ""
        while True:
            request = ns.ListNamespacesRequest(page_size=2, page_token=token)
            page = await boss.call(boss.namespaces.ListNamespaces, request)
            found += [namespace.id for namespace in page.namespaces]
            token = page.next_page_token
            if not token:
                break
            assert len(page.namespaces) == 2
        assert found == [0, 3, 5, 900, 2**63, 2**64 - 2]
        jtis, token = [], ""
        while True:
            tokens = auth_pb2.ListTokensRequest(namespace=ns.NamespaceRef(id=3), page_size=3, page_token=token)
            answer = await boss.call(boss.auth.ListTokens, tokens)
            jtis += [entry.jti for entry in answer.tokens]
            token = answer.next_page_token
            if not token:
                break
        assert len(jtis) == 4 and jtis == sorted(jtis)
        one = ns.ListNamespacesRequest(page_size=1)
        foreign = (await boss.call(boss.namespaces.ListNamespaces, one)).next_page_token
        respelt = foreign[:-1] + chr(ord(foreign[-1]) + 1)  # The same bytes with other spare bits.
        bad_tokens = ("x", "%%%", "AAAA", foreign[:-1], foreign + "A", respelt, "=" * 8, "A" * 4000, "ä")
        for bad in bad_tokens:
            request = ns.ListNamespacesRequest(page_token=bad)
            await refused(boss.call(boss.namespaces.ListNamespaces, request), Reason.BAD_FIELD, "page_token")
        for bad in (*bad_tokens, foreign):
            tokens = auth_pb2.ListTokensRequest(page_token=bad)
            await refused(boss.call(boss.auth.ListTokens, tokens), Reason.BAD_FIELD, "page_token")
        most = limits.LIST_PAGE_ENTRIES_MAX
        assert await boss.call(boss.namespaces.ListNamespaces, ns.ListNamespacesRequest(page_size=most))
        for method, request in (
            (boss.namespaces.ListNamespaces, ns.ListNamespacesRequest(page_size=most + 1)),
            (boss.auth.ListTokens, auth_pb2.ListTokensRequest(page_size=most + 1)),
        ):
            await refused(boss.call(method, request), Reason.BAD_FIELD, "page_size")

    play(tmp_path, scenario)


def test_a_ban_hides_at_once_and_is_reclaimed_with_a_report_that_can_be_watched(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss, acme = server.guardian, server.create("acme")
        member, ref = server.caller(acme), ns.NamespaceRef(id=acme.id)
        await member.call(member.key_value.Put, kv.PutRequest(key=b"k", value=b"v"))
        ban = ns.BanNamespaceRequest(namespace=ref, reason="over", grace=Duration(seconds=60))
        banned = (await boss.call(boss.namespaces.BanNamespace, ban)).namespace
        assert banned.state == ns.NAMESPACE_STATE_BANNED and banned.state_reason == "over"
        assert banned.reclaim_after.seconds - banned.banned_at.seconds == 60
        await refused(member.get(kv.GetRequest(key=b"k")), Reason.NAMESPACE_BANNED)
        again = (await boss.call(boss.namespaces.BanNamespace, ns.BanNamespaceRequest(namespace=ref))).namespace
        assert again == banned, "a repeat returns the same ban"
        listed = await boss.call(boss.namespaces.ListNamespaces, ns.ListNamespacesRequest(include_dropped=True))
        assert acme.id in {namespace.id for namespace in listed.namespaces}
        listed = await boss.call(boss.namespaces.ListNamespaces, ns.ListNamespacesRequest())
        assert acme.id not in {namespace.id for namespace in listed.namespaces}
        await boss.call(boss.namespaces.UnbanNamespace, ns.UnbanNamespaceRequest(namespace=ref))
        assert (await member.get(kv.GetRequest(key=b"k"))).value == b"v"
        final = (await boss.call(boss.namespaces.BanNamespace, ns.BanNamespaceRequest(namespace=ref))).namespace
        assert final.state == ns.NAMESPACE_STATE_BANNED
        reports = await boss.pages(boss.namespaces.WatchReclaim, ns.WatchReclaimRequest(namespace=ref))
        last = reports[-1].reclaim
        assert last.phase == ns.RECLAIM_PHASE_DONE and last.finished_at.seconds
        assert (last.proof_rows_found, last.proof_bytes_found) == (0, 0)
        assert last.banned_by == "somebody@0"
        shown = await boss.call(boss.namespaces.ReclaimReport, ns.ReclaimReportRequest(namespace=ref))
        assert shown.reclaim == last
        unban = boss.call(boss.namespaces.UnbanNamespace, ns.UnbanNamespaceRequest(namespace=ref))
        await refused(unban, Reason.RECLAIM_STARTED)
        for protected in (ns.BanNamespaceRequest(namespace=ns.NamespaceRef(id=0)),):
            await refused(boss.call(boss.namespaces.BanNamespace, protected), Reason.NAMESPACE_PROTECTED)

    play(tmp_path, scenario)


def test_tokens_are_issued_listed_and_revoked_within_policy(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss, acme = server.guardian, server.create("acme")
        guardian = server.caller(acme, guardian=Guardian.NAMESPACE, subject="boss")

        async def revoke(caller: Caller, **fields: Any) -> None:
            await caller.call(caller.auth.RevokeTokens, auth_pb2.RevokeTokensRequest(**fields))

        made = await issue(guardian, subject="app", groups=["writers"], ttl=DAY)
        assert made.info.expires_at.seconds - made.info.issued_at.seconds == DAY.seconds
        app = server.nobody(made.token)
        assert await app.call(app.key_value.Put, kv.PutRequest(key=b"k"))
        listed = await guardian.call(guardian.auth.ListTokens, auth_pb2.ListTokensRequest())
        assert made.info in list(listed.tokens) and made.token not in str(listed)
        minted = await issue(boss, subject="visitor", groups=["readers"], namespace=ns.NamespaceRef(id=acme.id))
        assert minted.info.expires_at.seconds - minted.info.issued_at.seconds <= limits.MINTED_TOKEN_S_MAX
        long = issue(boss, subject="v", namespace=ns.NamespaceRef(id=acme.id), ttl=DAY)
        await refused(long, Reason.BAD_FIELD, "ttl")
        await refused(issue(guardian, subject="x", guardian=auth_pb2.GUARDIAN_CLUSTER), Reason.NOT_PERMITTED)
        await refused(issue(guardian, subject="x", groups=["nobody"]), Reason.GROUP_NOT_FOUND)
        await refused(issue(guardian, subject=""), Reason.BAD_FIELD, "subject")
        await revoke(guardian, jti=made.info.jti)
        await refused(app.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        await refused(revoke(guardian, jti="0" * 32), Reason.TOKEN_NOT_FOUND)
        visitor = server.nobody(minted.token)
        assert (await visitor.get(kv.GetRequest(key=b"k"))).found
        await revoke(guardian, subject="visitor")
        await refused(visitor.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        await refused(revoke(guardian, everyone=True), Reason.NOT_PERMITTED)
        await revoke(guardian, all=True)
        await refused(guardian.get(kv.GetRequest(key=b"k")), Reason.TOKEN_REVOKED)
        assert await boss.call(boss.auth.WhoAmI, auth_pb2.WhoAmIRequest())
        await revoke(boss, everyone=True)
        await refused(boss.call(boss.auth.WhoAmI, auth_pb2.WhoAmIRequest()), Reason.TOKEN_REVOKED)

    play(tmp_path, scenario)


def test_status_and_compact_tell_facts(tmp_path: Path, server_store: str) -> None:
    async def scenario(server: RunningServer) -> None:
        boss, acme = server.guardian, server.create("acme")
        status = await boss.call(boss.maintenance.Status, maintenance_pb2.StatusRequest())
        assert (status.store, status.durability, status.writable) == (server_store, "fsync", True)
        assert status.namespaces_live == 2 and status.sessions_cached == 1 and status.started_at.seconds
        for namespace in (None, ns.NamespaceRef(id=acme.id)):
            request = maintenance_pb2.CompactRequest(namespace=namespace)
            await boss.call(boss.maintenance.Compact, request)

    play(tmp_path, scenario)


def test_acts_and_refusals_are_audited_and_secrets_are_not(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        boss = server.guardian
        created = await create(boss, "acme", guardian_token_ttl=DAY)
        guardian = server.nobody(created.guardian_token)
        await refused(create(guardian, "mine"), Reason.NOT_PERMITTED)
        await refused(create(boss, "acme"), Reason.NAMESPACE_EXISTS)
        await refused(create(server.nobody(), "x"), Reason.TOKEN_MISSING)
        await refused(create(server.nobody(server.forged_token(server.create("f"))), "x"), Reason.TOKEN_INVALID)
        issue = auth_pb2.IssueTokenRequest(subject="app", groups=["writers"])
        made = await guardian.call(guardian.auth.IssueToken, issue)
        lines = audit_lines(server)
        told = [(line["user"], line["namespace_id"], line["namespace"], line["result"]) for line in lines]
        assert told == [
            ("somebody", "0", "default", "started"),
            ("somebody", "0", "default", "ok"),
            ("guardian", str(created.namespace.id), "acme", "NOT_PERMITTED"),
            ("somebody", "0", "default", "started"),
            ("somebody", "0", "default", "NAMESPACE_EXISTS"),
            ("", "", "", "TOKEN_MISSING"),
            ("", "", "", "TOKEN_INVALID"),
            ("guardian", str(created.namespace.id), "acme", "started"),
            ("guardian", str(created.namespace.id), "acme", "ok"),
        ]
        assert lines[1]["target"] == f"namespace {created.namespace.id} acme"
        assert made.info.jti in lines[-1]["target"] and "app" in lines[-1]["target"]
        assert all(line["peer"] and line["method"].startswith("/prefixdb.v1.") for line in lines)
        assert lines[0]["request_id"] == lines[1]["request_id"] != lines[3]["request_id"]
        names = list(lines[0])
        assert names[names.index("user") + 1 : names.index("user") + 3] == ["namespace_id", "namespace"]
        text = str(lines)
        for secret in (created.guardian_token, made.token, boss.token, made.token.split(".")[2]):
            assert secret is not None and secret not in text

    play(tmp_path, scenario)


def test_no_act_is_done_while_the_audit_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: RunningServer) -> None:
        boss, acme = server.guardian, server.create("acme")
        member, ref = server.caller(acme), ns.NamespaceRef(id=acme.id)

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(server.app.audit, "_write", full)
            await refused(create(boss, "x"), Reason.AUDIT_UNAVAILABLE)
            ban = ns.BanNamespaceRequest(namespace=ref)
            await refused(boss.call(boss.namespaces.BanNamespace, ban), Reason.AUDIT_UNAVAILABLE)
            revoke = auth_pb2.RevokeTokensRequest(namespace=ref, all=True)
            await refused(boss.call(boss.auth.RevokeTokens, revoke), Reason.AUDIT_UNAVAILABLE)
            issue = auth_pb2.IssueTokenRequest(subject="s")
            await refused(boss.call(boss.auth.IssueToken, issue), Reason.AUDIT_UNAVAILABLE)
            assert server.app.registry.find("x") is None
            assert (await member.call(member.key_value.Put, kv.PutRequest(key=b"k"))).applied, "rows go on"
            await refused(create(member, "x"), Reason.NOT_PERMITTED)
        assert (await create(boss, "x")).namespace.name == "x"

    play(tmp_path, scenario)


def test_an_act_is_finished_and_audited_when_its_client_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: RunningServer) -> None:
        boss, acme = server.guardian, server.create("acme")
        door = asyncio.Event()
        record = server.app.audit.record

        async def slow(entry: Any) -> None:
            await record(entry)
            await door.wait()

        monkeypatch.setattr(server.app.audit, "record", slow)
        ban = ns.BanNamespaceRequest(namespace=ns.NamespaceRef(id=acme.id), grace=DAY)
        call = boss.namespaces.BanNamespace(ban, metadata=boss.metadata)
        await eventually(lambda: bool(audit_lines(server)), "the act has begun")
        call.cancel()
        door.set()
        await eventually(lambda: audit_lines(server)[-1]["result"] == "ok", "the act is done and audited")
        assert server.app.registry.get(acme.id).state == ns.NAMESPACE_STATE_BANNED  # type: ignore[union-attr]

    play(tmp_path, scenario)


def test_a_flood_of_refusals_is_counted_instead_of_filling_the_disk(tmp_path: Path) -> None:
    from prefixdb.service.administration import REFUSALS_BURST, REFUSALS_PER_S

    async def scenario(server: RunningServer) -> None:
        member, clock = server.caller(server.create("acme")), server.app.clock
        for _ in range(REFUSALS_BURST + 5):
            await refused(create(member, "x"), Reason.NOT_PERMITTED)
        assert len(audit_lines(server)) == REFUSALS_BURST
        await refused(create(server.nobody(), "x"), Reason.TOKEN_MISSING)
        assert len(audit_lines(server)) == REFUSALS_BURST + 1, "others' refusals are not hidden"
        clock.advance(int(1000 / REFUSALS_PER_S))  # type: ignore[attr-defined]
        await refused(create(member, "x"), Reason.NOT_PERMITTED)
        assert audit_lines(server)[-1]["target"].startswith("5 refusals")

    play(tmp_path, scenario, clock=HeldClock())


def test_a_mistake_of_ours_shows_an_id_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: RunningServer) -> None:
        member = server.caller(server.create("acme"))
        await member.call(member.key_value.Put, kv.PutRequest(key=b"k", value=b"v"))

        def broken(*_: object, **__: object) -> None:
            raise KeyError("the secret is k3y")

        with monkeypatch.context() as patched, server.handing_over():
            patched.setattr(server.app.store, "get", broken)
            patched.setattr(server.app.store, "open_cursor", broken)
            patched.setattr(server.app.store, "check_ready", broken, raising=False)  # What the front asks for a Scan.
            for call in (
                member.get(kv.GetRequest(key=b"k")),
                member.pages(member.key_value.Scan, kv.ScanRequest()),
                member.call(member.key_value.Count, kv.CountRequest()),
            ):
                with pytest.raises(PrefixdbError) as caught:
                    await call
                assert caught.value.reason is Reason.INTERNAL
                assert "k3y" not in str(caught.value) + str(caught.value.metadata)
                request_id = caught.value.metadata["request_id"]
                assert request_id in [getattr(line, "request_id", "") for line in caplog.records]
        assert (await member.get(kv.GetRequest(key=b"k"))).found, "a mistake is not a breach; serving goes on"

    play(tmp_path, scenario)


def test_a_foreign_row_stops_serving_with_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: RunningServer) -> None:
        acme, other = server.create("acme"), server.create("other")
        member, victim = server.caller(acme), server.caller(other)
        await victim.call(victim.key_value.Put, kv.PutRequest(key=b"k", value=b"foreign"))
        await member.call(member.key_value.Put, kv.PutRequest(key=b"k", value=b"own"))
        honest = server.app.store.open_cursor

        def astray(span: Any, **options: Any) -> Any:
            return honest(database_span(other.id, 0), **options)

        with monkeypatch.context() as patched:
            patched.setattr(server.app.store, "open_cursor", astray)
            if server.has_native_front:  # Its cursors are its own; front_scan_test.cc leads them astray.
                store: Any = server.app.store
                with store._slot.use() as engine:
                    engine.put_synced(data_key(acme.id, 0, b"k"), b"\x7f")
                patched.setattr(store, "translated", lambda *_: error(Reason.INTERNAL))
            with pytest.raises(PrefixdbError) as caught:
                await member.pages(member.key_value.Scan, kv.ScanRequest())
        assert caught.value.reason is Reason.INTERNAL
        assert any(line.levelname == "CRITICAL" and "isolation" in line.message for line in caplog.records)
        for caller in (member, victim, server.guardian):
            with pytest.raises(PrefixdbError) as caught:
                await caller.call(caller.auth.WhoAmI, auth_pb2.WhoAmIRequest())
            assert caught.value.reason is Reason.INTERNAL
        health = server.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await health(b"", timeout=10) == b"\x08\x02", "health says NOT_SERVING"
        assert not server.app.serving

    play(tmp_path, scenario)


def test_a_tenants_acts_are_paced_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACTS_AT_ONCE_MAX", 3)
    clock = HeldClock()

    async def scenario(server: RunningServer) -> None:
        boss = server.caller(server.create("acme"), guardian=Guardian.NAMESPACE)
        neighbour = server.caller(server.create("globex"), guardian=Guardian.NAMESPACE)
        await server.guardian.call(  # Not an act of acme's people, and not paced.
            server.guardian.namespaces.UpdateNamespace,
            ns.UpdateNamespaceRequest(
                namespace=ns.NamespaceRef(name="acme"), labels={"a": "b"}, update_mask=FieldMask(paths=["labels"])
            ),
        )
        for _ in range(2):
            await issue(boss, subject="app", groups=["readers"])
        await refused(issue(boss, subject="app", groups=["nobody"]), Reason.GROUP_NOT_FOUND)  # An act that failed.
        lines = len(audit_lines(server))
        late = await refused(issue(boss, subject="app", groups=["readers"]), Reason.RATE_LIMITED)
        assert late.retry_after_ms == 60_000 // limits.ACTS_PER_MINUTE_MAX
        assert len(audit_lines(server)) == lines
        await issue(neighbour, subject="app", groups=["readers"])
        for number in range(5):
            await create(server.guardian, f"more{number}")
        clock.advance(late.retry_after_ms)
        await issue(boss, subject="app", groups=["readers"])
        await refused(issue(boss, subject="app", groups=["readers"]), Reason.RATE_LIMITED)

    play(tmp_path, scenario, clock=clock)
