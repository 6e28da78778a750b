"""How each role of the table comes by its token: over the wire, the way it happens in life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prefixdb.catalog.entities import Guardian
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import members_pb2 as people
from tests.security.roles_stage import PASSWORD, Stage

Caller = Callable[[Stage], Awaitable[str | None]]

USE, EDIT, AUDIT = auth.PRIVILEGE_NAMESPACES_USE, auth.PRIVILEGE_NAMESPACES_EDIT, auth.PRIVILEGE_AUDIT
BACKUP = auth.PRIVILEGE_BACKUP


def named(role: str) -> str:
    """Return the name under which a role is a member."""
    return role.replace(" ", "-")


def member(role: str, where: str, *groups: str, privileges: tuple[int, ...] = ()) -> Caller:
    """Return how a member of a namespace gets its token."""

    async def enrol(stage: Stage) -> str:
        await stage.member(where, named(role), *groups, privileges=privileges)
        return (await stage.login(where, named(role)))[0]

    return enrol


def guest(role: str, into: str, target: str, *groups: str, privileges: tuple[int, ...] = ()) -> Caller:
    """Return how a member of namespace 0 gets into another one."""

    async def enrol(stage: Stage) -> str:
        await stage.member("zero", named(role), privileges=privileges)
        stage.grant(named(role), target, *groups)
        return (await stage.login("zero", named(role), into=into))[0]

    return enrol


async def guardian_away(stage: Stage) -> str:
    """A cluster guardian who uses a namespace as a guest."""
    await stage.member("zero", named("guest who guards the cluster at home"), "guardians")
    access = await guest("guest who guards the cluster at home", "acme", "acme", "readers")(stage)
    assert access is not None
    return access


def service(where: str, *groups: str, guardian: Guardian = Guardian.NONE) -> Caller:
    """Return how a service gets its token."""

    async def enrol(stage: Stage) -> str:
        return stage.server.token(stage.id_of(where), subject="service", groups=groups, guardian=guardian)

    return enrol


def minted(guardian: int, *groups: str) -> Caller:
    """Return how a cluster guardian's helper gets a token for acme."""

    async def enrol(stage: Stage) -> str:
        return await stage.mint(None, "acme", guardian, *groups)

    return enrol


def ended(role: str, where: str, end: Callable[[Stage, str, str], Awaitable[None]]) -> Caller:
    """Return how a guardian gets a token that somebody then ends; ``end(stage, name, refresh token)`` does it."""

    async def enrol(stage: Stage) -> str:
        await stage.member(where, named(role), "guardians")
        access, refresh = await stage.login(where, named(role))
        await end(stage, named(role), refresh)
        return access

    return enrol


# --- those who have a good token -----------------------------------------------------------------------------------


async def no_group_any_more(stage: Stage) -> str:
    """A member whose only group is deleted once it has its token."""
    role = "member whose group was deleted"
    if stage.app.authority.identities.members.get(stage.id_of("acme"), named(role)) is None:
        await stage.member("acme", named(role), "doomed")
        access, _ = await stage.login("acme", named(role))
        await stage.change("DeleteGroup", people.DeleteGroupRequest(name="doomed"), "acme")
        return access
    return (await stage.login("acme", named(role)))[0]


async def user_of_namespaces(stage: Stage) -> str:
    """A member of namespace 0 who may go to acme."""
    await stage.member("zero", "namespaces.use", privileges=(USE,))
    stage.grant("namespaces.use", "acme")
    return (await stage.login("zero", "namespaces.use"))[0]


# --- those who have not --------------------------------------------------------------------------------------------


async def no_token(stage: Stage) -> None:
    """Nobody at all."""


async def garbage(stage: Stage) -> str:
    """Three parts of nothing."""
    return "Z2FyYmFnZQ.Z2FyYmFnZQ.Z2FyYmFnZQ"


async def forged(stage: Stage) -> str:
    """A cluster guardian's token that another key signed."""
    return stage.server.forged_token(stage.app.registry.get(0), Guardian.CLUSTER)


