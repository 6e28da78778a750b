"""Another issuer, as an operator would set one up: keys of every kind, a key set file, a file of issuers, and tokens.

Tokens and key sets are made by joserfc, so that nothing here shares code with what judges them.
"""

from __future__ import annotations

import json
import secrets
import warnings
from pathlib import Path
from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import SecurityWarning

from tests.security.forging import merged
from tests.support.catalog import World

ISS = "https://login.example.org"
AUDIENCE = "prefixdb"
ALGORITHMS = ("EdDSA", "ES256", "RS256", "HS256")


def make_key(algorithm: str, kid: str, **members: Any) -> Any:
    """Return a private key (a secret for HS256) of the kind the algorithm needs."""
    parameters = {"kid": kid, **members}
    if algorithm == "EdDSA":
        return jwk.OKPKey.generate_key("Ed25519", parameters)
    if algorithm == "ES256":
        return jwk.ECKey.generate_key("P-256", parameters)
    if algorithm == "RS256":
        return jwk.RSAKey.generate_key(2048, parameters)
    return jwk.OctKey.import_key(secrets.token_bytes(32), parameters)


def published(key: Any, **changes: Any) -> dict[str, Any]:
    """Return a key as it stands in a key set."""
    return merged(dict(key.as_dict(private=key.key_type == "oct")), changes)


def encode(header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
    """Return a token made by joserfc."""
    with warnings.catch_warnings():  # RFC 9864 renames EdDSA; PyJWT and most issuers know the old name only.
        warnings.simplefilter("ignore", SecurityWarning)
        return jwt.encode(header, claims, key, algorithms=[*ALGORITHMS, "none", "HS512", "PS256", "RS512"])


class OtherIssuer:
    """One issuer with one key, and its files in ``directory``."""

    def __init__(self, directory: Path, name: str = "okta", iss: str = ISS, algorithm: str = "EdDSA") -> None:
        self.directory = directory
        self.name = name
        self.iss = iss
        self.algorithm = algorithm
        self.kid = f"{name}-1"
        self.key = make_key(algorithm, self.kid)
        self.path = directory / f"{name}.json"
        self.settings: dict[str, Any] = {
            "name": name,
            "iss": iss,
            "jwks": self.path.name,
            "namespaces": ["acme"],
            "groups": ["readers"],
            "algorithms": list(ALGORITHMS),
        }
        self.publish()

    def publish(self, *entries: Any) -> None:
        """Write the key set; without entries the issuer's own key."""
        self.path.write_text(json.dumps({"keys": list(entries) or [published(self.key)]}))

    def header(self, **changes: Any) -> dict[str, Any]:
        return merged({"alg": self.algorithm, "kid": self.kid}, changes)

    def claims(self, world: World, namespace_id: int, **changes: Any) -> dict[str, Any]:
        """Return claims that are accepted for the namespace."""
        record = world.registry.get(namespace_id)
        assert record is not None
        now_s = world.clock.now_ms() // 1000
        claims = {
            "iss": self.iss,
            "aud": AUDIENCE,
            "sub": "zoe",
            "iat": now_s,
            "exp": now_s + 600,
            "jti": "4b1c.7",
            "ns": str(namespace_id),
            "inc": str(record.incarnation),
            "groups": ["readers"],
            "typ": "access",
        }
        return merged(claims, changes)

    def token(self, world: World, namespace_id: int, **changes: Any) -> str:
        return encode(self.header(), self.claims(world, namespace_id, **changes), self.key)


def write_issuers(path: Path, *issuers: OtherIssuer) -> Path:
    """Write the file of issuers and return its path."""
    lines: list[str] = []
    for issuer in issuers:
        lines.append("[[issuer]]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in issuer.settings.items()]
    path.write_text("\n".join(lines) + "\n")
    return path
