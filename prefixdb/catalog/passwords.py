"""Passwords: hashed with Argon2id (RFC 9106), compared, and judged before they are set.

The cost is the first of OWASP's recommended settings for Argon2id: 19 MiB and two passes, about 25 ms of one core. More
memory would make guessing dearer, but as many hashes as there are workers run at once, and each needs all of it.

A password is brought into Unicode's composed form first, as RFC 8265 asks: the same word typed on two systems is the
same password. Hashing releases the interpreter's lock; run it off the event loop, a few at a time.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from prefixdb import limits
from prefixdb.errors import PrefixdbError, Reason, bad_field, error

__all__ = ["DUMMY_HASH", "check_new_password", "hash_password", "is_stored_hash", "needs_rehash", "verify_password"]

MEMORY_KIB = 19 * 1024
"""Memory of one hash. Half of it would make an attacker's card guess twice as fast."""

PASSES = 2
"""Passes over that memory."""

LANES = 1
"""Threads of one hash; the server has other things to do with its cores."""

SALT_BYTES = 16
DIGEST_BYTES = 32

MEMORY_KIB_MAX = 256 * 1024
"""A stored hash that asks for more was not made here, and would be a way to exhaust memory."""

PASSES_MAX = 16
LANES_MAX = 16

_PHC = re.compile(
    r"\$argon2id\$v=19\$m=[1-9][0-9]{0,8},t=[1-9][0-9]{0,3},p=[1-9][0-9]{0,3}"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<digest>[A-Za-z0-9+/]{16,86})"
)
"""The form of a hash that may come from elsewhere: a salt of 8 to 64 bytes, a digest of 12 to 64."""

_HASHER = PasswordHasher(
    time_cost=PASSES,
    memory_cost=MEMORY_KIB,
    parallelism=LANES,
    hash_len=DIGEST_BYTES,
    salt_len=SALT_BYTES,
    type=Type.ID,
)


def _unmatched(salt: bytes, digest: bytes) -> str:
    parts = [base64.b64encode(part).rstrip(b"=").decode() for part in (salt, digest)]
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${parts[0]}${parts[1]}"


DUMMY_HASH = _unmatched(bytes(SALT_BYTES), bytes(DIGEST_BYTES))
"""A hash of the usual cost that no known password has: its digest was not computed but chosen, all zeros. Who has no
password is compared with it, so that the answer takes as long as for a wrong one."""


def hash_password(text: str) -> str:
    """Return the hash of a password in PHC form, under a new random salt; takes tens of milliseconds.

    Raises:
        InvalidArgumentError: BAD_FIELD (password).
        ResourceExhaustedError: RATE_LIMITED, there is no memory for it now.
    """
    try:
        return _HASHER.hash(_bytes_of(text))
    except HashingError as failure:
        raise _no_memory() from failure


def verify_password(password_hash: str, text: str) -> bool:
    """Return whether ``text`` is the password of the hash; takes as long when it is not.

    Args:
        password_hash: of ``hash_password``; empty (nobody can log in) costs the same and is always False.
        text: what was typed.

    Raises:
        DataLossError: CORRUPTION, the stored hash is none.
        ResourceExhaustedError: RATE_LIMITED, there is no memory for it now.
    """
    stored = password_hash or DUMMY_HASH
    _check_stored(stored)
    try:
        typed = _bytes_of(text)
    except PrefixdbError:
        return False  # Longer than any password, or not text: what was never accepted matches nothing.
    try:
        return _HASHER.verify(stored, typed)
    except VerifyMismatchError:
        return False
    except VerificationError as failure:
        raise _no_memory() from failure


def needs_rehash(password_hash: str) -> bool:
    """Return whether the hash was made at another cost than today's."""
    return bool(password_hash) and _HASHER.check_needs_rehash(password_hash)


def is_stored_hash(text: str) -> bool:
    """Return whether ``text`` may be kept as a member's hash: one of Argon2id that a login can be checked with, at a
    cost the server is willing to bear."""
    parts = _PHC.fullmatch(text)
    if parts is None or not all(_is_unpadded_base64(part) for part in parts.groups()):
        return False
    try:
        _check_stored(text)
    except PrefixdbError:
        return False
    cost = extract_parameters(text)
    return cost.memory_cost >= 8 * cost.parallelism


def _is_unpadded_base64(text: str) -> bool:
    """Return whether ``text`` is what unpadded base64 of some bytes looks like, to the last bit."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False
    return base64.b64encode(decoded).rstrip(b"=").decode() == text


def check_new_password(text: str) -> str:
    """Return ``text`` when it may become a password, else raise InvalidArgumentError BAD_FIELD (password).

    Only length is asked for: rules about characters make passwords worse (NIST SP 800-63B, 5.1.1.2).
    """
    if len(unicodedata.normalize("NFC", text)) < limits.PASSWORD_CHARS_MIN:
        raise bad_field("password", f"must have at least {limits.PASSWORD_CHARS_MIN} characters.")
    _bytes_of(text)
    return text


def _bytes_of(text: str) -> bytes:
    try:
        composed = unicodedata.normalize("NFC", text).encode() if len(text) <= limits.PASSWORD_BYTES_MAX else None
    except UnicodeEncodeError:
        raise bad_field("password", "must be text.") from None
    if composed is None or len(composed) > limits.PASSWORD_BYTES_MAX:
        raise bad_field("password", f"may have at most {limits.PASSWORD_BYTES_MAX} bytes.")
    return composed


def _check_stored(password_hash: str) -> None:
    try:
        cost = extract_parameters(password_hash)
    except InvalidHashError:
        raise error(Reason.CORRUPTION, "A member's password hash cannot be read.") from None
    if cost.memory_cost > MEMORY_KIB_MAX or cost.time_cost > PASSES_MAX or cost.parallelism > LANES_MAX:
        raise error(Reason.CORRUPTION, "A member's password hash asks for a cost that was never set here.")


def _no_memory() -> PrefixdbError:
    return error(Reason.RATE_LIMITED, "There is no memory to hash a password now.", retry_after_ms=1_000)
