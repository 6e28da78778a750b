"""One good token of every kind there is, each with the forge that made it and the judge it is meant for.

Extends ``forging``: what an attacker with every tool but the key could send, and what a careless issuer with the key
could send, also for tokens of logins, refresh tokens and those of other issuers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prefixdb.catalog.entities import GrantEffect, Guardian, LoginRecord, MemberRecord, NamespaceIssue
from prefixdb.catalog.tokens import TokenRequest
from tests.security.forging import MISSING, Forge, encodable, merged, raw, unb64
from tests.security.forging_issuers import OtherIssuer, write_issuers
from tests.support.catalog import World

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
"""Looks like a password's hash; nobody compares anything with it here."""


@dataclass
class Kind:
    """token: a good one. judge: what it is meant for; raises what it refuses. forge: makes the likes of it."""

    token: str
    judge: Callable[[str], Any]
    forge: Forge


class LikeForge(Forge):
    """Makes tokens that differ from a given good one, with our own key or another."""

    def __init__(self, world: World, namespace_id: int, token: str) -> None:
        super().__init__(world, namespace_id)
        self._header, self._payload = [json.loads(unb64(part)) for part in token.split(".")[:2]]
        self.kid = self._header["kid"]

    def header(self, **changes: Any) -> dict[str, Any]:
        return merged(self._header, changes)

    def payload(self, **changes: Any) -> dict[str, Any]:
        return merged(self._payload, changes)


