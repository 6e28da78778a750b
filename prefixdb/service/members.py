"""The Members service: members, groups and grants, in the hands of guardians.

Where a call works comes from its token alone; for members of namespace 0 there is more to say (privileges, a main
namespace, grants), and only its guardians, the cluster's, can name another namespace at all. Every change is checked,
written into the audit, done in a worker thread, and audited again with its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    GrantEffect,
    GrantRecord,
    Group,
    MemberRecord,
    NamespaceIssue,
    NamespaceRecord,
    Privilege,
    Rule,
)
from prefixdb.catalog.identities import Identities
from prefixdb.catalog.members import UNCHANGED
from prefixdb.catalog.names import check_group_names, check_member_name, check_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.passwords import check_new_password
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES, check_target
from prefixdb.errors import Reason, bad_field, error
from prefixdb.keycodec import check_database
from prefixdb.limits import GROUP_RULES_MAX, MIB
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call
from prefixdb.service.hashing import Hashing
from prefixdb.service.messages import (
    check_mask,
    decode_page_token,
    describe,
    encode_page_token,
    find_namespace,
    page_size,
    rule_message,
    timestamp,
)
from prefixdb.service.workers import Workers
from prefixdb.v1 import auth_pb2, namespaces_pb2
from prefixdb.v1 import members_pb2 as pb

_MEMBERS_KIND, _GROUPS_KIND, _GRANTS_KIND = b"M", b"G", b"A"
_MASK = frozenset({"groups", "disabled", "privileges", "main_namespace"})
_PRIVILEGES = {int(privilege): privilege for privilege in Privilege}
_EFFECTS = {int(effect): effect for effect in GrantEffect}
_EVERYWHERE = "every namespace"
_PAGE_BYTES_MAX = 4 * MIB

_Result = TypeVar("_Result")


class MembersService:
    """Implementation of ``prefixdb.v1.Members``. Belongs to the event loop's thread.

    Args:
        registry: the namespaces that grants name.
        identities: members, groups, grants.
        hashing: for new passwords.
        administration: the audit around acts.
        workers: threads for what blocks.
    """

    def __init__(
        self,
        registry: Registry,
        identities: Identities,
        hashing: Hashing,
        administration: Administration,
        *,
        workers: Workers,
    ) -> None:
        self._registry = registry
        self._members = identities.members
        self._groups = identities.groups
        self._grants = identities.grants
        self._hashing = hashing
        self._workers = workers
        self._administration = administration

    # --- members ---------------------------------------------------------------------------------------------------

    async def CreateMember(self, call: Call, request: pb.CreateMemberRequest) -> pb.CreateMemberResponse:
        """Add a member."""
        name, groups = check_member_name(request.name), check_group_names(request.groups)
        privileges = _privileges(call, request.privileges)
        main = self._main(call, request.main_namespace) if request.HasField("main_namespace") else None
        hashed = await self._hashed(call, request.password) if request.password else ""
        namespace_id = call.session.namespace_id

        def create() -> MemberRecord:
            return self._members.create(
                namespace_id, name, password_hash=hashed, groups=groups, privileges=privileges, main_namespace=main
            )

        what = f"member {name}, {_described(groups, privileges)}, {'with' if hashed else 'without'} a password"
        return pb.CreateMemberResponse(member=self._message(await self._change(call, what, create)))

    async def GetMember(self, call: Call, request: pb.GetMemberRequest) -> pb.GetMemberResponse:
        """Show one member."""
        found = self._members.get(call.session.namespace_id, check_member_name(request.name))
        if found is None:
            raise error(Reason.MEMBER_NOT_FOUND)
        return pb.GetMemberResponse(member=self._message(found))

    async def ListMembers(self, call: Call, request: pb.ListMembersRequest) -> pb.ListMembersResponse:
        """Return a page of members by name."""
        limit = page_size(request.page_size)
        after = _name_after(_MEMBERS_KIND, request.page_token)
        namespace_id = call.session.namespace_id

        def page() -> pb.ListMembersResponse:  # In the thread: a thousand messages take ten milliseconds to make.
            found = self._members.page(namespace_id, after, limit + 1)
            return pb.ListMembersResponse(
                members=[self._message(member) for member in found[:limit]],
                next_page_token=_more(_MEMBERS_KIND, [member.name for member in found], limit),
            )

        return await self._workers.run(namespace_id, page)

    async def UpdateMember(self, call: Call, request: pb.UpdateMemberRequest) -> pb.UpdateMemberResponse:
        """Change what the mask names."""
        paths = check_mask(request.update_mask, _MASK)
        name = check_member_name(request.name)
        changes: dict[str, Any] = {"main_namespace": UNCHANGED}
        said = []
        if "groups" in paths:
            changes["groups"] = check_group_names(request.groups)
            said.append(f"groups {' '.join(request.groups) or 'none'}")
        if "disabled" in paths:
            changes["disabled"] = request.disabled
            said.append("disabled" if request.disabled else "enabled")
        if "privileges" in paths:
            changes["privileges"] = _privileges(call, request.privileges)
            said.append(f"privileges {' '.join(held.label for held in changes['privileges']) or 'none'}")
        if "main_namespace" in paths:
            ref = request.main_namespace if request.HasField("main_namespace") else None
            main = changes["main_namespace"] = None if ref is None else self._main(call, ref)
            _check_home(call, "main_namespace")
            said.append(f"main namespace {'none' if main is None else main.namespace_id}")
        namespace_id = call.session.namespace_id
        what = f"member {name}: {', '.join(said)}"
        changed = await self._change(call, what, lambda: self._members.update(namespace_id, name, **changes))
        return pb.UpdateMemberResponse(member=self._message(changed))

    async def DeleteMember(self, call: Call, request: pb.DeleteMemberRequest) -> pb.DeleteMemberResponse:
        """Remove a member."""
        name, namespace_id = check_member_name(request.name), call.session.namespace_id
        await self._change(call, f"member {name}", lambda: self._members.delete(namespace_id, name))
        return pb.DeleteMemberResponse()

    async def SetPassword(self, call: Call, request: pb.SetPasswordRequest) -> pb.SetPasswordResponse:
        """Give a member a new password."""
        name, namespace_id = check_member_name(request.name), call.session.namespace_id
        hashed = await self._hashed(call, request.password)
        what = f"password of member {name}"
        await self._change(call, what, lambda: self._members.set_password(namespace_id, name, hashed))
        return pb.SetPasswordResponse()

    # --- groups ----------------------------------------------------------------------------------------------------

    async def CreateGroup(self, call: Call, request: pb.CreateGroupRequest) -> pb.CreateGroupResponse:
        """Add a group."""
        name, rules, namespace_id = check_name(request.name), _rules(request.rules), call.session.namespace_id
        what = f"group {name}, {len(rules)} rule{'' if len(rules) == 1 else 's'}"
        made = await self._change(call, what, lambda: self._groups.create(namespace_id, name, rules))
        return pb.CreateGroupResponse(group=_group_message(made))

    async def GetGroup(self, call: Call, request: pb.GetGroupRequest) -> pb.GetGroupResponse:
        """Show one group."""
        found = self._groups.get(call.session.namespace_id, check_name(request.name))
        if found is None:
            raise error(Reason.GROUP_NOT_FOUND)
        return pb.GetGroupResponse(group=_group_message(found))

    async def ListGroups(self, call: Call, request: pb.ListGroupsRequest) -> pb.ListGroupsResponse:
        """Return a page of groups by name."""
        limit = page_size(request.page_size)
        after = _name_after(_GROUPS_KIND, request.page_token)
        namespace_id = call.session.namespace_id

        def page() -> pb.ListGroupsResponse:
            found = self._groups.page(namespace_id, after, limit + 1)
            groups = _fitting([_group_message(group) for group in found[:limit]])
            names = [group.name for group in found]
            return pb.ListGroupsResponse(groups=groups, next_page_token=_more(_GROUPS_KIND, names, len(groups)))

        return await self._workers.run(namespace_id, page)

    async def UpdateGroup(self, call: Call, request: pb.UpdateGroupRequest) -> pb.UpdateGroupResponse:
        """Replace a group's rules."""
        name, rules, namespace_id = check_name(request.name), _rules(request.rules), call.session.namespace_id
        what = f"group {name}, {len(rules)} rule{'' if len(rules) == 1 else 's'}"
        made = await self._change(call, what, lambda: self._groups.update(namespace_id, name, rules))
        return pb.UpdateGroupResponse(group=_group_message(made))

    async def DeleteGroup(self, call: Call, request: pb.DeleteGroupRequest) -> pb.DeleteGroupResponse:
        """Remove a group."""
        name, namespace_id = check_name(request.name), call.session.namespace_id
        await self._change(call, f"group {name}", lambda: self._groups.delete(namespace_id, name))
        return pb.DeleteGroupResponse()

    # --- grants ----------------------------------------------------------------------------------------------------

    async def SetGrant(self, call: Call, request: pb.SetGrantRequest) -> pb.SetGrantResponse:
        """Say something about a member and a namespace."""
        name, groups = check_member_name(request.member), check_group_names(request.groups)
        effect = _EFFECTS.get(request.effect)
        if effect is None:
            raise bad_field("effect", "must be a GrantEffect.")
        target = self._grant_target(call, request)
        rights = f" {' '.join(groups)}" if groups else ""
        what = f"{effect.name.lower()} {name}{rights} in {_EVERYWHERE if target is None else describe(target)}"
        made = await self._change(call, what, lambda: self._grants.set(name, target, effect, groups))
        return pb.SetGrantResponse(grant=self._grant_message(made))

    async def DeleteGrant(self, call: Call, request: pb.DeleteGrantRequest) -> pb.DeleteGrantResponse:
        """Take a grant or a denial back."""
        name = check_member_name(request.member)
        target = self._grant_target(call, request)
        target_id = None if target is None else target.id
        what = f"{name} in {_EVERYWHERE if target is None else describe(target)}"
        await self._change(call, what, lambda: self._grants.delete(name, target_id))
        return pb.DeleteGrantResponse()

    async def ListGrants(self, call: Call, request: pb.ListGrantsRequest) -> pb.ListGrantsResponse:
        """Return a page of grants by member and target."""
        limit = page_size(request.page_size)
        name = check_member_name(request.member) if request.member else ""
        after = decode_page_token(_GRANTS_KIND, request.page_token) or b""
        found = await self._workers.run(call.session.namespace_id, lambda: self._grants.page(name, after, limit + 1))
        more = ""
        if len(found) > limit:
            more = encode_page_token(_GRANTS_KIND, self._grants.position(found[limit - 1]))
        return pb.ListGrantsResponse(
            grants=[self._grant_message(grant) for grant in found[:limit]], next_page_token=more
        )

    # --- private ---------------------------------------------------------------------------------------------------

    async def _change(self, call: Call, what: str, change: Callable[[], _Result]) -> _Result:
        """Do one audited change in a worker thread."""
        async with self._administration.act(call, what):
            return await self._workers.run(call.session.namespace_id, change)

    async def _hashed(self, call: Call, password: str) -> str:
        return await self._hashing.hash(check_new_password(password), namespace_id=call.session.namespace_id)

    def _main(self, call: Call, ref: namespaces_pb2.NamespaceRef) -> NamespaceIssue:
        _check_home(call, "main_namespace")
        if ref.WhichOneof("ref") is None:
            raise bad_field("main_namespace", "must have an id or a name.")
        found = find_namespace(self._registry, ref)
        if found is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return NamespaceIssue(found.id, found.incarnation)

    def _grant_target(self, call: Call, request: pb.SetGrantRequest | pb.DeleteGrantRequest) -> NamespaceRecord | None:
        """Return the namespace that is meant, None for all of them."""
        which = request.WhichOneof("target")
        if which == "all" and request.all:
            return None
        if which != "namespace":
            raise bad_field("target", "must be a namespace, or all with the value true.")
        found = find_namespace(self._registry, request.namespace)
        check_target(call.session, call.method.capability, found.id if found else None)
        if found is None:  # ``check_target`` refuses None; should it ever not, nothing is found.
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return found

    def _name_of(self, issue: NamespaceIssue | None) -> str:
        """Return the name of a namespace now; empty when that issue of its number is gone."""
        found = None if issue is None else self._registry.get(issue.namespace_id)
        gone = found is None or issue is None or found.incarnation != issue.incarnation or not found.state.is_live
        return "" if gone or found is None else found.name

    def _message(self, member: MemberRecord) -> pb.Member:
        message = pb.Member(
            name=member.name,
            groups=member.groups,
            disabled=member.disabled,
            has_password=bool(member.password_hash),
            created_at=timestamp(member.created_at_ms),
            updated_at=timestamp(member.updated_at_ms),
            password_changed_at=timestamp(member.password_changed_at_ms),
            privileges=[int(held) for held in member.privileges],  # type: ignore[misc]  # an open enum takes its number
            main_namespace_name=self._name_of(member.main_namespace),
        )
        if member.main_namespace is not None:
            message.main_namespace_id = member.main_namespace.namespace_id
        return message

    def _grant_message(self, grant: GrantRecord) -> pb.Grant:
        message = pb.Grant(
            member=grant.member,
            effect=int(grant.effect),  # type: ignore[arg-type]  # an open enum takes its number
            namespace_name=self._name_of(grant.target),
            groups=grant.groups,
            created_at=timestamp(grant.created_at_ms),
        )
        if grant.target is not None:
            message.namespace_id = grant.target.namespace_id
        return message