async def expired(stage: Stage) -> str:
    """A token of yesterday."""
    return stage.server.expired_token(stage.app.registry.get(stage.id_of("acme")))


async def revoked(stage: Stage) -> str:
    """A guardian's service token, revoked by its subject."""
    token = stage.server.token(stage.id_of("acme"), subject="leaver", groups=(), guardian=Guardian.NAMESPACE)
    stage.app.authority.revoke_subject(stage.id_of("acme"), "leaver")
    return token


def refresh_token(where: str, role: str, *groups: str) -> Caller:
    """Return how somebody gets a refresh token, which opens nothing but Refresh and Logout."""

    async def enrol(stage: Stage) -> str:
        await stage.member(where, named(role), *groups)
        return (await stage.login(where, named(role)))[1]

    return enrol


def foreign(*groups: str) -> Caller:
    """Return how another issuer's client gets a token."""

    async def enrol(stage: Stage) -> str:
        return stage.foreign(*groups)

    return enrol


async def denied(stage: Stage) -> str:
    """A guest whom a denial hits once it is in."""
    access = await guest("denied guest", "acme", "all", "writers", privileges=(USE,))(stage)
    request = people.SetGrantRequest(
        member="denied-guest", namespace=stage.ref("acme"), effect=people.GRANT_EFFECT_DENY
    )
    await stage.change("SetGrant", request)
    assert access is not None
    return access


async def denied_everywhere(stage: Stage) -> str:
    """A guest with a grant for acme whom a denial of every namespace hits."""
    access = await guest("guest denied everywhere", "acme", "acme", "writers", privileges=(USE,))(stage)
    request = people.SetGrantRequest(member="guest-denied-everywhere", all=True, effect=people.GRANT_EFFECT_DENY)
    await stage.change("SetGrant", request)
    assert access is not None
    return access


async def ungranted(stage: Stage) -> str:
    """A guest whose grant is taken back once it is in."""
    access = await guest("guest without a grant any more", "acme", "acme", "writers", privileges=(USE,))(stage)
    request = people.DeleteGrantRequest(member="guest-without-a-grant-any-more", namespace=stage.ref("acme"))
    await stage.change("DeleteGrant", request)
    assert access is not None
    return access


async def minted_by_the_removed(stage: Stage) -> str:
    """A token that a cluster guardian minted before it was removed."""
    await stage.member("zero", "removed-root", "guardians")
    token = await stage.mint((await stage.login("zero", "removed-root"))[0], "acme", auth.GUARDIAN_NAMESPACE, "writers")
    await stage.change("DeleteMember", people.DeleteMemberRequest(name="removed-root"))
    return token


async def issued_with_the_minted(stage: Stage) -> str:
    """A token that was issued with one that a cluster guardian minted before it was removed."""
    await stage.member("zero", "former-root", "guardians")
    helper = await stage.mint((await stage.login("zero", "former-root"))[0], "acme", auth.GUARDIAN_NAMESPACE)
    token = await stage.mint(helper, "acme", auth.GUARDIAN_NAMESPACE, "writers")
    await stage.change("DeleteMember", people.DeleteMemberRequest(name="former-root"))
    return token


async def disable(stage: Stage, name: str, _: str) -> None:
    """End a token of acme by disabling its holder."""
    await stage.disable("acme", name)


async def disable_in_zero(stage: Stage, name: str, _: str) -> None:
    """End a token of namespace 0 by disabling its holder."""
    await stage.disable("zero", name)


async def remove(stage: Stage, name: str, _: str) -> None:
    """End a token by removing its holder."""
    await stage.change("DeleteMember", people.DeleteMemberRequest(name=name), "acme")


async def log_out(stage: Stage, _: str, refresh: str) -> None:
    """End a token by logging out."""
    await stage.well("Auth/Logout", auth.LogoutRequest(refresh_token=refresh), None)


