"""Goal: private keys stay private and belong to the catalog's public ones; a rotation ends no token, a removal all of
those that the key has signed.

Method: a keyring over the model store and a temporary directory; files are removed, swapped, damaged and opened to
others between restarts.
"""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prefixdb import limits
from prefixdb.catalog.files import write_secret
from prefixdb.errors import PrefixdbError, Reason, error
from tests.support.catalog import World, reason_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.registry.create("acme", namespace_id=7)
    return world


def key_file(world: World) -> Path:
    return world.data_dir / "keys" / f"{world.keyring.signing_kid}.pem"


def pem_of(private) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_one_key_that_only_the_owner_can_read(world):
    assert mode(world.data_dir / "keys") == 0o700
    assert mode(key_file(world)) == 0o600
    assert [key.kid for key in world.keyring.verifying_keys()] == [world.keyring.signing_kid]
    assert [path.name for path in (world.data_dir / "keys").iterdir()] == [key_file(world).name]


def test_a_restart_keeps_key_and_tokens(world):
    token, kid = world.local(7), world.keyring.signing_kid
    world.reopen()
    assert world.keyring.signing_kid == kid
    world.authority.verify(token)


def test_rotation_signs_with_a_new_key_and_old_tokens_live_to_their_end(world):
    token, old = world.local(7, ttl_s=limits.SERVICE_TOKEN_S_MAX), key_file(world)
    world.keyring.rotate()
    assert not old.exists() and key_file(world).exists()
    world.reopen()
    world.authority.verify(token)
    assert len(world.keyring.verifying_keys()) == 2
    world.clock.advance((limits.SERVICE_TOKEN_S_MAX + limits.TOKEN_LEEWAY_S) * 1000 - 1)
    world.authority.verify(token)
    world.clock.advance(1)
    assert len(world.keyring.verifying_keys()) == 1 and world.keyring.find(old.stem) is None


def test_a_removed_key_is_refused_at_once_and_after_a_restart_and_the_others_go_on(world):
    token, old = world.local(7), key_file(world)
    claims = world.authority.verify(token)
    world.keyring.rotate()
    fresh, epoch = world.local(7), world.authority.epochs.of(7)
    write_secret(old, b"left behind by a crash")
    world.keyring.remove(old.stem)
    assert not old.exists() and world.authority.epochs.of(7) > epoch
    for _ in range(2):
        assert reason_of(world.authority.verify, token) is Reason.TOKEN_INVALID
        assert reason_of(world.authority.check_still_valid, claims) is Reason.TOKEN_INVALID
        world.authority.verify(fresh)
        assert [key.kid for key in world.keyring.verifying_keys()] == [world.keyring.signing_kid]
        world.reopen()


def test_the_key_that_signs_cannot_be_removed_and_one_that_is_not_there_is_said_to_be(world):
    kid = world.keyring.signing_kid
    assert reason_of(world.keyring.remove, kid) is Reason.SIGNING_KEY_IN_USE
    for unknown in ("0" * 16, "", "../x", kid.upper() + "A", "é"):
        assert reason_of(world.keyring.remove, unknown) is Reason.SIGNING_KEY_NOT_FOUND
    world.keyring.rotate()
    world.keyring.remove(kid)
    assert reason_of(world.keyring.remove, kid) is Reason.SIGNING_KEY_NOT_FOUND
    assert reason_of(world.keyring.remove, world.keyring.signing_kid) is Reason.SIGNING_KEY_IN_USE


@pytest.mark.parametrize(
    ("outcome", "reached_the_disk"),
    [(Reason.OUTCOME_UNKNOWN, True), (Reason.OUTCOME_UNKNOWN, False), (Reason.DISK_FULL, False)],
)
def test_after_a_removal_that_failed_the_key_is_as_the_store_has_it(world, monkeypatch, outcome, reached_the_disk):
    token, old, honest = world.local(7), world.keyring.signing_kid, world.store.commit
    world.keyring.rotate()
    epoch = world.authority.epochs.of(7)

    def failing(commit):
        if reached_the_disk:
            honest(commit)
        raise error(outcome)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "commit", failing)
        assert reason_of(world.keyring.remove, old) is outcome
    for _ in range(2):
        expected = Reason.TOKEN_INVALID if reached_the_disk else None
        assert reason_of(world.authority.verify, token) is expected
        assert (world.authority.epochs.of(7) > epoch) == reached_the_disk
        world.reopen()
        epoch = -1 if reached_the_disk else world.authority.epochs.of(7)


