"""Goal: a token that was not made by this cluster, for a namespace that is, exactly as it stands, is not accepted, and
whoever sends it learns only that.

Method: one good token, accepted, and hundreds that differ from it in one thing, nearly all of them signed with our own
key so that only the check in question stands between them and acceptance; and another library (joserfc) as a second
opinion on what we make and take. Every refusal is compared as a whole: class, reason, message, metadata, and no cause
that a handler could print. ``test_tokens_of_every_kind`` goes on with the other kinds and with random mutations.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import OKPKey

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import Group
from prefixdb.catalog.policy import Guardian
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, Put
from tests.security import forging
from tests.security.forging import ALPHABET, Forge
from tests.support.catalog import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("data"))
    world.registry.create("acme", namespace_id=7)
    return world


@pytest.fixture(scope="module")
def forge(world: World) -> Forge:
    return Forge(world, 7)


def verdict(world: World, token: str) -> tuple:
    with pytest.raises(PrefixdbError) as caught:
        world.authority.verify(token)
    failure = caught.value
    shown = failure.__cause__, failure.__suppress_context__ or failure.__context__ is None
    return type(failure), failure.reason, str(failure), failure.metadata, failure.retry_after_ms, *shown


ONE_REPLY = (UnauthenticatedError, Reason.TOKEN_INVALID, Reason.TOKEN_INVALID.value.summary, {}, None, None, True)


def reason_of(world: World, token: str) -> Reason | None:
    try:
        world.authority.verify(token)
    except PrefixdbError as failure:
        return failure.reason
    return None


def test_the_token_that_all_others_differ_from_is_accepted(world, forge):
    claims = world.authority.verify(forge.good())
    assert (claims.namespace_id, claims.subject, claims.groups, claims.guardian) == (7, "bob", ("readers",), 0)


def test_what_is_optional_or_at_its_limit_is_accepted(world, forge):
    now_s = forge.now_s
    for claims in (
        {"guardian": "namespace"},
        {"mint": "root", "exp": now_s + limits.MINTED_TOKEN_S_MAX},
        {"groups": []},
        {"groups": [f"g{n}" for n in range(limits.TOKEN_GROUPS_MAX)]},
        {"sub": "x" * 128},
        {"sub": "Zoë Müller 東京"},
        {"iat": now_s + 30, "nbf": now_s + 30},
        {"exp": now_s + limits.SERVICE_TOKEN_S_MAX},
        {"iat": now_s - 10, "nbf": 0, "exp": now_s + 1},
    ):
        world.authority.verify(forge.sign(forge.header(), forge.payload(**claims)))
    home = str(world.registry.get(0).incarnation)
    world.authority.verify(
        forge.sign(forge.header(), forge.payload(ns="0", inc=home, guardian="cluster", groups=["guardians"]))
    )


@pytest.mark.parametrize("kinds", [forging.structures, forging.headers, forging.payloads])
def test_every_forged_or_malformed_token_gets_the_one_reply(world, forge, kinds):
    made = kinds(forge)
    assert len(made) >= 30
    wrong = {name: verdict(world, make()) for name, make in made.items()}
    assert {name: found for name, found in wrong.items() if found != ONE_REPLY} == {}


def test_forgeries_are_refused_for_what_they_are_and_the_log_holds_nothing_of_them(world, forge, caplog):
    expected = {
        "structures": {
            "size or characters",
            "not three parts",
            "base64url characters",
            "base64url spelling",
            "signature",
        },
        "headers": {
            "json",
            "duplicate member",
            "not a json object",
            "header members",
            "header values",
            "unknown key",
            "algorithm is not the key's",
        },
        "payloads": {
            "claim names",
            "typ, iss or aud",
            "ns, inc or rev",
            "groups",
            "group names",
            "guardian",
            "sub or mint",
            "json constant",
        },
    }
    for name, phrases in expected.items():
        caplog.clear()
        tokens = [make() for make in getattr(forging, name)(forge).values()]
        with caplog.at_level(logging.DEBUG, logger="prefixdb"):
            for token in tokens:
                reason_of(world, token)
        said = {record.getMessage().removeprefix("token refused: ") for record in caplog.records}
        assert phrases <= said
        assert not [token for token in tokens if len(token) > 20 and token in caplog.text]


@pytest.mark.parametrize("token", [None, b"a.b.c", 7, ["a"]])
def test_what_is_no_text_gets_the_one_reply(world, token):
    assert verdict(world, token) == ONE_REPLY


def test_random_bytes_of_every_kind_are_refused(world):
    dice = random.Random(20)
    for _ in range(500):
        text = "".join(dice.choice(ALPHABET + "....") for _ in range(dice.randrange(600)))
        assert verdict(world, text) == ONE_REPLY


# --- refusals of tokens that were good once --------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.registry.create("acme", namespace_id=7)
    return world


def test_a_token_expires_30_seconds_after_its_exp_and_not_before(fresh):
    token = fresh.local(7, ttl_s=60)
    fresh.clock.advance(90_000 - 1)
    assert reason_of(fresh, token) is None
    fresh.clock.advance(1)
    assert reason_of(fresh, token) is Reason.TOKEN_EXPIRED


def test_expiry_and_revocation_are_told_only_to_who_had_a_good_token(fresh):
    forge = Forge(fresh, 7)
    stranger = forging.Ed25519PrivateKey.generate()
    late = forge.payload(iat=forge.now_s - 900, nbf=forge.now_s - 900, exp=forge.now_s - 60)
    assert reason_of(fresh, forge.sign(forge.header(), late)) is Reason.TOKEN_EXPIRED
    assert verdict(fresh, forge.sign(forge.header(), late, stranger)) == ONE_REPLY
    fresh.authority.revoke_namespace(7)
    assert reason_of(fresh, forge.good()) is Reason.TOKEN_REVOKED
    assert verdict(fresh, forge.sign(forge.header(), forge.payload(), stranger)) == ONE_REPLY


def test_a_token_of_another_cluster_is_refused(fresh, tmp_path_factory):
    other = World(tmp_path_factory.mktemp("other"))
    other.registry.create("acme", namespace_id=7)
    assert verdict(fresh, other.local(7)) == ONE_REPLY


def test_a_token_dies_with_its_issue_of_the_number(fresh):
    token = fresh.local(7)
    fresh.registry.ban(7, by="root@0")
    assert Reclaimer(fresh.store, fresh.registry, fresh.clock, lambda _: 0).run_once()
    fresh.registry.create("acme", namespace_id=7)
    assert verdict(fresh, token) == ONE_REPLY
    assert reason_of(fresh, fresh.local(7)) is None


def test_an_unknown_namespace_and_a_wrong_incarnation_look_alike(fresh):
    forge = Forge(fresh, 7)
    assert verdict(fresh, forge.sign(forge.header(), forge.payload(ns="8"))) == ONE_REPLY
    assert verdict(fresh, forge.sign(forge.header(), forge.payload(inc="8"))) == ONE_REPLY


# --- a second opinion ------------------------------------------------------------------------------------------------


# RFC 9864 renames EdDSA to Ed25519; PyJWT knows the old name only, and joserfc warns of it.
old_name = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


@old_name
def test_another_library_reads_our_tokens(fresh):
    token = fresh.local(7, groups=("readers",), guardian=Guardian.NAMESPACE)
    key = OKPKey.import_key(Forge(fresh, 7).pem)
    decoded = joserfc_jwt.decode(token, key, algorithms=["EdDSA"])
    assert decoded.header == {"alg": "EdDSA", "kid": fresh.keyring.signing_kid, "typ": "JWT"}
    assert set(decoded.claims) == {
        *("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "ns", "inc", "groups", "guardian", "rev", "typ"),
    }
    assert decoded.claims["ns"] == "7" and decoded.claims["guardian"] == "namespace"


@old_name
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, None),
        ({"guardian": "namespace"}, None),
        ({"ns": 7}, Reason.TOKEN_INVALID),
        ({"typ": "refresh"}, Reason.TOKEN_INVALID),
        ({"aud": ["prefixdb"]}, Reason.TOKEN_INVALID),
        ({"exp": 1}, Reason.TOKEN_INVALID),
        ({"role": "admin"}, Reason.TOKEN_INVALID),
    ],
)
def test_what_another_library_makes_with_our_key_is_judged_by_its_claims(fresh, claims, expected):
    forge = Forge(fresh, 7)
    key = OKPKey.import_key(forge.pem)
    token = joserfc_jwt.encode(forge.header(), forge.payload(**claims), key, algorithms=["EdDSA"])
    assert reason_of(fresh, token) is expected


def test_tokens_stay_small_and_an_oversized_one_is_never_issued(fresh):
    boss = fresh.guardian_of(7)
    token, _ = fresh.authority.issue(TokenRequest(7, "bob", ("readers", "writers")), boss)
    assert len(token) < 600
    names = tuple(f"{n:0>126}" for n in range(limits.TOKEN_GROUPS_MAX))
    groups = tuple(Put(schema.group_key(7, name), schema.encode_group(Group(name, ()))) for name in names)
    fresh.store.commit(Commit(groups))
    with pytest.raises(PrefixdbError) as caught:
        fresh.authority.issue(TokenRequest(7, "bob", names), boss)
    assert caught.value.reason is Reason.BAD_FIELD and caught.value.metadata == {"field": "groups"}
    assert len(fresh.authority.list(7)) == 2  # The guardian's and the small one.