async def set_password(stage: Stage, name: str, _: str) -> None:
    """End a token by a new password."""
    await stage.change("SetPassword", people.SetPasswordRequest(name=name, password=PASSWORD), "acme")


CALLERS: dict[str, Caller] = {
    "member of no group": member("member of no group", "acme"),
    "member whose group was deleted": no_group_any_more,
    "reader": member("reader", "acme", "readers"),
    "writer": member("writer", "acme", "writers"),
    "write-only member": member("write-only member", "acme", "droppers"),
    "member with a prefix": member("member with a prefix", "acme", "inner"),
    "member with two prefixes": member("member with two prefixes", "acme", "inner", "edges"),
    "reader who writes in one place": member("reader who writes in one place", "acme", "readers", "lobby"),
    "reader by token": service("acme", "readers"),
    "reader of another issuer": foreign("readers"),
    "writer of a read-only namespace": member("writer of a read-only namespace", "still", "writers"),
    "guardian": member("guardian", "acme", "guardians"),
    "guardian by token": service("acme", guardian=Guardian.NAMESPACE),
    "minted guardian": minted(auth.GUARDIAN_NAMESPACE),
    "minted reader": minted(auth.GUARDIAN_UNSPECIFIED, "readers"),
    "guest who reads": guest("guest who reads", "acme", "acme", "readers"),
    "guest who writes": guest("guest who writes", "acme", "acme", "writers", privileges=(USE,)),
    "guest with a prefix": guest("guest with a prefix", "acme", "acme", "inner"),
    "guest of a group that is not there": guest("guest of a group that is not there", "acme", "acme", "nobody-here"),
    "guest who guards the cluster at home": guardian_away,
    "guest by wildcard": guest("guest by wildcard", "acme", "all", "readers", privileges=(USE, EDIT, AUDIT, BACKUP)),
    "member of 0": member("member of 0", "zero", "readers"),
    "namespaces.use": user_of_namespaces,
    "namespaces.edit": member("namespaces.edit", "zero", privileges=(EDIT,)),
    "backup": member("backup", "zero", privileges=(BACKUP,)),
    "audit": member("audit", "zero", privileges=(AUDIT,)),
    "guardian of 0 by token": service("zero", guardian=Guardian.NAMESPACE),
    "cluster guardian": member("cluster guardian", "zero", "guardians"),
    "cluster guardian by token": service("zero", "guardians", guardian=Guardian.CLUSTER),
    "no token": no_token,
    "garbage for a token": garbage,
    "forged cluster guardian": forged,
    "refresh token": refresh_token("acme", "refresh token", "guardians"),
    "refresh token of a cluster guardian": refresh_token("zero", "refresh token of a cluster guardian", "guardians"),
    "member of an earlier issue": member("member of an earlier issue", "again", "guardians"),
    "guest of an earlier issue": guest("guest of an earlier issue", "again", "all", "writers", privileges=(USE,)),
    "writer of another issuer that may not": foreign("readers", "writers"),
    "expired token": expired,
    "revoked token": revoked,
    "disabled guardian": ended("disabled guardian", "acme", disable),
    "removed guardian": ended("removed guardian", "acme", remove),
    "logged out guardian": ended("logged out guardian", "acme", log_out),
    "guardian with a new password": ended("guardian with a new password", "acme", set_password),
    "minted by a removed guardian": minted_by_the_removed,
    "issued with what a removed guardian minted": issued_with_the_minted,
    "disabled cluster guardian": ended("disabled cluster guardian", "zero", disable_in_zero),
    "denied guest": denied,
    "guest denied everywhere": denied_everywhere,
    "guest without a grant any more": ungranted,
    "guardian of a suspended namespace": member("guardian of a suspended namespace", "shut", "guardians"),
    "guest of a suspended namespace": guest("guest of a suspended namespace", "shut", "shut", "writers"),
    "guardian of a banned namespace": member("guardian of a banned namespace", "gone", "guardians"),
    "guest of a banned namespace": guest("guest of a banned namespace", "gone", "gone", "writers"),
}
