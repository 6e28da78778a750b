"""Goal: guardians' calls do what they say, with Python's types, and ordinary tokens are kept out of them.

Method: a real server; a ban is followed until the server has proven the namespace empty.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefixdb import connect_async
from prefixdb.client.models import GuardianRole, NamespaceState, ReclaimPhase
from prefixdb.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NamespaceBannedError,
    NamespaceSuspendedError,
    NotFoundError,
    PermissionDeniedError,
    Reason,
    UnauthenticatedError,
)
from prefixdb.testing import Namespace, ServerProcess
from tests.client.harness import async_test


@async_test
async def test_a_namespace_is_created_found_renamed_and_labelled(prefixdb_server: ServerProcess) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        spaces = db.guardian.namespaces
        name = prefixdb_server.create_namespace().name
        with pytest.raises(AlreadyExistsError):
            await spaces.create(name)
        found = await spaces.get(name)
        assert (await spaces.get(found.id)) == found
        assert found.state is NamespaceState.ACTIVE
        assert found.created_at is not None
        assert abs(found.created_at - datetime.now(UTC)) < timedelta(minutes=5)
        labelled = await spaces.update(name, labels={"team": "x", "tier": "gold"})
        assert labelled.labels == {"team": "x", "tier": "gold"}
        renamed = await spaces.update(found.id, name=f"{name}-new")
        assert (renamed.id, renamed.labels) == (found.id, labelled.labels)
        with pytest.raises(NotFoundError):
            await spaces.get(name)
        with pytest.raises(InvalidArgumentError, match="Nothing to update"):
            await spaces.update(found.id)
        with pytest.raises(TypeError):
            await spaces.get(1.5)


@async_test
async def test_lists_go_over_many_pages_and_show_the_dropped_on_demand(prefixdb_server: ServerProcess) -> None:
    made = [prefixdb_server.create_namespace() for _ in range(3)]
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        await db.guardian.namespaces.ban(made[0].id, grace=3600)
        live = [item.id async for item in db.guardian.namespaces.list()]
        every = [item.id async for item in db.guardian.namespaces.list(include_dropped=True)]
        assert live == sorted(live)
        assert {made[1].id, made[2].id} <= set(live)
        assert made[0].id not in live
        assert made[0].id in every
        for number in range(5):
            await db.guardian.tokens.issue(f"s{number}", ["readers"], namespace=made[1].id)
        listed = [token async for token in db.guardian.tokens.list(namespace=made[1].id)]
        assert {f"s{number}" for number in range(5)} <= {token.subject for token in listed}


@async_test
async def test_suspension_stops_calls_and_resuming_brings_them_back(place: Namespace) -> None:
    spaces = place.server.guardian.guardian.namespaces
    async with place.connect_async() as db:
        await db.put("k", b"v")
        assert spaces.suspend(place.name, read_only=True, reason="moving").state_reason == "moving"
        assert await db.get("k") == b"v"
        with pytest.raises(FailedPreconditionError) as caught:
            await db.put("k", b"2")
        assert caught.value.reason is Reason.READ_ONLY
        spaces.suspend(place.name)
        with pytest.raises(NamespaceSuspendedError):
            await db.get("k")
        assert spaces.resume(place.name).state is NamespaceState.ACTIVE
        assert await db.get("k") == b"v"


@async_test
async def test_a_ban_with_grace_can_be_taken_back_and_nothing_is_lost(place: Namespace) -> None:
    spaces = place.server.guardian.guardian.namespaces
    async with place.connect_async() as db:
        await db.put("k", b"v")
        banned = spaces.ban(place.name, reason="by mistake", grace=timedelta(hours=1))
        assert banned.state is NamespaceState.BANNED
        assert banned.reclaim_after is not None and banned.banned_at is not None
        assert banned.reclaim_after - banned.banned_at == timedelta(hours=1)
        with pytest.raises(NamespaceBannedError):
            await db.get("k")
        report = spaces.report(place.id)
        assert (report.phase, report.reason, report.finished_at) == (ReclaimPhase.GRACE, "by mistake", None)
        assert report.fraction_done < 1
        spaces.unban(place.id)
        assert await db.get("k") == b"v"


@async_test
async def test_a_ban_ends_in_a_proof_that_nothing_is_left(place: Namespace) -> None:
    async with place.connect_async() as db:
        await db.put_many((f"k{number}", bytes(100)) for number in range(2000))
    async with connect_async(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        spaces = db.guardian.namespaces
        await spaces.ban(place.name)
        reports = [report async for report in spaces.watch(place.id)]
        last = reports[-1]
        assert last.done
        assert last.fraction_done == 1.0
        assert all(report.fraction_done < 1 for report in reports[:-1])
        assert (last.proof_rows_found, last.proof_bytes_found) == (0, 0)
        assert last.finished_at is not None
        assert await spaces.report(place.id) == last
        with pytest.raises(FailedPreconditionError):
            await spaces.unban(place.id)
    async with place.connect_async() as db:
        with pytest.raises((NamespaceBannedError, UnauthenticatedError)):
            await db.get("k1")


@async_test
async def test_tokens_are_issued_inspected_listed_and_revoked(place: Namespace) -> None:
    async with connect_async(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        tokens = db.guardian.tokens
        issued = await tokens.issue("robot", ["readers"], ttl=timedelta(minutes=5), namespace=place.id)
        assert issued.token not in repr(issued)
        claims = tokens.inspect(issued.token)
        assert (claims.subject, claims.groups, claims.jti) == ("robot", ("readers",), issued.info.jti)
        assert claims.namespace_id == place.id
        assert claims.expires_at == issued.info.expires_at
        async with connect_async(place.server.endpoint, token=issued.token) as robot:
            me = await robot.whoami()
            assert (me.subject, me.namespace_name, me.groups) == ("robot", place.name, ("readers",))
            assert me.guardian is GuardianRole.NONE
            assert [(rule.read, rule.write) for rule in me.rules] == [(True, False)]
            with pytest.raises(PermissionDeniedError):
                await robot.guardian.namespaces.create("mine")
            await tokens.revoke(jti=issued.info.jti, namespace=place.id)
            with pytest.raises(UnauthenticatedError) as caught:
                await robot.get("k")
            assert caught.value.reason is Reason.TOKEN_REVOKED
        [kept] = [token async for token in tokens.list(namespace=place.id) if token.jti == issued.info.jti]
        assert kept.revoked
        with pytest.raises(InvalidArgumentError, match="exactly one"):
            await tokens.revoke()
        with pytest.raises(InvalidArgumentError):
            tokens.inspect("not a token")


@async_test
async def test_a_first_guardian_token_comes_with_the_namespace(prefixdb_server: ServerProcess) -> None:
    name = prefixdb_server.create_namespace().name + "-guarded"
    made = prefixdb_server.guardian.guardian.namespaces.create(name, labels={"a": "b"}, guardian_token_ttl=3600)
    assert made.guardian_token is not None
    assert made.guardian_token not in repr(made)
    assert made.namespace.labels == {"a": "b"}
    async with connect_async(prefixdb_server.endpoint, token=made.guardian_token, namespace=name) as db:
        assert (await db.whoami()).guardian is GuardianRole.NAMESPACE
        assert (await db.guardian.namespaces.get()).id == made.namespace.id
        own = await db.guardian.tokens.issue("worker", ["writers"], ttl=60)
        async with connect_async(prefixdb_server.endpoint, token=own.token) as worker:
            await worker.put("k", b"v")
        with pytest.raises(PermissionDeniedError):
            await db.guardian.maintenance.status()


@async_test
async def test_maintenance_tells_the_servers_facts_and_compacts(place: Namespace) -> None:
    async with connect_async(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        status = await db.guardian.maintenance.status()
        assert status.writable
        assert status.store in {"rocksdict", "native"}
        assert status.uptime > timedelta(0)
        assert status.namespaces_live >= 2
        done = await db.guardian.maintenance.compact(place.id)
        assert done.disk_bytes_before >= 0
        assert await db.health() == "SERVING"
