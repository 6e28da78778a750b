"""Logins: one record for each, which the tokens that came from it stand and fall with.

    begin ──► refresh_jti 1 ──rotate──► refresh_jti 2 ──rotate──► …      end, a new password, disabling, removal: gone
                                            └─ a spent one comes again: gone

A refresh token works once. When a spent one is presented again, one of two holders is a thief and nobody can tell
which, so the login ends for both. The record leaves by itself when the refresh token in it has expired.
"""

from __future__ import annotations

import secrets

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import LoginRecord, MemberRecord, NamespaceIssue
from prefixdb.catalog.guarded import Changes
from prefixdb.catalog.member_records import decode_login, decode_member, login_key, login_put, logins_span, member_key
from prefixdb.clock import Clock
from prefixdb.errors import Reason, UnauthenticatedError, error
from prefixdb.store.base import Delete, Mutation, Row, Store, VersionIs

__all__ = ["Logins", "RefreshReusedError", "login_deletes"]

_ID_BYTES = 16


class RefreshReusedError(UnauthenticatedError):
    """A refresh token that was spent before came again; its login was ended. To the caller an ordinary TOKEN_REVOKED;
    who audits can tell it apart."""

    def __init__(self) -> None:
        super().__init__(Reason.TOKEN_REVOKED)


class Logins:
    """The logins of all members. Thread-safe; everything but ``get`` blocks on a commit."""

    def __init__(self, store: Store, clock: Clock, changes: Changes) -> None:
        self._store = store
        self._clock = clock
        self._changes = changes

    def begin(self, home_id: int, member: MemberRecord, into: NamespaceIssue) -> LoginRecord:
        """Begin a login, in one commit with the end of the oldest one when the member has too many.

        Args:
            home_id: the member's namespace.
            member: the record whose password was compared; it counts only while that is still the member's password.
            into: where the login lands.

        Raises:
            UnauthenticatedError: BAD_CREDENTIALS, the member is gone, disabled or has another password by now.
            NotFoundError, FailedPreconditionError: NAMESPACE_NOT_FOUND, NAMESPACE_STATE of the home.
        """
        now_ms = self._clock.now_ms()
        login = LoginRecord(
            family=secrets.token_hex(_ID_BYTES),
            member=member.name,
            refresh_jti=secrets.token_hex(_ID_BYTES),
            into=into,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + limits.REFRESH_TOKEN_S * 1000,
        )
        with self._changes.of(home_id) as change:
            row = self._store.get(member_key(home_id, member.name))
            current = decode_member(member.name, row) if row is not None else None
            if current is None or not current.can_log_in or current.password_hash != member.password_hash:
                raise error(Reason.BAD_CREDENTIALS)
            ended = self._surplus(home_id, member.name)
            guard = VersionIs(member_key(home_id, member.name), current.row_version)
            change.commit_all([*ended, login_put(home_id, login)], guards=(guard,), felt=bool(ended))
        return login

    def get(self, home_id: int, member: str, family: str) -> LoginRecord | None:
        """Return a login that has not ended, or None."""
        row = self._store.get(login_key(home_id, member, family))
        return None if row is None else _decode(row)

    def rotate(self, home_id: int, member: str, family: str, presented_jti: str) -> LoginRecord:
        """Spend a refresh token: return the login with the next one's id and a new end.

        Raises:
            RefreshReusedError: TOKEN_REVOKED, it was spent before; the login has ended with this.
            UnauthenticatedError: TOKEN_REVOKED, the login had ended.
            NotFoundError, FailedPreconditionError: NAMESPACE_NOT_FOUND, NAMESPACE_STATE of the home.
        """
        with self._changes.of(home_id) as change:
            row = self._store.get(login_key(home_id, member, family))
            if row is None:
                raise error(Reason.TOKEN_REVOKED)
            login = _decode(row)
            unchanged = VersionIs(row.key, row.version)
            if login.refresh_jti != presented_jti:
                change.commit_all([Delete(row.key)], guards=(unchanged,))
                raise RefreshReusedError
            spent = LoginRecord(
                family=family,
                member=member,
                refresh_jti=secrets.token_hex(_ID_BYTES),
                into=login.into,
                created_at_ms=login.created_at_ms,
                expires_at_ms=self._clock.now_ms() + limits.REFRESH_TOKEN_S * 1000,
            )
            change.commit_all([login_put(home_id, spent)], guards=(unchanged,), felt=False)
        return spent

    def end(self, home_id: int, member: str, family: str) -> None:
        """End one login; harmless when it has ended."""
        with self._changes.of(home_id) as change:
            row = self._store.get(login_key(home_id, member, family))
            if row is not None:
                change.commit_all([Delete(row.key)])

    def end_all(self, home_id: int, member: str) -> None:
        """End every login of the member."""
        with self._changes.of(home_id) as change:
            deletes = login_deletes(self._store, home_id, member)
            if deletes:
                change.commit_all(deletes)

    def _surplus(self, home_id: int, member: str) -> list[Mutation]:
        """Return the deletes of the oldest logins that have to go to make room for one more."""
        rows = [row for _, row in schema.rows_of(self._store, logins_span(home_id, member))]
        surplus = len(rows) - limits.LOGINS_PER_MEMBER_MAX + 1
        if surplus <= 0:
            return []
        rows.sort(key=lambda row: (_decode(row).created_at_ms, row.version))
        return [Delete(row.key) for row in rows[:surplus]]


def login_deletes(store: Store, home_id: int, member: str) -> list[Mutation]:
    """Return the deletes of every login of a member."""
    rows = schema.rows_of(store, logins_span(home_id, member), keys_only=True)
    return [Delete(row.key) for _, row in rows]


def _decode(row: Row) -> LoginRecord:
    return decode_login(schema.record_key_of(row), row)
