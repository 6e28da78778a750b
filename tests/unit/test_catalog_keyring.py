"""Goal: private keys stay private and belong to the catalog's public ones; rotation invalidates no token.

Method: a keyring over the model store and a temporary directory; files are removed, swapped, damaged and opened to
others between restarts.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prefixdb import limits
from prefixdb.catalog.files import write_secret
from prefixdb.errors import PrefixdbError, Reason
from tests.support.catalog import World


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
