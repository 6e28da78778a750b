# Generated from tests/client/test_aio_guardian.py by tools/async_to_sync.py; do not edit.
"""Goal: guardians' calls do what they say, with Python's types, and ordinary tokens are kept out of them.

Method: a real server; a ban is followed until the server has proven the namespace empty.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefixdb import connect
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
from tests.client.harness import sync_test


@sync_test
def test_a_namespace_is_created_found_renamed_and_labelled(prefixdb_server: ServerProcess) -> None:
    with connect(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        spaces = db.guardian.namespaces
        name = prefixdb_server.create_namespace().name
        with pytest.raises(AlreadyExistsError):
            spaces.create(name)
        found = spaces.get(name)
        assert (spaces.get(found.id)) == found
        assert found.state is NamespaceState.ACTIVE
        assert found.created_at is not None
        assert abs(found.created_at - datetime.now(UTC)) < timedelta(minutes=5)
        labelled = spaces.update(name, labels={"team": "x", "tier": "gold"})
        assert labelled.labels == {"team": "x", "tier": "gold"}
        renamed = spaces.update(found.id, name=f"{name}-new")
        assert (renamed.id, renamed.labels) == (found.id, labelled.labels)
        with pytest.raises(NotFoundError):
            spaces.get(name)
        with pytest.raises(InvalidArgumentError, match="Nothing to update"):
            spaces.update(found.id)
        with pytest.raises(TypeError):
            spaces.get(1.5)


@sync_test
def test_lists_go_over_many_pages_and_show_the_dropped_on_demand(prefixdb_server: ServerProcess) -> None:
    made = [prefixdb_server.create_namespace() for _ in range(3)]
    with connect(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        db.guardian.namespaces.ban(made[0].id, grace=3600)
        live = [item.id for item in db.guardian.namespaces.list()]
        every = [item.id for item in db.guardian.namespaces.list(include_dropped=True)]
        assert live == sorted(live)
        assert {made[1].id, made[2].id} <= set(live)
        assert made[0].id not in live
        assert made[0].id in every
        for number in range(5):
            db.guardian.tokens.issue(f"s{number}", ["readers"], namespace=made[1].id)
        listed = [token for token in db.guardian.tokens.list(namespace=made[1].id)]
        assert {f"s{number}" for number in range(5)} <= {token.subject for token in listed}


@sync_test
def test_suspension_stops_calls_and_resuming_brings_them_back(place: Namespace) -> None:
    spaces = place.server.guardian.guardian.namespaces
    with place.connect() as db:
        db.put("k", b"v")
        assert spaces.suspend(place.name, read_only=True, reason="moving").state_reason == "moving"
        assert db.get("k") == b"v"
        with pytest.raises(FailedPreconditionError) as caught:
            db.put("k", b"2")
        assert caught.value.reason is Reason.READ_ONLY
        spaces.suspend(place.name)
        with pytest.raises(NamespaceSuspendedError):
            db.get("k")
        assert spaces.resume(place.name).state is NamespaceState.ACTIVE
        assert db.get("k") == b"v"


@sync_test
def test_a_ban_with_grace_can_be_taken_back_and_nothing_is_lost(place: Namespace) -> None:
    spaces = place.server.guardian.guardian.namespaces
    with place.connect() as db:
        db.put("k", b"v")
        banned = spaces.ban(place.name, reason="by mistake", grace=timedelta(hours=1))
        assert banned.state is NamespaceState.BANNED
        assert banned.reclaim_after is not None and banned.banned_at is not None
        assert banned.reclaim_after - banned.banned_at == timedelta(hours=1)
        with pytest.raises(NamespaceBannedError):
            db.get("k")
        report = spaces.report(place.id)
        assert (report.phase, report.reason, report.finished_at) == (ReclaimPhase.GRACE, "by mistake", None)
        assert report.fraction_done < 1
        spaces.unban(place.id)
        assert db.get("k") == b"v"


@sync_test
def test_a_ban_ends_in_a_proof_that_nothing_is_left(place: Namespace) -> None:
    with place.connect() as db:
        db.put_many((f"k{number}", bytes(100)) for number in range(2000))
    with connect(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        spaces = db.guardian.namespaces
        spaces.ban(place.name)
        reports = [report for report in spaces.watch(place.id)]
        last = reports[-1]
        assert last.done
        assert last.fraction_done == 1.0
        assert all(report.fraction_done < 1 for report in reports[:-1])
        assert (last.proof_rows_found, last.proof_bytes_found) == (0, 0)
        assert last.finished_at is not None
        assert spaces.report(place.id) == last
        with pytest.raises(FailedPreconditionError):
            spaces.unban(place.id)
    with place.connect() as db:
        with pytest.raises((NamespaceBannedError, UnauthenticatedError)):
            db.get("k1")


@sync_test
def test_tokens_are_issued_inspected_listed_and_revoked(place: Namespace) -> None:
    with connect(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        tokens = db.guardian.tokens
        issued = tokens.issue("robot", ["readers"], ttl=timedelta(minutes=5), namespace=place.id)
        assert issued.token not in repr(issued)
        claims = tokens.inspect(issued.token)
        assert (claims.subject, claims.groups, claims.jti) == ("robot", ("readers",), issued.info.jti)
        assert claims.namespace_id == place.id
        assert claims.expires_at == issued.info.expires_at
        with connect(place.server.endpoint, token=issued.token) as robot:
            me = robot.whoami()
            assert (me.subject, me.namespace_name, me.groups) == ("robot", place.name, ("readers",))
            assert me.guardian is GuardianRole.NONE
            assert [(rule.read, rule.write) for rule in me.rules] == [(True, False)]
            with pytest.raises(PermissionDeniedError):
                robot.guardian.namespaces.create("mine")
            tokens.revoke(jti=issued.info.jti, namespace=place.id)
            with pytest.raises(UnauthenticatedError) as caught:
                robot.get("k")
            assert caught.value.reason is Reason.TOKEN_REVOKED
        [kept] = [token for token in tokens.list(namespace=place.id) if token.jti == issued.info.jti]
        assert kept.revoked
        with pytest.raises(InvalidArgumentError, match="exactly one"):
            tokens.revoke()
        with pytest.raises(InvalidArgumentError):
            tokens.inspect("not a token")


@sync_test
def test_a_first_guardian_token_comes_with_the_namespace(prefixdb_server: ServerProcess) -> None:
    name = prefixdb_server.create_namespace().name + "-guarded"
    made = prefixdb_server.guardian.guardian.namespaces.create(name, labels={"a": "b"}, guardian_token_ttl=3600)
    assert made.guardian_token is not None
    assert made.guardian_token not in repr(made)
    assert made.namespace.labels == {"a": "b"}
    with connect(prefixdb_server.endpoint, token=made.guardian_token, namespace=name) as db:
        assert (db.whoami()).guardian is GuardianRole.NAMESPACE
        assert (db.guardian.namespaces.get()).id == made.namespace.id
        own = db.guardian.tokens.issue("worker", ["writers"], ttl=60)
        with connect(prefixdb_server.endpoint, token=own.token) as worker:
            worker.put("k", b"v")
        with pytest.raises(PermissionDeniedError):
            db.guardian.maintenance.status()


@sync_test
def test_maintenance_tells_the_servers_facts_and_compacts(place: Namespace) -> None:
    with connect(place.server.endpoint, token_file=place.server.guardian_token_file) as db:
        status = db.guardian.maintenance.status()
        assert status.writable
        assert status.store in {"rocksdict", "native"}
        assert status.uptime > timedelta(0)
        assert status.namespaces_live >= 2
        done = db.guardian.maintenance.compact(place.id)
        assert done.disk_bytes_before >= 0
        assert db.health() == "SERVING"