def _check_home(call: Call, field: str) -> None:
    """Refuse what only members of namespace 0 can have."""
    if call.session.namespace_id != DEFAULT_NAMESPACE_ID:
        raise bad_field(field, "is for members of namespace 0.")


def _privileges(call: Call, numbers: Sequence[int]) -> tuple[Privilege, ...]:
    if not numbers:
        return ()
    _check_home(call, "privileges")
    if len(set(numbers)) != len(numbers) or not all(number in _PRIVILEGES for number in numbers):
        raise bad_field("privileges", "must be different Privileges.")
    return tuple(sorted(_PRIVILEGES[number] for number in numbers))


def _rules(messages: Sequence[auth_pb2.Rule]) -> tuple[Rule, ...]:
    """Return the rules of a group; what a rule must be beyond its fields is the catalog's to say."""
    if len(messages) > GROUP_RULES_MAX:
        raise bad_field("rules", f"may be at most {GROUP_RULES_MAX}.")
    rules = []
    for message in messages:
        database = check_database(message.database) if message.HasField("database") else None
        rules.append(Rule(database, message.prefix, message.read, message.write))
    return tuple(rules)


def _group_message(group: Group) -> pb.Group:
    return pb.Group(
        name=group.name,
        rules=[rule_message(rule) for rule in group.rules],
        built_in=group.name in BUILTIN_GROUP_NAMES,
    )


def _fitting(groups: list[pb.Group]) -> list[pb.Group]:
    """Return as many groups, one at least, as one answer should carry."""
    size = 0
    for count, group in enumerate(groups):
        size += group.ByteSize()
        if size > _PAGE_BYTES_MAX and count:
            return groups[:count]
    return groups


def _name_after(kind: bytes, token: str) -> str:
    """Return the name a page begins after; empty for the first page."""
    position = decode_page_token(kind, token)
    try:
        return "" if position is None else position.decode("ascii")
    except UnicodeDecodeError:
        raise bad_field("page_token", "is not a page token of this list.") from None


def _more(kind: bytes, names: list[str], limit: int) -> str:
    """Return the token of the next page, empty after the last; one name more than ``limit`` was read to know."""
    return encode_page_token(kind, names[limit - 1].encode()) if len(names) > limit else ""


def _described(groups: Sequence[str], privileges: Sequence[Privilege]) -> str:
    said = f"groups {' '.join(groups) or 'none'}"
    return f"{said}, privileges {' '.join(held.label for held in privileges)}" if privileges else said
