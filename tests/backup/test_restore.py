"""Goal: a restored directory is a server's, with every row of one instant and nothing that must not come back.

Method: backups are taken of real servers over the wire and restored; servers are started on what came out. Writers keep
an invariant over several keys all the while; tokens, bans and reissued numbers of the time after the backup are tried.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from prefixdb.backup import snapshot as module
from prefixdb.backup.bans import read_bans
from prefixdb.backup.identity import identity
from prefixdb.backup.restore import Restored, restore, verify_open
from prefixdb.catalog import schema
from prefixdb.catalog.entities import Guardian, NamespaceState, ReclaimPhase
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key, system_span
from prefixdb.repository.bans import BannedIssue
from prefixdb.repository.manifest import new_backup_id
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as kv
from tests.support.backups import Backup, list_bans, take_backup
from tests.support.server import Caller, RunningServer, eventually, running

KEYS = [b"a", b"b", b"c", b"d"]


async def put(caller: Caller, key: bytes, value: bytes) -> None:
    await caller.call(caller.key_value.Put, kv.PutRequest(key=key, value=value))


async def value_of(caller: Caller, key: bytes) -> bytes | None:
    answer = await caller.get(kv.GetRequest(key=key))
    return answer.value if answer.found else None


async def refusal_of(server: RunningServer, caller: Caller) -> Reason | None:
    """Return why a token of another time is refused by this server, None when it is not."""
    try:
        await value_of(server.nobody(caller.token), b"a")
    except PrefixdbError as refusal:
        return refusal.reason
    return None


def restored_to(tmp_path: Path, backup: Backup, bans: Iterable[BannedIssue] = (), **wishes: bool) -> Restored:
    return restore(backup, tmp_path / "new", bans, **wishes)


# --- one instant ----------------------------------------------------------------------------------------------------


def test_what_is_restored_is_one_instant_of_writers_that_never_stopped(tmp_path: Path) -> None:
    """Each write puts the next number into four keys of two databases; another client counts in a second namespace."""

    async def main() -> None:
        acknowledged = {"acme": 0, "beta": 0}
        stop = asyncio.Event()

        async def write(caller: Caller, name: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                rows = [(key, b"%d" % number) for key in KEYS] + [(b"log/%08d" % number, bytes(500))]
                puts = [kv.Mutation.Put(key=key, value=value, database=3 * (key in KEYS[2:])) for key, value in rows]
                await caller.call(
                    caller.key_value.Write, kv.WriteRequest(mutations=[kv.Mutation(put=each) for each in puts])
                )
                acknowledged[name] = number

        async with running(tmp_path / "data", settings={"store.write_buffer": "1MiB"}) as server:
            names = {name: server.caller(server.create(name)) for name in acknowledged}
            writers = [asyncio.create_task(write(names[name], name)) for name in acknowledged]
            under_way = lambda: any(each.done() for each in writers) or min(acknowledged.values()) > 200  # noqa: E731
            await eventually(under_way, "writing is under way")
            before = dict(acknowledged)
            backup = await take_backup(server.guardian)
            after = dict(acknowledged)
            await eventually(lambda: min(acknowledged.values()) > max(after.values()) + 50, "writing goes on")
            stop.set()
            await asyncio.gather(*writers)
        assert min(after[name] - before[name] for name in names) > 0, "nobody was held up for all of it"
        proven = verify_open(backup)
        made = restored_to(tmp_path, backup)
        assert replace(proven, rows=0).namespaces_live == made.namespaces_live == 3 and proven.rows > 400
        async with running(tmp_path / "new") as server:
            for name, caller in names.items():
                again = server.nobody(caller.token)
                found = {await value_of(again, key) for key in KEYS[:2]}
                for key in KEYS[2:]:
                    answer = await again.get(kv.GetRequest(key=key, database=3))
                    found.add(answer.value)
                (number,) = {int(value or b"0") for value in found}
                assert before[name] <= number <= after[name] + 1
                pages = await again.pages(again.key_value.Scan, kv.ScanRequest(range=kv.KeyRange(prefix=b"log/")))
                logged = [row.key for page in pages for row in page.rows]
                assert logged == [b"log/%08d" % each for each in range(1, number + 1)]

    asyncio.run(main())


def test_a_restored_server_takes_writes_and_backups_and_is_restored_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.caller(server.create("acme"))
            await put(acme, b"a", b"1")
            server.member(0, "gina", groups=("guardians",))
            backup = await take_backup(server.guardian)
        names = {backup.manifest.store_id}
        for turn in range(3):
            target = tmp_path / f"new{turn}"
            made = restore(backup, target)
            assert (made.namespaces_live, made.namespaces_banned, made.bans_applied) == (2, 0, 0)
            async with running(target) as server:
                again = server.nobody(acme.token)
                assert await value_of(again, b"a") == b"1"
                await put(again, b"turn", b"%d" % turn)
                assert await value_of(again, b"turn") == b"%d" % turn
                gina = await server.login("gina")
                backup = await take_backup(gina)
                assert identity(target).restored_from in names
                names.add(backup.manifest.store_id)
                assert not (target / "guardian.token").exists(), "its guardians are those of the backup"
                assert list((target / "keys").iterdir()), "it has a key of its own"
        assert len(names) == 4

    asyncio.run(main())


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_from_before_the_backup_are_good_and_those_of_the_lost_time_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            server.member(acme, "alice")
            early, login = server.caller(acme), await server.login("alice", home="acme")
            backup = await take_backup(server.guardian)
            late, late_login = server.caller(acme), await server.login("alice", home="acme")
            refreshed = await login.refreshed()
            guardian = server.caller(acme, guardian=Guardian.NAMESPACE)
            for caller in (early, login, late, late_login, refreshed, guardian):
                assert await refusal_of(server, caller) is None
        restored_to(tmp_path, backup)
        async with running(tmp_path / "new") as server:
            assert [await refusal_of(server, caller) for caller in (early, login)] == [None, None]
            for caller in (late, late_login, refreshed, guardian):
                assert await refusal_of(server, caller) is Reason.TOKEN_INVALID
            with pytest.raises(PrefixdbError) as caught:
                await Caller(server.channel, refreshed.token, refreshed.tokens).refreshed()
            assert caught.value.reason is Reason.TOKEN_INVALID
            fresh = await Caller(server.channel, login.token, login.tokens).refreshed()
            for caller in (fresh, server.caller(acme.id), await server.login("alice", home="acme")):
                assert await refusal_of(server, caller) is None, "the new key's own tokens have no bound"

    asyncio.run(main())


def test_a_number_issued_anew_is_never_reached_with_a_token_of_the_lost_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both namespaces get the same number and, for versions come again, the same incarnation."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            writer = server.caller(0)
            backup = await take_backup(server.guardian)
            for number in range(100):
                await put(writer, b"more/%d" % number, b"x")
            lost = server.create("lost", 7)
            of_lost = server.caller(lost)
        restored_to(tmp_path, backup)
        async with running(tmp_path / "new") as server:
            store = server.app.store
            before = store.status().last_version
            step = server.create("probe").incarnation - before
            fillers = lost.incarnation - store.status().last_version - step
            for number in range(fillers):
                assert store.commit(Commit((Put(data_key(0, 0, b"fill/%d" % number), b""),))).applied
            anew = server.create("anew", 7)
            assert (anew.id, anew.incarnation) == (lost.id, lost.incarnation), "the twins are alike to a token"
            assert await refusal_of(server, of_lost) is Reason.TOKEN_INVALID
            with monkeypatch.context() as patch:
                patch.setattr("prefixdb.catalog.keyring.VerifyingKey.may_have_signed", lambda *_: True)
                assert await refusal_of(server, of_lost) is None, "nothing but the bound stands between them"

    asyncio.run(main())


def test_with_new_keys_no_token_of_before_is_good_and_passwords_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            server.member(acme, "alice")
            early, login = server.caller(acme), await server.login("alice", home="acme")
            backup = await take_backup(server.guardian)
        restored_to(tmp_path, backup, new_keys=True)
        async with running(tmp_path / "new") as server:
            for caller in (early, login, server.nobody((tmp_path / "data/guardian.token").read_text().strip())):
                assert await refusal_of(server, caller) is Reason.TOKEN_INVALID
            with pytest.raises(PrefixdbError) as caught:
                await Caller(server.channel, login.token, login.tokens).refreshed()
            assert caught.value.reason is Reason.TOKEN_INVALID
            assert server.app.authority.list(acme.id) == [], "records of tokens that nobody can use are gone"
            logins = list(schema.rows_of(server.app.store, system_span(acme.id, Tag.LOGIN)))
            assert logins == [] and len(server.app.authority.keyring.verifying_keys()) == 1
            assert await refusal_of(server, await server.login("alice", home="acme")) is None

    asyncio.run(main())


def test_a_bound_stays_the_earliest_and_a_bound_key_never_signs_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            backup = await take_backup(server.guardian)
            first_kid = server.app.authority.keyring.signing_kid
        restored_to(tmp_path, backup)
        # An operator who puts the old private key back does not make it sign: its own tokens would be refused.
        (tmp_path / "new/keys").mkdir(mode=0o700)
        (tmp_path / f"new/keys/{first_kid}.pem").write_bytes((tmp_path / f"data/keys/{first_kid}.pem").read_bytes())
        async with running(tmp_path / "new") as server:
            keyring = server.app.authority.keyring
            first = keyring.find(first_kid)
            assert keyring.signing_kid != first_kid and first is not None and first.verify_until_ms
            assert first.issued_until_ms == backup.manifest.taken_at_ms
            second_backup = await take_backup(server.guardian)
            second_kid = keyring.signing_kid
            assert await refusal_of(server, server.caller(0)) is None
        restore(second_backup, tmp_path / "newer")
        async with running(tmp_path / "newer") as server:
            bounds = {key.kid: key.issued_until_ms for key in server.app.authority.keyring.verifying_keys()}
            assert bounds.pop(server.app.authority.keyring.signing_kid) == 0
            assert bounds == {
                first_kid: backup.manifest.taken_at_ms,
                second_kid: second_backup.manifest.taken_at_ms,
            }

    asyncio.run(main())


def test_the_instant_is_the_earlier_of_what_the_manifest_and_the_store_say(tmp_path: Path) -> None:
    """A manifest that was bent to a later time revives no token of the lost time."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            backup = await take_backup(server.guardian)
            taken_at_ms = backup.manifest.taken_at_ms
            late = server.caller(0)
        later = backup.bent(taken_at_ms=taken_at_ms + 86_400_000, id=new_backup_id(taken_at_ms + 86_400_000))
        restored_to(tmp_path, later)
        async with running(tmp_path / "new") as server:
            assert await refusal_of(server, late) is Reason.TOKEN_INVALID

    asyncio.run(main())


