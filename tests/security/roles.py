"""Who there is and who may do what, by hand: the oracle of the table of roles.

It is written from docs/security.md and the comments of the .proto files and shares nothing with the policy: a role is a
name, a few letters of power and what it may do at each place of the rows; the table of administration says for each
method and target which letters are let through, and what with. Whatever is not said here is NOT_PERMITTED.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prefixdb.errors import Reason

KEYS = {"in": (0, b"in/1"), "out": (0, b"out/1"), "edge": (0, b"in0"), "short": (0, b"in"), "db1": (1, b"in/1")}
"""Places of single rows: under the rule's prefix, elsewhere, just behind it, a prefix of it, and in database 1."""

RANGES: dict[str, tuple[int, dict[str, bytes]]] = {
    "in*": (0, {"prefix": b"in/"}),
    "cross*": (0, {"start": b"in/", "end": b"in0\0"}),
    "tail*": (0, {"start": b"in/"}),
    "whole*": (0, {}),
    "db1*": (1, {"prefix": b"in/"}),
}
"""Places of ranges; the second and third begin under the rule's prefix and end behind it, or nowhere."""

PLACES = (*KEYS, *RANGES)

ROWS = {0: (b"in", b"in/1", b"in/2", b"in0", b"out/1"), 1: (b"in/1", b"out/1")}
"""Database to keys, the same in every namespace; values differ."""

FOUND = {
    "in*": (b"in/1", b"in/2"),
    "cross*": (b"in/1", b"in/2", b"in0"),
    "tail*": (b"in/1", b"in/2", b"in0", b"out/1"),
    "whole*": (b"in", b"in/1", b"in/2", b"in0", b"out/1"),
    "db1*": (b"in/1",),
}
"""What lies in each range."""


@dataclass(frozen=True, slots=True)
class Role:
    """Somebody who calls.

    where: the namespace its token is for.
    powers: letters. a: guardian of acme. z: guardian of namespace 0 by a service token, which is less than a cluster's.
        c: cluster guardian. e, s, u, b: privileges namespaces.edit, namespaces.use, audit, backup. l: logged in with a
        password.
    rows: place to rights: r read, w write and delete, d delete alone, because the namespace is read-only.
    reach: namespaces an Exchange gives a token for.
    sees: what ListNamespaces shows.
    refused: why every call that needs a token is refused.
    """

    name: str
    where: str = "acme"
    powers: str = ""
    rows: dict[str, str] | None = None
    reach: str = ""
    sees: tuple[str, ...] = ("acme",)
    groups: tuple[str, ...] = ()
    refused: Reason | None = None

    @property
    def letters(self) -> set[str]:
        """The powers, and what follows from rows: r reads all of its namespace; m and h when that is acme or 0."""
        all_rows = all("r" in (self.rows or {}).get(place, "") for place in PLACES)
        return set(self.powers) | ({"r", {"acme": "m", "zero": "h"}.get(self.where, "r")} if all_rows else set())

    def has(self, right: str, place: str) -> bool:
        """True when it may read (r), write (w) or delete (d) at a place, or anywhere."""
        rows = self.rows or {}
        held = "".join(rows.values()) if place == "anywhere" else rows.get(place, "")
        return right in held or (right == "d" and "w" in held)


def everywhere(rights: str) -> dict[str, str]:
    """Return the same rights for every place."""
    return dict.fromkeys(PLACES, rights)


PREFIX = {"in": "rw", "in*": "rw"}
MIXED = everywhere("r") | {"db1": "rw", "db1*": "rw"}
TWO = {"in": "rw", "in*": "rw", "edge": "rw"}
"""Two rules side by side: each key of the crossing range is under one of them, the range under neither."""

NO, RO, RW, WO, RD = {}, everywhere("r"), everywhere("rw"), everywhere("w"), everywhere("rd")
HOME = ("default",)
BOTH = ("acme", "default")
LIVE, ALL = ("every live one",), ("everything",)

