"""The way in for whoever owns the machine: the first guardian of a new data directory, and a guardian recovered.

Both leave a random password in DATA/guardian.password, readable by the server's own user alone and shown nowhere else.
The password is in the file before it is in the member's record: what a crash leaves behind is a file whose password
does not work yet, never a member whose password nobody knows. Doing it again mends either.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from prefixdb.catalog import schema
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, MemberRecord
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.files import write_secret
from prefixdb.catalog.identities import Identities
from prefixdb.catalog.members import Members
from prefixdb.catalog.names import check_member_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.passwords import hash_password
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.catalog.revocation import Revocations
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.tokens import GUARDIAN_SUBJECT, TokenAuthority, ensure_guardian_token
from prefixdb.clock import Clock
from prefixdb.errors import DataLossError, Reason, error
from prefixdb.store.base import Store

GUARDIAN_MEMBER = GUARDIAN_SUBJECT
"""The first member of namespace 0. The first service token bears the same name."""

GUARDIAN_PASSWORD_FILE = "guardian.password"  # a file name

_PASSWORD_BYTES = 24
"""Random bytes of a password that a machine makes: nobody guesses it, whatever hashing costs."""


@dataclass(frozen=True, slots=True)
class FirstGuardian:
    """Where the first start left the two ways in."""

    password: Path
    token: Path


def ensure_first_guardian(
    authority: TokenAuthority, store: Store, clock: Clock, data_dir: Path
) -> FirstGuardian | None:
    """On a data directory's first start make the first guardian, member and token; later return None.

    That it was done is remembered last, with the token: after a crash the next start makes both anew. A directory from
    before there were members has its token, and gets no member: ``recover_guardian`` makes one when its operator asks.
    """
    row = store.get(schema.catalog_key(Tag.META))
    if row is None:
        raise error(Reason.INTERNAL, "The catalog was not opened.")
    if schema.Fields(row.payload).integer("guardian_token_at_ms"):
        return None
    _, password = _set_up(authority.identities.members, data_dir, GUARDIAN_MEMBER)
    token = ensure_guardian_token(authority, store, clock, data_dir)
    if token is None:
        raise error(Reason.INTERNAL, "Another process made the first guardian at the same time.")
    return FirstGuardian(password, token)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery has done.

    member: as it is now. password: the file that holds its password.
    """

    member: MemberRecord
    password: Path


class Recovery:
    """Gives a stopped server's operator a cluster guardian who can log in, whatever state its members are in.

    Needs neither signing keys nor any token: the proof is that one may write into the data directory, whose lock the
    open store holds.

    Args:
        store, clock: of the data directory.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        registry = Registry(store, clock)
        epochs = Epochs()
        self._revocations = Revocations(store, clock, registry, epochs)
        self._members = Identities(store, clock, registry, epochs, self._revocations.revoke_with).members

    def recover(self, data_dir: Path, name: str, *, revoke_tokens: bool = False) -> Recovered:
        """Make the member of namespace 0 a guardian who can log in, with a new random password.

        It is created where it is not there. One that is there loses its logins and its main namespace, is enabled, and
        when it was no guardian becomes one, in that group alone. Its other tokens live on unless ``revoke_tokens``:
        a lost password is no reason to stop the programs that use service tokens of the name.

        Raises:
            InvalidArgumentError: BAD_NAME.
            DataLossError: CORRUPTION, the member's record cannot be read; another name can be recovered.
            PrefixdbError: as ``Members.create`` and ``Members.update``.
        """
        check_member_name(name)
        if revoke_tokens:
            self._revocations.revoke_subject(DEFAULT_NAMESPACE_ID, name)
        member, path = _set_up(self._members, data_dir, name)
        return Recovered(member, path)


def _set_up(members: Members, data_dir: Path, name: str) -> tuple[MemberRecord, Path]:
    """Make a member of namespace 0 a guardian with a new password; return it and the file with the password."""
    try:
        before = members.get(DEFAULT_NAMESPACE_ID, name)
    except DataLossError as failure:
        raise error(Reason.CORRUPTION, "The member's record cannot be read; choose another name.") from failure
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    password_hash = hash_password(password)
    path = data_dir / GUARDIAN_PASSWORD_FILE
    write_secret(path, password.encode("ascii") + b"\n")
    if before is None:
        made = members.create(DEFAULT_NAMESPACE_ID, name, password_hash=password_hash, groups=(GUARDIANS_GROUP,))
        return made, path
    members.set_password(DEFAULT_NAMESPACE_ID, name, password_hash)
    is_guardian = GUARDIANS_GROUP in before.groups
    repaired = members.update(
        DEFAULT_NAMESPACE_ID,
        name,
        groups=None if is_guardian else (GUARDIANS_GROUP,),
        disabled=False,
        main_namespace=None,
    )
    return repaired, path