# --- bans -----------------------------------------------------------------------------------------------------------


def test_what_was_banned_since_stays_banned_and_is_reclaimed_and_others_are_untouched(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme, beta = server.create("acme"), server.create("beta")
            callers = [server.caller(acme), server.caller(beta)]
            for caller in callers:
                await put(caller, b"a", b"secret of a tenant")
            backup = await take_backup(server.guardian)
            server.app.registry.ban(acme.id, by="gina", reason="asked for", grace_ms=0)
            await eventually(lambda: server.app.reclaimer.report(acme.id).phase is ReclaimPhase.DONE, "gone", 30.0)
            bans = await list_bans(server.guardian)
        assert [ban.reclaimed for ban in bans] == [True] and read_bans(tmp_path / "data") == bans
        made = restored_to(tmp_path, backup, bans)
        assert (made.bans_applied, made.namespaces_live, made.namespaces_banned) == (1, 2, 1)
        async with running(tmp_path / "new") as server:
            assert await refusal_of(server, callers[0]) is Reason.NAMESPACE_BANNED
            assert await value_of(server.nobody(callers[1].token), b"a") == b"secret of a tenant"
            with pytest.raises(PrefixdbError) as caught:
                server.app.registry.unban(acme.id)
            assert caught.value.reason in (Reason.RECLAIM_STARTED, Reason.NAMESPACE_STATE)
            await eventually(lambda: server.app.reclaimer.report(acme.id).phase is ReclaimPhase.DONE, "gone", 30.0)
            report = server.app.reclaimer.report(acme.id)
            assert (report.banned_by, report.reason, report.incarnation) == ("gina", "asked for", acme.incarnation)
            assert server.create("acme").state is NamespaceState.ACTIVE, "the name is free"

    asyncio.run(main())


def test_a_ban_whose_grace_runs_can_be_taken_back_after_the_restore_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme)
            await put(caller, b"a", b"1")
            backup = await take_backup(server.guardian)
            server.app.registry.ban(acme.id, by="gina", grace_ms=3_600_000)
            bans = await list_bans(server.guardian)
        restored_to(tmp_path, backup, bans)
        async with running(tmp_path / "new") as server:
            assert await refusal_of(server, caller) is Reason.NAMESPACE_BANNED
            server.app.registry.unban(acme.id)
            assert await value_of(server.nobody(caller.token), b"a") == b"1"

    asyncio.run(main())


