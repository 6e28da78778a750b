"""Proofs in, tokens out: login, refresh, logout, exchange, change of password.

A login says the same thing after the same time, whatever was wrong: a namespace that is not, a member that is not, one
without a password, one that is disabled, a wrong password. Each costs one verification of the same hash parameters, and
what the state of the namespace is, or which namespaces are granted, is told after the right password only.

    too fast? ──► look up ──► verify, off the loop ──► still the same member? ──► namespace open? ──► where to land ──►
    a login of its own ──► both tokens

A login that cannot be written into the audit gives no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    DEFAULT_NAMESPACE_NAME,
    LoginRecord,
    MemberRecord,
    NamespaceIssue,
    NamespaceRecord,
)
from prefixdb.catalog.logins import RefreshReusedError
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.passwords import DUMMY_HASH, check_new_password, needs_rehash
from prefixdb.catalog.policy import check_exchange, check_open
from prefixdb.catalog.tokens import RefreshClaims, TokenAuthority
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, bad_field, error
from prefixdb.limits import PASSWORD_BYTES_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Visitor
from prefixdb.service.hashing import Hashing
from prefixdb.service.messages import describe, find_namespace, timestamp
from prefixdb.service.ports import RESULT_OK, AuditEntry, PeerCheck
from prefixdb.service.throttle import Throttle
from prefixdb.service.workers import Workers
from prefixdb.v1 import auth_pb2 as pb
from prefixdb.v1 import namespaces_pb2

_REUSED = "refresh token used twice, its login was ended"


@dataclass(frozen=True, slots=True)
class Door:
    """What stands between a proof and a token: how fast, how many at once, from where; and threads for what blocks."""

    throttle: Throttle
    hashing: Hashing
    check_peer: PeerCheck
    workers: Workers


class Credentials:
    """The calls of ``prefixdb.v1.Auth`` that give tokens to members. Belongs to the event loop's thread.

    Args:
        registry: the namespaces.
        authority: signs, and knows members, grants and logins.
        administration: the audit.
        door: throttle and hashing.
    """

    def __init__(
        self, registry: Registry, authority: TokenAuthority, administration: Administration, door: Door
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._identities = authority.identities
        self._administration = administration
        self._throttle = door.throttle
        self._hashing = door.hashing
        self._check_peer = door.check_peer
        self._workers = door.workers

    async def login(self, visitor: Visitor, request: pb.LoginRequest) -> pb.LoginResponse:
        """Give tokens for a name and a password."""
        where = request.namespace if request.HasField("namespace") else None
        into = request.into if request.HasField("into") else None
        home = self._home(where)
        wanted = None if into is None else self._wanted(into)
        _check_length(request.password, "password")
        self._check_peer(visitor.certificate, request.user)
        member = await self._prove(visitor, home, request, said(where))
        home = self._current(home)
        try:
            if into is not None and wanted is None:
                raise error(Reason.NOT_PERMITTED)  # As for one that is there and not granted.
            target = await self._workers.run(home.id, lambda: self._identities.landing(member, home, wanted))
            check_open(target)
            login = await self._begin(member, home, target)
        except PrefixdbError as refusal:
            await self._administration.proof_refused(visitor, _member(member.name, home), refusal.reason)
            raise
        await self._rehash(member, home, request.password)
        line = _line(visitor, home, member.name, f"login {login.family} into {describe(target)}")
        await self._noted(line, home, login)
        return pb.LoginResponse(tokens=self._tokens(login, member, home, target))

    async def refresh(self, visitor: Visitor, request: pb.RefreshRequest) -> pb.RefreshResponse:
        """Give new tokens for a refresh token, once."""
        claims = await self._presented(visitor, request.refresh_token)
        home = claims.home
        if not home.state.is_live:  # Nothing is written there any more, a login's end neither.
            check_open(home)
        self._check_peer(visitor.certificate, claims.member)
        member = self._identities.members.get(home.id, claims.member)
        if member is None or member.disabled:
            await self._administration.proof_refused(visitor, _whose(claims), Reason.TOKEN_REVOKED)
            raise error(Reason.TOKEN_REVOKED)
        before = self._identities.logins.get(home.id, claims.member, claims.family)
        if before is None:
            raise error(Reason.TOKEN_REVOKED)
        # A spent one goes straight to its end, whatever else would be in its way.
        target = self._usable(member, home, before.into) if before.refresh_jti == claims.jti else home
        try:
            login = await self._workers.run(
                home.id,
                lambda: self._identities.logins.rotate(home.id, claims.member, claims.family, claims.jti),
            )
        except PrefixdbError as refusal:
            if refusal.reason is Reason.TOKEN_REVOKED:
                reused = f"{_REUSED}: " if isinstance(refusal, RefreshReusedError) else ""
                await self._administration.proof_refused(visitor, reused + _whose(claims), refusal.reason)
            raise
        return pb.RefreshResponse(tokens=self._tokens(login, member, home, target))

    async def logout(self, visitor: Visitor, request: pb.LogoutRequest) -> pb.LogoutResponse:
        """End the login of a refresh token, or every login of its member. What has ended already is no error."""
        try:
            claims = await self._presented(visitor, request.refresh_token)
        except UnauthenticatedError as refusal:
            if refusal.reason is Reason.TOKEN_REVOKED and not request.everywhere:
                return pb.LogoutResponse()
            raise
        home, member, logins = claims.home, claims.member, self._identities.logins
        if not home.state.is_live:
            check_open(home)
        login = logins.get(home.id, member, claims.family)
        if request.everywhere and (login is None or login.refresh_jti != claims.jti):
            # A token that was spent proves no more than that its login is in two hands: that one ends.
            await self._workers.run(home.id, lambda: logins.end(home.id, member, claims.family))
            await self._administration.proof_refused(visitor, f"{_REUSED}: {_whose(claims)}", Reason.TOKEN_REVOKED)
            raise error(Reason.TOKEN_REVOKED)
        if request.everywhere:
            await self._workers.run(home.id, lambda: logins.end_all(home.id, member))
        else:
            await self._workers.run(home.id, lambda: logins.end(home.id, member, claims.family))
        what = "every login" if request.everywhere else f"login {claims.family}"
        await self._administration.note_done(_line(visitor, home, member, what))
        return pb.LogoutResponse()

    async def exchange(self, call: Call, request: pb.ExchangeRequest) -> pb.ExchangeResponse:
        """Give an access token of the caller's login for another namespace."""
        target = find_namespace(self._registry, request.namespace)
        session = call.session
        member, login = self._own_login(call)
        home = self._known(DEFAULT_NAMESPACE_ID)
        covered = target is not None and self._identities.grants.decide(member.name, target) is not None
        check_exchange(session, target, granted=covered)
        record = self._known(target.id if target is not None else None)
        check_open(record)
        access = self._authority.access_token(login, member, home, record)
        await self._administration.done(call, f"access to {describe(record)}")
        return pb.ExchangeResponse(
            tokens=pb.Tokens(
                access_token=access.token,
                access_expires_at=timestamp(access.expires_at_ms),
                namespace_id=record.id,
                namespace_name=record.name,
            )
        )

    async def change_password(self, call: Call, request: pb.ChangePasswordRequest) -> pb.ChangePasswordResponse:
        """Set the caller's own password and begin a new login in place of all it had."""
        _check_length(request.old_password, "old_password")
        _check_new(request.new_password, "new_password")
        member, login = self._own_login(call)
        home = self._known(call.session.home_id)
        with self._throttle.attempt(f"#{home.id}", member.name, call.peer) as attempt:
            old_is_right = await self._hashing.verify_own(
                member.password_hash or DUMMY_HASH, request.old_password, namespace_id=home.id
            )
            if not (old_is_right and member.password_hash):
                attempt.wrong()
                raise error(Reason.BAD_CREDENTIALS, "The old password is wrong.")
            attempt.right()
        new_hash = await self._hashing.hash(request.new_password, namespace_id=home.id)
        call.refresh()
        here = call.record
        async with self._administration.act(call, f"own password of {member.name}"):
            changed = await self._workers.run(
                home.id,
                lambda: self._identities.members.set_password(
                    home.id, member.name, new_hash, instead_of=member.password_hash
                ),
            )
            begun = await self._workers.run(
                home.id, lambda: self._identities.logins.begin(home.id, changed, login.into)
            )
        return pb.ChangePasswordResponse(tokens=self._tokens(begun, changed, home, here))

    # --- private ---------------------------------------------------------------------------------------------------

    def _home(self, where: namespaces_pb2.NamespaceRef | None) -> NamespaceRecord | None:
        """Return where the member says it belongs, None when there is no such namespace."""
        return self._registry.get(DEFAULT_NAMESPACE_ID) if where is None else find_namespace(self._registry, where)

    def _wanted(self, into: namespaces_pb2.NamespaceRef) -> NamespaceRecord | None:
        if into.WhichOneof("ref") is None:
            raise bad_field("into", "must have an id or a name.")
        return find_namespace(self._registry, into)

    async def _prove(
        self, visitor: Visitor, home: NamespaceRecord | None, request: pb.LoginRequest, said_home: str
    ) -> MemberRecord:
        """Return the member whose password was given; everything that is wrong is BAD_CREDENTIALS."""
        with self._throttle.attempt(said_home, request.user, visitor.peer) as attempt:
            member = None if home is None else self._identities.members.get(home.id, request.user)
            usable = member if member is not None and member.can_log_in else None
            password_hash = DUMMY_HASH if usable is None else usable.password_hash
            right = await self._hashing.verify(password_hash, request.password, home=said_home)
            if usable is not None and right:
                attempt.right()
                return usable  # Should it have been changed meanwhile, no login begins with it.
            attempt.wrong()
        target = "nobody of that name" if member is None or home is None else _member(member.name, home)
        await self._administration.proof_refused(visitor, target, Reason.BAD_CREDENTIALS)
        raise error(Reason.BAD_CREDENTIALS)

    def _current(self, home: NamespaceRecord | None) -> NamespaceRecord:
        """Return the home's record now; it existed when the password was looked at."""
        found = None if home is None else self._registry.get(home.id)
        if found is None or home is None or found.incarnation != home.incarnation:
            raise error(Reason.BAD_CREDENTIALS)
        return found

    def _known(self, namespace_id: int | None) -> NamespaceRecord:
        found = None if namespace_id is None else self._registry.get(namespace_id)
        if found is None:  # Policy refuses None; should it ever not, nothing is permitted.
            raise error(Reason.NOT_PERMITTED)
        return found

    def _usable(self, member: MemberRecord, home: NamespaceRecord, into: NamespaceIssue) -> NamespaceRecord:
        """Return the namespace a login landed in, if the member may still use it."""
        check_open(home)
        if into.namespace_id == home.id:
            return home
        found = self._registry.get(into.namespace_id)
        if found is None or found.incarnation != into.incarnation:
            raise error(Reason.NOT_PERMITTED)
        target = self._identities.landing(member, home, found)
        check_open(target)
        return target

    def _own_login(self, call: Call) -> tuple[MemberRecord, LoginRecord]:
        """Return the caller as a member, and the login of its token."""
        session = call.session
        member = self._identities.members.get(session.home_id, session.subject)
        login = self._identities.logins.get(session.home_id, session.subject, session.family)
        if member is None or login is None:
            raise error(Reason.TOKEN_REVOKED)
        return member, login

    async def _begin(self, member: MemberRecord, home: NamespaceRecord, target: NamespaceRecord) -> LoginRecord:
        issue = NamespaceIssue(target.id, target.incarnation)
        return await self._workers.run(home.id, lambda: self._identities.logins.begin(home.id, member, issue))

    async def _rehash(self, member: MemberRecord, home: NamespaceRecord, password: str) -> None:
        """Hash the password anew when its hash was made at another cost than today's."""
        if needs_rehash(member.password_hash):
            hashed = await self._hashing.hash(password, namespace_id=home.id)
            await self._workers.run(
                home.id,
                lambda: self._identities.members.rehash(
                    home.id, member.name, old_hash=member.password_hash, new_hash=hashed
                ),
            )

    def _tokens(
        self, login: LoginRecord, member: MemberRecord, home: NamespaceRecord, target: NamespaceRecord
    ) -> pb.Tokens:
        access = self._authority.access_token(login, member, home, target)
        refresh = self._authority.refresh_token(login, home)
        return pb.Tokens(
            access_token=access.token,
            access_expires_at=timestamp(access.expires_at_ms),
            refresh_token=refresh.token,
            refresh_expires_at=timestamp(refresh.expires_at_ms),
            namespace_id=target.id,
            namespace_name=target.name,
        )

    async def _noted(self, line: AuditEntry, home: NamespaceRecord, login: LoginRecord) -> None:
        """Write a login into the audit; end it again when that cannot be done."""
        try:
            await self._administration.note(line)
        except PrefixdbError:
            await self._workers.run(home.id, lambda: self._identities.logins.end(home.id, login.member, login.family))
            raise

    async def _presented(self, visitor: Visitor, token: str) -> RefreshClaims:
        try:
            return self._authority.read_refresh(token)
        except PrefixdbError as refusal:
            await self._administration.refused_unknown(visitor.method.path, visitor.peer, refusal)
            raise


