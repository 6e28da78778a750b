"""Tokens made by hand, byte by byte, with the cluster's own private key: what an attacker with every tool but the key
could send, and what a careless issuer with the key could send. Shares no code with ``catalog.verification``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.catalog import World

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MISSING = object()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Forge:
    """Makes tokens for one namespace of a world; ``good()`` is accepted, everything else should differ in one thing."""

    def __init__(self, world: World, namespace_id: int) -> None:
        self.kid = world.keyring.signing_kid
        pem = (world.data_dir / "keys" / f"{self.kid}.pem").read_bytes()
        key = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(key, Ed25519PrivateKey)
        self.pem = pem
        self.key = key
        self.now_s = world.clock.now_ms() // 1000
        self.namespace_id = namespace_id
        record = world.registry.get(namespace_id)
        assert record is not None
        self.incarnation = record.incarnation

    def header(self, **changes: Any) -> dict[str, Any]:
        return merged({"alg": "EdDSA", "kid": self.kid, "typ": "JWT"}, changes)

    def payload(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": "prefixdb",
            "aud": "prefixdb",
            "typ": "access",
            "sub": "bob",
            "jti": "0123456789abcdef",
            "ns": str(self.namespace_id),
            "inc": str(self.incarnation),
            "rev": "0",
            "groups": ["readers"],
            "iat": self.now_s,
            "nbf": self.now_s,
            "exp": self.now_s + 900,
        }
        return merged(claims, changes)

    def sign(self, header: Any, payload: Any, key: Ed25519PrivateKey | None = None) -> str:
        """Return a token over exactly these bytes; what is not bytes becomes compact JSON."""
        head = f"{b64(raw(header))}.{b64(raw(payload))}"
        return f"{head}.{b64((key or self.key).sign(head.encode()))}"

    def good(self) -> str:
        return self.sign(self.header(), self.payload())

    def hmac(self, secret: bytes) -> str:
        """Return the classic confusion: HS256 with the public key for a secret."""
        head = f"{b64(raw(self.header(alg='HS256')))}.{b64(raw(self.payload()))}"
        return f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def raw(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {**fields, **changes}
    return {name: value for name, value in both.items() if value is not MISSING}


def respelt(token: str, index: int) -> str:
    """Return the token with another base64url spelling of the same bytes in one part, by setting a spare bit."""
    parts = token.split(".")
    part = parts[index]
    spare = {0: 0, 2: 4, 3: 2}[len(part) % 4]
    assert spare, "this part has no spare bits"
    other = ALPHABET[ALPHABET.index(part[-1]) + 1]
    parts[index] = part[:-1] + other
    assert unb64(parts[index]) == unb64(part)
    return ".".join(parts)


def structures(f: Forge) -> dict[str, Callable[[], str]]:
    """Return texts that are no compact JWS in its one spelling."""
    good = f.good()
    head, body, signature = good.split(".")
    padded = f.sign(f.header(), f.payload(sub="bobby"))
    return {
        "empty": lambda: "",
        "a dot": lambda: ".",
        "two dots": lambda: "..",
        "one part": lambda: head,
        "two parts": lambda: f"{head}.{body}",
        "no signature": lambda: f"{head}.{body}.",
        "no payload": lambda: f"{head}..{signature}",
        "no header": lambda: f".{body}.{signature}",
        "four parts": lambda: f"{good}.{signature}",
        "five parts": lambda: f"{good}..",
        "leading space": lambda: f" {good}",
        "trailing space": lambda: f"{good} ",
        "trailing newline": lambda: f"{good}\n",
        "inner newline": lambda: f"{head}.\n{body}.{signature}",
        "a scheme in front": lambda: f"Bearer {good}",
        "padding": lambda: ".".join(part + "=" * (-len(part) % 4) for part in padded.split(".")),
        "one padding sign": lambda: f"{good}=",
        "standard base64": lambda: good.replace("-", "+").replace("_", "/") if set("-_") & set(good) else f"{good}+",
        "NUL": lambda: f"{good}\0",
        "not ascii": lambda: f"{good}é",
        "fullwidth digit": lambda: f"{good}１",
        "spare bits in the signature": lambda: respelt(good, 2),
        "signature cut": lambda: good[:-4],
        "signature doubled": lambda: f"{good}{signature}",
        "signature of zeros": lambda: f"{head}.{body}.{b64(bytes(64))}",
        "signature of another token": lambda: f"{head}.{body}.{f.sign(f.header(), f.payload(sub='eve')).split('.')[2]}",
        "json serialisation": lambda: json.dumps({"protected": head, "payload": body, "signature": signature}),
        "too long": lambda: f.sign(f.header(), raw(f.payload()) + b" " * 4096),
        "only dots": lambda: "." * 4096,
        "parts swapped": lambda: f"{body}.{head}.{signature}",
    }


def headers(f: Forge) -> dict[str, Callable[[], str]]:
    """Return tokens whose header is wrong; all but the algorithm tricks are signed over exactly that header."""
    public = f.key.public_key()
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    stranger = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(stranger.public_key().public_bytes_raw())}

    def signed(header: Any, key: Ed25519PrivateKey | None = None) -> Callable[[], str]:
        return lambda: f.sign(header, f.payload(), key)

    return {
        **{f"alg {name!r} without a signature": (lambda name=name: unsigned(f, name)) for name in ("none", "None", "")},
        **{f"alg {name!r}": signed(f.header(alg=name)) for name in ("none", "eddsa", "Ed25519", "HS256", "EdDSA ")},
        "alg missing": signed(f.header(alg=MISSING)),
        "alg a list": signed(f.header(alg=["EdDSA"])),
        "alg null": signed(f.header(alg=None)),
        "HS256 with the raw public key": lambda: f.hmac(public.public_bytes_raw()),
        "HS256 with the public key in DER": lambda: f.hmac(public.public_bytes(*der)),
        "HS256 with the public key in PEM": lambda: f.hmac(public.public_bytes(*pem)),
        "HS256 with an empty secret": lambda: f.hmac(b""),
        "RS256 by a stranger": lambda: other_family(f, "RS256"),
        "ES256 by a stranger": lambda: other_family(f, "ES256"),
        "kid missing": signed(f.header(kid=MISSING)),
        "kid unknown": signed(f.header(kid="0" * 16)),
        "kid empty": signed(f.header(kid="")),
        "kid null": signed(f.header(kid=None)),
        "kid a number": signed(f.header(kid=1)),
        "kid a list": signed(f.header(kid=[f.kid])),
        "kid a path": signed(f.header(kid=f"../keys/{f.kid}")),
        "kid in capitals": signed(f.header(kid=f.kid.upper() + "A")),
        "kid with a space": signed(f.header(kid=f.kid + " ")),
        "typ missing": signed(f.header(typ=MISSING)),
        "typ in small letters": signed(f.header(typ="jwt")),
        "typ of another kind": signed(f.header(typ="at+jwt")),
        "typ null": signed(f.header(typ=None)),
        "typ true": signed(f.header(typ=True)),
        "jku": signed(f.header(jku="https://example.org/keys")),
        "jwk of a stranger": signed(f.header(jwk=jwk), stranger),
        "jwk, signed by us": signed(f.header(jwk=jwk)),
        "x5u": signed(f.header(x5u="https://example.org/cert")),
        "x5c": signed(f.header(x5c=["AAAA"])),
        "cty": signed(f.header(cty="JWT")),
        "zip": signed(f.header(zip="DEF")),
        "crit": signed(f.header(crit=["exp"])),
        "b64": signed(f.header(b64=True)),
        "an unknown member": signed(f.header(x=1)),
        "our kid, a stranger's key": signed(f.header(), stranger),
        **{name: signed(header) for name, header in wrong_header_bytes(f).items()},
    }


def wrong_header_bytes(f: Forge) -> dict[str, Any]:
    """Return headers that are no plain JSON object."""
    text = raw(f.header())
    return {
        "duplicate alg": (text[:-1] + b',"alg":"EdDSA"}'),
        "duplicate kid": (b'{"kid":"0000000000000000",' + text[1:]),
        "utf-16": (text.decode().encode("utf-16")),
        "utf-32": (text.decode().encode("utf-32-le")),
        "byte order mark": (b"\xef\xbb\xbf" + text),
        "not utf-8": (text[:-1] + b',"x":"\xff"}'),
        "a list": ([f.header()]),
        "a text": ("EdDSA"),
        "null": (b"null"),
        "a number": (b"1"),
        "no json": (b"EdDSA"),
        "cut json": (text[:-1]),
        "two objects": (text + text),
        "nested deeply": (b"[" * 1500),
    }


def other_family(f: Forge, algorithm: str) -> str:
    """Return a token signed with a key of another family that its header names."""
    head = f"{b64(raw(f.header(alg=algorithm)))}.{b64(raw(f.payload()))}".encode()
    if algorithm == "RS256":
        made = rsa.generate_private_key(65537, 2048).sign(head, padding.PKCS1v15(), hashes.SHA256())
    else:
        made = ec.generate_private_key(ec.SECP256R1()).sign(head, ec.ECDSA(hashes.SHA256()))[:64].ljust(64)
    return f"{head.decode()}.{b64(made)}"


def unsigned(f: Forge, algorithm: str) -> str:
    return f"{b64(raw(f.header(alg=algorithm)))}.{b64(raw(f.payload()))}."


def payloads(f: Forge) -> dict[str, Callable[[], str]]:
    """Return tokens with our good signature over claims that must not be accepted."""
    made: dict[str, Any] = {
        f"{name} is {value!r:.40}": f.payload(**{name: value})
        for name, values in wrong_values(f).items()
        for value in values
    }
    for name in f.payload():
        made[f"{name} missing"] = f.payload(**{name: MISSING})
        made[f"{name} in capitals"] = f.payload(**{name: MISSING, name.upper(): f.payload()[name]})
    made |= wrong_objects(f)
    return {name: (lambda claims=claims: f.sign(f.header(), encodable(claims))) for name, claims in made.items()}


def wrong_values(f: Forge) -> dict[str, list[Any]]:
    """Return for each claim values it must not have."""
    year = 366 * 24 * 3600
    return {
        "iss": ["", "other", None, 1, ["prefixdb"]],
        "aud": ["", "other", None, ["prefixdb"], ["prefixdb", "other"]],
        "typ": ["refresh", "JWT", "", None, 1],
        "sub": ["", "x" * 129, "a\nb", "a\0", "\u202eadmin", "\ud800", None, 7, ["bob"]],
        "jti": ["", "x" * 65, "a/b", "a b", "é", None, 7],
        "ns": [
            f.namespace_id,
            float(f.namespace_id),
            f"0{f.namespace_id}",
            f"+{f.namespace_id}",
            f" {f.namespace_id}",
            f"{f.namespace_id}\n",
            f"{f.namespace_id}.0",
            hex(f.namespace_id),
            "1_0",
            "-0",
            "-1",
            "",
            "７",
            str(2**64 - 1),
            str(2**64),
            str(2**64 + f.namespace_id),
            str(f.namespace_id + 1),
            "0",
            None,
            True,
            [str(f.namespace_id)],
        ],
        "inc": [f.incarnation, "0", "", f"0{f.incarnation}", str(f.incarnation + 1), str(2**64), None],
        "rev": [0, "", "00", "-1", "1e3", str(2**64), None, False],
        "groups": [
            "readers",
            {},
            {"readers": True},
            None,
            ["readers", "readers"],
            ["readers", 1],
            [["readers"]],
            ["bad name"],
            [""],
            ["../guardians"],
            [f"g{n}" for n in range(33)],
        ],
        "iat": [True, float(f.now_s), str(f.now_s), None, -1, f.now_s + 31, f.now_s + 900, f.now_s + 901, 2**70],
        "nbf": [True, float(f.now_s), str(f.now_s), None, -1, f.now_s + 31, 2**70],
        "exp": [True, f.now_s + 900.5, str(f.now_s + 900), None, -1, f.now_s, f.now_s + year + 1, 2**70, [1]],
        "guardian": ["cluster", "none", "NAMESPACE", "Namespace", "", None, 1, True, ["namespace"]],
        "mint": ["", None, True, 7, "a\nb", "x" * 129],
    }


def wrong_objects(f: Forge) -> dict[str, Any]:
    """Return payloads that are wrong as a whole: too many claims, or bytes that are no plain JSON object."""
    text = raw(f.payload())
    return {
        "an unknown claim": f.payload(admin=True),
        "scope": f.payload(scope="*"),
        "a second namespace": f.payload(namespaces=["0"]),
        "minted for too long": f.payload(mint="root", exp=f.now_s + 3601),
        "minted into namespace 0": f.payload(mint="root", ns="0", inc="1"),
        "cluster guardian by minting": f.payload(mint="root", ns="0", inc="1", guardian="cluster"),
        "duplicate ns": text[:-1] + b',"ns":"0"}',
        "duplicate ns, the same": text[:-1] + f',"ns":"{f.namespace_id}"}}'.encode(),
        "duplicate ns, escaped": text[:-1] + b',"n\\u0073":"0"}',
        "duplicate guardian": text[:-1] + b',"guardian":"namespace","guardian":"namespace"}',
        "exp with a fraction": text.replace(b'"exp":%d' % (f.now_s + 900), b'"exp":%d.0' % (f.now_s + 900)),
        "exp with an exponent": text.replace(b'"exp":%d' % (f.now_s + 900), b'"exp":%de0' % (f.now_s + 900)),
        "exp NaN": text.replace(b'"exp":%d' % (f.now_s + 900), b'"exp":NaN'),
        "exp Infinity": text.replace(b'"exp":%d' % (f.now_s + 900), b'"exp":Infinity'),
        "utf-16": text.decode().encode("utf-16"),
        "utf-32": text.decode().encode("utf-32"),
        "byte order mark": b"\xef\xbb\xbf" + text,
        "not utf-8": text.replace(b'"bob"', b'"b\xffb"'),
        "a list": [f.payload()],
        "a text": "bob",
        "null": b"null",
        "an empty object": {},
        "no json": b"bob",
        "cut json": text[:-1],
        "trailing text": text + b"x",
        "a comment": text + b"//",
        "nested deeply": text[:-1] + b',"x":' + b"[" * 1500 + b"]" * 1500 + b"}",
        "a number of a thousand digits": text[:-1].replace(b'"exp":', b'"exp":' + b"9" * 1000) + b"}",
    }


def encodable(claims: Any) -> bytes:
    """Return the claims as JSON; a lone surrogate, which UTF-8 cannot carry, as its escape."""
    if isinstance(claims, bytes):
        return claims
    return json.dumps(claims, separators=(",", ":"), ensure_ascii=True).encode()
