"""Configuration of the server: a TOML file, the environment over it, flags on top.

    file         [section] key = value                 TOML, units in the values: "5s", "64MiB"
    environment  PREFIXDB_SECTION__KEY=value            two underscores; variables without them belong to the client
    flags        {"section.key": value}                 None means: not given

A setting that does not exist is an error that names its path. ``ServerConfig.sources`` says for each setting where its
value came from, which is what ``prefixdb config check`` prints. Secrets are never values here, only paths of files.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import MIB, VALUE_BYTES_CEILING, VALUE_BYTES_MAX
from prefixdb.server.units import format_bytes, format_duration_ms, parse_bytes, parse_duration_ms

ENVIRONMENT_PREFIX = "PREFIXDB_"
SOURCE_DEFAULT = "default"


class ServerSection(msgspec.Struct, frozen=True, kw_only=True, rename={"drain_ms": "drain"}):
    """What the process is and where it listens.

    data_dir: directory of everything the server keeps; created with mode 0700 when missing.
    listen: ``HOST:PORT`` of the gRPC port, port 0 picks a free one; or ``unix:/PATH``, a socket with mode 0600 that no
        other user of the machine can open.
    http: ``HOST:PORT`` of /metrics, /livez and /readyz; empty for none. Carries no tenant's name and no secret.
    ready_file: written with the address once the server takes requests, removed at exit; empty for none.
    insecure: allow a listen address that is not loopback without TLS.
    reflection: ``auto`` offers gRPC reflection on loopback only.
    drain_ms: how long running calls may go on after SIGTERM before they are cut.
    front: what answers the gRPC port. ``native`` answers KeyValue in C++, over the native store, and passes everything
        else on to Python; ``python`` does all in Python; ``auto`` takes native where the native store is in use. A
        forced choice never falls back.
    """

    data_dir: str = "prefixdb-data"
    listen: str = "127.0.0.1:7311"
    http: str = "127.0.0.1:7312"
    ready_file: str = ""
    insecure: bool = False
    reflection: Literal["auto", "on", "off"] = "auto"
    drain_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 8_000
    front: Literal["auto", "native", "python"] = "auto"


class StoreSection(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"cache_bytes": "cache", "write_buffer_bytes": "write_buffer", "value_bytes_max": "value_max"},
):
    """The engine underneath.

    kind: ``auto`` takes the native store where it was built, else rocksdict; a forced choice never falls back.
    durability: ``fsync`` acknowledges a write when it is on disk, ``os`` when the operating system has it: a power cut
        can then lose the last moments.
    cache_bytes: block cache. write_buffer_bytes: memtable; twice of it may be in memory.
    value_bytes_max: largest value accepted.
    compaction_bytes_per_second: most that is written in the background a second, flushes first; 0 is no limit. Lower
        keeps a shared disk free for others and makes a reclaim take longer; too low, and writers wait.
    """

    kind: Literal["auto", "native", "rocksdict"] = "auto"
    durability: Literal["fsync", "os"] = "fsync"
    cache_bytes: Annotated[int, msgspec.Meta(ge=MIB)] = 256 * MIB
    write_buffer_bytes: Annotated[int, msgspec.Meta(ge=MIB)] = 64 * MIB
    value_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=VALUE_BYTES_CEILING)] = VALUE_BYTES_MAX
    compaction_bytes_per_second: Annotated[int, msgspec.Meta(ge=0)] = 0


class AuthSection(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call without a token of this server.

    anonymous: what calls without any token may do in namespace 0: nothing (``off``), what the group readers may
        (``reader``) or what the group writers may (``writer``). A token that is not good never counts as none.
    issuers: TOML file with the other issuers whose tokens are accepted; empty for none. Read again when it changes.
    """

    anonymous: Literal["off", "reader", "writer"] = "off"
    issuers: str = ""