GOOD = (
    Role("member of no group", powers="l"),
    Role("member whose group was deleted", powers="l"),
    Role("reader", powers="l", rows=RO, groups=("readers",)),
    Role("writer", powers="l", rows=RW, groups=("writers",)),
    Role("write-only member", powers="l", rows=WO, groups=("droppers",)),
    Role("member with a prefix", powers="l", rows=PREFIX, groups=("inner",)),
    Role("member with two prefixes", powers="l", rows=TWO, groups=("inner", "edges")),
    Role("reader who writes in one place", powers="l", rows=MIXED, groups=("readers", "lobby")),
    Role("reader by token", rows=RO, groups=("readers",)),
    Role("reader of another issuer", rows=RO, groups=("readers",)),
    Role("writer of a read-only namespace", "still", powers="l", rows=RD, sees=("still",), groups=("writers",)),
    Role("guardian", powers="al", rows=RW, groups=("guardians",)),
    Role("guardian by token", powers="a"),
    Role("minted guardian", powers="a"),
    Role("minted reader", rows=RO, groups=("readers",)),
    Role("guest who reads", powers="l", rows=RO, reach="zero", sees=BOTH, groups=("readers",)),
    Role("guest who writes", powers="l", rows=RW, reach="zero acme", sees=BOTH, groups=("writers",)),
    Role("guest with a prefix", powers="l", rows=PREFIX, reach="zero", sees=BOTH, groups=("inner",)),
    Role("guest of a group that is not there", powers="l", reach="zero", sees=BOTH, groups=("nobody-here",)),
    Role("guest who guards the cluster at home", powers="l", rows=RO, reach="zero", sees=BOTH, groups=("readers",)),
    Role("guest by wildcard", powers="l", rows=RO, reach="zero acme umbra", sees=LIVE, groups=("readers",)),
    Role("member of 0", "zero", powers="l", rows=RO, reach="zero", sees=HOME, groups=("readers",)),
    Role("namespaces.use", "zero", powers="ls", reach="zero acme", sees=BOTH),
    Role("namespaces.edit", "zero", powers="le", reach="zero", sees=ALL),
    Role("audit", "zero", powers="lu", reach="zero", sees=HOME),
    Role("backup", "zero", powers="lb", reach="zero", sees=HOME),
    Role("guardian of 0 by token", "zero", powers="z", sees=HOME),
    Role("cluster guardian", "zero", powers="cl", rows=RW, reach="zero", sees=ALL, groups=("guardians",)),
    Role("cluster guardian by token", "zero", powers="c", rows=RW, sees=ALL, groups=("guardians",)),
)

BAD = tuple(
    Role(name, refused=refused)
    for refused, names in {
        Reason.TOKEN_MISSING: ("no token",),
        Reason.TOKEN_INVALID: (
            "garbage for a token",
            "forged cluster guardian",
            "refresh token",
            "refresh token of a cluster guardian",
            "member of an earlier issue",
            "guest of an earlier issue",
            "writer of another issuer that may not",
        ),
        Reason.TOKEN_EXPIRED: ("expired token",),
        Reason.TOKEN_REVOKED: (
            "revoked token",
            "disabled guardian",
            "removed guardian",
            "logged out guardian",
            "guardian with a new password",
            "minted by a removed guardian",
            "issued with what a removed guardian minted",
            "disabled cluster guardian",
        ),
        Reason.NOT_PERMITTED: ("denied guest", "guest denied everywhere", "guest without a grant any more"),
        Reason.NAMESPACE_SUSPENDED: ("guardian of a suspended namespace", "guest of a suspended namespace"),
        Reason.NAMESPACE_BANNED: ("guardian of a banned namespace", "guest of a banned namespace"),
    }.items()
    for name in names
)

ROLES = GOOD + BAD

ANONYMOUS = {
    "reader": Role("anonymous reader", "zero", rows=RO, sees=HOME, groups=("readers",)),
    "writer": Role("anonymous writer", "zero", rows=RW, sees=HOME, groups=("writers",)),
}
"""What callers without any token are by the setting; by the default of it there are none."""