def test_only_the_issue_that_was_banned_is_banned_and_not_the_numbers_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            registry, reclaimer = server.app.registry, server.app.reclaimer
            first = server.create("first", 7)
            old = await take_backup(server.guardian)
            registry.ban(7, by="gina")
            await eventually(lambda: reclaimer.report(7).phase is ReclaimPhase.DONE, "it is gone", 30.0)
            server.create("second", 7)
            caller = server.caller(7)
            await put(caller, b"a", b"of the second")
            new = await take_backup(server.guardian)
            bans = await list_bans(server.guardian)
            assert [ban.issue for ban in bans] == [(7, first.incarnation)]
        assert restore(new, tmp_path / "new", bans).bans_applied == 0
        async with running(tmp_path / "new") as server:
            assert await value_of(server.nobody(caller.token), b"a") == b"of the second"
        assert restore(old, tmp_path / "old", bans).bans_applied == 1
        async with running(tmp_path / "old") as server:
            assert (await refusal_of(server, caller)) is Reason.TOKEN_INVALID
            assert not server.app.registry.get(7).state.is_live  # type: ignore[union-attr]

    asyncio.run(main())


def test_a_ban_of_the_lost_time_does_not_reach_a_twin_that_was_created_after_the_restore(tmp_path: Path) -> None:
    """The same number at the same version, banned before the twin was created."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme", 7)
            backup = await take_backup(server.guardian)
        lost = BannedIssue(7, acme.incarnation, "acme", acme.created_at_ms - 1, "gina", "", 0, reclaimed=True)
        assert restore(backup, tmp_path / "twin", [lost]).bans_applied == 0
        assert restore(backup, tmp_path / "same", [replace(lost, banned_at_ms=acme.created_at_ms)]).bans_applied == 1

    asyncio.run(main())


@pytest.mark.parametrize("told", ["reclaimed", "newer", "same", "older", "another issue"])
def test_a_ban_in_the_backup_becomes_what_is_known_of_it_since(tmp_path: Path, told: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            server.app.registry.ban(acme.id, by="gina", reason="first", grace_ms=3_600_000)
            (known,) = await list_bans(server.guardian)
            backup = await take_backup(server.guardian)
        hour_later = known.banned_at_ms + 3_600_000
        ban, applied = {
            "reclaimed": (replace(known, reclaimed=True), 1),
            "newer": (replace(known, banned_at_ms=hour_later, reason="again", reclaim_after_ms=hour_later + 5), 1),
            "same": (known, 0),
            "older": (replace(known, banned_at_ms=known.banned_at_ms - 1, reason="before"), 0),
            "another issue": (replace(known, incarnation=known.incarnation + 1, reclaimed=True), 0),
        }[told]
        assert restored_to(tmp_path, backup, [ban]).bans_applied == applied
        (found,) = read_bans(tmp_path / "new")
        assert found.issue == known.issue
        if told == "newer":
            assert (found.reason, found.banned_at_ms, found.reclaim_after_ms) == ("again", hour_later, hour_later + 5)
        elif told == "reclaimed":
            assert found.reclaim_after_ms <= known.banned_at_ms and found.reason == "first"
        else:
            assert found == known

    asyncio.run(main())


def test_a_ban_between_the_snapshot_and_its_list_is_obeyed_by_that_very_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            honest = server.app.store.open_snapshot
            late = asyncio.get_running_loop().create_future()

            def snapshot_and_ban() -> object:
                snapshot = honest()
                loop.call_soon_threadsafe(late.set_result, loop.run_in_executor(None, ban))
                return snapshot

            def ban() -> None:
                server.app.registry.ban(acme.id, by="gina")

            loop = asyncio.get_running_loop()
            monkeypatch.setattr(server.app.store, "open_snapshot", snapshot_and_ban)
            listed = module.banned_issues
            banned = lambda: server.app.registry.ban_of(acme.id) is not None  # noqa: E731

            def wait_and_list(*arguments: object) -> object:
                while not banned():
                    time.sleep(0.001)
                return listed(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(module, "banned_issues", wait_and_list)
            backup = await take_backup(server.guardian)
            assert (backup.manifest.namespaces_live, backup.manifest.namespaces_banned) == (2, 0)
        assert restored_to(tmp_path, backup).bans_applied == 1

    asyncio.run(main())


def test_thousands_of_bans_are_applied_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            records = [server.create(f"tenant-{number}") for number in range(1_500)]
            backup = await take_backup(server.guardian)
        bans = [
            BannedIssue(each.id, each.incarnation, each.name, each.created_at_ms + 1, "gina", "", 0) for each in records
        ]
        made = restored_to(tmp_path, backup, bans[:-1])
        assert (made.bans_applied, made.namespaces_live, made.namespaces_banned) == (1_499, 2, 1_499)

    asyncio.run(main())