class TlsSection(msgspec.Struct, frozen=True, kw_only=True):
    """TLS of the gRPC port. The files are read again when they change, without a restart.

    cert: PEM file with the server's certificate and the chain above it; both or neither of cert and key.
    key: PEM file with its key, without a passphrase.
    client_ca: PEM file with the authorities whose client certificates are accepted; a client without one is refused.
    subject: ``token`` ties a client's certificate to its token: the common name or an alternative name (DNS, URI,
        e-mail) must be the token's subject, and at a login the user. ``any`` leaves them apart.
    """

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    subject: Literal["any", "token"] = "any"


class LogSection(msgspec.Struct, frozen=True, kw_only=True):
    """Logs: JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration; ``sources`` maps "section.key" to where the value came from."""

    server: ServerSection = ServerSection()
    store: StoreSection = StoreSection()
    auth: AuthSection = AuthSection()
    tls: TlsSection = TlsSection()
    log: LogSection = LogSection()
    sources: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        """The data directory as an absolute path."""
        return Path(self.server.data_dir).expanduser().absolute()

    @property
    def issuers_file(self) -> Path | None:
        """The file of other issuers as an absolute path; None for none."""
        return Path(self.auth.issuers).expanduser().absolute() if self.auth.issuers else None


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSection,
    "store": StoreSection,
    "auth": AuthSection,
    "tls": TlsSection,
    "log": LogSection,
}


def settings() -> Iterator[tuple[str, str, Any]]:
    """Yield (path, attribute, default) of every setting, in order: ("server.drain", "drain_ms", 8000), …"""
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            yield f"{section}.{field.encode_name}", field.name, field.default


_ATTRIBUTES = {path: attribute for path, attribute, _ in settings()}


