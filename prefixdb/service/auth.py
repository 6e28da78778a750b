"""The Auth service: logins (see ``service.login``), who am I, and tokens and keys in the hands of guardians."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefixdb.catalog.entities import Guardian, NamespaceRecord
from prefixdb.catalog.names import check_group_names, check_subject
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Capability, check_capability, check_issue, check_revoke, check_target
from prefixdb.catalog.tokens import TokenAuthority, TokenRequest
from prefixdb.errors import Reason, bad_field, error
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call
from prefixdb.service.login import Credentials
from prefixdb.service.messages import (
    decode_page_token,
    encode_page_token,
    find_namespace,
    known,
    page_size,
    rule_message,
    service_token_message,
    signing_key_message,
    timestamp,
    whole_seconds,
)
from prefixdb.service.workers import Workers
from prefixdb.v1 import auth_pb2 as pb
from prefixdb.v1 import namespaces_pb2

_PAGE_KIND = b"T"
_JTI_CHARS_MAX = 128
_KID_CHARS_MAX = 128
_GUARDIANS = {int(guardian): guardian for guardian in Guardian}

_Result = TypeVar("_Result")


class Auth:
    """Implementation of ``prefixdb.v1.Auth``. Belongs to the event loop's thread.

    Args:
        registry: the namespaces.
        authority: issues and revokes.
        administration: the audit around acts.
        credentials: the calls that give tokens to members.
        workers: threads for what blocks.
    """

    def __init__(
        self,
        registry: Registry,
        authority: TokenAuthority,
        administration: Administration,
        credentials: Credentials,
        workers: Workers,
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._administration = administration
        self._workers = workers
        self.Login = credentials.login
        self.Refresh = credentials.refresh
        self.Logout = credentials.logout
        self.Exchange = credentials.exchange
        self.ChangePassword = credentials.change_password

    def WhoAmI(self, call: Call, request: pb.WhoAmIRequest) -> pb.WhoAmIResponse:
        """Describe the caller's token."""
        session, record = call.session, call.record
        return pb.WhoAmIResponse(
            namespace_id=session.namespace_id,
            namespace_name=record.name,
            subject=session.subject,
            groups=session.groups,
            guardian=int(session.guardian),  # type: ignore[arg-type]  # an open enum takes its number
            jti=session.jti,
            expires_at=timestamp(session.expires_at_ms),
            namespace_state=int(record.state),  # type: ignore[arg-type]  # an open enum takes its number
            rules=[rule_message(rule) for rule in session.rules],
            home_namespace_id=session.home_id,
            privileges=sorted(int(held) for held in session.privileges),  # type: ignore[misc]  # as above
            member=bool(session.family),
        )

    async def IssueToken(self, call: Call, request: pb.IssueTokenRequest) -> pb.IssueTokenResponse:
        """Make a service token."""
        subject, groups = check_subject(request.subject), check_group_names(request.groups)
        guardian = _GUARDIANS.get(request.guardian)
        if guardian is None:
            raise bad_field("guardian", "must be a Guardian.")
        ttl_s = whole_seconds(request.ttl, "ttl") if request.HasField("ttl") else None
        session = call.session
        record = self._named_or_own(call, request.namespace if request.HasField("namespace") else None)
        check_issue(session, record.id if record else None, guardian)
        target = known(record)
        asked = TokenRequest(target.id, subject, groups, guardian, ttl_s)
        what = f"token for {subject} in namespace {target.id} {target.name}"
        async with self._administration.act(call, what) as act:
            token, info = await self._blocking(call, lambda: self._authority.issue(asked, session))
            minted = ", minted" if info.minted_by else ""
            act.target = f"{what}, jti {info.jti}, guardian {info.guardian.name.lower()}{minted}"
        return pb.IssueTokenResponse(token=token, info=service_token_message(info))

    async def ListTokens(self, call: Call, request: pb.ListTokensRequest) -> pb.ListTokensResponse:
        """Return a page of the live service tokens of a namespace, without the secrets."""
        limit = page_size(request.page_size)
        position = decode_page_token(_PAGE_KIND, request.page_token)
        after = _jti_of(position) if position is not None else ""
        target = self._target(call, request.namespace if request.HasField("namespace") else None)
        records = await self._blocking(call, lambda: self._authority.list(target.id, after, limit + 1))
        more = encode_page_token(_PAGE_KIND, records[limit - 1].jti.encode()) if len(records) > limit else ""
        return pb.ListTokensResponse(
            tokens=[service_token_message(record) for record in records[:limit]], next_page_token=more
        )

    async def RevokeTokens(self, call: Call, request: pb.RevokeTokensRequest) -> pb.RevokeTokensResponse:
        """End one token, a subject's, a namespace's or everyone's."""
        which = request.WhichOneof("scope")
        if which is None or (which == "all" and not request.all) or (which == "everyone" and not request.everyone):
            raise bad_field("scope", "must be a jti, a subject, or all or everyone with the value true.")
        if which == "everyone":
            check_capability(call.session, Capability.TOKENS_EVERYONE)
            if request.HasField("namespace"):
                raise bad_field("namespace", "is not used with everyone.")
            async with self._administration.act(call, "tokens of everyone"):
                await self._blocking(call, self._authority.revoke_everyone)
            return pb.RevokeTokensResponse()
        target = self._target(call, request.namespace if request.HasField("namespace") else None)
        check_revoke(call.session, target.id)
        where = f"namespace {target.id} {target.name}"
        if which == "all":
            async with self._administration.act(call, f"tokens of {where}"):
                await self._blocking(call, lambda: self._authority.revoke_namespace(target.id))
        elif which == "subject":
            subject = check_subject(request.subject)
            async with self._administration.act(call, f"tokens of {subject} in {where}"):
                await self._blocking(call, lambda: self._authority.revoke_subject(target.id, subject))
        else:
            jti = request.jti
            if not 0 < len(jti) <= _JTI_CHARS_MAX or not jti.isalnum() or not jti.isascii():
                raise bad_field("jti", "is not the id of a token.")
            async with self._administration.act(call, f"token {jti} in {where}"):
                await self._blocking(call, lambda: self._authority.revoke_jti(target.id, jti))
        return pb.RevokeTokensResponse()

    def ListKeys(self, call: Call, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """Return the public keys that verify now."""
        return pb.ListKeysResponse(keys=[signing_key_message(key) for key in self._authority.keyring.verifying_keys()])

    async def RotateKey(self, call: Call, request: pb.RotateKeyRequest) -> pb.RotateKeyResponse:
        """Make a new signing key."""
        keyring = self._authority.keyring
        async with self._administration.act(call, "signing key") as act:
            kid = await self._blocking(call, keyring.rotate)
            act.target = f"signing key {kid}"
        key = keyring.find(kid)
        if key is None:
            raise error(Reason.INTERNAL, "The new signing key cannot be found.")
        return pb.RotateKeyResponse(key=signing_key_message(key))

    async def RemoveKey(self, call: Call, request: pb.RemoveKeyRequest) -> pb.RemoveKeyResponse:
        """Forget a key that no longer signs."""
        kid = request.kid
        if not 0 < len(kid) <= _KID_CHARS_MAX or not kid.isprintable():
            raise bad_field("kid", "is not the id of a signing key.")
        async with self._administration.act(call, f"signing key {kid}"):
            await self._blocking(call, lambda: self._authority.keyring.remove(kid))
        return pb.RemoveKeyResponse()

    async def _blocking(self, call: Call, work: Callable[[], _Result]) -> _Result:
        return await self._workers.run(call.session.namespace_id, work)

    def _named_or_own(self, call: Call, ref: namespaces_pb2.NamespaceRef | None) -> NamespaceRecord | None:
        return call.record if ref is None else find_namespace(self._registry, ref)

    def _target(self, call: Call, ref: namespaces_pb2.NamespaceRef | None) -> NamespaceRecord:
        """Return the namespace a request means, when the caller may look after its tokens."""
        found = self._named_or_own(call, ref)
        check_target(call.session, call.method.capability, found.id if found else None)
        return known(found)


def _jti_of(position: bytes) -> str:
    jti = position.decode("latin-1")
    if not jti or not jti.isalnum() or not jti.isascii():
        raise bad_field("page_token", "is not a page token of this list.")
    return jti
