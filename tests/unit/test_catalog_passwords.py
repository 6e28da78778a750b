"""Goal: a password opens what it was set for and nothing else does, at one cost for every answer.

Method: hashes are made and compared; cost is read from the hash by its grammar, not by the library that wrote it, and
compared with the published setting. Frozen hashes show that what was stored stays readable. Time is not measured: what
is compared is that the same amount of work is asked for.
"""

from __future__ import annotations

import re

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import HashingError, VerificationError

from prefixdb import limits
from prefixdb.catalog import passwords
from prefixdb.catalog.passwords import DUMMY_HASH, check_new_password, hash_password, needs_rehash, verify_password
from prefixdb.errors import PrefixdbError, Reason
from tests.support.catalog import reason_of

PHC = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")

FROZEN = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0"
"""Of "correct horse battery staple" under the salt "0123456789abcdef"."""


def test_a_password_matches_its_own_hash_and_nothing_else_does():
    stored = hash_password("correct horse")
    assert verify_password(stored, "correct horse")
    for wrong in ("", "correct hors", "correct horse ", "Correct horse", "correct\0horse", "correct horse\0"):
        assert not verify_password(stored, wrong)


def test_a_password_may_hold_any_character():
    for text in ("pass\0word", "пароль-длинный", "🐎🐎🐎🐎🐎🐎🐎🐎", " \t leading", "x" * limits.PASSWORD_BYTES_MAX):
        assert verify_password(hash_password(text), text)


def test_a_hash_from_before_stays_readable():
    assert verify_password(FROZEN, "correct horse battery staple")
    assert not verify_password(FROZEN, "correct horse battery")
    assert not needs_rehash(FROZEN)


def test_the_same_password_is_never_hashed_alike():
    assert len({hash_password("same password") for _ in range(5)}) == 5


def test_the_cost_is_the_published_one_and_the_dummys_too():
    for stored in (hash_password("some password"), DUMMY_HASH):
        memory, passes, lanes, salt, digest = PHC.fullmatch(stored).groups()
        assert (int(memory), int(passes), int(lanes)) == (19 * 1024, 2, 1)
        assert (len(salt), len(digest)) == (22, 43)  # 16 and 32 bytes in base64 without padding.


def test_the_same_word_typed_on_two_systems_is_the_same_password():
    composed, apart = "pässwörter", "pa\u0308sswo\u0308rter"
    assert composed != apart
    assert verify_password(hash_password(composed), apart) and verify_password(hash_password(apart), composed)


@pytest.mark.parametrize("text", ["", "password", "\0" * 8, "x" * limits.PASSWORD_BYTES_MAX])
@pytest.mark.parametrize("stored", ["", DUMMY_HASH])
def test_no_password_lets_in_who_has_none(stored, text):
    assert verify_password(stored, text) is False


def test_who_has_no_password_costs_as_much_as_a_wrong_one(monkeypatch):
    work = []
    honest = PasswordHasher.verify

    def count(hasher, stored, typed):
        work.append(PHC.fullmatch(stored).groups()[:3])
        return honest(hasher, stored, typed)

    monkeypatch.setattr(PasswordHasher, "verify", count)
    verify_password("", "wrong password")
    verify_password(hash_password("right password"), "wrong password")
    assert work[0] == work[1] and len(work) == 2


def test_what_could_never_be_set_matches_nothing_and_is_not_hashed(monkeypatch):
    stored = hash_password("x" * limits.PASSWORD_BYTES_MAX)
    monkeypatch.setattr(PasswordHasher, "verify", lambda *_: pytest.fail("hashed"))
    for text in ("x" * (limits.PASSWORD_BYTES_MAX + 1), "ä" * limits.PASSWORD_BYTES_MAX, "x" * 10**7, "bad\udcff"):
        assert verify_password(stored, text) is False


# --- setting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "x" * limits.PASSWORD_CHARS_MIN,
        "ä" * limits.PASSWORD_CHARS_MIN,
        "x" * limits.PASSWORD_BYTES_MAX,
        "ä" * (limits.PASSWORD_BYTES_MAX // 2),
    ],
)
def test_passwords_up_to_both_limits_may_be_set(text):
    assert check_new_password(text) == text
    assert PHC.fullmatch(hash_password(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * (limits.PASSWORD_CHARS_MIN - 1),
        "a\u0308" * (limits.PASSWORD_CHARS_MIN - 1),
        "x" * (limits.PASSWORD_BYTES_MAX + 1),
        "ä" * (limits.PASSWORD_BYTES_MAX // 2 + 1),
        "surrogate\udc80",
    ],
)
def test_passwords_beyond_a_limit_may_not_and_are_not_repeated_in_the_refusal(text):
    with pytest.raises(PrefixdbError) as caught:
        check_new_password(text)
    assert (caught.value.reason, caught.value.metadata) == (Reason.BAD_FIELD, {"field": "password"})
    assert len(text) < 3 or text not in str(caught.value)


# --- stored hashes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        "plain",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$AAAA",
        "$2b$12$abcdefghijklmnopqrstuv",
        DUMMY_HASH.replace("m=19456", "m=262145"),
        DUMMY_HASH.replace("t=2", "t=17"),
        DUMMY_HASH.replace("p=1", "p=17"),
        DUMMY_HASH.replace("m=19456", "m=4294967295"),
    ],
)
def test_a_stored_hash_that_was_never_made_here_is_damage_and_costs_nothing(stored, monkeypatch):
    monkeypatch.setattr(PasswordHasher, "verify", lambda *_: pytest.fail("hashed"))
    assert reason_of(verify_password, stored, "password") is Reason.CORRUPTION


@pytest.mark.parametrize(
    ("cost", "expected"), [("m=19456,t=2,p=1", False), ("m=9728,t=2,p=1", True), ("m=19456,t=1,p=1", True)]
)
def test_a_hash_of_another_cost_is_to_be_made_anew(cost, expected):
    assert needs_rehash(DUMMY_HASH.replace("m=19456,t=2,p=1", cost)) is expected
    assert not needs_rehash("")


def test_a_hash_of_another_cost_still_opens():
    stored = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("an older password")
    assert verify_password(stored, "an older password") and needs_rehash(stored)


def test_too_little_memory_is_a_refusal_that_may_be_repeated(monkeypatch):
    def no_memory(failure):
        def fail(*_):
            raise failure("Memory allocation error")

        return fail

    monkeypatch.setattr(PasswordHasher, "hash", no_memory(HashingError))
    monkeypatch.setattr(PasswordHasher, "verify", no_memory(VerificationError))
    for act in (lambda: hash_password("some password"), lambda: verify_password("", "some password")):
        with pytest.raises(PrefixdbError) as caught:
            act()
        assert caught.value.reason is Reason.RATE_LIMITED and caught.value.retry_after_ms


def test_the_dummy_is_made_of_zeros():
    assert passwords._unmatched(bytes(16), bytes(32)) == DUMMY_HASH and set(DUMMY_HASH.rsplit("$", 1)[1]) == {"A"}
