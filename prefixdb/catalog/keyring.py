"""The cluster's signing keys: private halves in DATA/keys, public halves in the catalog.

One key signs; older ones still verify until the last token they can have signed has expired. The algorithm belongs to
the key: a token's header may repeat it, never choose it.

    DATA/keys/         mode 0700
    DATA/keys/KID.pem  mode 0600, PKCS #8, Ed25519; written to a temporary name, synced, renamed, directory synced

The file is written before the catalog names the key, so a crash in between leaves a file that no record knows. Such a
file is left alone and never used: a key is trusted because the catalog lists it, not because a file lies there.

A restored directory has the public keys of the one its backup was made of, and no private ones. What those signed after
the backup speaks of a past that never was here: numbers and versions may by now mean something else. So a restore
closes each key (``close_keys``): it verifies what it signed up to the backup's instant, and never signs again.
"""

from __future__ import annotations

import logging
import re
import secrets
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.compact import sign
from prefixdb.catalog.files import write_secret
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.disk import sync_directory
from prefixdb.errors import OutcomeUnknownError, Reason, error
from prefixdb.records import encode_record
from prefixdb.store.base import Absent, Commit, Delete, Mutation, Put, Store

ALGORITHM = "EdDSA"
"""JOSE's name of Ed25519 signatures, the only kind this keyring makes."""

KEYS_DIRECTORY = "keys"