def _check_length(password: str, field: str) -> None:
    """Refuse what is longer than any password before it costs anything; who exists plays no part."""
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        raise bad_field(field, f"may have at most {PASSWORD_BYTES_MAX} bytes.")


def _check_new(password: str, field: str) -> None:
    try:
        check_new_password(password)
    except PrefixdbError as refusal:
        message = refusal.message.removeprefix("password ")
        raise bad_field(field, message) from None


def _line(visitor: Visitor, home: NamespaceRecord, member: str, target: str) -> AuditEntry:
    return AuditEntry(
        user=member,
        namespace_id=home.id,
        namespace=home.name,
        method=visitor.method.path,
        target=target,
        result=RESULT_OK,
        peer=visitor.peer,
        request_id=visitor.request_id,
    )


def _member(name: str, home: NamespaceRecord) -> str:
    return f"member {name} of {describe(home)}"


def _whose(claims: RefreshClaims) -> str:
    return f"login {claims.family} of {_member(claims.member, claims.home)}"


def said(where: namespaces_pb2.NamespaceRef | None) -> str:
    """Return a namespace as the caller named it: tries are counted by what is said, so the count tells nothing."""
    if where is None or where.name == DEFAULT_NAMESPACE_NAME:
        return f"#{DEFAULT_NAMESPACE_ID}"
    return f"#{where.id}" if where.WhichOneof("ref") == "id" else where.name
