"""Other issuers whose tokens are accepted: who they are, what they may say, and the keys they sign with.

    [[issuer]]
    name = "okta"                       subjects become "okta:SUB"; letters, digits and ._-, at most 32
    iss = "https://example.okta.com"    the claim iss, exactly
    jwks = "okta.json"                  the issuer's public keys; relative to this file
    namespaces = ["acme", "id:5"]       it may make tokens for; names mean whoever has the name at the time
    groups = ["readers"]                it may put somebody into; never guardians
    algorithms = ["EdDSA"]              default ["EdDSA", "ES256", "RS256"]; "HS256" too when said
    audience = "prefixdb"               the claim aud; this is the default

``reload`` reads everything again and is to be called every few seconds, off the event loop. It compares contents, not
times of files, for two writes within one tick of the clock look alike from outside. What cannot be used changes
nothing: a broken set leaves that issuer's last good keys, a broken TOML file leaves all as it was, and ``problems``
says what is wrong until it is mended. A key that was taken out of a good set is gone with the reload. Looking up a key
reads memory only: a storm of unknown key ids costs nobody a file.

Threads: look-ups take no lock and see one state or the next; reloads are serialised.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prefixdb.catalog.claims import AUDIENCE, ISSUER, Claims, is_decimal
from prefixdb.catalog.compact import ALGORITHMS
from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.jwks import JWKS_BYTES_MAX, ForeignKey, KeySetError, read_key_set
from prefixdb.catalog.names import is_name
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.errors import Reason, error
from prefixdb.limits import NAMESPACE_ID_MAX

ISSUERS_MAX = 100
"""Issuers of one file; each is a file that is read every few seconds."""

TOML_BYTES_MAX = 1024 * 1024
"""Largest file of issuers."""

_NAME_CHARS_MAX = 32
_TEXT_CHARS_MAX = 512
_DEFAULT_ALGORITHMS = ("EdDSA", "ES256", "RS256")
_REQUIRED = frozenset({"name", "iss", "jwks", "namespaces", "groups"})
_OPTIONAL = frozenset({"algorithms", "audience"})
_ID_PREFIX = "id:"

_log = logging.getLogger(__name__)


class SettingsError(Exception):
    """The file of issuers cannot be used; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One other issuer as it is now.

    jwks: absolute path of the key set. names, ids: of namespaces it may make tokens for.
    keys: by id; empty while no good set was ever read.
    """

    name: str
    iss: str
    audience: str
    jwks: Path
    names: frozenset[str]
    ids: frozenset[int]
    groups: frozenset[str]
    algorithms: frozenset[str]
    keys: Mapping[str, ForeignKey] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def covers(self, namespace: NamespaceRecord) -> bool:
        """True when the issuer may make tokens for the namespace, by its number or the name it has now."""
        return namespace.id in self.ids or namespace.name in self.names

    def print_of(self, key: ForeignKey) -> bytes:
        """Return what a token was verified with: the key, and whom it was believed to speak for and to."""
        return hashlib.sha256(key.print + f"{self.iss}\0{self.audience}".encode()).digest()


class Issuers:
    """The issuers of one file."""

    def __init__(self, path: Path) -> None:
        """Read everything. A key set that cannot be used is a problem to be told; the file itself must be good.

        Raises:
            InvalidArgumentError: BAD_FIELD (auth.issuers), there is no last good state to fall back on.
        """
        self._path = path
        self._changes = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._issuers: Mapping[str, Issuer] = MappingProxyType({})
        self._problems: tuple[str, ...] = ()
        self._version = 0
        try:
            settings = read_settings(_read(path, TOML_BYTES_MAX), path.parent)
        except (SettingsError, OSError) as problem:
            message = f"auth.issuers: {path} cannot be used: {_sentence(problem)}."
            raise error(Reason.BAD_FIELD, message, metadata={"field": "auth.issuers"}) from None
        problems: list[str] = []
        self._issuers = self._with_keys(settings, problems)
        self._tell(problems)

    def __repr__(self) -> str:
        return f"Issuers({len(self._issuers)})"

    @property
    def version(self) -> int:
        """A number that grows with every change of issuers or keys."""
        return self._version

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, a sentence each; empty when all is well."""
        return self._problems

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called after every change, in the thread that reloads."""
        self._listeners.append(listener)

    def get(self, iss: str) -> Issuer | None:
        """Return the issuer whose tokens have this ``iss``, or None."""
        return self._issuers.get(iss)

    def find(self, iss: str, kid: str) -> ForeignKey | None:
        """Return the key of that issuer, which is bound to one algorithm, or None. Memory only."""
        issuer = self._issuers.get(iss)
        return issuer.keys.get(kid) if issuer is not None else None

    def vouches(self, claims: Claims, namespace: NamespaceRecord) -> bool:
        """True when a token that was verified earlier would be again: the same key, namespace and groups allowed."""
        for issuer in self._issuers.values():
            if issuer.name == claims.issuer:
                key = issuer.keys.get(claims.kid)
                same = key is not None and issuer.print_of(key) == claims.key_print
                return same and issuer.covers(namespace) and issuer.groups.issuperset(claims.groups)
        return False

    def reload(self) -> bool:
        """Read everything again; return whether anything changed. Blocks on the disk."""
        with self._changes:
            problems: list[str] = []
            settings = self._issuers
            try:
                settings = read_settings(_read(self._path, TOML_BYTES_MAX), self._path.parent)
            except (SettingsError, OSError) as problem:
                problems.append(f"The issuers in {self._path} stay as they were: {_sentence(problem)}.")
            found = self._with_keys(settings, problems)
            self._tell(problems)
            changed = found != self._issuers
            if changed:
                self._issuers = found
                self._version += 1
        if changed:
            for listener in self._listeners:
                listener()
        return changed

    def _with_keys(self, settings: Mapping[str, Issuer], problems: list[str]) -> Mapping[str, Issuer]:
        """Return the issuers with the keys that their files have now, or had when they were last good."""
        found = {}
        for iss, issuer in settings.items():
            try:
                keys = read_key_set(_read(issuer.jwks, JWKS_BYTES_MAX), issuer.algorithms)
                if not keys:
                    problems.append(f"The key set of issuer {issuer.name} has no key that tokens can be verified with.")
            except (KeySetError, OSError) as problem:
                keys = self._last_good_keys(issuer)
                problems.append(
                    f"The key set of issuer {issuer.name} cannot be used, {len(keys)} keys of the last good one stay: "
                    f"{_sentence(problem)}."
                )
            found[iss] = replace(issuer, keys=keys)
        return MappingProxyType(found)

    def _last_good_keys(self, issuer: Issuer) -> Mapping[str, ForeignKey]:
        """Return the keys that stay while the set is broken, without those of an algorithm that is forbidden by now."""
        before = self._issuers.get(issuer.iss)
        keys = before.keys.items() if before is not None else ()
        return MappingProxyType({kid: key for kid, key in keys if key.algorithm in issuer.algorithms})

    def _tell(self, problems: list[str]) -> None:
        """Log every problem once, and its end."""
        for problem in problems:
            if problem not in self._problems:
                _log.error("%s", problem)
        if self._problems and not problems:
            _log.warning("the files of other issuers are good again")
        self._problems = tuple(problems)


def read_settings(content: bytes, directory: Path) -> Mapping[str, Issuer]:
    """Return the issuers of a TOML file by their ``iss``, without keys.

    Args:
        content: of the file.
        directory: that relative paths begin at.

    Raises:
        SettingsError: something is wrong; nothing of the file may be used.
    """
    if len(content) > TOML_BYTES_MAX:
        raise SettingsError(f"it has more than {TOML_BYTES_MAX} bytes")
    if not content.strip():  # What a write leaves behind that was cut short. It would be good TOML.
        raise SettingsError("it is empty; when there are no issuers a comment can say so")
    try:
        tables = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as failure:
        raise SettingsError(f"it is no TOML file ({failure})") from None
    entries = tables.get("issuer", [])
    if tables.keys() - {"issuer"} or type(entries) is not list or len(entries) > ISSUERS_MAX:
        raise SettingsError(f"it must hold [[issuer]] tables, at most {ISSUERS_MAX}, and nothing else")
    issuers: dict[str, Issuer] = {}
    for place, entry in enumerate(entries, 1):
        try:
            issuer = _read_issuer(entry, directory)
        except SettingsError as problem:
            raise SettingsError(f"issuer {place}: {problem}") from None
        if issuer.iss in issuers or any(issuer.name == other.name for other in issuers.values()):
            raise SettingsError(f"issuer {place}: its name or iss is that of one before it")
        issuers[issuer.iss] = issuer
    return MappingProxyType(issuers)


def _read_issuer(entry: Any, directory: Path) -> Issuer:
    if type(entry) is not dict:
        raise SettingsError("is no table")
    unknown, missing = entry.keys() - _REQUIRED - _OPTIONAL, _REQUIRED - entry.keys()
    if unknown or missing:
        raise SettingsError(f"needs {', '.join(sorted(_REQUIRED))} and may have {', '.join(sorted(_OPTIONAL))}")
    name, iss = _text(entry, "name", _NAME_CHARS_MAX), _text(entry, "iss", _TEXT_CHARS_MAX)
    if not is_name(name):
        raise SettingsError("name may have letters, digits and '._-', the first a letter or digit")
    if iss == ISSUER:
        raise SettingsError(f"iss {ISSUER!r} is this server's own")
    names, ids = _namespaces(_texts(entry, "namespaces"))
    groups = _texts(entry, "groups")
    if GUARDIANS_GROUP in groups or not all(is_name(group) for group in groups):
        raise SettingsError(f"groups must be names of groups, and never {GUARDIANS_GROUP}")
    algorithms = _texts(entry, "algorithms") if "algorithms" in entry else _DEFAULT_ALGORITHMS
    if not set(algorithms) <= set(ALGORITHMS):
        raise SettingsError(f"algorithms may be {', '.join(ALGORITHMS)}")
    return Issuer(
        name=name,
        iss=iss,
        audience=_text(entry, "audience", _TEXT_CHARS_MAX) if "audience" in entry else AUDIENCE,
        jwks=directory / _text(entry, "jwks", _TEXT_CHARS_MAX),
        names=names,
        ids=ids,
        groups=frozenset(groups),
        algorithms=frozenset(algorithms),
    )


def _namespaces(refs: tuple[str, ...]) -> tuple[frozenset[str], frozenset[int]]:
    ids = [ref.removeprefix(_ID_PREFIX) for ref in refs if ref.startswith(_ID_PREFIX)]
    names = [ref for ref in refs if not ref.startswith(_ID_PREFIX)]
    if not all(is_decimal(text) and int(text) <= NAMESPACE_ID_MAX for text in ids) or not all(map(is_name, names)):
        raise SettingsError("namespaces must be names or 'id:NUMBER'; there is no word for all of them")
    return frozenset(names), frozenset(int(text) for text in ids)


def _text(entry: dict[str, Any], name: str, longest: int) -> str:
    value = entry[name]
    if type(value) is not str or not 0 < len(value) <= longest or not value.isprintable():
        raise SettingsError(f"{name} must be a text of 1 to {longest} printable characters")
    return value


def _texts(entry: dict[str, Any], name: str) -> tuple[str, ...]:
    values = entry[name]
    if type(values) is not list or not values or not all(type(value) is str for value in values):
        raise SettingsError(f"{name} must be a list of at least one text")
    return tuple(values)


def _read(path: Path, longest: int) -> bytes:
    """Return a regular file's content; of a pipe or device nothing, for reading it could wait for ever."""
    if not path.is_file():
        raise FileNotFoundError(2, "it is no file")
    with path.open("rb") as file:
        return file.read(longest + 1)


def _sentence(problem: Exception) -> str:
    return (problem.strerror or "it cannot be read") if isinstance(problem, OSError) else str(problem)
