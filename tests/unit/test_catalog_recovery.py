"""Goal: whoever owns the data directory always gets in, and nobody else learns how.

Method: a catalog over the model store; the first start and recoveries are cut off after every single write and done
again; members are brought into every state that locks everybody out.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog import recovery
from prefixdb.catalog.entities import NamespaceIssue, Privilege
from prefixdb.catalog.member_records import member_key
from prefixdb.catalog.passwords import hash_password, verify_password
from prefixdb.catalog.recovery import Recovery, ensure_first_guardian
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Commit, Put
from tests.support.catalog import World


class CutOffError(Exception):
    """The process ended here."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def start(world: World) -> recovery.FirstGuardian | None:
    """Do what a start of the server does."""
    world.reopen()
    return ensure_first_guardian(world.authority, world.store, world.clock, world.data_dir)


def recover(world: World, name: str = "guardian", **wishes: Any) -> recovery.Recovered:
    """Do what the command does, and open the catalog again."""
    done = Recovery(world.store, world.clock).recover(world.data_dir, name, **wishes)
    world.reopen()
    return done


def can_get_in(world: World, name: str = "guardian") -> bool:
    """Whether the password in the file opens a login of a cluster guardian in namespace 0."""
    member = world.authority.identities.members.get(0, name)
    file = world.data_dir / "guardian.password"
    if member is None or not file.exists() or not member.can_log_in:
        return False
    home = world.registry.get(0)
    assert home is not None
    right = verify_password(member.password_hash, file.read_text().strip())
    landed = world.authority.identities.landing(member, home).id == 0
    return right and landed and "guardians" in member.groups


