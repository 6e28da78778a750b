"""Goal: a token of another issuer is accepted exactly when that issuer's own key made it, by that key's own algorithm,
for a namespace and groups that the operator has given the issuer; nobody can speak for somebody else.

Method: joserfc, which shares no code with the judge, makes key sets and tokens of every algorithm. Two issuers and our
own keyring stand side by side, and every way to pass one for another is tried: the algorithms confused, ids of keys
borrowed, names of issuers borrowed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import OKPKey

from prefixdb.catalog.policy import Guardian
from prefixdb.errors import PrefixdbError, Reason
from tests.security.forging import Forge, b64, raw
from tests.security.forging_issuers import ALGORITHMS, OtherIssuer, encode, make_key, published, write_issuers
from tests.support.catalog import World


class Scene:
    """A world with issuer ``okta`` of one algorithm for acme (7), and ``corp``, EdDSA, for beta (8)."""

    def __init__(self, directory: Path, algorithm: str = "EdDSA") -> None:
        self.okta = OtherIssuer(directory, "okta", algorithm=algorithm)
        self.corp = OtherIssuer(directory, "corp", "https://sso.corp.example")
        self.corp.settings["namespaces"] = ["beta"]
        self.file = write_issuers(directory / "issuers.toml", self.okta, self.corp)
        data_dir = directory / "data"
        data_dir.mkdir()
        self.world = World(data_dir, self.file)
        self.world.registry.create("acme", namespace_id=7)
        self.world.registry.create("beta", namespace_id=8)

    def reason(self, token: str) -> Reason | None:
        try:
            self.world.authority.verify(token)
        except PrefixdbError as failure:
            assert failure.__cause__ is None
            return failure.reason
        return None

    def rewrite(self) -> bool:
        write_issuers(self.file, self.okta, self.corp)
        return self.world.issuers.reload()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


INVALID = Reason.TOKEN_INVALID


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_each_algorithm_is_accepted_as_its_claims_say(tmp_path, algorithm):
    scene = Scene(tmp_path, algorithm)
    world, okta = scene.world, scene.okta
    session = world.admit(okta.token(world, 7))
    assert (session.namespace_id, session.subject, session.groups) == (7, "okta:zoe", ("readers",))
    assert (session.guardian, session.family, session.guest, session.minted) == (Guardian.NONE, "", False, False)
    assert [(rule.read, rule.write) for rule in session.rules] == [(True, False)]
    refused = {
        "ns": okta.token(world, 8),
        "group": okta.token(world, 7, groups=["writers"]),
        "guardian": okta.token(world, 7, guardian="namespace"),
        "iss": okta.token(world, 7, iss="https://sso.corp.example"),
        "aud": okta.token(world, 7, aud="other"),
        "typ": okta.token(world, 7, typ="refresh"),
        "numbers": okta.token(world, 7, ns=7, inc=7),
    }
    assert {name: scene.reason(token) for name, token in refused.items()} == dict.fromkeys(refused, INVALID)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_its_own_algorithm_and_no_other(tmp_path, algorithm):
    scene = Scene(tmp_path, algorithm)
    okta, claims = scene.okta, scene.okta.claims(scene.world, 7)
    good = encode(okta.header(), claims, okta.key)
    assert scene.reason(good) is None
    _, body, signature = good.split(".")
    for other in (*ALGORITHMS, "HS512", "RS512", "PS256", "ES384", "Ed25519", "none", "None", "NONE", ""):
        if other != algorithm:
            head = b64(raw(okta.header(alg=other)))
            assert scene.reason(f"{head}.{body}.{signature}") is INVALID
            assert scene.reason(f"{head}.{body}.") is INVALID
    for other in ALGORITHMS:
        if other != algorithm:  # A good signature of the algorithm that the header names, under the other key's id.
            assert scene.reason(encode(okta.header(alg=other), claims, make_key(other, okta.kid))) is INVALID
    if algorithm == "RS256":  # One key, three JOSE algorithms: only the one it is bound to counts.
        for other in ("RS512", "PS256"):
            assert scene.reason(encode(okta.header(alg=other), claims, okta.key)) is INVALID
    if algorithm == "HS256":
        assert scene.reason(encode(okta.header(alg="HS512"), claims, okta.key)) is INVALID


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_public_key_used_as_a_secret_makes_no_token(tmp_path, algorithm):
    scene = Scene(tmp_path, algorithm)
    okta = scene.okta
    public = okta.key.public_key
    secrets = [
        okta.key.as_pem(private=False),
        okta.key.as_pem(private=False).strip(),
        okta.key.as_der(private=False),
        json.dumps(published(okta.key)).encode(),
        okta.path.read_bytes(),
    ]
    if algorithm == "EdDSA":
        secrets.append(public.public_bytes_raw())
    if algorithm == "ES256":
        point = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        secrets.append(public.public_bytes(*point))
    for secret in secrets:
        for kid in (okta.kid, scene.corp.kid, scene.world.keyring.signing_kid):
            head = f"{b64(raw(okta.header(alg='HS256', kid=kid)))}.{b64(raw(okta.claims(scene.world, 7)))}"
            forged = f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"
            assert scene.reason(forged) is INVALID


def test_an_algorithm_that_is_not_the_keys_is_refused_before_any_signature_is_looked_at(scene, caplog):
    forged = encode(scene.okta.header(alg="HS256"), scene.okta.claims(scene.world, 7), make_key("HS256", "x"))
    with caplog.at_level(logging.DEBUG, logger="prefixdb"):
        assert scene.reason(forged) is INVALID
    assert [record.getMessage() for record in caplog.records] == ["token refused: algorithm is not the key's"]


def test_a_token_that_was_made_for_something_else_is_refused(scene):
    okta, claims = scene.okta, scene.okta.claims(scene.world, 7)
    for kind in ("JWT", "jwt", "at+jwt", "AT+JWT", None):
        header = okta.header(**({} if kind is None else {"typ": kind}))
        assert scene.reason(encode(header, claims, okta.key)) is None
    for kind in ("", "JWE", "JOSE", "logout+jwt", "secevent+jwt", "dpop+jwt", "application/jwt", "JWT ", "at+JWTs"):
        assert scene.reason(encode(okta.header(typ=kind), claims, okta.key)) is INVALID


def test_nobody_speaks_for_another_issuer(scene):
    okta, corp, world = scene.okta, scene.corp, scene.world
    for_acme, for_beta = okta.claims(world, 7), corp.claims(world, 8)
    assert scene.reason(encode(okta.header(), for_acme, okta.key)) is None
    assert scene.reason(encode(corp.header(), for_beta, corp.key)) is None
    for claims in (for_acme, for_beta):
        for header in (okta.header(), corp.header()):
            for key in (okta.key, corp.key):
                whose = {for_acme["iss"]: okta, for_beta["iss"]: corp}[claims["iss"]]
                good = header["kid"] == whose.kid and key is whose.key
                assert scene.reason(encode(header, claims, key)) is (None if good else INVALID)
    both = {**for_acme, "iss": [for_acme["iss"], for_beta["iss"]]}
    assert scene.reason(encode(okta.header(), both, okta.key)) is INVALID


def test_the_same_key_id_at_two_issuers_means_two_keys(scene):
    okta, corp, world = scene.okta, scene.corp, scene.world
    corp.key = make_key("EdDSA", okta.kid)
    corp.kid = okta.kid
    corp.publish()
    assert scene.rewrite()
    assert scene.reason(okta.token(world, 7)) is None and scene.reason(corp.token(world, 8)) is None
    assert scene.reason(encode(okta.header(), okta.claims(world, 7), corp.key)) is INVALID
    assert scene.reason(encode(corp.header(), corp.claims(world, 8), okta.key)) is INVALID


def test_an_issuer_cannot_make_our_tokens_and_we_do_not_make_its(scene):
    okta, world = scene.okta, scene.world
    forge = Forge(world, 7)
    ours = OKPKey.import_key(forge.pem)
    our_claims, its_claims = forge.payload(), okta.claims(world, 7)
    assert scene.reason(encode(forge.header(), our_claims, ours)) is None
    refused = {
        "our claims, its key and id": encode(okta.header(typ="JWT"), our_claims, okta.key),
        "our claims, its key, our id": encode(forge.header(), our_claims, okta.key),
        "its claims, our key and id": encode(forge.header(), its_claims, ours),
        "its claims, our key, its id": encode(okta.header(), its_claims, ours),
        "its claims, its key, our id": encode(okta.header(kid=forge.kid), its_claims, okta.key),
        "our claims in its name": encode(okta.header(), {**our_claims, "iss": okta.iss}, okta.key),
        "guardian of the cluster": okta.token(world, 7, guardian="cluster", ns="0", inc="1"),
        "our iss beside its own": encode(okta.header(), {**its_claims, "ISS": "prefixdb", "iss": "prefixdb"}, okta.key),
    }
    assert {name: scene.reason(token) for name, token in refused.items()} == dict.fromkeys(refused, INVALID)


def test_an_issuer_that_publishes_our_key_id_and_our_key_gains_nothing(scene):
    okta, world = scene.okta, scene.world
    forge = Forge(world, 7)
    ours = OKPKey.import_key(forge.pem, {"kid": forge.kid})
    okta.publish(published(okta.key), published(make_key("EdDSA", forge.kid)))
    assert world.issuers.reload()
    stolen = make_key("EdDSA", forge.kid)
    okta.publish(published(okta.key), published(stolen))
    assert world.issuers.reload()
    assert scene.reason(encode(forge.header(), forge.payload(), stolen)) is INVALID
    assert scene.reason(world.local(7)) is None
    okta.publish(published(ours))
    assert world.issuers.reload()
    admitted = world.admit(encode(okta.header(kid=forge.kid), okta.claims(world, 7), ours))
    assert (admitted.subject, admitted.guardian) == ("okta:zoe", Guardian.NONE)


def test_a_stranger_gets_the_same_reply_as_a_known_issuer_with_a_bad_signature(scene):
    okta, world = scene.okta, scene.world
    stranger = OtherIssuer(scene.file.parent, "eve", "https://evil.example")
    replies = []
    for token in (
        stranger.token(world, 7),
        encode(okta.header(), okta.claims(world, 7), stranger.key),
        encode(okta.header(kid="nobody"), okta.claims(world, 7), okta.key),
        okta.token(world, 7, inc="99"),
        okta.token(world, 7, ns="99", inc="99"),
        okta.token(world, 8),
        "x",
    ):
        with pytest.raises(PrefixdbError) as caught:
            world.authority.verify(token)
        replies.append((caught.type, caught.value.reason, str(caught.value), caught.value.metadata))
    assert replies == [replies[0]] * len(replies) and replies[0][1] is INVALID


def test_expiry_is_told_only_to_who_had_a_good_token(scene):
    okta, world = scene.okta, scene.world
    token, forged = okta.token(world, 7), encode(okta.header(), okta.claims(world, 7), scene.corp.key)
    world.clock.advance(629_999)
    assert scene.reason(token) is None
    world.clock.advance(1)
    assert scene.reason(token) is Reason.TOKEN_EXPIRED
    assert scene.reason(forged) is INVALID


@pytest.mark.parametrize("whose", ["subject", "namespace", "everyone"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_revocation_kills_what_was_issued_up_to_it_and_touches_nobody_else(scene, whose, restart):
    okta, corp, world = scene.okta, scene.corp, scene.world
    now_s = world.clock.now_ms() // 1000
    before = okta.token(world, 7, iat=now_s, exp=now_s + 600)
    after = okta.token(world, 7, iat=now_s + 1, exp=now_s + 600)
    others = [okta.token(world, 7, sub="ann"), corp.token(world, 8, sub="zoe")]
    act = {
        "subject": lambda: world.authority.revoke_subject(7, "okta:zoe"),
        "namespace": lambda: world.authority.revoke_namespace(7),
        "everyone": world.authority.revoke_everyone,
    }[whose]
    act()
    if restart:
        world.reopen()
    assert scene.reason(before) is Reason.TOKEN_REVOKED
    assert scene.reason(after) is None
    spared = {
        "subject": [None, None],
        "namespace": [Reason.TOKEN_REVOKED, None],
        "everyone": [Reason.TOKEN_REVOKED] * 2,
    }
    assert [scene.reason(token) for token in others] == spared[whose]


def test_a_member_of_the_same_name_is_somebody_else(scene):
    okta, world = scene.okta, scene.world
    service, foreign = world.local(7, "zoe"), okta.token(world, 7)
    world.authority.revoke_subject(7, "zoe")
    assert (scene.reason(service), scene.reason(foreign)) == (Reason.TOKEN_REVOKED, None)
    world.authority.revoke_subject(7, "okta:zoe")
    assert scene.reason(foreign) is Reason.TOKEN_REVOKED


def test_names_mean_who_has_them_now_and_numbers_mean_numbers(scene):
    okta, world = scene.okta, scene.world
    by_name = okta.token(world, 7)
    claims = world.authority.verify(by_name)
    world.registry.update(7, name="renamed")
    assert scene.reason(by_name) is INVALID
    with pytest.raises(PrefixdbError) as caught:
        world.authority.check_still_valid(claims)
    assert caught.value.reason is INVALID
    okta.settings["namespaces"] = ["id:7"]
    assert scene.rewrite()
    assert scene.reason(by_name) is None
    world.authority.check_still_valid(claims)
    assert scene.reason(okta.token(world, 8)) is INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"namespaces": ["beta"]},
        {"groups": ["writers"]},
        {"algorithms": ["ES256"]},
        {"audience": "somebody-else"},
        {"iss": "https://other.example"},
        {"name": "renamed"},
    ],
)
def test_what_the_operator_takes_from_an_issuer_is_gone_for_tokens_that_were_admitted(scene, change):
    okta, world = scene.okta, scene.world
    token = okta.token(world, 7)
    claims, epoch = world.authority.verify(token), world.authority.epochs.of(7)
    okta.settings.update(change)
    assert scene.rewrite()
    assert world.authority.epochs.of(7) > epoch
    with pytest.raises(PrefixdbError) as caught:
        world.authority.check_still_valid(claims)
    assert caught.value.reason is INVALID
    assert scene.reason(token) is (None if "name" in change else INVALID)


def test_a_key_that_was_taken_out_or_exchanged_under_its_id_is_refused_also_for_tokens_that_were_admitted(scene):
    okta, world = scene.okta, scene.world
    token = okta.token(world, 7)
    claims = world.authority.verify(token)
    for entries in ([published(make_key("EdDSA", okta.kid))], [published(make_key("EdDSA", "okta-2"))]):
        okta.publish(*entries)
        assert world.issuers.reload()
        assert scene.reason(token) is INVALID
        with pytest.raises(PrefixdbError) as caught:
            world.authority.check_still_valid(claims)
        assert caught.value.reason is INVALID
    okta.publish()
    assert world.issuers.reload()
    assert scene.reason(token) is None


def test_a_storm_of_unknown_keys_and_issuers_reads_no_file(scene, monkeypatch):
    okta, world = scene.okta, scene.world

    def no_file(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("a token made the server read a file")

    claims = okta.claims(world, 7)
    tokens = [encode(okta.header(kid=f"storm-{n}"), claims, okta.key) for n in range(300)]
    tokens += [encode(okta.header(), {**claims, "iss": f"https://{n}.example"}, okta.key) for n in range(300)]
    for name in ("open", "read_bytes", "read_text", "is_file", "stat"):
        monkeypatch.setattr(Path, name, no_file)
    assert {scene.reason(token) for token in tokens} == {INVALID}


def test_without_a_file_of_issuers_theirs_are_refused(scene, tmp_path_factory):
    plain = World(tmp_path_factory.mktemp("plain"))
    plain.registry.create("acme", namespace_id=7)
    with pytest.raises(PrefixdbError) as caught:
        plain.authority.verify(scene.okta.token(plain, 7))
    assert caught.value.reason is INVALID


def test_the_audience_can_be_another_and_is_then_the_only_one(scene):
    okta, world = scene.okta, scene.world
    okta.settings["audience"] = "api://prefixdb"
    assert scene.rewrite()
    assert scene.reason(okta.token(world, 7)) is INVALID
    assert scene.reason(okta.token(world, 7, aud="api://prefixdb")) is None
    assert scene.reason(okta.token(world, 7, aud=["api://other", "api://prefixdb"])) is None


def test_secrets_of_issuers_are_in_no_log_and_no_repr(tmp_path, caplog):
    scene = Scene(tmp_path, "HS256")
    token = scene.okta.token(scene.world, 7)
    claims = scene.world.authority.verify(token)
    scene.okta.path.write_text(scene.okta.path.read_text()[:-3])
    scene.world.issuers.reload()
    issuer = scene.world.issuers.get(scene.okta.iss)
    key = scene.world.issuers.find(scene.okta.iss, scene.okta.kid)
    secret = base64.urlsafe_b64encode(scene.okta.key.raw_value).rstrip(b"=").decode()
    shown = f"{claims!r} {issuer!r} {key!r} {scene.world.issuers!r} {scene.world.issuers.problems} {caplog.text}"
    assert caplog.text and secret not in shown and repr(scene.okta.key.raw_value) not in shown
    assert token.rsplit(".", 1)[1] not in shown