_KID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_OTHERS = 0o077

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key as the catalog has it.

    verify_until_ms: 0 for the key that signs; else when its last token will have expired.
    issued_until_ms: 0 for no bound; else a token issued later is not verified. Such a key signs nothing.
    """

    kid: str
    algorithm: str
    public: bytes
    created_at_ms: int
    verify_until_ms: int = 0
    issued_until_ms: int = 0
    key: Ed25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.algorithm != ALGORITHM:
            raise error(
                Reason.FORMAT_TOO_NEW, f"Signing key {self.kid} is of a kind this prefixdb does not know; use a newer."
            )
        try:
            object.__setattr__(self, "key", Ed25519PublicKey.from_public_bytes(self.public))
        except ValueError as damage:
            raise error(Reason.CORRUPTION, f"Signing key {self.kid} in the catalog is damaged.") from damage

    def may_have_signed(self, issued_at_s: int) -> bool:
        """True unless a token of that time is of a past that a restore has undone.

        A token knows its time in whole seconds, so all of its second must lie before the bound.
        """
        return not self.issued_until_ms or (issued_at_s + 1) * 1000 <= self.issued_until_ms


class Keyring:
    """All keys. Verification reads one immutable dict and takes no lock."""

    def __init__(self, store: Store, clock: Clock, data_dir: Path) -> None:
        """Load the keys; make the first one when there is none that can sign.

        Raises:
            DataLossError: CORRUPTION, a key file does not belong to the public key of its name, or is damaged.
        """
        self._store = store
        self._clock = clock
        self._directory = data_dir / KEYS_DIRECTORY
        self._changes = threading.Lock()
        self._keys: Mapping[str, VerifyingKey] = MappingProxyType({})
        self._signing: tuple[str, Ed25519PrivateKey] | None = None
        self._listeners: list[Callable[[], None]] = []
        _prepare_directory(self._directory)
        self._load()
        if self._signing is None:
            self.rotate()

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called after every change of the set of keys, in the thread of the change."""
        self._listeners.append(listener)

    @property
    def signing_kid(self) -> str:
        """The id of the key that signs now."""
        return self._signer()[0]

    def verifying_keys(self) -> list[VerifyingKey]:
        """Return the public keys that verify now, the oldest first."""
        now_ms = self._clock.now_ms()
        usable = [key for key in self._keys.values() if _is_usable(key, now_ms)]
        return sorted(usable, key=lambda key: (key.created_at_ms, key.kid))

    def find(self, kid: str) -> VerifyingKey | None:
        """Return the key of that id while it may verify, else None. Memory only: unknown ids cost nothing more."""
        key = self._keys.get(kid)
        return key if key is not None and _is_usable(key, self._clock.now_ms()) else None

    def sign(self, payload: bytes) -> str:
        """Return ``payload`` as a compact JWS with header ``{alg, kid, typ}``."""
        kid, private = self._signer()
        return sign(payload, private, ALGORITHM, kid)

    def rotate(self) -> str:
        """Make a new key that signs from now on and return its id; the old one verifies until its tokens are over.

        Blocks on disk and commit. The old private file is removed: it signs nothing any more.
        """
        with self._changes:
            private = Ed25519PrivateKey.generate()
            kid = secrets.token_hex(8)
            now_ms = self._clock.now_ms()
            fresh = VerifyingKey(kid, ALGORITHM, private.public_key().public_bytes_raw(), now_ms)
            write_secret(self._path(kid), _private_pem(private))
            keys = {kid: fresh}
            until_ms = now_ms + (limits.SERVICE_TOKEN_S_MAX + limits.TOKEN_LEEWAY_S) * 1000
            for old in self._keys.values():
                keys[old.kid] = old if old.verify_until_ms else replace(old, verify_until_ms=until_ms)
            changed = [key for key in keys.values() if self._keys.get(key.kid) != key]
            writes: tuple[Mutation, ...] = tuple(_key_put(key) for key in changed)
            try:
                result = self._store.commit(Commit(writes, guards=(Absent(schema.signing_key_key(kid)),)))
            except OutcomeUnknownError:
                self._load()  # Or one key would sign here, and the other after the next start.
                self._announce()
                raise
            if not result.applied:
                raise error(Reason.INTERNAL, "The new signing key exists already.")
            retired = self._signing[0] if self._signing else None
            self._keys = MappingProxyType(keys)
            self._signing = (kid, private)
        self._announce()
        if retired is not None:
            self._drop_file(retired)
        return kid

    def remove(self, kid: str) -> None:
        """Forget a key that no longer signs: whatever it signed is refused from now on. Blocks on disk and commit.

        Raises:
            NotFoundError: SIGNING_KEY_NOT_FOUND.
            FailedPreconditionError: SIGNING_KEY_IN_USE, it signs new tokens.
        """
        with self._changes:
            if kid not in self._keys:
                raise error(Reason.SIGNING_KEY_NOT_FOUND)
            if self._signing is not None and self._signing[0] == kid:
                raise error(Reason.SIGNING_KEY_IN_USE)
            self._forget(kid)
        self._announce()  # Before the file: a disk that fails there must not leave the key's tokens believed.
        self._drop_file(kid)

    def _forget(self, kid: str) -> None:
        key = schema.signing_key_key(kid)
        kept = MappingProxyType({name: other for name, other in self._keys.items() if name != kid})
        try:
            self._store.commit(Commit((Delete(key),)))
        except OutcomeUnknownError:
            if self._store.get(key) is None:  # What the store holds counts, for it will at the next start too.
                self._keys = kept
                self._announce()
            raise
        self._keys = kept

    def _signer(self) -> tuple[str, Ed25519PrivateKey]:
        if self._signing is None:
            raise error(Reason.INTERNAL, "There is no signing key.")
        return self._signing

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()

    def _drop_file(self, kid: str) -> None:
        self._path(kid).unlink(missing_ok=True)
        sync_directory(self._directory)

    def _path(self, kid: str) -> Path:
        return self._directory / f"{kid}.pem"

    def _load(self) -> None:
        keys: dict[str, VerifyingKey] = {}
        for found in _key_rows(self._store):
            key = _decode_key(*found)
            keys[key.kid] = key
            private = self._load_private(key)
            if key.verify_until_ms or key.issued_until_ms:
                continue
            if private is None:
                _log.warning("the private file of signing key %s is missing; a new key will sign from now on", key.kid)
            else:
                self._signing = (key.kid, private)
        self._keys = MappingProxyType(keys)
        for path in sorted(self._directory.glob("*.pem")):
            if path.stem not in keys:
                _log.warning("the catalog does not know the key file %s; it is ignored", path.name)

    def _load_private(self, key: VerifyingKey) -> Ed25519PrivateKey | None:
        """Return the private half, None when there is no file.

        Raises:
            DataLossError: CORRUPTION, the file is no Ed25519 key or belongs to another public key. To sign with it
                would make tokens that nobody accepts; to trust it would let whoever placed the file in.
        """
        path = self._path(key.kid)
        try:
            _tighten(path, _FILE_MODE)
            pem = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, Ed25519PrivateKey) or private.public_key().public_bytes_raw() != key.public:
            raise error(
                Reason.CORRUPTION,
                f"The file {KEYS_DIRECTORY}/{path.name} is not the private half of the key the catalog has under that "
                "name. Put the right file back, or remove it: a new key then signs and issued tokens stay valid.",
            )
        return private


