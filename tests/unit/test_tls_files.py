"""Goal: no certificate is used that could not be, and the old one goes on until a new one is good.

Method: files made here in every state that renewing programs and tired operators leave them in; the clock is held.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from prefixdb.errors import InvalidArgumentError
from prefixdb.server.config import TlsSection
from prefixdb.server.tls import EXPIRES_SOON_MS, REMIND_MS, Certificates
from prefixdb.server.tls_files import read_tls_files
from tests.support.certificates import Issued, issue
from tests.support.clocks import HeldClock

AUTHORITY = issue("ca", hours=(-1.0, 24.0 * 365))
HOUR_MS = 3_600_000


def section(directory: Path, **wishes: str) -> TlsSection:
    """Return the settings for server.pem, server.key and ca.pem of a directory."""
    paths = {"cert": directory / "server.pem", "key": directory / "server.key", "client_ca": directory / "ca.pem"}
    return TlsSection(**({name: str(path) for name, path in paths.items()} | wishes))  # type: ignore[arg-type]


def write(directory: Path, issued: Issued) -> None:
    """Write a pair and its authority."""
    issued.write(directory, "server")
    (directory / "ca.pem").write_bytes(AUTHORITY.pem)


def clock_at(issued: Issued, before_end: timedelta) -> HeldClock:
    """Return a clock so long before a certificate ends."""
    end = issued.certificate.not_valid_after_utc - before_end
    return HeldClock(int(end.timestamp() * 1000))


@pytest.fixture
def pair(tmp_path: Path) -> Issued:
    """A good pair in ``tmp_path``, good for a year."""
    issued = issue("server", AUTHORITY, hours=(-1.0, 24.0 * 300))
    write(tmp_path, issued)
    return issued


def locked(issued: Issued) -> bytes:
    """Return the key under a passphrase."""
    best = serialization.BestAvailableEncryption(b"passphrase")
    return bytes(issued.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, best))


BROKEN: dict[str, tuple[str, str, Callable[[Issued], bytes], str]] = {
    "no file": ("server.pem", "tls.cert", lambda _: b"", "cannot be read: No such file"),
    "empty": ("server.pem", "tls.cert", lambda _: b" ", "no readable certificate"),
    "half a certificate": ("server.pem", "tls.cert", lambda pair: pair.pem[:300], "no readable certificate"),
    "half a chain": ("server.pem", "tls.cert", lambda pair: pair.pem + AUTHORITY.pem[:300], "is cut short"),
    "the key instead": ("server.pem", "tls.cert", lambda pair: pair.key_pem, "no readable certificate"),
    "the authority first": ("server.pem", "tls.key", lambda pair: AUTHORITY.pem + pair.pem, "is not the key of"),
    "another key": ("server.key", "tls.key", lambda _: issue("other").key_pem, "is not the key of"),
    "a passphrase": ("server.key", "tls.key", locked, "passphrase"),
    "half a key": ("server.key", "tls.key", lambda pair: pair.key_pem[:60], "no readable private key"),
    "no authority": ("ca.pem", "tls.client_ca", lambda _: b"x", "no readable certificate"),
    "half an authority": ("ca.pem", "tls.client_ca", lambda _: AUTHORITY.pem * 2 + b"-----BEGIN CERTIFICATE-----\nMII",
                          "is cut short"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_file_is_said_under_the_name_of_its_setting(
    tmp_path: Path, pair: Issued, case: str
) -> None:
    file, setting, content, words = BROKEN[case]
    (tmp_path / file).unlink()
    if content(pair):
        (tmp_path / file).write_bytes(content(pair))
    with pytest.raises(InvalidArgumentError) as caught:
        Certificates(section(tmp_path), HeldClock())
    assert caught.value.metadata["field"] == setting
    assert caught.value.message.startswith(f"{setting}: ") and words in caught.value.message
    assert str(tmp_path / file) in caught.value.message or setting == "tls.key"
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 1024),
    ],
    ids=["ed25519", "p521", "rsa1024"],
)
def test_a_key_with_which_every_handshake_would_fail_is_refused_at_once(tmp_path: Path, key: Any) -> None:
    write(tmp_path, issue("server", AUTHORITY, key=key))
    with pytest.raises(InvalidArgumentError, match="P-256"):
        read_tls_files(section(tmp_path))


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)], ids=["p384", "rsa2048"]
)
def test_the_usual_keys_are_taken_in_one_file_with_the_certificate_too(tmp_path: Path, key: Any) -> None:
    issued = issue("server", AUTHORITY, key=key)
    (tmp_path / "both.pem").write_bytes(b"Bag Attributes\r\n" + issued.pem.replace(b"\n", b"\r\n") + issued.key_pem)
    files = read_tls_files(TlsSection(cert=str(tmp_path / "both.pem"), key=str(tmp_path / "both.pem")))
    assert files.chain == issued.pem and files.key == issued.key_pem and files.client_ca == b""


def test_no_repr_shows_the_key(tmp_path: Path, pair: Issued) -> None:
    files = read_tls_files(section(tmp_path))
    body = pair.key_pem.splitlines()[1].decode()
    assert body in files.key.decode() and body not in repr(files) and body not in str(files.describe())


def settle(certificates: Certificates) -> bool:
    """Look as often as a change that has ended needs."""
    first = certificates.look()
    return certificates.look() or first


def test_a_pair_is_read_when_it_has_stopped_changing_and_only_once(tmp_path: Path, pair: Issued) -> None:
    certificates = Certificates(section(tmp_path), clock_at(pair, timedelta(days=100)))
    assert certificates._take_fresh() is None and not settle(certificates)
    new = issue("server", AUTHORITY, hours=(-1.0, 24.0 * 300))
    (tmp_path / "server.pem").write_bytes(new.pem)
    assert not certificates.look(), "half of the pair is new: somebody is writing"
    (tmp_path / "server.key").write_bytes(new.key_pem)
    assert not certificates.look()
    assert certificates.problems == (), "and nobody was alarmed"
    assert certificates.look()
    assert certificates._take_fresh() is not None
    assert certificates._take_fresh() is None and not settle(certificates), "and once is enough"


def test_files_that_were_written_again_as_they_were_change_nothing(tmp_path: Path, pair: Issued) -> None:
    certificates = Certificates(section(tmp_path), clock_at(pair, timedelta(days=100)))
    (tmp_path / "server.pem").write_bytes(b"# a remark\n" + pair.pem)
    assert not settle(certificates) and certificates._take_fresh() is None


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_is_told_once_and_the_old_pair_goes_on(
    tmp_path: Path, pair: Issued, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(section(tmp_path), clock_at(pair, timedelta(days=100)))
    file, setting, content, words = BROKEN[case]
    good = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    if content(pair):
        (tmp_path / file).write_bytes(content(pair))
    with caplog.at_level(logging.INFO, "prefixdb.tls"):
        for _ in range(5):
            assert not certificates.look()
        [problem] = certificates.problems
        assert setting in problem and words in problem and "the old ones go on" in problem
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert certificates._take_fresh() is None, "gRPC was given nothing"
        (tmp_path / file).write_bytes(good)
        assert not settle(certificates), "they are the old ones"
        assert certificates.problems == ()
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "PRIVATE KEY" not in caplog.text


@pytest.mark.parametrize(("hours", "words"), [((-3.0, -2.0), "has expired"), ((2.0, 3.0), "is not valid before")])
def test_a_new_pair_that_is_not_valid_now_does_not_replace_a_good_one(
    tmp_path: Path, pair: Issued, hours: tuple[float, float], words: str
) -> None:
    now = clock_at(pair, timedelta(days=300))
    certificates = Certificates(section(tmp_path), now)
    issue("server", AUTHORITY, hours=hours).write(tmp_path, "server")
    assert not settle(certificates)
    assert words in certificates.problems[0]
    if hours[0] > 0:
        now.advance(int(2.5 * HOUR_MS))
        assert certificates.look(), "when its time has come it is used, though the files have not changed"


def test_the_end_of_a_certificate_is_warned_of_at_start_daily_and_after_a_reload(
    tmp_path: Path, pair: Issued, caplog: pytest.LogCaptureFixture
) -> None:
    clock = clock_at(pair, timedelta(milliseconds=EXPIRES_SOON_MS + 1))
    certificates = Certificates(section(tmp_path), clock)
    assert certificates.problems == () and not caplog.records
    clock.advance(1)
    for expected in (1, 1, 2):
        certificates.look()
        assert len(caplog.records) == expected
        clock.advance(REMIND_MS // 2)
    [problem] = certificates.problems
    assert "tls.cert expires soon" in problem
    again = Certificates(section(tmp_path), clock)
    assert len(caplog.records) == 3, "at the start"
    short = issue("server", AUTHORITY, hours=(-1.0, 24.0 * 300 - 24))
    short.write(tmp_path, "server")
    assert settle(again)
    assert len(caplog.records) == 4, "after a reload"
    clock.advance(EXPIRES_SOON_MS)
    assert "has expired" in again.problems[0]


def test_an_old_authority_beside_a_new_one_may_end(tmp_path: Path, pair: Issued) -> None:
    old = issue("old", hours=(-3.0, -2.0))
    (tmp_path / "ca.pem").write_bytes(old.pem + AUTHORITY.pem)
    assert Certificates(section(tmp_path), clock_at(pair, timedelta(days=100))).problems == ()
    (tmp_path / "ca.pem").write_bytes(old.pem)
    [problem] = Certificates(section(tmp_path), clock_at(pair, timedelta(days=100))).problems
    assert problem.startswith("tls.client_ca has expired")


def test_a_file_that_was_moved_away_and_back_is_good_again(tmp_path: Path, pair: Issued) -> None:
    certificates = Certificates(section(tmp_path), clock_at(pair, timedelta(days=100)))
    (tmp_path / "server.key").rename(tmp_path / "aside")
    assert not settle(certificates) and certificates.problems
    (tmp_path / "aside").rename(tmp_path / "server.key")
    assert not settle(certificates) and certificates.problems == ()