@contextmanager
def cut_off_after(world: World, monkeypatch: pytest.MonkeyPatch, writes: int) -> Iterator[None]:
    """Let so many writes, to files and to the store, happen; the next one ends the process."""
    left = [writes]

    def counted(function: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise CutOffError
            left[0] -= 1
            return function(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(type(world.store), "commit_many", counted(type(world.store).commit_many))
        for module in ("prefixdb.catalog.recovery", "prefixdb.catalog.tokens"):
            patch.setattr(f"{module}.write_secret", counted(recovery.write_secret))
        yield


def test_the_first_start_makes_a_guardian_with_a_password_only_the_owner_can_read(world: World) -> None:
    made = start(world)
    assert made is not None
    assert (made.password, made.token) == (world.data_dir / "guardian.password", world.data_dir / "guardian.token")
    for path in (made.password, made.token):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = made.password.read_text()
    assert len(password.strip()) >= 32 and password.count("\n") == 1
    assert can_get_in(world)
    assert world.admit(made.token.read_text().strip()).subject == "guardian"
    assert password.strip() not in repr(made)


def test_later_starts_touch_nothing(world: World) -> None:
    made = start(world)
    assert made is not None
    before = made.password.read_text(), made.token.read_text()
    assert start(world) is None
    assert (made.password.read_text(), made.token.read_text()) == before
    made.password.unlink()
    assert start(world) is None and not made.password.exists()


def test_no_two_directories_have_the_same_password(tmp_path: Path) -> None:
    passwords = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = start(World(tmp_path / name))
        assert made is not None
        passwords.add(made.password.read_text())
    assert len(passwords) == 2


def test_a_directory_from_before_there_were_members_gets_none(world: World) -> None:
    from prefixdb.catalog.tokens import ensure_guardian_token

    assert ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir) is not None
    assert start(world) is None
    assert not (world.data_dir / "guardian.password").exists()
    assert world.authority.identities.members.page(0) == []


def test_a_first_start_that_is_cut_off_anywhere_is_done_again_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = 0
    while True:
        (tmp_path / str(cut)).mkdir()
        world = World(tmp_path / str(cut))
        with cut_off_after(world, monkeypatch, cut):
            try:
                start(world)
                break
            except CutOffError:
                pass
        made = start(world)
        assert made is not None, f"cut after {cut} writes"
        assert can_get_in(world) and world.admit(made.token.read_text().strip())
        assert start(world) is None
        cut += 1
    assert cut >= 5, "password file, member, token's record, token file, and that it was done"


LOCKED_OUT = ["nobody", "disabled", "no guardian", "no password", "main namespace gone", "everyone revoked", "no keys"]


def lock_out(world: World, how: str) -> None:
    """Bring the guardian into a state in which nobody administers the cluster."""
    members = world.authority.identities.members
    key = member_key(0, "guardian")
    other = {"disabled": {"disabled": True}, "no guardian": {"groups": ("readers",)}}
    if how == "nobody":
        members.create(0, "second", password_hash="x", groups=("guardians",))
        members.delete(0, "guardian")
    elif how in other:
        members.create(0, "second", password_hash="x", groups=("guardians",))
        members.update(0, "guardian", **other[how])  # type: ignore[arg-type]
    elif how == "no password":
        members.create(0, "second", password_hash="x", groups=("guardians",))
        members.delete(0, "guardian")
        members.create(0, "guardian", groups=("guardians",), privileges=(Privilege.AUDIT,))
    elif how == "main namespace gone":
        acme = world.registry.create("acme")
        members.update(0, "guardian", main_namespace=NamespaceIssue(acme.id, acme.incarnation))
        world.registry.ban(acme.id, by="x")
    elif how == "everyone revoked":
        world.authority.revoke_everyone()
    elif how == "no keys":
        for file in (world.data_dir / "keys").iterdir():
            file.unlink()
    assert world.store.get(key) is not None or how == "nobody"


@pytest.mark.parametrize("how", LOCKED_OUT)
def test_a_guardian_is_recovered_whatever_locked_everybody_out(world: World, how: str) -> None:
    start(world)
    lock_out(world, how)
    old = (world.data_dir / "guardian.password").read_text()
    done = Recovery(world.store, world.clock).recover(world.data_dir, "guardian")
    assert done.password.read_text() != old and stat.S_IMODE(done.password.stat().st_mode) == 0o600
    assert can_get_in(world)
    assert done.member.password_hash not in repr(done)


def test_a_recovery_that_is_cut_off_anywhere_is_mended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = 0
    while True:
        (tmp_path / str(cut)).mkdir()
        world = World(tmp_path / str(cut))
        start(world)
        lock_out(world, "no guardian")
        with cut_off_after(world, monkeypatch, cut):
            try:
                recover(world)
                break
            except CutOffError:
                pass
        member = world.authority.identities.members.get(0, "guardian")
        known = (world.data_dir / "guardian.password").read_text().strip()
        assert member is not None
        assert "guardians" not in member.groups or verify_password(member.password_hash, known)
        recover(world)
        assert can_get_in(world)
        cut += 1
    assert cut >= 3


def test_a_recovery_ends_logins_and_leaves_service_tokens_unless_told_otherwise(world: World) -> None:
    made = start(world)
    assert made is not None
    identities = world.authority.identities
    member, home = identities.members.get(0, "guardian"), world.registry.get(0)
    assert member is not None and home is not None
    login = identities.logins.begin(0, member, NamespaceIssue(0, home.incarnation))
    access = world.authority.access_token(login, member, home, home).token
    service, token = made.token.read_text().strip(), TokenRequest(0, "other", ("readers",))
    others = world.authority.issue_locally(token)[0]
    world.admit(access)
    recover(world)
    with pytest.raises(PrefixdbError) as caught:
        world.admit(access)
    assert caught.value.reason is Reason.TOKEN_REVOKED
    assert world.admit(service) and world.admit(others)
    recover(world, revoke_tokens=True)
    with pytest.raises(PrefixdbError) as caught:
        world.admit(service)
    assert caught.value.reason is Reason.TOKEN_REVOKED
    assert world.admit(others), "tokens of others live on"


def test_another_name_can_be_recovered_and_keeps_what_it_was(world: World) -> None:
    start(world)
    members = world.authority.identities.members
    before = members.create(
        0, "carol", password_hash=hash_password("old password"), groups=("guardians", "readers"),
        privileges=(Privilege.AUDIT,),
    )  # fmt: skip
    done = recover(world, "carol").member
    assert (done.groups, done.privileges, done.created_at_ms) == (
        before.groups,
        before.privileges,
        before.created_at_ms,
    )
    assert can_get_in(world, "carol") and not verify_password(done.password_hash, "old password")


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "-x", "a\nb", "../x"])
def test_a_name_that_cannot_be_a_members_is_refused_before_anything_is_written(world: World, name: str) -> None:
    start(world)
    before = (world.data_dir / "guardian.password").read_text()
    with pytest.raises(PrefixdbError) as caught:
        recover(world, name)
    assert caught.value.reason is Reason.BAD_NAME
    assert (world.data_dir / "guardian.password").read_text() == before and can_get_in(world)


def test_beside_a_record_that_cannot_be_read_another_guardian_is_made(world: World) -> None:
    start(world)
    assert world.store.commit(Commit((Put(member_key(0, "guardian"), b"\x01damaged"),))).applied
    before = (world.data_dir / "guardian.password").read_text()
    with pytest.raises(PrefixdbError) as caught:
        recover(world)
    assert caught.value.reason is Reason.CORRUPTION and "another name" in caught.value.message
    assert (world.data_dir / "guardian.password").read_text() == before
    recover(world, "second")
    assert can_get_in(world, "second")


def test_when_the_password_cannot_be_kept_it_is_not_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(world)

    def full(*_: object) -> None:
        raise error(Reason.DISK_FULL)

    with monkeypatch.context() as patch:
        patch.setattr("prefixdb.catalog.recovery.write_secret", full)
        with pytest.raises(PrefixdbError):
            recover(world)
    world.reopen()
    assert can_get_in(world), "the old password is still in the file, and still works"