def close_keys(store: Store, issued_until_ms: int) -> int:
    """Bound every key in the catalog of a restored store to tokens issued before; return how many there are.

    A bound that is there already and earlier stays. Blocks on a commit.
    """
    keys = [_decode_key(*found) for found in _key_rows(store)]
    bounds = [min(key.issued_until_ms or issued_until_ms, issued_until_ms) for key in keys]
    closed = [replace(key, issued_until_ms=bound) for key, bound in zip(keys, bounds, strict=True)]
    if closed:
        store.commit(Commit(tuple(_key_put(key) for key in closed)))
    return len(closed)


def drop_keys(store: Store) -> int:
    """Forget every key in the catalog of a restored store, so that no token of before is verified; return how many."""
    deletes = tuple(Delete(schema.signing_key_key(record_key.decode())) for record_key, _ in _key_rows(store))
    if deletes:
        store.commit(Commit(deletes))
    return len(deletes)


def _key_rows(store: Store) -> list[tuple[bytes, bytes]]:
    rows = schema.rows_of(store, schema.catalog_span(Tag.SIGNING_KEY))
    return [(record_key, row.payload) for record_key, row in rows]


def _is_usable(key: VerifyingKey, now_ms: int) -> bool:
    return not key.verify_until_ms or now_ms < key.verify_until_ms


def _key_put(key: VerifyingKey) -> Put:
    fields = {
        "algorithm": key.algorithm,
        "public": key.public,
        "created_at_ms": key.created_at_ms,
        "verify_until_ms": key.verify_until_ms,
    }
    if key.issued_until_ms:
        fields["issued_until_ms"] = key.issued_until_ms
    return Put(schema.signing_key_key(key.kid), encode_record(fields), key.verify_until_ms)


def _decode_key(record_key: bytes, payload: bytes) -> VerifyingKey:
    kid = record_key.decode("ascii", errors="replace")
    if not _KID.fullmatch(kid):
        raise error(Reason.CORRUPTION, "A signing key in the catalog has a malformed id.")
    fields = schema.Fields(payload)
    return VerifyingKey(
        kid,
        fields.text("algorithm"),
        fields.blob("public"),
        fields.integer("created_at_ms"),
        fields.integer("verify_until_ms"),
        fields.integer("issued_until_ms") if "issued_until_ms" in fields else 0,
    )


def _private_pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _prepare_directory(directory: Path) -> None:
    """Make the directory, and its mode 0700 if something has widened it."""
    if not directory.exists():
        directory.mkdir(mode=_DIRECTORY_MODE)
        sync_directory(directory.parent)
    _tighten(directory, _DIRECTORY_MODE)


def _tighten(path: Path, mode: int) -> None:
    """Take away what others may do. Copying and some container volumes widen modes; refusing to start over it would
    only teach people to run as root, so it is corrected and said."""
    found = stat.S_IMODE(path.stat().st_mode)
    if found & _OTHERS:
        _log.warning("%s was open to others (mode %04o); it is %04o now", path.name, found, mode)
        path.chmod(mode)  # Raises when it cannot, and then the server does not start.
