"""The requests of the table of roles: complete and well formed, so that nothing but the caller's rights refuses them.

A call that is let through and would take something away gets a victim of its own; one that is refused is aimed at what
the others use, so that the damage would show.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb.archive import ArchiveWriter, Header
from prefixdb.errors import Reason
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import maintenance_pb2 as upkeep
from prefixdb.v1 import members_pb2 as people
from prefixdb.v1 import namespaces_pb2 as spaces
from prefixdb.v1 import transfer_pb2 as moving
from tests.security.roles import KEYS, RANGES, Line, Role
from tests.security.roles_stage import OTHER_GROUP, OTHER_MEMBER, PASSWORD, Stage

HOUR = Duration(seconds=3600)

Need = tuple[str, str]
"""A right and a place."""


@dataclass(frozen=True, slots=True)
class RowCall:
    """One call of KeyValue.

    needs: what the caller must have; of a Pipeline what each operation needs.
    answer: what those who have it are answered, None for well.
    finds: the place whose rows a read must find, empty for none.
    """

    method: str
    target: str
    request: Any
    needs: tuple[tuple[Need, ...], ...]
    finds: str = ""
    writes: bool = True
    answer: Reason | None = None

    def answers(self, role: Role) -> list[Reason | None]:
        """Return how each operation ends, one for all methods but Pipeline."""
        if role.refused is not None:
            return [role.refused]
        if not role.rows:
            return [Reason.NOT_PERMITTED]
        return [_answer(role, needs) or self.answer for needs in self.needs]


def _answer(role: Role, needs: tuple[Need, ...]) -> Reason | None:
    missing = {right for right, place in needs if not role.has(right, place)}
    if not missing:
        return None
    return Reason.READ_ONLY if role.where == "still" and missing == {"w"} else Reason.NOT_PERMITTED


def _get(place: str) -> kv.GetRequest:
    return kv.GetRequest(database=KEYS[place][0], key=KEYS[place][1])


def _put(place: str, **more: Any) -> kv.PutRequest:
    return kv.PutRequest(database=KEYS[place][0], key=KEYS[place][1], value=b"new", **more)


def _delete(place: str, **more: Any) -> kv.DeleteRequest:
    return kv.DeleteRequest(database=KEYS[place][0], key=KEYS[place][1], **more)


def _write(*places: str, only_if: str = "") -> kv.WriteRequest:
    puts = [kv.Mutation.Put(database=KEYS[place][0], key=KEYS[place][1], value=b"new") for place in places]
    tests = [kv.Condition(database=KEYS[only_if][0], key=KEYS[only_if][1], test=EXISTS)] if only_if else []
    return kv.WriteRequest(mutations=[kv.Mutation(put=put) for put in puts], conditions=tests)


def _delete_range(place: str) -> kv.WriteRequest:
    deletion = kv.Mutation.DeleteRange(database=RANGES[place][0], range=kv.KeyRange(**RANGES[place][1]))
    return kv.WriteRequest(mutations=[kv.Mutation(delete_range=deletion)])


def _deletes(place: str) -> kv.WriteRequest:
    deletion = kv.Mutation.Delete(database=KEYS[place][0], key=KEYS[place][1])
    return kv.WriteRequest(mutations=[kv.Mutation(delete=deletion)])


EXISTS = kv.Test(exists=True)


def row_calls() -> Iterator[RowCall]:
    """Yield every call of KeyValue in the table."""
    for place in KEYS:
        yield from _single_row_calls(place)
    for place, (database, bounds) in RANGES.items():
        read, gone = ((("r", place),),), ((("d", place),),)
        scan = kv.ScanRequest(database=database, range=kv.KeyRange(**bounds))
        yield RowCall("KeyValue/Scan", place, scan, read, place, writes=False)
        back = kv.ScanRequest(database=database, range=kv.KeyRange(**bounds), reverse=True, resume_after=b"zzz")
        yield RowCall("KeyValue/Scan", f"{place} backwards", back, read, place, writes=False)
        count = kv.CountRequest(database=database, range=kv.KeyRange(**bounds))
        yield RowCall("KeyValue/Count", place, count, read, place, writes=False)
        yield RowCall("KeyValue/Write", f"all of {place} gone", _delete_range(place), gone)
    for first, second in (("in", "edge"), ("in", "out")):
        both = kv.BatchGetRequest(keys=[KEYS[first][1], KEYS[second][1]])
        name = f"{first} and {second}"
        yield RowCall("KeyValue/BatchGet", name, both, ((("r", first), ("r", second)),), writes=False)
        yield RowCall("KeyValue/Write", name, _write(first, second), ((("w", first), ("w", second)),))
        only_if = _write(first, only_if=second)
        yield RowCall("KeyValue/Write", f"{first} if {second}", only_if, ((("w", first), ("r", second)),))
    # Nothing is read or written here, and all the same it is not for those who may do so nowhere.
    may_read, may_write = ((("r", "anywhere"),),), ((("d", "anywhere"),),)
    yield RowCall("KeyValue/BatchGet", "in no place", kv.BatchGetRequest(), may_read, writes=False)
    yield RowCall("KeyValue/Put", "in no place", kv.PutRequest(), may_write, answer=Reason.KEY_EMPTY)
    yield RowCall("KeyValue/Write", "nothing if in", _write(only_if="in"), ((("r", "in"),),))
    yield from _pipelines()
    for places in (("in",), ("out",), ("edge",), ("db1",), ("in", "out"), ("in", "db1")):
        needs = tuple(("w", place) for place in places)
        yield RowCall("Transfer/Import", " and ".join(places), _import(*places), (needs,))


def _import(*places: str) -> Callable[[], list[Any]]:
    """Return what makes the messages of an import of one row at each place; every upload has an id of its own."""

    def messages() -> list[Any]:
        begin = moving.ImportBegin(upload=secrets.token_hex(16), on_conflict=moving.CONFLICT_POLICY_OVERWRITE)
        frames = archive([KEYS[place] for place in places])
        return [moving.ImportRequest(begin=begin), *(moving.ImportRequest(frame=frame) for frame in frames)]

    return messages


def archive(places: Iterable[tuple[int, bytes]]) -> list[bytes]:
    """Return the frames of an archive with a row at each place; they ascend."""
    writer = ArchiveWriter(Header(kind="namespace", codec="none", sorted=True, namespace="somewhere", last_version=1))
    frames = [writer.header()]
    frames += [writer.rows(database, [(key, b"new", 1, 0)]) for database, key in sorted(places)]
    return [*frames, writer.footer()]


def _single_row_calls(place: str) -> Iterator[RowCall]:
    read, write, gone = (("r", place),), (("w", place),), (("d", place),)
    batch = kv.BatchGetRequest(database=KEYS[place][0], keys=[KEYS[place][1]])
    yield RowCall("KeyValue/Get", place, _get(place), (read,), place, writes=False)
    yield RowCall("KeyValue/BatchGet", place, batch, (read,), place, writes=False)
    yield RowCall("KeyValue/Put", place, _put(place), (write,))
    yield RowCall("KeyValue/Put", f"{place} if there", _put(place, condition=EXISTS), (write + read,))
    yield RowCall("KeyValue/Delete", place, _delete(place), (gone,))
    yield RowCall("KeyValue/Delete", f"{place} if there", _delete(place, condition=EXISTS), (gone + read,))
    yield RowCall("KeyValue/Write", place, _write(place), (write,))
    yield RowCall("KeyValue/Write", f"{place} gone", _deletes(place), (gone,))


def _pipelines() -> Iterator[RowCall]:
    for place in KEYS:
        operations = [
            kv.Operation(get=_get(place)),
            kv.Operation(put=_put("in")),
            kv.Operation(batch_get=kv.BatchGetRequest(keys=[KEYS["in"][1], KEYS["out"][1]])),
            kv.Operation(write=_write("in", only_if="out")),
            kv.Operation(write=_delete_range("cross*")),
            kv.Operation(delete=_delete(place)),
        ]
        needs = (
            (("r", place),),
            (("w", "in"),),
            (("r", "in"), ("r", "out")),
            (("w", "in"), ("r", "out")),
            (("d", "cross*"),),
            (("d", place),),
        )
        yield RowCall("KeyValue/Pipeline", place, kv.PipelineRequest(id=7, operations=operations), needs)


# --- administration ------------------------------------------------------------------------------------------------


class Asking:
    """Makes the request of one line for one role.

    let_in: the call is expected to be let through.
    """

    def __init__(self, stage: Stage, role: Role, line: Line, let_in: bool) -> None:
        self.stage = stage
        self.role = role
        self.line = line
        self.let_in = let_in

    def request(self) -> Any:
        """Return the request."""
        service, method = self.line.method.split("/")
        return getattr(self, f"{service.lower()}_{method}")()

    @property
    def what(self) -> str:
        """The target without the way it is named."""
        return self.line.target.removeprefix("@ ")

    def ref(self, *, state: str = "") -> spaces.NamespaceRef | None:
        """Return the namespace the line names; a victim in the wanted state where a call would change it."""
        target = self.what.split(",")[0]
        if not self.line.target.startswith("@"):
            return None
        victim = self.let_in and state and target in {"acme", "umbra"}
        name, number = self.stage.victim_namespace(state) if victim else self.stage.spaces[target]
        return spaces.NamespaceRef(name=name) if self.line.by_name else spaces.NamespaceRef(id=number)

    def namespaces_CreateNamespace(self) -> Any:
        fresh = self.stage.fresh("space")
        match self.what:
            case "new with a token":
                return spaces.CreateNamespaceRequest(name=fresh, guardian_token_ttl=HOUR)
            case "new with a member":
                first = spaces.FirstGuardian(name="first", password=PASSWORD)
                return spaces.CreateNamespaceRequest(name=fresh, guardian=first)
            case "taken name":
                return spaces.CreateNamespaceRequest(name="umbra")
            case "taken number":
                return spaces.CreateNamespaceRequest(name=fresh, id=self.stage.spaces["umbra"][1])
        return spaces.CreateNamespaceRequest(name=fresh)

    def namespaces_GetNamespace(self) -> Any:
        return spaces.GetNamespaceRequest(namespace=self.ref())

    def namespaces_ListNamespaces(self) -> Any:
        return spaces.ListNamespacesRequest(page_size=1000, include_dropped=self.what == "all")

    def namespaces_UpdateNamespace(self) -> Any:
        mask = FieldMask(paths=["name", "labels"])
        name = self.stage.fresh("renamed")
        return spaces.UpdateNamespaceRequest(namespace=self.ref(state="live"), name=name, update_mask=mask)

    def namespaces_SuspendNamespace(self) -> Any:
        return spaces.SuspendNamespaceRequest(namespace=self.ref(state="live"), state=spaces.NAMESPACE_STATE_SUSPENDED)

    def namespaces_ResumeNamespace(self) -> Any:
        return spaces.ResumeNamespaceRequest(namespace=self.ref(state="suspended"))

    def namespaces_BanNamespace(self) -> Any:
        return spaces.BanNamespaceRequest(namespace=self.ref(state="live"), grace=HOUR)

    def namespaces_UnbanNamespace(self) -> Any:
        return spaces.UnbanNamespaceRequest(namespace=self.ref(state="banned"))

    def namespaces_ReclaimReport(self) -> Any:
        return spaces.ReclaimReportRequest(namespace=self.ref(state="reclaimed"))

    def namespaces_WatchReclaim(self) -> Any:
        return spaces.WatchReclaimRequest(namespace=self.ref(state="reclaimed"))

    def auth_Exchange(self) -> Any:
        return auth.ExchangeRequest(namespace=self.ref())

    def auth_Login(self) -> Any:
        return auth.LoginRequest(namespace=self.stage.ref("acme"), user="visitor", password=PASSWORD)

    def auth_Refresh(self) -> Any:
        return auth.RefreshRequest(refresh_token=self.stage.victim_refresh_token())

    def auth_Logout(self) -> Any:
        return auth.LogoutRequest(refresh_token=self.stage.victim_refresh_token())

    def auth_WhoAmI(self) -> Any:
        return auth.WhoAmIRequest()

    def auth_ChangePassword(self) -> Any:
        return auth.ChangePasswordRequest(old_password=PASSWORD, new_password=PASSWORD)

    def auth_IssueToken(self) -> Any:
        guardian = {"guardian": auth.GUARDIAN_NAMESPACE, "cluster": auth.GUARDIAN_CLUSTER}
        return auth.IssueTokenRequest(
            subject=self.stage.fresh("service"),
            groups=["readers"],
            ttl=Duration(seconds=60),
            namespace=self.ref(),
            guardian=guardian.get(self.what.rpartition(", ")[2], auth.GUARDIAN_UNSPECIFIED),
        )

    def auth_ListTokens(self) -> Any:
        return auth.ListTokensRequest(namespace=self.ref())

    def auth_RevokeTokens(self) -> Any:
        where, _, scope = self.what.partition(", ")
        if where == "everyone":
            return auth.RevokeTokensRequest(everyone=True)
        target = self.role.where if where == "absent" else where
        if scope == "all":
            # A guardian's own tokens go with the rest: those calls are the last of the table.
            victim = "live" if target != self.role.where else ""
            return auth.RevokeTokensRequest(namespace=self.ref(state=victim), all=True)
        if scope == "subject":
            subject = self.stage.victim_token(target)[0] if self.let_in else "writer"
            return auth.RevokeTokensRequest(namespace=self.ref(), subject=subject)
        if scope == "jti":
            jti = (
                self.stage.victim_token(target)[1]
                if self.let_in
                else self.stage.jtis.get(target, self.stage.jtis["acme"])
            )
        else:
            jti = self.stage.jtis["umbra"] if scope.endswith("umbra") else "0" * 32
        return auth.RevokeTokensRequest(namespace=self.ref(), jti=jti)

    def auth_ListKeys(self) -> Any:
        return auth.ListKeysRequest()

    def auth_RotateKey(self) -> Any:
        return auth.RotateKeyRequest()

    def auth_RemoveKey(self) -> Any:
        if self.what == "unknown":
            return auth.RemoveKeyRequest(kid="0" * 16)
        return auth.RemoveKeyRequest(kid=self.stage.victim_key() if self.let_in else self.stage.first_key)

    def maintenance_Status(self) -> Any:
        return upkeep.StatusRequest()

    def maintenance_Compact(self) -> Any:
        return upkeep.CompactRequest(namespace=self.ref())

    def maintenance_ReadAudit(self) -> Any:
        return upkeep.ReadAuditRequest(newest=1)

    def transfer_Backup(self) -> Any:
        return [
            moving.BackupRequest(begin=moving.BackupBegin()),
            moving.BackupRequest(wanted=moving.BackupWanted(files=[0])),
        ]

    def transfer_ListBans(self) -> Any:
        return moving.ListBansRequest()

    def transfer_Export(self) -> Any:
        return moving.ExportRequest(namespace=self.ref(), members=self.what.endswith("members"))

    def transfer_RestoreNamespace(self) -> Any:
        name = "umbra" if self.what == "taken name" else self.stage.fresh("restored")
        begin = moving.RestoreNamespaceBegin(name=name, members=True)
        frames = (moving.RestoreNamespaceRequest(frame=frame) for frame in archive([KEYS["in"]]))
        return [moving.RestoreNamespaceRequest(begin=begin), *frames]

    def transfer_CloneNamespace(self) -> Any:
        return moving.CloneNamespaceRequest(source=self.ref(), name=self.stage.fresh("clone"), members=True)

    # --- members: ``own`` is what the caller's own namespace has, and the refused are aimed at what acme has ----------

    def member(self) -> str:
        """Return the name of the member a line means."""
        if self.what == "own":
            return self.stage.victim_member(self.role.where) if self.let_in else "writer"
        return {"of umbra": OTHER_MEMBER, "unknown": "nobody-here", "taken": "visitor"}.get(self.what, "")

    def group(self) -> str:
        """Return the name of the group a line means."""
        if self.what == "own":
            return self.stage.victim_group(self.role.where) if self.let_in else "inner"
        names = {"of umbra": OTHER_GROUP, "unknown": "nobody-here", "taken": "readers", "built in": "readers"}
        return names.get(self.what, "")

    def members_CreateMember(self) -> Any:
        name = self.member() or self.stage.fresh("member")
        match self.what:
            case "new with a password":
                return people.CreateMemberRequest(name=name, password=PASSWORD, groups=["readers"])
            case "with a privilege":
                return people.CreateMemberRequest(name=name, privileges=[auth.PRIVILEGE_NAMESPACES_EDIT])
            case "with an unknown group":
                return people.CreateMemberRequest(name=name, groups=["nobody-here"])
        return people.CreateMemberRequest(name=name)

    def members_GetMember(self) -> Any:
        return people.GetMemberRequest(name=self.member())

    def members_ListMembers(self) -> Any:
        return people.ListMembersRequest()

    def members_UpdateMember(self) -> Any:
        if self.what == "itself into guardians":
            name = self.stage.victim_member(self.role.where) if self.let_in else self.stage.member_of(self.role)
            mask = FieldMask(paths=["groups"])
            return people.UpdateMemberRequest(name=name, groups=["guardians"], update_mask=mask)
        mask = FieldMask(paths=["disabled", "groups"])
        return people.UpdateMemberRequest(name=self.member(), disabled=True, groups=["readers"], update_mask=mask)

    def members_DeleteMember(self) -> Any:
        return people.DeleteMemberRequest(name=self.member())

    def members_SetPassword(self) -> Any:
        return people.SetPasswordRequest(name=self.member(), password="quite another password")

    def members_CreateGroup(self) -> Any:
        name = self.group() or self.stage.fresh("group")
        return people.CreateGroupRequest(name=name, rules=[auth.Rule(read=True, write=True)])

    def members_GetGroup(self) -> Any:
        return people.GetGroupRequest(name=self.group())

    def members_ListGroups(self) -> Any:
        return people.ListGroupsRequest()

    def members_UpdateGroup(self) -> Any:
        return people.UpdateGroupRequest(name=self.group(), rules=[auth.Rule(read=True, write=True)])

    def members_DeleteGroup(self) -> Any:
        return people.DeleteGroupRequest(name=self.group())

    def members_SetGrant(self) -> Any:
        name = "nobody-here" if self.what == "unknown member" else self.granted()
        groups = ["guardians" if self.what == "into guardians" else "readers"]
        asked = {"namespace": self.ref()} if self.line.target.startswith("@") else {"all": True}
        return people.SetGrantRequest(member=name, effect=people.GRANT_EFFECT_ALLOW, groups=groups, **asked)

    def members_DeleteGrant(self) -> Any:
        name = self.granted() if self.what != "none" or not self.let_in else self.stage.victim_member("zero")
        if self.let_in and self.what in {"umbra", "all"}:
            self.stage.grant(name, self.what)
        asked = {"namespace": self.ref()} if self.line.target.startswith("@") else {"all": True}
        return people.DeleteGrantRequest(member=name, **asked)

    def members_ListGrants(self) -> Any:
        return people.ListGrantsRequest(member="guest-writer" if self.what == "of one" else "")

    def granted(self) -> str:
        """Return the member of namespace 0 whose grants a line is about; the caller itself where it is one."""
        return self.stage.victim_member("zero") if self.let_in else self.stage.member_of(self.role, home="zero")
