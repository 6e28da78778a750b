# Generated from prefixdb/client/aio/members.py by tools/async_to_sync.py; do not edit.
"""The members of the caller's own namespace: who they are and which groups they are in."""

from __future__ import annotations

from collections.abc import Iterable

from prefixdb.client import methods
from prefixdb.client.encoding import encode_password, namespace_ref
from prefixdb.client.models import UNCHANGED, Member, Privilege, Unchanged, member_of, privileges_to
from prefixdb.client.sync import wire
from prefixdb.client.sync.connection import Connection
from prefixdb.errors import Reason, error
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import members_pb2


class Members:
    """Members by name. Every change takes effect on the next request of everyone it touches."""

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def list(self) -> wire.Stream[Member]:
        """Yield the members in the order of their names."""
        request = members_pb2.ListMembersRequest(page_size=LIST_PAGE_ENTRIES_MAX)
        while True:
            page = self._connection.call(methods.LIST_MEMBERS, request, deadline_s=self._deadline_s)
            for member in page.members:
                yield member_of(member)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get(self, name: str) -> Member:
        """Return one member.

        Raises:
            NotFoundError: MEMBER_NOT_FOUND.
        """
        request = members_pb2.GetMemberRequest(name=name)
        answer = self._connection.call(methods.GET_MEMBER, request, deadline_s=self._deadline_s)
        return member_of(answer.member)

    def create(
        self,
        name: str,
        *,
        password: str | None = None,
        groups: Iterable[str] = (),
        privileges: Iterable[Privilege | str] = (),
        main_namespace: int | str | None = None,
    ) -> Member:
        """Add a member.

        Args:
            name: 1 to 128 characters: letters, digits and ``._@+-``, the first a letter or digit.
            password: at least 8 characters; None for a member as which nobody can log in yet.
            groups: of the namespace, for example ``["writers"]``.
            privileges: of members of namespace 0: ``Privilege`` or its label, for example ``"namespaces.use"``.
            main_namespace: of members of namespace 0: name or id of where a login lands; a grant must cover it then.

        Raises:
            AlreadyExistsError: MEMBER_EXISTS.
            NotFoundError: GROUP_NOT_FOUND.
        """
        request = members_pb2.CreateMemberRequest(
            name=name,
            password=None if password is None else encode_password(password),
            groups=list(groups),
            privileges=privileges_to(privileges),
            main_namespace=None if main_namespace is None else namespace_ref(main_namespace),
        )
        answer = self._connection.call(methods.CREATE_MEMBER, request, deadline_s=self._deadline_s)
        return member_of(answer.member)

    def update(
        self,
        name: str,
        *,
        groups: Iterable[str] | None = None,
        disabled: bool | None = None,
        privileges: Iterable[Privilege | str] | None = None,
        main_namespace: int | str | Unchanged | None = UNCHANGED,
    ) -> Member:
        """Change what is given, wholly, and leave the rest; ``main_namespace`` None takes it away.

        Raises:
            NotFoundError: MEMBER_NOT_FOUND or GROUP_NOT_FOUND.
            FailedPreconditionError: LAST_GUARDIAN: nobody else could log in as a guardian.
        """
        request = members_pb2.UpdateMemberRequest(name=name, privileges=privileges_to(privileges or ()))
        if groups is not None:
            request.groups.extend(groups)
            request.update_mask.paths.append("groups")
        if disabled is not None:
            request.disabled = disabled
            request.update_mask.paths.append("disabled")
        if privileges is not None:
            request.update_mask.paths.append("privileges")
        if not isinstance(main_namespace, Unchanged):
            if main_namespace is not None:
                request.main_namespace.CopyFrom(namespace_ref(main_namespace))
            request.update_mask.paths.append("main_namespace")
        if not request.update_mask.paths:
            raise error(Reason.BAD_FIELD, "Nothing to update: give groups, disabled, privileges or main_namespace.")
        answer = self._connection.call(methods.UPDATE_MEMBER, request, deadline_s=self._deadline_s)
        return member_of(answer.member)

    def set_password(self, name: str, password: str) -> None:
        """Give a member a new password and end its logins."""
        request = members_pb2.SetPasswordRequest(name=name, password=encode_password(password))
        self._connection.call(methods.SET_PASSWORD, request, deadline_s=self._deadline_s)

    def delete(self, name: str) -> None:
        """Remove a member with its grants and logins, and revoke the tokens of its name.

        Raises:
            NotFoundError: MEMBER_NOT_FOUND.
            FailedPreconditionError: LAST_GUARDIAN: nobody else could log in as a guardian.
        """
        request = members_pb2.DeleteMemberRequest(name=name)
        self._connection.call(methods.DELETE_MEMBER, request, deadline_s=self._deadline_s)