@pytest.mark.parametrize("reached_the_disk", [True, False])
def test_after_a_rotation_of_unknown_outcome_the_key_that_signs_is_the_one_of_the_next_start(
    world, monkeypatch, reached_the_disk
):
    token, honest, before = world.local(7), world.store.commit, world.keyring.signing_kid

    def unsure(commit):
        if reached_the_disk:
            honest(commit)
        raise error(Reason.OUTCOME_UNKNOWN)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "commit", unsure)
        assert reason_of(world.keyring.rotate) is Reason.OUTCOME_UNKNOWN
    signing = world.keyring.signing_kid
    assert (signing != before) == reached_the_disk
    later = world.local(7)
    world.reopen()
    assert world.keyring.signing_kid == signing
    for one in (token, later):
        world.authority.verify(one)


def test_a_key_that_was_removed_while_a_rotation_waits_for_the_disk_stays_removed(world, monkeypatch):
    token, old = world.local(7), world.keyring.signing_kid
    world.keyring.rotate()
    honest, removed = world.store.commit, threading.Event()
    worker = threading.Thread(target=lambda: (world.keyring.remove(old), removed.set()))

    def slow(commit):
        monkeypatch.setattr(world.store, "commit", honest)
        worker.start()
        assert not removed.wait(0.05), "two changes of the keys at once"
        return honest(commit)

    monkeypatch.setattr(world.store, "commit", slow)
    world.keyring.rotate()
    worker.join()
    assert removed.is_set() and reason_of(world.authority.verify, token) is Reason.TOKEN_INVALID
    assert len(world.keyring.verifying_keys()) == 2


def test_a_retired_key_never_signs_again_even_when_its_file_is_still_there(world, caplog):
    retired = []
    for _ in range(4):  # Key ids are random, so the retired ones come before and after the one that signs.
        path = key_file(world)
        retired.append((path, path.read_bytes()))
        world.keyring.rotate()
    kid = world.keyring.signing_kid
    for path, pem in retired:
        write_secret(path, pem)
        world.reopen()
        assert world.keyring.signing_kid == kid
    assert caplog.text == ""


def test_a_private_file_of_another_key_is_refused_at_start(world):
    write_secret(key_file(world), pem_of(Ed25519PrivateKey.generate()))
    with pytest.raises(PrefixdbError) as caught:
        world.reopen()
    assert caught.value.reason is Reason.CORRUPTION
    assert key_file(world).name in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no key", pem_of(ec.generate_private_key(ec.SECP256R1()))])
def test_a_private_file_that_is_no_ed25519_key_is_refused_at_start(world, content):
    write_secret(key_file(world), content)
    with pytest.raises(PrefixdbError) as caught:
        world.reopen()
    assert caught.value.reason is Reason.CORRUPTION and caught.value.__cause__ is None


def test_a_lost_private_file_means_a_new_key_and_a_warning_while_old_tokens_live(world, caplog):
    token, lost = world.local(7), key_file(world)
    lost.unlink()
    world.reopen()
    assert key_file(world) != lost and "missing" in caplog.text
    world.authority.verify(token)
    world.authority.verify(world.local(7))


def test_a_file_the_catalog_does_not_know_is_never_used(world, caplog):
    kid = world.keyring.signing_kid
    write_secret(world.data_dir / "keys" / "00000000000000ff.pem", pem_of(Ed25519PrivateKey.generate()))
    world.reopen()
    assert world.keyring.signing_kid == kid and world.keyring.find("00000000000000ff") is None
    assert "00000000000000ff.pem" in caplog.text


def test_modes_that_were_widened_are_narrowed_and_said(world, caplog):
    key_file(world).chmod(0o644)
    (world.data_dir / "keys").chmod(0o755)
    world.reopen()
    assert (mode(key_file(world)), mode(world.data_dir / "keys")) == (0o600, 0o700)
    assert caplog.text.count("open to others") == 2


def test_a_secret_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "secret"
    write_secret(target, b"old")

    def crash(_descriptor: int) -> None:
        raise OSError("EIO")

    monkeypatch.setattr("prefixdb.catalog.files.os.fsync", crash)
    with pytest.raises(OSError, match="EIO"):
        write_secret(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
