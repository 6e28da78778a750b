"""Goal: what a client is told is checked before anything is sent, and secrets stay out of everything that is shown.

Method: pure functions on both sides of every limit; no server.
"""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import connect
from prefixdb.client import methods, profiles
from prefixdb.client.channel import channel_credentials, channel_options
from prefixdb.client.credentials import TokenSource, inspect_token
from prefixdb.client.encoding import encode_key, encode_value, key_range, namespace_ref, row_test, ttl_to_ms
from prefixdb.client.methods import RETRIED_BY_GRPC, Method, health_status, service_config
from prefixdb.client.options import ClientOptions, TlsOptions, is_local, normal_endpoint, resolve_options, target_of
from prefixdb.errors import InvalidArgumentError, Reason, UnauthenticatedError
from prefixdb.limits import NAMESPACE_ID_MAX, TTL_MS_MAX


@pytest.mark.parametrize(
    ("given_text", "normal"),
    [
        ("localhost", "localhost:7311"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        (" host:65535 ", "host:65535"),
        ("::1", "[::1]:7311"),
        ("[::1]:9", "[::1]:9"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_endpoints_get_their_port(given_text: str, normal: str) -> None:
    assert normal_endpoint(given_text) == normal
    assert normal_endpoint(normal) == normal


def test_a_sockets_path_is_any_path() -> None:
    assert target_of("unix:/run/a b%41#c?") == "unix:/run/a%20b%2541%23c%3F"
    for as_it_is in ("unix:///run/x-y_z.1~", "unix-abstract:x%41", "[fe80::1%eth0]:1", "host:1"):
        assert target_of(as_it_is) == as_it_is


@pytest.mark.parametrize(
    "wrong", ["", "host:0", "host:65536", "host:x", "http://host:1", "host/path", "a b", ":1", "[::1]:x"]
)
def test_what_is_no_endpoint_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidArgumentError):
        normal_endpoint(wrong)


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/x", True),
        ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("localhost.example:1", False), ("127.0.0.1.example:1", False),
    ],
)  # fmt: skip
def test_a_token_goes_in_plaintext_only_where_it_does_not_leave_the_machine(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local
    if local:
        ClientOptions(endpoint, token="t")
    else:
        with pytest.raises(InvalidArgumentError, match="readable"):
            ClientOptions(endpoint, token="t")
        with pytest.raises(InvalidArgumentError, match="readable"):
            ClientOptions(endpoint, token_file=Path("t"))
    ClientOptions(endpoint, token="t", insecure=True)
    ClientOptions(endpoint, token="t", tls=TlsOptions())
    ClientOptions(endpoint)


@pytest.mark.parametrize(
    "login",
    [
        {"user": "alice", "password": "p"},
        {"user": "alice", "password_file": Path("p")},
        {"credentials_file": Path("c")},
        {"user": "alice", "password": "p", "credentials_file": Path("c")},
    ],
)
def test_a_login_goes_in_plaintext_only_where_it_does_not_leave_the_machine(login: dict[str, Any]) -> None:
    for local in ("127.0.0.1:1", "[::1]:1", "unix:/x"):
        assert ClientOptions(local, **login).has_login
    for remote in ("0.0.0.0:1", "10.0.0.1:1", "example.org:1"):
        with pytest.raises(InvalidArgumentError, match="the password or token would travel readable"):
            ClientOptions(remote, **login)
        ClientOptions(remote, **login, insecure=True)
        ClientOptions(remote, **login, tls=TlsOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "t", "token_file": Path("f")},
        {"token": "t", "user": "u", "password": "p"},
        {"token_file": Path("f"), "credentials_file": Path("c")},
        {"user": "u"},
        {"user": "u", "credentials_file": Path("c")},
        {"password": "p"},
        {"password_file": Path("p")},
        {"user": "u", "password": "p", "password_file": Path("p")},
        {"user": "", "password": "p"},
        {"user": "u", "password": ""},
        {"user": "u", "password": "\ud800"},
        {"home": 5},
        {"home": 5, "credentials_file": Path("c")},
        {"database": -1},
        {"database": 65536},
        {"deadline_s": 0},
        {"deadline_s": float("inf")},
        {"deadline_s": float("nan")},
        {"read_attempts": 0},
        {"write_attempts": 0},
        {"transaction_attempts": 0},
        {"resume_s": -1},
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        ClientOptions(**wrong)


def test_files_may_be_named_by_text() -> None:
    named: Any = "some.file"
    assert ClientOptions(token_file=named).token_file == Path("some.file")
    assert ClientOptions(credentials_file=named).credentials_file == Path("some.file")
    assert ClientOptions(user="u", password_file=named).password_file == Path("some.file")


def test_mutual_tls_needs_both_files_and_files_must_be_pem(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        TlsOptions(cert=Path("c"))
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        channel_credentials(TlsOptions(ca=tmp_path / "none"))
    (tmp_path / "ca").write_text("not pem")
    with pytest.raises(InvalidArgumentError, match="no PEM"):
        channel_credentials(TlsOptions(ca=tmp_path / "ca"))


def test_arguments_win_over_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles.save_profile("p", profiles.Profile(endpoint="127.0.0.1:1", token_file=Path("/t"), database=4, timeout_s=9))
    options = resolve_options(profile="p")
    assert (options.endpoint, options.token_file, options.database, options.deadline_s) == (
        "127.0.0.1:1", Path("/t"), 4, 9,
    )  # fmt: skip
    over = resolve_options("127.0.0.1:2", profile="p", token="secret-token", database=0, deadline_s=1)
    assert (over.endpoint, over.token, over.token_file, over.database, over.deadline_s) == (
        "127.0.0.1:2", "secret-token", None, 0, 1,
    )  # fmt: skip
    assert "secret-token" not in repr(over)
    with pytest.raises(InvalidArgumentError, match="no profile"):
        resolve_options(profile="other")
    with connect(profile="p") as db:
        assert db.number == 4


def test_a_profile_may_name_a_login_and_a_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    login = profiles.login_path("p")
    assert login == tmp_path / "prefixdb" / "credentials" / "p.login"
    for namespace in ("acme", "5", 5, 2**64 - 2):
        profiles.save_profile("p", profiles.Profile(credentials_file=login, namespace=namespace))
        options = resolve_options(profile="p")
        assert (options.credentials_file, options.namespace) == (login, namespace)
    assert resolve_options(profile="p", namespace="other").namespace == "other"
    for own in ({"token": "t"}, {"token_file": "t"}, {"user": "u", "password": "p"}):
        assert resolve_options(profile="p", **own).credentials_file is None
    over = resolve_options(profile="p", credentials_file="~/c")
    assert over.credentials_file == Path.home() / "c"
    profiles.save_profile("p", profiles.Profile(credentials_file=login, token_file=Path("/t")))
    with pytest.raises(InvalidArgumentError, match="not both"):
        resolve_options(profile="p")
    (profiles.profiles_path()).write_text("[profiles.p]\nnamespace = true\n")
    with pytest.raises(InvalidArgumentError, match="wrong type"):
        profiles.load_profiles()
    profiles.profiles_path().unlink()
    profiles.save_profile("p", profiles.Profile(credentials_file=login))
    login.parent.mkdir(parents=True, exist_ok=True)
    login.write_text("{}")
    profiles.remove_profile("p")
    assert not login.exists()


def test_a_private_file_is_private_from_its_first_byte_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    profiles.write_private(path, "one")
    path.chmod(0o644)
    profiles.write_private(path, "two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


@given(st.text(min_size=1), st.integers(0, 65535), st.floats(0.001, 1e6))
def test_every_value_of_a_profile_survives_its_file(text: str, database: int, timeout_s: float) -> None:
    import tomllib

    values = {"a": text, "b": database, "c": timeout_s, "d": True}
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        return
    written = "\n".join(f"{name} = {profiles._toml(value)}" for name, value in values.items())
    assert tomllib.loads(written) == values


@pytest.mark.parametrize("bad", ["", " \n", "two words", "ünicode", "x" * 4097, "a\x00b"])
def test_what_cannot_be_a_token_never_reaches_a_header(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "token"
    file.write_text(bad)
    with pytest.raises(UnauthenticatedError) as caught:
        TokenSource(token_file=file).token()
    assert bad.strip() == "" or bad not in str(caught.value)
    with pytest.raises(UnauthenticatedError):
        TokenSource(token=bad)
    assert TokenSource(token="x" * 4096).token() == "x" * 4096


def part(content: object) -> str:
    """Return one part of a token."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def test_claims_are_read_as_they_are_and_nothing_is_guessed() -> None:
    claims = {"sub": "bob", "ns": str(2**64 - 2), "inc": "7", "groups": ["a"], "exp": 2_000_000_000, "iat": True}
    read = inspect_token(f"{part({'alg': 'EdDSA', 'kid': 'k'})}.{part(claims)}.sig")
    assert (read.subject, read.namespace_id, read.incarnation, read.groups) == ("bob", 2**64 - 2, 7, ("a",))
    assert read.expires_at == datetime.fromtimestamp(2_000_000_000, UTC)
    assert read.issued_at is None
    number = inspect_token(f"{part({})}.{part({'ns': 7, 'groups': 'a', 'exp': 1e300})}.")
    assert (number.namespace_id, number.groups, number.expires_at) == (None, (), None)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode() + ".e30.x"))
def test_garbage_is_no_token_and_is_not_repeated_in_the_error(text: str) -> None:
    try:
        inspect_token(text)
    except InvalidArgumentError as failure:
        assert failure.message in {
            "This is no token: a token is three parts with dots between them.",
            "This is no token: its parts are not base64url JSON objects.",
        }


@pytest.mark.parametrize(
    ("ttl", "ms"),
    [(None, 0), (1, 1000), (0.001, 1), (0.0001, 1), (0.0015, 2), (2.001, 2001), (timedelta(days=1), 86_400_000)],
)
def test_lifetimes_become_whole_milliseconds_rounded_up(ttl: float | timedelta | None, ms: int) -> None:
    assert ttl_to_ms(ttl) == ms


def test_lifetimes_have_an_end() -> None:
    assert ttl_to_ms(TTL_MS_MAX // 1000) == TTL_MS_MAX
    with pytest.raises(InvalidArgumentError):
        ttl_to_ms(TTL_MS_MAX // 1000 + 1)
    with pytest.raises(TypeError):
        ttl_to_ms(True)


def test_keys_and_values_have_two_types_and_errors_do_not_repeat_them() -> None:
    assert encode_key("ä") == "ä".encode()
    assert encode_key(bytearray(b"k")) == encode_key(memoryview(b"k")) == b"k"
    assert encode_value(bytearray(b"v")) == b"v"
    with pytest.raises(InvalidArgumentError) as caught:
        encode_key("secret\ud800")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_ranges_references_and_tests_are_checked() -> None:
    assert key_range(None, None, None).ByteSize() == 0
    assert key_range(None, "a", "a").end == b"a"
    with pytest.raises(InvalidArgumentError):
        key_range(None, "b", "a")
    assert namespace_ref(0).WhichOneof("ref") == "id"
    assert namespace_ref("0").name == "0"
    assert namespace_ref(NAMESPACE_ID_MAX).id == NAMESPACE_ID_MAX
    for wrong in (NAMESPACE_ID_MAX + 1, -1):
        with pytest.raises(InvalidArgumentError):
            namespace_ref(wrong)
    with pytest.raises(TypeError):
        namespace_ref(True)
    assert row_test() is None
    with pytest.raises(TypeError):
        row_test(version="3")
    with pytest.raises(InvalidArgumentError):
        row_test(version=2**64)


def test_grpc_repeats_reads_and_never_a_write() -> None:
    assert not any(method.writes for method in RETRIED_BY_GRPC)
    policy = json.loads(service_config(9))["methodConfig"][0]
    assert policy["retryPolicy"]["maxAttempts"] == 5
    assert {"service": "prefixdb.v1.KeyValue", "method": "Get"} in policy["name"]
    names = {entry["method"] for entry in policy["name"]}
    assert {"ListMembers", "GetGroup", "ListGrants", "WhoAmI"} <= names
    assert not names & {"Login", "Refresh", "Logout", "Exchange", "ChangePassword", "SetPassword", "CreateMember"}
    assert not names & {"Put", "Delete", "Write", "Pipeline", "BanNamespace", "IssueToken"}
    assert json.loads(service_config(1)) == {}
    assert ("grpc.enable_http_proxy", 0) in channel_options(ClientOptions())


def test_the_client_knows_every_method_of_the_published_services() -> None:
    from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2

    known = {method.path: method for method in vars(methods).values() if isinstance(method, Method)}
    published = {}
    for module in (auth_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                published[f"/{service.full_name}/{method.name}"] = (method.input_type, method.output_type)
    assert {path: (row.request.DESCRIPTOR, row.response.DESCRIPTOR) for path, row in known.items()} == published


def test_whatever_may_hold_a_password_or_a_refresh_token_is_marked() -> None:
    from google.protobuf.descriptor import Descriptor

    def holds_secret(message: Descriptor) -> bool:
        return any(
            field.name in {"password", "old_password", "new_password", "refresh_token"}
            or (field.message_type is not None and holds_secret(field.message_type))
            for field in message.fields
            if field.message_type is None or field.message_type.full_name.startswith("prefixdb.v1.")
        )

    for method in vars(methods).values():
        if isinstance(method, Method) and method.path != "/prefixdb.v1.KeyValue/Pipeline":
            in_frames = method.path == "/prefixdb.v1.Transfer/RestoreNamespace"  # Its archive's members have hashes.
            assert method.secret is (in_frames or holds_secret(method.request.DESCRIPTOR)), method.path


def test_health_answers_are_read_without_a_package() -> None:
    assert [health_status(answer) for answer in (b"", b"\x08\x01", b"\x08\x02", b"\x08\x7f", b"xyz")] == [
        "UNKNOWN", "SERVING", "NOT_SERVING", "UNKNOWN", "UNKNOWN",
    ]  # fmt: skip


def test_reasons_travel_in_the_enum_of_errors() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ClientOptions(database=-1)
    assert caught.value.reason is Reason.BAD_FIELD


@pytest.mark.parametrize("module", ["prefixdb", "prefixdb.testing", "prefixdb.client", "prefixdb.client.profiles"])
def test_importing_is_cheap_until_a_client_is_made(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'grpc', 'google.protobuf', 'prefixdb.server'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
