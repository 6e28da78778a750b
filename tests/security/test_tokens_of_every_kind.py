"""Goal: tokens of members, guests, programs, helpers, refresh tokens and those of other issuers are each accepted for
what they are, and nothing that differs from them is; one kind never passes for another.

Method: one good token of each kind. From each some hundred malformed and forged ones are made that differ in one thing,
and a hundred thousand random mutations; every refusal is compared as a whole with one and the same reply. The good
token is judged before and after, so that a judge who refuses everything fails.
"""

from __future__ import annotations

import os
import random
import sys
import time

import pytest

from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError
from tests.security import forging
from tests.security.forging_kinds import ALLOWED_HEADERS_OF_FOREIGN, Crowd, Kind, wrong_claims

KINDS = ("member", "guest", "service", "minted", "refresh", "foreign")
MUTATIONS = int(os.environ.get("PREFIXDB_TEST_MUTATIONS", "100000"))
"""Of each kind. All six together take some twenty seconds."""

ONE_REPLY = (UnauthenticatedError, Reason.TOKEN_INVALID, Reason.TOKEN_INVALID.value.summary, {}, None, None, True)
_LETTERS = forging.ALPHABET * 4 + ".=+/ "
_BYTES = "".join(map(chr, range(256))) + '0123456789abcdef":,{}[] ' * 10


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return Crowd(tmp_path_factory.mktemp("crowd"))


@pytest.fixture(scope="module")
def kinds(crowd: Crowd) -> dict[str, Kind]:
    return crowd.kinds()


def reply(kind: Kind, token: str) -> tuple | None:
    """Return the whole refusal, None when there was none."""
    try:
        kind.judge(token)
    except PrefixdbError as failure:
        shown = failure.__cause__, failure.__suppress_context__ or failure.__context__ is None
        return type(failure), failure.reason, str(failure), failure.metadata, failure.retry_after_ms, *shown
    return None


def wrong(kind: Kind, made) -> dict[str, tuple | None]:
    """Return those of the named tokens that did not get the one reply."""
    assert reply(kind, kind.token) is None
    found = {name: reply(kind, make()) for name, make in made.items()}
    assert reply(kind, kind.token) is None
    return {name: got for name, got in found.items() if got != ONE_REPLY}


def test_every_good_token_is_accepted_for_what_it_is(crowd, kinds):
    claims = {name: kind.judge(kind.token) for name, kind in kinds.items()}
    refresh = claims.pop("refresh")
    assert (refresh.home, refresh.member) == (crowd.acme, "ann")
    assert (refresh.family, refresh.jti) == (crowd.ann_login.family, crowd.ann_login.refresh_jti)
    told = {
        name: (one.subject, one.home_id, bool(one.family), one.guest, one.minted_by, one.issuer)
        for name, one in claims.items()
    }
    assert told == {
        "member": ("ann", 7, True, False, "", ""),
        "guest": ("gus", 0, True, True, "", ""),
        "service": ("robot", 7, False, False, "", ""),
        "minted": ("help", 7, False, False, "guardian", ""),
        "foreign": ("okta:zoe", 7, False, False, "", "okta"),
    }
    assert {one.namespace_id for one in claims.values()} == {7}
    assert [claims[name].kid for name in ("member", "foreign")] == [crowd.world.keyring.signing_kid, "okta-1"]
    for one in claims.values():
        assert crowd.world.authority.session(one).groups == ("readers",)


def test_a_refresh_token_opens_nothing_and_an_access_token_refreshes_nothing(crowd, kinds):
    authority = crowd.world.authority
    turned = {name: (kind.token, authority.verify) for name, kind in kinds.items() if name == "refresh"}
    turned |= {name: (kind.token, authority.read_refresh) for name, kind in kinds.items() if name != "refresh"}
    assert len(turned) == len(KINDS)
    assert [
        name for name, (token, judge) in turned.items() if reply(Kind(token, judge, None), token) != ONE_REPLY
    ] == []


@pytest.mark.parametrize("name", KINDS)
def test_structures_and_headers_that_are_wrong_get_the_one_reply(kinds, name):
    kind = kinds[name]
    made = forging.structures(kind.forge)
    headers = forging.headers(kind.forge)
    allowed = ALLOWED_HEADERS_OF_FOREIGN if name == "foreign" else frozenset()
    made |= {what: make for what, make in headers.items() if what not in allowed}
    assert len(made) >= 60
    assert wrong(kind, made) == {}
    assert all(reply(kind, headers[what]()) is None for what in allowed)


@pytest.mark.parametrize("name", ["member", "guest", "refresh", "foreign"])
def test_claims_that_are_wrong_get_the_one_reply_though_the_key_is_good(kinds, name):
    made = wrong_claims(name, kinds[name].forge)
    assert len(made) >= (60 if name == "foreign" else 30)
    assert wrong(kinds[name], made) == {}


def test_what_other_issuers_may_leave_out_or_say_is_accepted(kinds):
    kind, f = kinds["foreign"], kinds["foreign"].forge
    for change in (
        {"aud": ["prefixdb"]},
        {"aud": ["other", "prefixdb"]},
        {"nbf": f.now_s + 30},
        {"iat": f.now_s + 30},
        {"exp": f.now_s + 24 * 3600},
        {"groups": []},
        {"jti": "urn:uuid:4b1c/7+=~"},
        {"scope": "openid", "email": "zoe@example.org", "nonce": 7},
        {"sub": "auth0|zoe müller"},
        {"sub": "x" * 123},
    ):
        assert reply(kind, f.sign(f.header(), f.payload(**change))) is None, change


def mutant_text(text: str, letters: str, dice: random.Random) -> str:
    """Return the text with one to three of its characters replaced, removed, inserted, swapped or doubled."""
    for _ in range(1 + int(dice.random() ** 2 * 3)):
        at, letter = int(dice.random() * len(text)), letters[int(dice.random() * len(letters))]
        act = int(dice.random() * 8)
        if act < 4:
            text = text[:at] + letter + text[at + 1 :]
        elif act == 4:
            text = text[:at] + text[at + 1 :]
        elif act == 5:
            text = text[:at] + letter + text[at:]
        elif act == 6:
            text = text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
        else:
            text = text[: at + ord(letter) % 8] + text[at:]
    return text


def mutants(token: str, count: int, dice: random.Random):
    """Yield texts that differ from the token: in its characters, or in the bytes of one part, well spelt again."""
    parts = token.split(".")
    inside = [forging.unb64(part).decode("latin-1") for part in parts]
    for _ in range(count):
        place = int(dice.random() * 6)
        if place > 2:
            yield mutant_text(token, _LETTERS, dice)
        else:
            changed = list(parts)
            changed[place] = forging.b64(mutant_text(inside[place], _BYTES, dice).encode("latin-1"))
            yield ".".join(changed)


@pytest.mark.parametrize("name", KINDS)
def test_random_mutations_of_a_good_token_are_all_refused_alike(kinds, name):
    seed = int(os.environ.get("PREFIXDB_TEST_SEED") or time.time_ns() % 2**32)
    sys.stdout.write(f"replay with PREFIXDB_TEST_SEED={seed}\n")  # Shown when the test fails.
    kind = kinds[name]
    accepted = [
        (mutant, found)
        for mutant in mutants(kind.token, MUTATIONS, random.Random(seed))
        if mutant != kind.token and (found := reply(kind, mutant)) != ONE_REPLY
    ]
    assert accepted == [], f"seed {seed}"
    assert reply(kind, kind.token) is None