class ForeignForge(LikeForge):
    """The same with the key of another issuer."""

    def __init__(self, world: World, namespace_id: int, token: str, issuer: OtherIssuer) -> None:
        super().__init__(world, namespace_id, token)
        key = serialization.load_pem_private_key(issuer.key.as_pem(private=True), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        self.key = key


class Crowd:
    """A world in which everybody has a token: see ``kinds``."""

    def __init__(self, directory: Path) -> None:
        files = directory / "issuers"
        files.mkdir()
        self.issuer = OtherIssuer(files)
        data_dir = directory / "data"
        data_dir.mkdir()
        self.world = world = World(data_dir, write_issuers(files / "issuers.toml", self.issuer))
        self.acme = world.registry.create("acme", namespace_id=7)
        self.beta = world.registry.create("beta", namespace_id=8)
        self.home = world.registry.get(0)
        assert self.home is not None
        identities = world.authority.identities
        self.ann = identities.members.create(7, "ann", password_hash=HASH, groups=("readers",))
        self.gus = identities.members.create(0, "gus", password_hash=HASH)
        identities.grants.set("gus", self.acme, GrantEffect.ALLOW, ("readers",))
        self.ann_login = self.login(7, self.ann)
        self.gus_login = self.login(0, self.gus)

    def login(self, home_id: int, member: MemberRecord) -> LoginRecord:
        home = self.world.registry.get(home_id)
        assert home is not None
        into = NamespaceIssue(home.id, home.incarnation)
        return self.world.authority.identities.logins.begin(home_id, member, into)

    def kinds(self) -> dict[str, Kind]:
        world, authority = self.world, self.world.authority
        root = world.cluster_guardian()
        assert self.home is not None
        member = authority.access_token(self.ann_login, self.ann, self.acme, self.acme).token
        guest = authority.access_token(self.gus_login, self.gus, self.home, self.acme).token
        service = world.local(7, "robot", groups=("readers",), guardian=Guardian.NAMESPACE)
        minted, _ = authority.issue(TokenRequest(7, "help", ("readers",), ttl_s=600), root)
        refresh = authority.refresh_token(self.ann_login, self.acme).token
        foreign = self.issuer.token(world, 7)
        made = {"member": member, "guest": guest, "service": service, "minted": minted}
        kinds = {name: Kind(token, authority.verify, LikeForge(world, 7, token)) for name, token in made.items()}
        kinds["refresh"] = Kind(refresh, authority.read_refresh, LikeForge(world, 7, refresh))
        kinds["foreign"] = Kind(foreign, authority.verify, ForeignForge(world, 7, foreign, self.issuer))
        return kinds


def wrong_claims(name: str, f: Forge) -> dict[str, Callable[[], str]]:
    """Return tokens of one kind, signed with the good key, whose claims must not be accepted."""
    made = {"member": of_members, "guest": of_guests, "refresh": of_refresh, "foreign": of_foreign}[name](f)
    claims = {what: f.payload(**change) if isinstance(change, dict) else change for what, change in made.items()}
    return {what: (lambda one=one: f.sign(f.header(), encodable(one))) for what, one in claims.items()}


def of_logins(f: Forge) -> dict[str, Any]:
    """Return changes that no token of a login may have."""
    start = f.payload()["iat"]
    return {
        **{
            f"fam {value!r:.30}": {"fam": value}
            for value in ("", "x" * 65, "a/b", "a b", "é", "a\0", None, 7, True, ["a"], {})
        },
        **{f"mint {value!r}": {"mint": value} for value in ("root", "", None)},
        "admin": {"admin": True},
        "iss of another": {"iss": "https://login.example.org"},
        "aud of another": {"aud": "other"},
        "no expiry": {"exp": MISSING},
        "expired before it began": {"exp": start},
        "from the future": {"iat": start + 60, "exp": start + 120},
        "rev missing": {"rev": MISSING},
        "inc of another issue": {"inc": "1"},
        "ns a number": {"ns": f.namespace_id},
        "ns of nobody": {"ns": "99"},
        "a second fam": raw(f.payload())[:-1] + b',"fam":"other"}',
        "a second typ": raw(f.payload())[:-1] + b',"typ":"access"}',
        "a second sub, escaped": raw(f.payload())[:-1] + b',"su\\u0062":"root"}',
    }


def of_members(f: Forge) -> dict[str, Any]:
    start = f.payload()["iat"]
    return {
        **of_logins(f),
        **{f"home {value!r:.30}": {"home": value} for value in ("7", "1", "", "00", 0, None, False, ["0"], "default")},
        "typ refresh": {"typ": "refresh"},
        "typ Access": {"typ": "Access"},
        "typ missing": {"typ": MISSING},
        "a lifetime of service tokens": {"exp": start + 901},
        "a lifetime of refresh tokens": {"exp": start + 7 * 24 * 3600},
        "cluster guardian of a tenant": {"guardian": "cluster"},
        "at home in namespace 0, in namespace 0": {"ns": "0", "inc": "1", "home": "0"},
    }


def of_guests(f: Forge) -> dict[str, Any]:
    return {
        **of_members(f),
        "guardian": {"guardian": "namespace"},
        "cluster guardian": {"guardian": "cluster"},
        "without fam": {"fam": MISSING},
        "minted, without fam": {"fam": MISSING, "mint": "root"},
        "in namespace 0": {"ns": "0", "inc": "1"},
    }


def of_refresh(f: Forge) -> dict[str, Any]:
    start = f.payload()["iat"]
    return {
        **of_logins(f),
        "typ access": {"typ": "access", "exp": start + 900},
        "typ access for as long": {"typ": "access"},
        "typ missing": {"typ": MISSING},
        "groups": {"groups": ["readers"]},
        "groups missing": {"groups": MISSING},
        "guardian": {"guardian": "namespace"},
        "home": {"home": "0"},
        "without fam": {"fam": MISSING},
        "too long": {"exp": start + 7 * 24 * 3600 + 1},
        "jti empty": {"jti": ""},
        "sub empty": {"sub": ""},
    }


def of_foreign(f: Forge) -> dict[str, Any]:
    start = f.payload()["iat"]
    return {
        **{f"{name} missing": {name: MISSING} for name in f.payload()},
        **{f"{name} null": {name: None} for name in f.payload()},
        **{
            f"{name} said": {name: value}
            for name, value in (
                *(("guardian", value) for value in ("namespace", "cluster", "", None)),
                *(("mint", "root"), ("fam", "a"), ("home", "0"), ("rev", "0"), ("rev", "99999999")),
            )
        },
        **{f"iss {iss!r}": {"iss": iss} for iss in ("prefixdb", "", "https://login.example.org/", 7, ["prefixdb"])},
        **{f"aud {aud!r}": {"aud": aud} for aud in ("", "other", [], ["other"], ["prefixdb", 7], {"prefixdb": 1}, 7)},
        **{f"sub {sub!r:.30}": {"sub": sub} for sub in ("", "x" * 124, "a\nb", "\u202eadmin", "\ud800", 7, ["zoe"])},
        **{f"jti {jti!r:.30}": {"jti": jti} for jti in ("", "x" * 129, "a b", "a\n", "é", 7)},
        **{f"ns {ns!r}": {"ns": ns} for ns in (7, 7.0, "07", " 7", "+7", "8", "0", "99", "", str(2**64 + 7))},
        **{f"inc {inc!r}": {"inc": inc} for inc in (1, "1", "", "01", str(2**64))},
        **{
            f"groups {groups!r}": {"groups": groups}
            for groups in (["guardians"], ["writers"], ["readers", "writers"], "readers", ["readers"] * 2, [7], {})
        },
        **{f"typ {typ!r}": {"typ": typ} for typ in ("refresh", "JWT", "Access", 7)},
        **{f"iat {iat!r}": {"iat": iat} for iat in (start + 31, float(start), str(start), -1, True)},
        **{f"nbf {nbf!r}": {"nbf": nbf} for nbf in (start + 31, float(start), str(start), -1, True, None)},
        **{
            f"exp {exp!r}": {"exp": exp}
            for exp in (start, start + 24 * 3600 + 1, float(start + 9), str(start + 9), True)
        },
        "a second sub": raw(f.payload())[:-1] + b',"sub":"root"}',
        "a second ignored claim": raw(f.payload())[:-1] + b',"x":1,"x":2}',
    }


ALLOWED_HEADERS_OF_FOREIGN = frozenset({"typ missing", "typ in small letters", "typ of another kind"})
"""What other issuers may leave out or say, and we never do."""
