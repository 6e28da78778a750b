"""Goal: only good keys of good issuers are ever used; what is broken changes nothing and is said until it is mended.

Method: files of issuers and key sets, right and wrong in one thing each, read again and again; joserfc makes the keys.
Both sides of every size are tried.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwk

from prefixdb.catalog import issuers as issuers_module
from prefixdb.catalog.issuers import Issuers
from prefixdb.catalog.jwks import JWKS_BYTES_MAX, KEYS_MAX, KeySetError, read_key_set
from prefixdb.errors import InvalidArgumentError
from tests.security.forging import MISSING, b64, merged, unb64
from tests.security.forging_issuers import ALGORITHMS, OtherIssuer, make_key, published, write_issuers

KEY = make_key("EdDSA", "a")
OTHER = make_key("ES256", "b")


def key_set(*entries: Any) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def kids(content: bytes, algorithms: tuple[str, ...] = ALGORITHMS) -> list[str]:
    return sorted(read_key_set(content, algorithms))


def rsa_entry(bits: int, exponent: int = 65537, kid: str = "r") -> dict[str, Any]:
    numbers = rsa.generate_private_key(exponent, bits).public_key().public_numbers()
    n, e = [b64(number.to_bytes((number.bit_length() + 7) // 8)) for number in (numbers.n, numbers.e)]
    return {"kty": "RSA", "kid": kid, "n": n, "e": e}


def secret_entry(size: int) -> dict[str, Any]:
    return {"kty": "oct", "kid": "s", "k": b64(b"s" * size)}


# --- key sets ------------------------------------------------------------------------------------------------------


def test_keys_of_the_four_kinds_are_read_each_for_one_algorithm():
    content = key_set(*(published(make_key(algorithm, algorithm)) for algorithm in ALGORITHMS))
    keys = read_key_set(content, ALGORITHMS)
    assert {kid: key.algorithm for kid, key in keys.items()} == {name: name for name in ALGORITHMS}
    assert len({key.print for key in keys.values()}) == 4


def test_two_keys_of_one_id_differ_in_print_and_one_key_read_twice_does_not():
    prints = [read_key_set(key_set(published(make_key("EdDSA", "a"))), ALGORITHMS)["a"].print for _ in range(2)]
    again = [read_key_set(key_set(published(KEY)), ALGORITHMS)["a"].print for _ in range(2)]
    assert prints[0] != prints[1] and again[0] == again[1]


@pytest.mark.parametrize(
    "entry",
    [
        published(OTHER, use="enc"),
        published(OTHER, use=None),
        published(OTHER, key_ops=["sign"]),
        published(OTHER, key_ops=["encrypt", "wrapKey"]),
        published(OTHER, key_ops=[]),
        published(OTHER, key_ops="verify"),
        published(OTHER, alg="ES384"),
        published(OTHER, alg="ECDH-ES"),
        published(OTHER, alg=None),
        published(OTHER, kty="EC2"),
        published(OTHER, kty=MISSING),
        published(OTHER, crv="P-384"),
        published(OTHER, crv="secp256k1"),
        published(OTHER, crv=MISSING),
        published(KEY, kid="c", crv="Ed448"),
        published(KEY, kid="c", crv="X25519"),
        published(KEY, kid="c", alg="HS256"),
        published(KEY, kid="c", alg="none"),
        {**rsa_entry(2048), "alg": "PS256"},
        {**rsa_entry(2048), "alg": "RS512"},
        {**rsa_entry(2048), "alg": "RSA-OAEP", "use": "enc"},
        {**secret_entry(32), "alg": "HS512"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "q", "pub": "AAAA"},
        {},
    ],
)
def test_a_key_that_is_not_for_us_is_passed_over_and_the_others_count(entry):
    assert kids(key_set(entry, published(KEY))) == ["a"]


@pytest.mark.parametrize("said", [{"alg": "EdDSA"}, {"use": "sig"}, {"key_ops": ["sign", "verify"]}, {"x5c": ["AAAA"]}])
def test_what_a_key_says_of_itself_may_agree(said):
    assert kids(key_set(published(KEY, **said))) == ["a"]


def test_keys_of_an_algorithm_that_the_issuer_may_not_use_are_passed_over():
    content = key_set(published(KEY), published(OTHER))
    assert kids(content, ("ES256",)) == ["b"]
    assert kids(content, ("RS256",)) == []


def without_end(text: bytes) -> bytes:
    return text[:-1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "JSON"),
        (b"null", "JSON"),
        (b"[]", "JSON"),
        (without_end(key_set(published(KEY))), "JSON"),
        (key_set(published(KEY)) + b"x", "JSON"),
        (key_set(published(KEY)).decode().encode("utf-16"), "JSON"),
        (b"\xef\xbb\xbf" + key_set(published(KEY)), "JSON"),
        (b'{"keys":[],"keys":[]}', "duplicate"),
        (key_set(published(KEY)).replace(b'"kid": "a"', b'"kid": "a", "kid": "b"'), "duplicate"),
        (b"[" * 100_000, "JSON"),
        (b"{}", "keys"),
        (b'{"keys": {}}', "keys"),
        (b'{"keys": null}', "keys"),
        (key_set("x"), "key 1 is no JSON object"),
        (key_set(published(KEY), None), "key 2 is no JSON object"),
        (key_set(*({} for _ in range(KEYS_MAX + 1))), "at most"),
        (key_set(published(KEY)) + b" " * JWKS_BYTES_MAX, "bytes"),
        (key_set(published(KEY), published(OTHER, kid="a")), "key 2 has the kid of one before"),
        (key_set(published(KEY), {"kty": "x", "kid": "a"}), "key 2 has the kid of one before"),
        (key_set(published(KEY, kid=MISSING)), "no kid"),
        (key_set(published(KEY, kid="")), "no kid"),
        (key_set(published(KEY, kid=7)), "no kid"),
        (key_set(published(KEY, kid="x" * 129)), "no kid"),
        (key_set(published(KEY, kid="a\nb")), "no kid"),
        (key_set(published(KEY, x=MISSING)), "lacks"),
        (key_set(published(KEY, x=7)), "lacks"),
        (key_set(published(KEY, x="")), "base64url"),
        (key_set(published(KEY, x=published(KEY)["x"] + "=")), "base64url"),
        (key_set(published(KEY, x="A!")), "base64url"),
        (key_set(published(KEY, x=b64(b"x" * 31))), "Ed25519"),
        (key_set(published(KEY, x=b64(b"x" * 33))), "Ed25519"),
        (key_set(published(OTHER, y=b64(b"y" * 32))), "P-256"),
        (key_set(published(OTHER, x=b64(b"\0" * 32), y=b64(b"\0" * 32))), "P-256"),
        (key_set(published(OTHER, x=b64(b"x" * 31))), "P-256"),
        (key_set(published(OTHER, x=b64(b"\0" + unb64(published(OTHER)["x"])))), "P-256"),
        (key_set({**rsa_entry(2048), "e": b64(b"\x01")}), "exponent"),
        (key_set({**rsa_entry(2048), "e": b64(b"\x04")}), "exponent"),
        (key_set({**rsa_entry(2048), "n": b64(b"\x01" + bytes(256))}), "RSA"),
        (key_set(rsa_entry(1024)), "1024 bits"),
        (key_set({"kty": "RSA", "kid": "r", "n": b64(b"\xff" * 255), "e": "AQAB"}), "2040 bits"),
        (key_set({"kty": "RSA", "kid": "r", "n": b64(b"\xff" * 1025), "e": "AQAB"}), "8200 bits"),
        (key_set(secret_entry(31)), "31 bytes"),
        (key_set(secret_entry(0)), "base64url"),
        (key_set(secret_entry(513)), "513 bytes"),
        (key_set({"kty": "oct", "kid": "s", "k": b64(OTHER.as_pem(private=False))}), "public key in the place"),
        (key_set(KEY.as_dict(private=True)), "key 1 is a private key"),
        (key_set(published(KEY), OTHER.as_dict(private=True)), "key 2 is a private key"),
        (key_set(make_key("RS256", "r").as_dict(private=True)), "private key"),
        (key_set({**published(OTHER, use="enc"), "d": "AA"}), "private key"),
        (key_set({"kty": "what", "p": ""}), "private key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "set",  # Keys are drawn anew in each process.
)
def test_a_set_that_is_malformed_or_dangerous_is_refused_as_a_whole_and_says_why(content, why):
    with pytest.raises(KeySetError, match=why) as caught:
        read_key_set(content, ALGORITHMS)
    assert caught.value.__cause__ is None
    assert published(KEY)["x"] not in str(caught.value)


def test_a_secret_is_refused_unless_the_operator_has_asked_for_secrets():
    with pytest.raises(KeySetError, match="HS256 is not among"):
        read_key_set(key_set(secret_entry(32)), ("EdDSA", "ES256", "RS256"))
    assert kids(key_set(secret_entry(32)), ("HS256",)) == ["s"]


@pytest.mark.parametrize("entry", [rsa_entry(2048), rsa_entry(2048, 3), secret_entry(32), secret_entry(512)])
def test_keys_at_the_limits_are_accepted(entry):
    assert len(kids(key_set(entry))) == 1


def test_as_many_keys_as_there_may_be_are_read():
    entries = [published(KEY, kid=f"k{n}") for n in range(KEYS_MAX)]
    assert len(kids(key_set(*entries))) == KEYS_MAX


# --- the file of issuers -------------------------------------------------------------------------------------------


@pytest.fixture
def okta(tmp_path: Path) -> OtherIssuer:
    return OtherIssuer(tmp_path)


def opened(issuer: OtherIssuer, **changes: Any) -> Issuers:
    issuer.settings = merged(issuer.settings, changes)
    return Issuers(write_issuers(issuer.directory / "issuers.toml", issuer))


def test_what_is_left_out_has_the_safe_default(okta):
    issuer = opened(okta, algorithms=MISSING, audience=MISSING).get(okta.iss)
    assert (issuer.algorithms, issuer.audience) == (frozenset({"EdDSA", "ES256", "RS256"}), "prefixdb")
    assert issuer.names == {"acme"} and issuer.groups == {"readers"} and issuer.ids == frozenset()


def test_a_file_without_issuers_is_good(tmp_path):
    path = tmp_path / "issuers.toml"
    path.write_text("# none yet\n")
    assert Issuers(path).get("x") is None and Issuers(path).problems == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        *(({name: MISSING}, "needs") for name in ("name", "iss", "jwks", "namespaces", "groups")),
        ({"algorithm": "EdDSA"}, "needs"),
        *(({"name": value}, "name") for value in ("", "a:b", "a b", "-a", "x" * 33, 7, ["a"])),
        *(({"iss": value}, "iss") for value in ("", "prefixdb", "a\n", 7, "x" * 513)),
        *(({"namespaces": value}, "namespaces") for value in ([], ["*"], "acme", [7], ["id:"], ["id:07"], ["id:-1"])),
        *(({"namespaces": value}, "namespaces") for value in (["id:x"], ["id:18446744073709551615"], ["bad name"])),
        *(({"groups": value}, "groups") for value in ([], ["guardians"], ["readers", "guardians"], ["*"], "readers")),
        *(({"algorithms": value}, "algorithms") for value in ([], ["none"], ["HS512"], ["EdDSA", "RS512"], "EdDSA")),
        ({"audience": ""}, "audience"),
        ({"jwks": ""}, "jwks"),
        ({"jwks": ["a.json"]}, "jwks"),
    ],
)
def test_a_setting_that_is_wrong_keeps_the_server_from_starting_and_is_named(okta, changes, why):
    with pytest.raises(InvalidArgumentError, match=f"issuer 1: .*{why}") as caught:
        opened(okta, **changes)
    assert caught.value.metadata == {"field": "auth.issuers"}


@pytest.mark.parametrize(
    "text",
    [
        "[issuer]\n",
        "issuer = [1]\n",
        "issuer = 7\n",
        "other = 1\n",
        "[[issuer]\n",
        "\xff",
        "[[issuers]]\n",
        "a" * 2**20,
    ],
)
def test_a_file_that_is_something_else_keeps_the_server_from_starting(tmp_path, text):
    path = tmp_path / "issuers.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidArgumentError, match=r"auth\.issuers"):
        Issuers(path)


def test_a_file_that_is_missing_or_a_pipe_keeps_the_server_from_starting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        with pytest.raises(InvalidArgumentError, match="it is no file"):
            Issuers(tmp_path / name)


@pytest.mark.parametrize("same", ["name", "iss"])
def test_two_issuers_of_one_name_or_iss_are_refused(tmp_path, same):
    issuers = OtherIssuer(tmp_path, "one", "https://1"), OtherIssuer(tmp_path, "two", "https://2")
    issuers[1].settings[same] = issuers[0].settings[same]
    with pytest.raises(InvalidArgumentError, match="issuer 2: its name or iss"):
        Issuers(write_issuers(tmp_path / "issuers.toml", *issuers))


# --- reading again -------------------------------------------------------------------------------------------------


class Watched:
    """Issuers that count what they are asked to announce."""

    def __init__(self, okta: OtherIssuer) -> None:
        self.okta = okta
        self.issuers = opened(okta)
        self.heard = 0
        self.issuers.add_listener(self._hear)

    def _hear(self) -> None:
        self.heard += 1

    def kids(self) -> list[str]:
        issuer = self.issuers.get(self.okta.iss)
        return sorted(issuer.keys) if issuer else []

    def reload(self) -> tuple[bool, bool]:
        """Return whether a change was told, and whether listeners and version agree with that."""
        before = self.heard, self.issuers.version
        changed = self.issuers.reload()
        moved = self.heard - before[0], self.issuers.version - before[1]
        return changed, moved == ((1, 1) if changed else (0, 0))


@pytest.fixture
def watched(okta: OtherIssuer) -> Watched:
    return Watched(okta)


def test_reading_what_has_not_changed_tells_nobody(watched):
    assert [watched.reload() for _ in range(3)] == [(False, True)] * 3
    watched.okta.path.write_text(watched.okta.path.read_text() + "\n")
    os.utime(watched.okta.path, ns=(1, 1))
    assert watched.reload() == (False, True)


def test_a_new_key_counts_and_one_that_was_taken_out_is_gone(watched):
    second = make_key("EdDSA", "okta-2")
    watched.okta.publish(published(watched.okta.key), published(second))
    assert watched.reload() == (True, True) and watched.kids() == ["okta-1", "okta-2"]
    watched.okta.publish(published(second))
    assert watched.reload() == (True, True) and watched.kids() == ["okta-2"]
    assert watched.issuers.find(watched.okta.iss, "okta-1") is None


def test_a_change_that_leaves_size_and_time_of_the_file_alone_is_seen(watched):
    path = watched.okta.path
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"okta-1", b"okta-9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    assert watched.reload() == (True, True) and watched.kids() == ["okta-9"]


def breakages(path: Path) -> dict[str, Any]:
    """Return ways to break a file."""
    good = path.read_bytes()
    return {
        "missing": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(good[: len(good) // 2]),
        "garbage": lambda: path.write_bytes(bytes(range(256))),
        "a directory": lambda: (path.unlink(), path.mkdir()),
        "a pipe": lambda: (path.unlink(), os.mkfifo(path)),
        "a link to nothing": lambda: (path.unlink(), path.symlink_to("nowhere")),
        "huge": lambda: path.write_bytes(good + b" " * 2**21),
    }


@pytest.mark.parametrize(
    "how", ["missing", "empty", "cut", "garbage", "a directory", "a pipe", "a link to nothing", "huge"]
)
@pytest.mark.parametrize("which", ["keys", "issuers"])
def test_a_broken_file_changes_nothing_and_is_told_once_until_it_is_mended(watched, caplog, how, which):
    path = watched.okta.path if which == "keys" else watched.okta.directory / "issuers.toml"
    good = path.read_bytes()
    before = watched.issuers.find(watched.okta.iss, "okta-1")
    breakages(path)[how]()
    assert [watched.reload() for _ in range(3)] == [(False, True)] * 3
    assert watched.issuers.find(watched.okta.iss, "okta-1") == before is not None
    assert len(watched.issuers.problems) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    assert watched.reload() == (False, True)
    assert watched.issuers.problems == () and [record.levelno for record in caplog.records][1:] == [logging.WARNING]


def test_a_set_without_a_usable_key_is_obeyed_and_told(watched):
    watched.okta.publish(published(watched.okta.key, use="enc"))
    assert watched.reload() == (True, True) and watched.kids() == []
    assert "no key" in watched.issuers.problems[0]


def test_an_issuer_whose_set_was_never_good_has_no_keys_and_gets_them_when_it_is(okta):
    okta.path.write_text("soon")
    watched = Watched(okta)
    assert watched.kids() == [] and len(watched.issuers.problems) == 1
    okta.publish()
    assert watched.reload() == (True, True) and watched.kids() == ["okta-1"] and watched.issuers.problems == ()


def test_last_good_keys_of_an_algorithm_that_is_forbidden_by_now_go(watched):
    watched.okta.publish(published(watched.okta.key), published(make_key("ES256", "es")))
    watched.reload()
    watched.okta.path.write_text("broken")
    watched.okta.settings["algorithms"] = ["ES256"]
    write_issuers(watched.okta.directory / "issuers.toml", watched.okta)
    assert watched.reload() == (True, True) and watched.kids() == ["es"]


def test_one_issuers_broken_set_leaves_the_others_alone(tmp_path):
    one, two = OtherIssuer(tmp_path, "one", "https://1"), OtherIssuer(tmp_path, "two", "https://2")
    issuers = Issuers(write_issuers(tmp_path / "issuers.toml", one, two))
    one.path.write_text("broken")
    two.publish(published(make_key("ES256", "fresh")))
    assert issuers.reload()
    assert list(issuers.get(one.iss).keys) == ["one-1"] and list(issuers.get(two.iss).keys) == ["fresh"]
    assert len(issuers.problems) == 1 and "issuer one " in issuers.problems[0]


def test_an_issuer_that_was_taken_out_is_gone(tmp_path):
    one, two = OtherIssuer(tmp_path, "one", "https://1"), OtherIssuer(tmp_path, "two", "https://2")
    issuers = Issuers(write_issuers(tmp_path / "issuers.toml", one, two))
    write_issuers(tmp_path / "issuers.toml", two)
    assert issuers.reload()
    assert issuers.get(one.iss) is None and issuers.find(two.iss, "two-1") is not None


def test_there_are_not_more_issuers_than_are_worth_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(issuers_module, "ISSUERS_MAX", 2)
    three = [OtherIssuer(tmp_path, name, f"https://{name}") for name in "abc"]
    Issuers(write_issuers(tmp_path / "issuers.toml", *three[:2]))
    with pytest.raises(InvalidArgumentError, match="at most 2"):
        Issuers(write_issuers(tmp_path / "issuers.toml", *three))


def test_an_absolute_path_of_a_key_set_is_taken_as_it_is(okta, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "set.json"
    elsewhere.write_bytes(key_set(published(jwk.OKPKey.generate_key("Ed25519", {"kid": "far"}))))
    assert list(opened(okta, jwks=str(elsewhere)).get(okta.iss).keys) == ["far"]
