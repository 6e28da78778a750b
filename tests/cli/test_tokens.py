"""Goal: tokens are issued, looked into, listed and revoked; a secret appears where it was asked for and nowhere else.

Method: a real server; outputs of every command are searched for the secret.
"""

from __future__ import annotations

import stat
from pathlib import Path

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli


def test_an_issued_token_is_the_only_thing_on_standard_output_and_works(guardian: Cli, place: Namespace) -> None:
    ended = guardian("token", "issue", "bob", "--group", "writers", "--ttl", "10m", "--namespace", place.name)
    [token] = ended.text.splitlines()
    assert token not in ended.err
    assert "valid until" in ended.err and "token revoke --jti" in ended.err
    used = guardian("whoami", "--token-file", "-", "--json", stdin=token.encode() + b"\n")
    assert (used.json["subject"], used.json["namespace_name"]) == ("bob", place.name)
    assert guardian("put", "k", "-", "--token-file", "-", stdin=token.encode() + b"\nvalue").status == 0
    assert guardian("get", "k", "--token-file", "-", stdin=token.encode()).out == b"value"


def test_a_token_goes_into_a_new_private_file_and_nowhere_else(guardian: Cli, tmp_path: Path) -> None:
    out = tmp_path / "bob.token"
    ended = guardian("token", "issue", "bob", "--group", "readers", "--out", str(out), "--json")
    secret = out.read_text().strip()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "token" not in ended.json
    assert secret not in ended.text + ended.err
    again = guardian("token", "issue", "bob", "--group", "readers", "--out", str(out))
    assert (again.status, again.out) == (2, b"")
    assert out.read_text().strip() == secret
    for arguments in (["token", "list"], ["token", "inspect"], ["whoami"], ["doctor"], ["config", "show"]):
        seen = guardian(*arguments, "--token-file", str(out))
        assert secret not in seen.text + seen.err
        assert secret.split(".")[2] not in seen.text + seen.err, "nor its signature"


def test_a_token_that_permits_nothing_says_so(guardian: Cli) -> None:
    assert "can read and write nothing" in guardian("token", "issue", "bob").err
    assert "nothing;" not in guardian("token", "issue", "bob", "--group", "readers").err
    assert "nothing;" not in guardian("token", "issue", "bob", "--guardian", "namespace").err


def test_looking_into_a_token_needs_no_server(bare: Cli, guardian: Cli, tmp_path: Path) -> None:
    token = guardian("token", "issue", "bob", "--group", "readers", "--group", "writers", "--ttl", "1h").out
    seen = bare("token", "inspect", "-", "--json", stdin=token)
    assert (seen.json["subject"], seen.json["groups"], seen.json["verified"]) == ("bob", ["readers", "writers"], False)
    file = tmp_path / "t"
    file.write_bytes(token)
    assert "subject\tbob" in bare("token", "inspect", str(file)).text
    assert bare("token", "inspect").status == 2
    bad = bare("token", "inspect", "-", stdin=b"nonsense.with.secret")
    assert (bad.status, bad.out) == (64 + 3, b"")
    assert "nonsense" not in bad.err


def test_a_revoked_token_is_refused_and_listed_as_revoked(guardian: Cli, place: Namespace) -> None:
    issued = guardian("token", "issue", "bob", "--group", "readers", "--namespace", place.name, "--json").json
    assert guardian("token", "revoke", "--jti", issued["jti"], "--namespace", place.name).status == 0
    refused = guardian("get", "k", "--token-file", "-", stdin=issued["token"].encode())
    assert refused.status == 64 + 16
    assert "revoked" in refused.err
    listed = guardian("token", "list", "--namespace", place.name)
    assert f"{issued['jti']}\tbob\treaders\trevoked" in listed.text
    by_jti = {item["jti"]: item for item in guardian("token", "list", "--namespace", place.name, "--json").lines}
    assert by_jti[issued["jti"]]["revoked"] is True


def test_revoking_by_subject_and_everything_of_a_namespace(guardian: Cli, cli: Cli, place: Namespace) -> None:
    assert guardian("token", "revoke", "--subject", "nobody", "--namespace", place.name).status == 0
    assert cli("count").status == 0
    ended = guardian("token", "revoke", "--all", "--namespace", place.name)
    assert ended.status == 2, "without a terminal this needs --yes"
    assert cli("count").status == 0
    assert guardian("token", "revoke", "--all", "--namespace", f"id:{place.id}", "--yes").status == 0
    assert cli("count").status == 64 + 16
    assert guardian("token", "revoke").status == 2
    assert guardian("token", "revoke", "--everyone").status == 2
    assert guardian("token", "revoke", "--everyone", "--namespace", place.name, "--yes").status == 2


def test_the_namespace_of_a_token_comes_from_the_flag_the_variable_or_the_profile(
    guardian: Cli, place: Namespace, tmp_path: Path
) -> None:
    issue = ["token", "issue", "bob", "--group", "readers", "--json"]
    tokens = [
        guardian("--namespace", place.name, *issue).json["token"],
        guardian(*issue, "--namespace", f"id:{place.id}").json["token"],
        guardian(*issue, PREFIXDB_NAMESPACE=place.name).json["token"],
    ]
    assert guardian("profile", "set", "p", "--namespace", place.name).status == 0
    tokens.append(guardian(*issue).json["token"])
    for token in tokens:
        seen = guardian("token", "inspect", "-", "--json", stdin=token.encode()).json
        assert seen["namespace_id"] == str(place.id)
    assert len(guardian("token", "list", "--json").lines) >= 4
    revoked = guardian("--namespace", place.name, *issue[:-1], "--out", str(tmp_path / "t"))
    assert f"prefixdb --namespace {place.name} token revoke --jti" in revoked.err
    assert guardian("token", "revoke", "--everyone").status == 2, (
        "a profile's namespace is not in the way of --everyone"
    )
    assert "Nobody can be asked" in guardian("token", "revoke", "--everyone").err


def test_no_command_takes_a_secret_as_an_argument() -> None:
    """A command line is readable for everyone on the machine."""
    import click

    from prefixdb.cli.main import main

    def options(command: click.Command, context: click.Context) -> set[str]:
        names = {name for parameter in command.params for name in parameter.opts}
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                names |= options(child, click.Context(child, parent=context))
        return names

    found = options(main, click.Context(main))
    assert "--token-file" in found
    assert not {"--token", "--password", "--secret"} & found
