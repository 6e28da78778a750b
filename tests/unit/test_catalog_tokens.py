"""Goal: guardians issue no more than they may; a revocation kills exactly what came before it; both survive restarts.

Method: real tokens over the model store. "Before" and "after" a revocation happen in the same held millisecond, so that
only the order of commits can tell them apart. A restart is a second catalog over the same store. Bounds on memory are
tried with the limits made small.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.policy import Guardian
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.tokens import TokenRequest, ensure_guardian_token, write_guardian_token
from prefixdb.errors import InvalidArgumentError, PrefixdbError, Reason, error
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, Delete
from tests.support.catalog import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.registry.create("acme", namespace_id=7)
    world.registry.create("beta", namespace_id=8)
    return world


def reason_of(call, *arguments, **keywords) -> Reason | None:
    try:
        call(*arguments, **keywords)
    except PrefixdbError as failure:
        return failure.reason
    return None


def alive(world: World, token: str) -> bool:
    found = reason_of(world.authority.verify, token)
    assert found in (None, Reason.TOKEN_REVOKED)
    return found is None


# --- issuing -------------------------------------------------------------------------------------------------------


def test_a_guardian_issues_a_token_whose_session_has_the_rules_of_its_groups(world):
    boss = world.guardian_of(7)
    token, record = world.authority.issue(TokenRequest(7, "bob", ("readers",), ttl_s=60), boss)
    session = world.admit(token)
    assert (session.namespace_id, session.subject, session.groups, session.jti) == (7, "bob", ("readers",), record.jti)
    assert [(rule.read, rule.write) for rule in session.rules] == [(True, False)]
    assert (session.guardian, session.minted, record.minted_by) == (Guardian.NONE, False, "")
    assert session.expires_at_ms == session.issued_at_ms + 60_000
    assert record.issued_by == "boss@7"


def test_a_token_without_a_lifetime_gets_fifteen_minutes(world):
    _, record = world.authority.issue(TokenRequest(7, "bob"), world.guardian_of(7))
    assert record.expires_at_s - record.issued_at_s == limits.ACCESS_TOKEN_S == 900


@pytest.mark.parametrize(
    ("by", "target", "guardian", "expected"),
    [
        ("namespace", 7, Guardian.NAMESPACE, None),
        ("namespace", 7, Guardian.CLUSTER, Reason.NOT_PERMITTED),
        ("namespace", 8, Guardian.NONE, Reason.NOT_PERMITTED),
        ("namespace", 999, Guardian.NONE, Reason.NOT_PERMITTED),
        ("namespace", 0, Guardian.NONE, Reason.NOT_PERMITTED),
        ("cluster", 7, Guardian.NAMESPACE, None),
        ("cluster", 0, Guardian.CLUSTER, None),
        ("cluster", 7, Guardian.CLUSTER, Reason.NOT_PERMITTED),
        ("cluster", 999, Guardian.NONE, Reason.NAMESPACE_NOT_FOUND),
    ],
)
def test_who_may_issue_what(world, by, target, guardian, expected):
    issuer = world.guardian_of(7) if by == "namespace" else world.cluster_guardian()
    assert reason_of(world.authority.issue, TokenRequest(target, "bob", guardian=guardian), issuer) is expected


@pytest.mark.parametrize("groups", [("nosuch",), ("readers", "nosuch")])
def test_a_group_that_does_not_exist_cannot_be_given_and_nothing_is_written(world, groups):
    before = world.store.status().last_version
    boss = world.cluster_guardian()
    after_login = world.store.status().last_version
    assert after_login > before
    assert reason_of(world.authority.issue, TokenRequest(7, "bob", groups), boss) is Reason.GROUP_NOT_FOUND
    assert world.store.status().last_version == after_login


def test_a_foreign_guardian_does_not_even_learn_that_a_group_is_missing(world):
    request = TokenRequest(8, "bob", ("nosuch",))
    assert reason_of(world.authority.issue, request, world.guardian_of(7)) is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 129}, "subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"groups": ("readers", "readers")}, "groups"),
        ({"groups": ("bad name",)}, "groups"),
        ({"groups": tuple(f"g{n}" for n in range(33))}, "groups"),
        ({"ttl_s": 0}, "ttl"),
        ({"ttl_s": -1}, "ttl"),
        ({"ttl_s": limits.SERVICE_TOKEN_S_MAX + 1}, "ttl"),
    ],
)
def test_a_request_that_cannot_be_right_names_its_field(world, fields, field):
    request = TokenRequest(**{"namespace_id": 7, "subject": "bob", **fields})
    with pytest.raises(PrefixdbError) as caught:
        world.authority.issue(request, world.guardian_of(7))
    assert caught.value.reason is Reason.BAD_FIELD and caught.value.metadata["field"] == field


def test_a_minted_token_is_marked_and_lives_an_hour_at_most(world):
    root = world.cluster_guardian()
    too_long = TokenRequest(7, "ops", ttl_s=limits.MINTED_TOKEN_S_MAX + 1)
    with pytest.raises(InvalidArgumentError, match=r"3600 seconds: .* for help"):
        world.authority.issue(too_long, root)
    token, record = world.authority.issue(TokenRequest(7, "ops", ttl_s=limits.MINTED_TOKEN_S_MAX), root)
    assert world.admit(token).minted and world.authority.verify(token).minted_by == "guardian" == record.minted_by
    own, _ = world.authority.issue(TokenRequest(0, "ops", ttl_s=limits.SERVICE_TOKEN_S_MAX), root)
    assert not world.admit(own).minted


def test_what_a_minted_token_issues_is_minted_too_and_ends_with_it(world):
    request = TokenRequest(7, "ops", ("guardians",), Guardian.NAMESPACE, 600)
    minted = world.admit(world.authority.issue(request, world.cluster_guardian())[0])
    world.clock.advance(500_000)
    with pytest.raises(InvalidArgumentError, match=r"100 seconds: .* ends with it"):
        world.authority.issue(TokenRequest(7, "bob", ttl_s=101), minted)
    for ttl_s in (100, None):
        child, record = world.authority.issue(TokenRequest(7, "bob", ttl_s=ttl_s), minted)
        assert world.admit(child).minted
        assert record.expires_at_s * 1000 == minted.expires_at_ms


@pytest.mark.parametrize("state", NamespaceState)
def test_tokens_can_be_issued_for_living_namespaces_only(world, state):
    root = world.cluster_guardian()
    if state in (NamespaceState.READ_ONLY, NamespaceState.SUSPENDED):
        world.registry.suspend(7, state)
    elif not state.is_live:
        world.registry.ban(7, by="x")
        if state is NamespaceState.RECLAIMED:
            Reclaimer(world.store, world.registry, world.clock, lambda _: 0).run_once()
    assert world.registry.get(7).state is state
    found = reason_of(world.authority.issue, TokenRequest(7, "bob"), root)
    assert found is (None if state.is_live else Reason.NAMESPACE_STATE)


def test_a_ban_between_check_and_commit_is_not_overlooked(world, monkeypatch):
    boss = world.guardian_of(7)
    honest = world.store.commit

    def late(commit: Commit):
        monkeypatch.setattr(world.store, "commit", honest)
        world.registry.ban(7, by="x", grace_ms=10**6)
        return honest(commit)

    monkeypatch.setattr(world.store, "commit", late)
    assert reason_of(world.authority.issue, TokenRequest(7, "bob"), boss) is Reason.NAMESPACE_STATE
    assert [record.subject for record in world.authority.list(7)] == ["boss"]


def test_a_harmless_change_between_check_and_commit_is_retried(world, monkeypatch):
    boss = world.guardian_of(7)
    honest = world.store.commit

    def late(commit: Commit):
        monkeypatch.setattr(world.store, "commit", honest)
        world.registry.update(7, labels={"a": "b"})
        return honest(commit)

    monkeypatch.setattr(world.store, "commit", late)
    assert alive(world, world.authority.issue(TokenRequest(7, "bob"), boss)[0])


def test_the_first_guardians_token_comes_with_the_namespace(world):
    root = world.cluster_guardian()
    record = world.authority.prepare_guardian(3600, root)
    created = world.registry.create("gamma", first_token=record)
    session = world.admit(world.authority.sign(record, created))
    assert (session.namespace_id, session.guardian, session.minted) == (created.id, Guardian.NAMESPACE, False)
    assert [kept.jti for kept in world.authority.list(created.id)] == [record.jti]
    assert reason_of(world.authority.prepare_guardian, 3600, world.guardian_of(7)) is Reason.NOT_PERMITTED


def test_a_changed_group_counts_for_the_next_session_and_a_removed_one_permits_nothing(world):
    claims = world.authority.verify(world.local(7, groups=("readers",)))
    assert world.authority.session(claims).rules
    world.store.commit(Commit((Delete(schema.group_key(7, "readers")),)))
    assert world.authority.session(claims).rules == ()


def test_no_secret_is_in_any_record_or_repr(world):
    token = world.local(7, groups=("readers",))
    signature = token.rsplit(".", 1)[1].encode()
    assert not [cell for cell in world.store._cells.values() if signature in cell.payload]
    shown = repr((world.authority, world.keyring, world.keyring.verifying_keys(), world.authority.verify(token)))
    assert token.rsplit(".", 1)[1] not in shown and "PRIVATE" not in shown


# --- listing -------------------------------------------------------------------------------------------------------


def test_lists_page_in_the_order_of_jti_and_leave_out_the_expired(world):
    for number in range(5):
        world.local(7, f"s{number}", ttl_s=60)
    world.local(7, "late", ttl_s=120)
    world.local(8, "foreign")
    whole = world.authority.list(7)
    assert len(whole) == 6 and [r.jti for r in whole] == sorted(r.jti for r in whole)
    paged: list[str] = []
    while page := world.authority.list(7, paged[-1] if paged else "", 4):
        paged += [record.jti for record in page]
    assert paged == [record.jti for record in whole]
    world.clock.advance(60_000)
    assert [record.subject for record in world.authority.list(7)] == ["late"]


# --- revoking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_a_subjects_revocation_kills_what_came_before_in_the_same_millisecond_and_nothing_else(world, restart):
    before, other, foreign = world.local(7, "bob"), world.local(7, "eve"), world.local(8, "bob")
    world.authority.revoke_subject(7, "bob")
    after = world.local(7, "bob")
    if restart:
        world.reopen()
    assert [alive(world, token) for token in (before, other, foreign, after)] == [False, True, True, True]
    world.authority.revoke_subject(7, "bob")
    assert not alive(world, after)


@pytest.mark.parametrize("restart", [False, True])
def test_a_namespaces_revocation_kills_all_of_it_and_nothing_of_others(world, restart):
    before, foreign = [world.local(7, name) for name in ("bob", "eve")], world.local(8)
    world.authority.revoke_namespace(7)
    after = world.local(7)
    if restart:
        world.reopen()
    assert [alive(world, token) for token in (*before, foreign, after)] == [False, False, True, True]


@pytest.mark.parametrize("restart", [False, True])
def test_everyones_revocation_kills_every_token_and_a_new_guardian_token_helps(world, restart):
    before = [world.local(7), world.local(8), world.operator_token()]
    world.authority.revoke_everyone()
    if restart:
        world.reopen()
    assert [alive(world, token) for token in before] == [False] * 3
    path = write_guardian_token(world.authority, world.data_dir)
    assert world.admit(path.read_text().strip()).guardian is Guardian.CLUSTER


@pytest.mark.parametrize("restart", [False, True])
def test_one_token_is_revoked_by_its_jti_and_listed_so(world, restart):
    tokens = [world.local(7, "bob") for _ in range(2)]
    jti = world.authority.verify(tokens[0]).jti
    world.authority.revoke_jti(7, jti)
    world.authority.revoke_jti(7, jti)
    if restart:
        world.reopen()
    assert [alive(world, token) for token in tokens] == [False, True]
    assert {record.jti: record.revoked for record in world.authority.list(7)}[jti] is True
    assert sum(record.revoked for record in world.authority.list(7)) == 1


def test_revoking_what_is_not_there_says_so(world):
    jti = world.authority.verify(world.local(7)).jti
    assert reason_of(world.authority.revoke_jti, 8, jti) is Reason.TOKEN_NOT_FOUND
    assert reason_of(world.authority.revoke_subject, 99, "bob") is Reason.NAMESPACE_NOT_FOUND
    assert reason_of(world.authority.revoke_namespace, 99) is Reason.NAMESPACE_NOT_FOUND
    assert reason_of(world.authority.revoke_subject, 7, "") is Reason.BAD_FIELD


def test_tokens_of_a_banned_namespace_can_be_revoked_during_the_grace_without_a_row_in_it(world):
    token, one = world.local(7), world.local(7, "eve")
    jti = world.authority.verify(one).jti
    world.registry.ban(7, by="x", grace_ms=10**6)
    assert reason_of(world.authority.revoke_jti, 7, jti) is Reason.NAMESPACE_STATE
    world.authority.revoke_subject(7, "bob")
    world.registry.unban(7)
    assert not alive(world, token) and alive(world, one)


def test_a_reclaimed_namespace_takes_its_revocations_with_it(world):
    token = world.local(7)
    world.authority.revoke_jti(7, world.authority.verify(token).jti)
    world.authority.revoke_subject(7, "eve")
    world.authority.revoke_namespace(8)
    world.registry.ban(7, by="x")
    Reclaimer(world.store, world.registry, world.clock, lambda _: 0).run_once()
    left = [
        schema.split_id(record_key)[0]
        for tag in (Tag.WATERMARK, Tag.REVOKED_TOKEN)
        for record_key, _ in schema.rows_of(world.store, schema.catalog_span(tag))
    ]
    assert left == [8]
    assert not world.authority._revocations._tokens and not world.authority._revocations._subjects


def test_a_revocation_moves_the_numbers_of_those_it_can_touch_and_of_nobody_else(world):
    heard: list[int | None] = []
    world.authority.add_listener(heard.append)
    token, root = world.local(7), world.cluster_guardian()
    own, other = world.admit(token), world.admit(world.local(8))
    minted = world.admit(world.authority.issue(TokenRequest(7, "ops"), root)[0])
    old = world.keyring.signing_kid

    def moved(act, *arguments) -> list[bool]:
        before = [world.authority.epoch_of(session) for session in (own, other, minted, root)]
        act(*arguments)
        after = [world.authority.epoch_of(session) for session in (own, other, minted, root)]
        assert all(now >= then for now, then in zip(after, before, strict=True))
        return [now > then for now, then in zip(after, before, strict=True)]

    assert moved(world.authority.revoke_jti, 7, own.jti) == [True, False, True, False]
    assert moved(world.authority.revoke_subject, 7, "bob") == [True, False, True, False]
    assert moved(world.authority.revoke_namespace, 8) == [False, True, False, False]
    assert moved(world.authority.revoke_subject, 0, "guardian") == [False, False, True, True]
    assert moved(world.authority.revoke_everyone) == [True] * 4
    assert moved(world.keyring.rotate) == [True] * 4
    assert moved(world.keyring.remove, old) == [True] * 4
    assert heard == [7, 7, 8, None, None, None, None]


def test_a_session_is_valid_until_its_token_is_revoked_or_expired(world):
    bob, other = [world.authority.verify(world.local(7, subject, ttl_s=60)) for subject in ("bob", "eve")]
    world.authority.check_still_valid(bob)
    world.authority.revoke_subject(7, "bob")
    assert reason_of(world.authority.check_still_valid, bob) is Reason.TOKEN_REVOKED
    world.clock.advance(89_999)
    world.authority.check_still_valid(other)
    world.clock.advance(1)
    assert reason_of(world.authority.check_still_valid, other) is Reason.TOKEN_EXPIRED


def test_a_namespace_cannot_fill_the_memory_with_revocations(world, monkeypatch):
    monkeypatch.setattr(limits, "SERVICE_TOKENS_PER_NAMESPACE_MAX", 3)
    for subject in "abc":
        world.authority.revoke_subject(7, subject)
    assert reason_of(world.authority.revoke_subject, 7, "d") is Reason.QUOTA_EXCEEDED
    world.authority.revoke_subject(7, "a")  # A mark that is there can be moved.
    world.authority.revoke_subject(8, "d")  # Another tenant is not concerned.
    world.authority.revoke_namespace(7)
    world.authority.revoke_subject(7, "d")
    world.reopen()
    world.authority.revoke_subject(7, "e")


def test_a_namespace_has_a_limited_number_of_service_tokens_and_revoking_all_makes_room(world, monkeypatch):
    monkeypatch.setattr(limits, "SERVICE_TOKENS_PER_NAMESPACE_MAX", 3)
    tokens = [world.local(7) for _ in range(3)]
    world.authority.revoke_jti(7, world.authority.verify(tokens[0]).jti)
    assert reason_of(world.local, 7) is Reason.QUOTA_EXCEEDED
    world.local(8)
    world.authority.revoke_namespace(7)
    assert alive(world, world.local(7))
    assert not [token for token in tokens if alive(world, token)]


def test_an_expired_revocation_leaves_memory_and_disk(world):
    for _ in range(2):
        world.authority.revoke_jti(7, world.authority.verify(world.local(7, ttl_s=60)).jti)
        world.clock.advance(200_000)
    assert len(world.authority._revocations._tokens) == 1
    world.reopen()
    assert len(world.authority._revocations._tokens) == 0


@pytest.mark.parametrize("reached_the_disk", [True, False])
def test_after_an_unknown_outcome_a_revocation_is_in_force_as_the_store_has_it(world, monkeypatch, reached_the_disk):
    token, honest, epoch = world.local(7), world.store.commit, world.authority.epochs.of(7)

    def unsure(commit: Commit):
        if reached_the_disk:
            honest(commit)
        raise error(Reason.OUTCOME_UNKNOWN)

    monkeypatch.setattr(world.store, "commit", unsure)
    assert reason_of(world.authority.revoke_subject, 7, "bob") is Reason.OUTCOME_UNKNOWN
    assert alive(world, token) != reached_the_disk
    assert world.authority.epochs.of(7) > epoch


steps = st.lists(
    st.tuples(
        st.sampled_from(["issue", "subject", "namespace", "everyone", "restart"]), st.integers(7, 8), st.booleans()
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_any_order_of_issues_revocations_and_restarts_agrees_with_a_model(tmp_path_factory, steps):
    world = World(tmp_path_factory.mktemp("data"))
    for namespace_id in (7, 8):
        world.registry.create(f"n{namespace_id}", namespace_id=namespace_id)
    tokens: dict[str, tuple[int, str]] = {}
    for act, namespace_id, first in steps:
        subject = "bob" if first else "eve"
        if act == "issue":
            tokens[world.local(namespace_id, subject)] = (namespace_id, subject)
        elif act == "restart":
            world.reopen()
        else:
            doomed = {
                "subject": lambda owner, n=namespace_id, s=subject: owner == (n, s),
                "namespace": lambda owner, n=namespace_id: owner[0] == n,
                "everyone": lambda owner: True,
            }[act]
            if act == "subject":
                world.authority.revoke_subject(namespace_id, subject)
            elif act == "namespace":
                world.authority.revoke_namespace(namespace_id)
            else:
                world.authority.revoke_everyone()
            dead = [token for token, owner in tokens.items() if doomed(owner)]
            assert not [token for token in dead if alive(world, token)]
            for token in dead:
                del tokens[token]
        assert all(alive(world, token) for token in tokens)


# --- the first guardian --------------------------------------------------------------------------------------------


def test_the_first_start_writes_a_guardian_token_that_only_the_owner_can_read(world):
    path = ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir)
    assert path == world.data_dir / "guardian.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    session = world.admit(path.read_text().strip())
    assert (session.namespace_id, session.guardian, session.subject) == (0, Guardian.CLUSTER, "guardian")
    assert session.groups == ("guardians",)
    assert sorted(p.name for p in world.data_dir.iterdir()) == ["guardian.token", "keys"]


def test_a_later_start_writes_none_even_when_the_file_was_moved_away(world):
    path = ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir)
    path.unlink()
    world.reopen()
    assert ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir) is None
    assert not path.exists()


def test_a_crash_before_the_file_is_written_leads_to_another_token_at_the_next_start(world, monkeypatch):
    def crash(*_arguments):
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("prefixdb.catalog.tokens.write_secret", crash)
        with pytest.raises(OSError, match="no space"):
            ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir)
    world.reopen()
    assert ensure_guardian_token(world.authority, world.store, world.clock, world.data_dir) is not None


def test_a_planted_link_is_replaced_and_not_followed(world, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "stolen"
    (world.data_dir / "guardian.token").symlink_to(elsewhere)
    path = write_guardian_token(world.authority, world.data_dir)
    assert not elsewhere.exists() and not path.is_symlink()