ADMINISTRATION = """
Namespaces/CreateNamespace   new name                  ce
Namespaces/CreateNamespace   new with a token          ce
Namespaces/CreateNamespace   new with a member         ce
Namespaces/CreateNamespace   taken name                ce!NAMESPACE_EXISTS
Namespaces/CreateNamespace   taken number              ce!NAMESPACE_EXISTS
Namespaces/GetNamespace      absent                    azce
Namespaces/GetNamespace      @ acme                    ace
Namespaces/GetNamespace      @ umbra                   ce
Namespaces/GetNamespace      @ zero                    zce
Namespaces/GetNamespace      @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/ListNamespaces    live                      *
Namespaces/ListNamespaces    all                       *
Namespaces/UpdateNamespace   @ acme                    ce
Namespaces/UpdateNamespace   @ umbra                   ce
Namespaces/UpdateNamespace   @ zero                    ce!NAMESPACE_PROTECTED
Namespaces/UpdateNamespace   @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/SuspendNamespace  @ acme                    ce
Namespaces/SuspendNamespace  @ umbra                   ce
Namespaces/SuspendNamespace  @ zero                    ce!NAMESPACE_PROTECTED
Namespaces/SuspendNamespace  @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/ResumeNamespace   @ acme                    ce
Namespaces/ResumeNamespace   @ umbra                   ce
Namespaces/ResumeNamespace   @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/BanNamespace      @ acme                    ce
Namespaces/BanNamespace      @ umbra                   ce
Namespaces/BanNamespace      @ zero                    ce!NAMESPACE_PROTECTED
Namespaces/BanNamespace      @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/UnbanNamespace    @ acme                    ce
Namespaces/UnbanNamespace    @ umbra                   ce
Namespaces/UnbanNamespace    @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/ReclaimReport     @ acme                    ce
Namespaces/ReclaimReport     @ umbra                   ce
Namespaces/ReclaimReport     @ zero                    ce!REPORT_NOT_FOUND
Namespaces/ReclaimReport     @ unknown                 ce!NAMESPACE_NOT_FOUND
Namespaces/WatchReclaim      @ acme                    ce
Namespaces/WatchReclaim      @ umbra                   ce
Namespaces/WatchReclaim      @ zero                    ce!REPORT_NOT_FOUND
Namespaces/WatchReclaim      @ unknown                 ce!NAMESPACE_NOT_FOUND
Auth/WhoAmI                  itself                    *
Auth/ChangePassword          own                       l
Auth/IssueToken              absent                    azc
Auth/IssueToken              @ acme                    ac
Auth/IssueToken              @ umbra                   c
Auth/IssueToken              @ zero                    zc
Auth/IssueToken              @ unknown                 c!NAMESPACE_NOT_FOUND
Auth/IssueToken              absent, guardian          azc
Auth/IssueToken              absent, cluster           c
Auth/IssueToken              @ acme, cluster           -
Auth/IssueToken              @ zero, cluster           c
Auth/ListTokens              absent                    azc
Auth/ListTokens              @ acme                    ac
Auth/ListTokens              @ umbra                   c
Auth/ListTokens              @ zero                    zc
Auth/ListTokens              @ unknown                 c!NAMESPACE_NOT_FOUND
Auth/RevokeTokens            absent, jti               ac
Auth/RevokeTokens            @ acme, jti               ac
Auth/RevokeTokens            @ umbra, jti              c
Auth/RevokeTokens            @ zero, jti               c
Auth/RevokeTokens            @ unknown, jti            c!NAMESPACE_NOT_FOUND
Auth/RevokeTokens            absent, jti of umbra      ac!TOKEN_NOT_FOUND
Auth/RevokeTokens            absent, jti of nobody     ac!TOKEN_NOT_FOUND
Auth/RevokeTokens            absent, subject           ac
Auth/RevokeTokens            @ acme, subject           ac
Auth/RevokeTokens            @ umbra, subject          c
Auth/RevokeTokens            @ zero, subject           c
Auth/RevokeTokens            @ unknown, subject        c!NAMESPACE_NOT_FOUND
Auth/RevokeTokens            absent, all               ac
Auth/RevokeTokens            @ acme, all               ac
Auth/RevokeTokens            @ umbra, all              c
Auth/RevokeTokens            @ zero, all               c
Auth/RevokeTokens            @ unknown, all            c!NAMESPACE_NOT_FOUND
Auth/RevokeTokens            everyone                  c
Auth/ListKeys                all                       c
Auth/RotateKey               new                       c
Auth/RemoveKey               retired                   c
Auth/RemoveKey               unknown                   c!SIGNING_KEY_NOT_FOUND
Members/CreateMember         new                       ac
Members/CreateMember         new with a password       ac
Members/CreateMember         taken                     ac!MEMBER_EXISTS
Members/CreateMember         of umbra                  ac
Members/CreateMember         with a privilege          a!BAD_FIELD c
Members/CreateMember         with an unknown group     ac!GROUP_NOT_FOUND
Members/GetMember            own                       ac
Members/GetMember            of umbra                  ac!MEMBER_NOT_FOUND
Members/GetMember            unknown                   ac!MEMBER_NOT_FOUND
Members/ListMembers          all                       ac
Members/UpdateMember         own                       ac
Members/UpdateMember         of umbra                  ac!MEMBER_NOT_FOUND
Members/UpdateMember         unknown                   ac!MEMBER_NOT_FOUND
Members/UpdateMember         itself into guardians     ac
Members/DeleteMember         own                       ac
Members/DeleteMember         of umbra                  ac!MEMBER_NOT_FOUND
Members/DeleteMember         unknown                   ac!MEMBER_NOT_FOUND
Members/SetPassword          own                       ac
Members/SetPassword          of umbra                  ac!MEMBER_NOT_FOUND
Members/SetPassword          unknown                   ac!MEMBER_NOT_FOUND
Members/CreateGroup          new                       ac
Members/CreateGroup          taken                     ac!GROUP_EXISTS
Members/CreateGroup          of umbra                  ac
Members/GetGroup             own                       ac
Members/GetGroup             of umbra                  ac!GROUP_NOT_FOUND
Members/GetGroup             unknown                   ac!GROUP_NOT_FOUND
Members/ListGroups           all                       ac
Members/UpdateGroup          own                       ac
Members/UpdateGroup          built in                  ac!GROUP_BUILT_IN
Members/UpdateGroup          of umbra                  ac!GROUP_NOT_FOUND
Members/UpdateGroup          unknown                   ac!GROUP_NOT_FOUND
Members/DeleteGroup          own                       ac
Members/DeleteGroup          built in                  ac!GROUP_BUILT_IN
Members/DeleteGroup          of umbra                  ac!GROUP_NOT_FOUND
Members/DeleteGroup          unknown                   ac!GROUP_NOT_FOUND
Members/SetGrant             @ umbra                   c
Members/SetGrant             @ acme                    c
Members/SetGrant             @ unknown                 c!NAMESPACE_NOT_FOUND
Members/SetGrant             all                       c
Members/SetGrant             unknown member            c!MEMBER_NOT_FOUND
Members/SetGrant             into guardians            c!BAD_FIELD
Members/DeleteGrant          @ umbra                   c
Members/DeleteGrant          @ unknown                 c!NAMESPACE_NOT_FOUND
Members/DeleteGrant          all                       c
Members/DeleteGrant          none                      c!GRANT_NOT_FOUND
Members/ListGrants           all                       c
Members/ListGrants           of one                    c
Maintenance/Status           itself                    c
Maintenance/Compact          absent                    c
Maintenance/Compact          @ acme                    c
Maintenance/Compact          @ umbra                   c
Maintenance/Compact          @ unknown                 c!NAMESPACE_NOT_FOUND
Maintenance/ReadAudit        newest                    cu
Transfer/Backup              everything                cb
Transfer/ListBans            all                       cb
Transfer/Export              absent                    racb
Transfer/Export              absent, members           acb
Transfer/Export              @ acme                    macb
Transfer/Export              @ umbra                   cb
Transfer/Export              @ zero                    hcb
Transfer/Export              @ unknown                 cb!NAMESPACE_NOT_FOUND
Transfer/RestoreNamespace    new name                  ce
Transfer/RestoreNamespace    taken name                ce!NAMESPACE_EXISTS
Transfer/CloneNamespace      @ acme                    ce
Transfer/CloneNamespace      @ umbra                   ce
Transfer/CloneNamespace      @ zero                    c
Transfer/CloneNamespace      @ unknown                 ce!NAMESPACE_NOT_FOUND
"""
"""Method, target, who: letters of power that are let through, with a reason those whose answer is another refusal,
which only they may know. ``*`` is whoever has a good token. A target with @ is named by its number and by its name."""

EXCHANGES = ("@ zero", "@ acme", "@ umbra", "@ unknown")
"""Targets of Exchange; ``Role.reach`` says who gets where."""

CREDENTIALS = ("Auth/Login", "Auth/Refresh", "Auth/Logout")
"""Whoever has the right password or refresh token; what token comes along makes no difference."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table, for one way to name its target."""

    method: str
    target: str
    by_name: bool
    who: tuple[tuple[str, Reason | None], ...]

    def answer(self, role: Role) -> Reason | None:
        """Return how the role's call ends, None for well."""
        if role.refused is not None:
            return role.refused
        for letters, reason in self.who:
            if letters == "*" or set(letters) & role.letters:
                return reason
        return Reason.NOT_PERMITTED


def lines() -> Iterator[Line]:
    """Yield every line of the table of administration, twice where its target can be named in two ways."""
    for text in ADMINISTRATION.strip().splitlines():
        method, rest = text.split(maxsplit=1)
        target, who = rest[:26].strip(), rest[26:].split()
        parsed = tuple((part.split("!")[0], Reason[part.split("!")[1]] if "!" in part else None) for part in who)
        for by_name in (False, True) if target.startswith("@") else (False,):
            yield Line(method, target, by_name, parsed)