def load_config(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> ServerConfig:
    """Return the configuration from file, environment and flags; later layers win.

    Args:
        path: a TOML file, or None for none. It must exist when given.
        env: the environment; variables of the form PREFIXDB_SECTION__KEY are read, others left alone.
        overrides: flags by path, such as {"server.listen": "127.0.0.1:0"}; None values mean "not given".

    Raises:
        InvalidArgumentError: BAD_FIELD for a file that cannot be read, an unknown setting or a bad value; the message
            names the path and the source.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(_ATTRIBUTES, SOURCE_DEFAULT)
    for layer, source in (
        (_from_file(path), f"file {path}"),
        (_from_environment(env or {}), "environment"),
        ({key: value for key, value in (overrides or {}).items() if value is not None}, "flag"),
    ):
        for setting, raw in layer.items():
            if setting not in _ATTRIBUTES:
                raise _bad(setting, source, "there is no such setting.")
            values[setting] = _parse(setting, raw, source)
            sources[setting] = source
    sections = {name: _build(name, struct, values, sources) for name, struct in SECTIONS.items()}
    config = ServerConfig(**sections, sources=sources)
    if bool(config.tls.cert) != bool(config.tls.key):
        raise error(Reason.BAD_FIELD, "tls.cert and tls.key belong together: set both or neither.")
    if config.tls.client_ca and not config.tls.cert:
        raise error(Reason.BAD_FIELD, "tls.client_ca needs tls.cert and tls.key.")
    if config.tls.subject == "token" and not config.tls.client_ca:
        raise _bad("tls.subject", sources["tls.subject"], "it looks at client certificates: set tls.client_ca too.")
    if config.server.front == "native" and config.store.kind == "rocksdict":
        message = "native serves the native store, and store.kind is rocksdict. Say --store native, or --front auto."
        raise _bad("server.front", sources["server.front"], message)
    return config


def show_config(config: ServerConfig) -> list[tuple[str, str, str]]:
    """Return (path, value as one would write it, source) of every setting, in order."""
    rows = []
    for path, attribute, _ in settings():
        value = getattr(getattr(config, path.partition(".")[0]), attribute)
        rows.append((path, _format(attribute, value), config.sources.get(path, SOURCE_DEFAULT)))
    return rows


def init_text() -> str:
    """Return a configuration file with every setting at its default, commented out, under its explanation."""
    lines = ["# prefixdb server configuration. Every line shows a default; uncomment to change it."]
    for section, struct in SECTIONS.items():
        lines += ["", f"[{section}]"]
        doc = (struct.__doc__ or "").strip()
        for path, attribute, _ in settings():  # The file's names drop the unit: it stands in the value.
            if path.startswith(f"{section}."):
                doc = doc.replace(f"{attribute}:", f"{path.partition('.')[2]}:")
        lines += [f"# {line.strip()}" if line.strip() else "#" for line in doc.splitlines()]
        for path, attribute, default in settings():
            if path.startswith(f"{section}."):
                lines.append(f"# {path.partition('.')[2]} = {_toml(attribute, default)}")
    return "\n".join(lines) + "\n"


def _from_file(path: Path | None) -> dict[str, Any]:
    """Return the settings of a TOML file by path."""
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(Reason.BAD_FIELD, f"The configuration file cannot be read: {failure}.") from failure
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        raise error(Reason.BAD_FIELD, f"{path} is not a TOML file: {failure}.") from failure
    found: dict[str, Any] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise _bad(section, f"file {path}", "there is no such setting; settings stand in sections.")
        found |= {f"{section}.{key}": value for key, value in content.items()}
    return found


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the environment by path; an unknown section or key is reported by the caller."""
    found: dict[str, Any] = {}
    for name, value in env.items():
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            found[f"{section.lower()}.{key.lower()}"] = value
    return found


def _parse(setting: str, raw: object, source: str) -> object:
    """Return ``raw`` with its unit resolved and text from the environment turned into what the setting holds."""
    attribute = _ATTRIBUTES[setting]
    try:
        if "_bytes" in attribute and isinstance(raw, str):
            return parse_bytes(raw)
        if attribute.endswith("_ms"):
            if not isinstance(raw, str):
                raise error(Reason.BAD_FIELD, 'a duration is text with a unit, such as "5s".')
            return parse_duration_ms(raw)
    except PrefixdbError as failure:
        raise _bad(setting, source, failure.message) from failure
    if attribute == "insecure" and isinstance(raw, str):
        if raw.lower() not in {"true", "false", "1", "0"}:
            raise _bad(setting, source, f"{raw!r} is neither true nor false.")
        return raw.lower() in {"true", "1"}
    return str(raw) if isinstance(raw, Path) else raw


def _build(name: str, struct: type[msgspec.Struct], values: dict[str, Any], sources: dict[str, str]) -> Any:
    """Return one section; each of its values is converted alone so that an error can name it and its source."""
    section: dict[str, Any] = {}
    for setting, value in values.items():
        prefix, _, key = setting.partition(".")
        if prefix != name:
            continue
        try:
            msgspec.convert({key: value}, struct)
        except msgspec.ValidationError as failure:
            words = _choices(struct, _ATTRIBUTES[setting])
            what = f"{value!r} is none of {', '.join(words)}." if words else _bound(_ATTRIBUTES[setting], failure)
            raise _bad(setting, sources[setting], what) from failure
        section[key] = value
    return msgspec.convert(section, struct)


def _choices(struct: type[msgspec.Struct], attribute: str) -> tuple[str, ...]:
    """Return the words a setting may be; nothing where it is no choice."""
    kind = get_type_hints(struct)[attribute]
    return get_args(kind) if get_origin(kind) is Literal else ()


def _bound(attribute: str, failure: msgspec.ValidationError) -> str:
    """Return what a value must be; a bound in the unit in which the setting is written."""
    text = str(failure).partition(" - ")[0]
    found = re.fullmatch(r"Expected `int` (<=|>=) (\d+)", text)
    if found is None:
        return f"{text}."
    return f"it is at {'most' if found[1] == '<=' else 'least'} {_format(attribute, int(found[2]))}."


def _format(attribute: str, value: Any) -> str:
    if "_bytes" in attribute:
        return format_bytes(value)
    if attribute.endswith("_ms"):
        return format_duration_ms(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml(attribute: str, value: Any) -> str:
    text = _format(attribute, value)
    return text if isinstance(value, bool) else f'"{text}"'


def _bad(setting: str, source: str, message: str) -> PrefixdbError:
    return error(Reason.BAD_FIELD, f"{setting} ({source}): {message}", metadata={"field": setting})
