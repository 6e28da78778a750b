"""What a client can be told: one frozen record, and how it is put together from arguments and a profile.

    argument  >  profile  >  default

Nothing here reads environment variables: a program says what it wants. The command line has its own rules on top.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prefixdb.client.encoding import check_database
from prefixdb.client.profiles import Profile, load_profile
from prefixdb.errors import Reason, error

DEFAULT_PORT = 7311
DEFAULT_ENDPOINT = f"127.0.0.1:{DEFAULT_PORT}"
DEFAULT_DEADLINE_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS to the server; all paths name PEM files.

    Args:
        ca: certificates to trust; None for the ones gRPC brings along.
        cert: the client's certificate chain, for mutual TLS; together with ``key``.
        key: the client's private key.
        server_name: the name to expect in the server's certificate when it is not the endpoint's host.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise error(Reason.BAD_FIELD, "Mutual TLS needs both a certificate and its key.")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a client behaves. Times are seconds.

    Args:
        endpoint: ``host:port``, ``host`` (port 7311), ``[v6]:port`` or ``unix:/path``.
        token: the bearer token; prefer ``token_file``. Never shown in a repr.
        token_file: a file with the token, read again when it changes.
        namespace: name or id the token is expected to be for; checked before the first call.
        database: numbered database that keys without one mean.
        tls: None for plaintext.
        insecure: permit plaintext to an address that is not loopback: the token then travels readable.
        deadline_s: default deadline of a call, and of every page of a stream.
        read_attempts: how often a read is tried in all while the server is not available (1 .. 5).
        write_attempts: the same for writes whose condition makes a repeat safe.
        transaction_attempts: how often ``run`` tries a transaction that meets conflicts.
        resume_s: how long a scan keeps trying to go on after its stream broke, counted from its last page.
    """

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    namespace: int | str | None = None
    database: int = 0
    tls: TlsOptions | None = None
    insecure: bool = False
    deadline_s: float = DEFAULT_DEADLINE_S
    read_attempts: int = 4
    write_attempts: int = 4
    transaction_attempts: int = 32
    resume_s: float = 30.0

    def __post_init__(self) -> None:
        if self.token is not None and self.token_file is not None:
            raise error(Reason.BAD_FIELD, "Give either a token or a token file, not both.")
        if self.token_file is not None:
            # A program without a type checker passes text here, as it may to ``connect``.
            object.__setattr__(self, "token_file", Path(self.token_file))
        check_database(self.database)
        check_deadline(self.deadline_s)
        if min(self.read_attempts, self.write_attempts, self.transaction_attempts) < 1:
            raise error(Reason.BAD_FIELD, "A number of attempts is at least 1.")
        if not math.isfinite(self.resume_s) or self.resume_s < 0:
            raise error(Reason.BAD_FIELD, "resume_s is a number of seconds; 0 means that scans do not resume.")
        if self.tls is None and not self.insecure and self.has_token and not is_local(self.endpoint):
            message = (
                f"Without TLS the token would travel readable to {self.endpoint}. Use TLS (tls=, --tls-ca), or "
                "allow it on a network that is your own (insecure=True, --insecure)."
            )
            raise error(Reason.BAD_FIELD, message)

    @property
    def has_token(self) -> bool:
        """True when calls will carry a token."""
        return self.token is not None or self.token_file is not None


def check_deadline(deadline_s: float) -> float:
    """Return ``deadline_s`` if it is a positive, finite number of seconds."""
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float):
        raise TypeError(f"A deadline is a number of seconds, not {type(deadline_s).__name__}.")
    if not math.isfinite(deadline_s) or deadline_s <= 0:
        raise error(Reason.BAD_FIELD, "A deadline is a positive number of seconds.")
    return float(deadline_s)


def resolve_options(
    endpoint: str | None = None,
    *,
    token: str | None = None,
    token_file: str | Path | None = None,
    profile: str | None = None,
    namespace: int | str | None = None,
    database: int | None = None,
    tls: TlsOptions | None = None,
    insecure: bool | None = None,
    deadline_s: float | None = None,
) -> ClientOptions:
    """Return the options from arguments and, where they are silent, the profile of that name.

    Raises:
        NotFoundError: there is no such profile.
        InvalidArgumentError: BAD_FIELD when the parts do not fit together.
    """
    base = load_profile(profile) if profile is not None else Profile()
    own_token = token is not None or token_file is not None
    file = Path(token_file).expanduser() if token_file is not None else None
    return ClientOptions(
        endpoint=normal_endpoint(_first(endpoint, base.endpoint, DEFAULT_ENDPOINT)),
        token=token,
        token_file=file if own_token else base.token_file,
        namespace=namespace,
        database=_first(database, base.database, 0),
        tls=tls if tls is not None else tls_of(base),
        insecure=_first(insecure, base.insecure, False),
        deadline_s=_first(deadline_s, base.timeout_s, DEFAULT_DEADLINE_S),
    )


def tls_of(profile: Profile) -> TlsOptions | None:
    """Return the TLS options of a profile; None when it names no certificate."""
    if profile.tls_ca is None and profile.tls_cert is None and profile.tls_key is None:
        return None
    return TlsOptions(ca=profile.tls_ca, cert=profile.tls_cert, key=profile.tls_key)


def normal_endpoint(endpoint: str) -> str:
    """Return the endpoint with its port.

    Raises:
        InvalidArgumentError: BAD_FIELD for a URL or an empty host.
    """
    text = endpoint.strip()
    if text.startswith(("unix:", "unix-abstract:")):
        return text
    if not text or "://" in text or "/" in text or " " in text:
        message = f"{endpoint!r} is no endpoint; write host:port, [v6-address]:port or unix:/path."
        raise error(Reason.BAD_FIELD, message)
    host, port = split_host(text)
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        message = f"{endpoint!r} is no endpoint; write host:port with a port from 1 to 65535."
        raise error(Reason.BAD_FIELD, message)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host(endpoint: str) -> tuple[str, str]:
    """Return host (without brackets) and port of ``host:port``; the default port when it has none."""
    if endpoint.startswith("["):
        host, _, rest = endpoint[1:].partition("]")
        return host, rest[1:] if rest.startswith(":") else str(DEFAULT_PORT)
    if endpoint.count(":") > 1:  # A bare IPv6 address.
        return endpoint, str(DEFAULT_PORT)
    host, _, port = endpoint.partition(":")
    return host, port or str(DEFAULT_PORT)


def is_local(endpoint: str) -> bool:
    """True for a unix socket or a loopback address: what is said there does not leave the machine."""
    if endpoint.startswith(("unix:", "unix-abstract:")):
        return True
    host, _ = split_host(endpoint)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first(*candidates: T | None) -> T:
    """Return the first candidate that is not None; the last one never is."""
    for candidate in candidates:
        if candidate is not None:
            return candidate
    raise ValueError("no candidate has a value")
