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
from urllib.parse import quote

from prefixdb.client.encoding import check_database, encode_password
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
        user: who logs in, with a password; the tokens then renew themselves.
        password: of the user; prefer ``password_file``. Never shown in a repr.
        password_file: a file whose first line is the password, read again for every login.
        home: name or id of the namespace the user belongs to; None when that is ``namespace``, or namespace 0 when
            that is None too.
        credentials_file: a login that several processes share, as ``prefixdb login`` writes it. Together with a user
            and a password the login is kept there, and begun anew when it has ended.
        namespace: name or id of the namespace to work in. A login goes there, by a grant if need be; a token must be
            for it, or belong to a login. Checked before the first call.
        database: numbered database that keys without one mean.
        tls: None for plaintext.
        insecure: permit plaintext to an address that is not loopback: tokens and passwords then travel readable.
        deadline_s: default deadline of a call, and of every page of a stream.
        read_attempts: how often a read is tried in all while the server is not available (1 .. 5).
        write_attempts: the same for writes whose condition makes a repeat safe.
        transaction_attempts: how often ``run`` tries a transaction that meets conflicts.
        resume_s: how long a scan keeps trying to go on after its stream broke, counted from its last page.
        gather: whether calls of single rows that are made at the same time travel together in one message. False makes
            each a call of its own, which costs the client and the server several times as much.
    """

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    home: int | str | None = None
    credentials_file: Path | None = None
    namespace: int | str | None = None
    database: int = 0
    tls: TlsOptions | None = None
    insecure: bool = False
    deadline_s: float = DEFAULT_DEADLINE_S
    read_attempts: int = 4
    write_attempts: int = 4
    transaction_attempts: int = 32
    resume_s: float = 30.0
    gather: bool = True

    def __post_init__(self) -> None:
        for name in ("token_file", "password_file", "credentials_file"):
            if getattr(self, name) is not None:
                # A program without a type checker passes text here, as it may to ``connect``.
                object.__setattr__(self, name, Path(getattr(self, name)))
        self._check_credentials()
        check_database(self.database)
        check_deadline(self.deadline_s)
        if min(self.read_attempts, self.write_attempts, self.transaction_attempts) < 1:
            raise error(Reason.BAD_FIELD, "A number of attempts is at least 1.")
        if not math.isfinite(self.resume_s) or self.resume_s < 0:
            raise error(Reason.BAD_FIELD, "resume_s is a number of seconds; 0 means that scans do not resume.")
        if self.has_token or self.has_login:
            self.check_private("the password or token" if self.has_login else "the token")

    @property
    def has_token(self) -> bool:
        """True when calls will carry a token that the caller has."""
        return self.token is not None or self.token_file is not None

    @property
    def has_login(self) -> bool:
        """True when calls will carry a token of a login."""
        return self.user is not None or self.credentials_file is not None

    def check_private(self, what: str) -> None:
        """Refuse to send a secret where others could read it.

        Raises:
            InvalidArgumentError: BAD_FIELD for plaintext to another machine that was not allowed.
        """
        if self.tls is None and not self.insecure and not is_local(self.endpoint):
            message = (
                f"Without TLS {what} would travel readable to {self.endpoint}. Use TLS (tls=, --tls-ca), or "
                "allow it on a network that is your own (insecure=True, --insecure)."
            )
            raise error(Reason.BAD_FIELD, message)

    def _check_credentials(self) -> None:
        """Refuse what does not fit together."""
        if self.token is not None and self.token_file is not None:
            raise error(Reason.BAD_FIELD, "Give either a token or a token file, not both.")
        if self.has_token and self.has_login:
            raise error(Reason.BAD_FIELD, "Give either a token or a login (user, credentials file), not both.")
        if self.password is not None and self.password_file is not None:
            raise error(Reason.BAD_FIELD, "Give either a password or a password file, not both.")
        has_password = self.password is not None or self.password_file is not None
        if has_password != (self.user is not None):
            raise error(Reason.BAD_FIELD, "A login takes a user together with a password or a password file.")
        if self.home is not None and self.user is None:
            raise error(Reason.BAD_FIELD, "home says where a user belongs; give the user too.")
        if self.user is not None and not self.user:
            raise error(Reason.BAD_FIELD, "The name of the user is empty.")
        if self.password is not None:
            encode_password(self.password)


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
    user: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    home: int | str | None = None,
    credentials_file: str | Path | None = None,
    profile: str | None = None,
    namespace: int | str | None = None,
    database: int | None = None,
    tls: TlsOptions | None = None,
    insecure: bool | None = None,
    deadline_s: float | None = None,
    gather: bool = True,
) -> ClientOptions:
    """Return the options from arguments and, where they are silent, the profile of that name.

    Raises:
        NotFoundError: there is no such profile.
        InvalidArgumentError: BAD_FIELD when the parts do not fit together.
    """
    base = load_profile(profile) if profile is not None else Profile()
    own = any(given is not None for given in (token, token_file, user, credentials_file))
    return ClientOptions(
        endpoint=normal_endpoint(_first(endpoint, base.endpoint, DEFAULT_ENDPOINT)),
        token=token,
        token_file=_path(token_file) if own else base.token_file,
        user=user,
        password=password,
        password_file=_path(password_file),
        home=home,
        credentials_file=_path(credentials_file) if own else base.credentials_file,
        namespace=namespace if namespace is not None else base.namespace,
        database=_first(database, base.database, 0),
        tls=tls if tls is not None else tls_of(base),
        insecure=_first(insecure, base.insecure, False),
        deadline_s=_first(deadline_s, base.timeout_s, DEFAULT_DEADLINE_S),
        gather=gather,
    )


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text).expanduser()


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


def target_of(endpoint: str) -> str:
    """Return the endpoint as gRPC takes it: a socket's path is a URI there, where %41 would be an A."""
    kind, separator, path = endpoint.partition(":")
    return f"{kind}:{quote(path)}" if separator and kind == "unix" else endpoint


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
