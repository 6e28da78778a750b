"""Goal: nobody may do what the table in the security page does not give them.

Method: the table is written out here a second time, by role and capability, and compared cell by cell. The list of
methods comes from the descriptors of every service, so a new method without a row turns this red. Rules and ranges are
compared with a brute-force oracle that enumerates keys and shares no code with the subject.
"""

from __future__ import annotations

import itertools

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixdb import limits
from prefixdb.catalog import policy
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState, ReclaimPhase
from prefixdb.catalog.policy import Access, Capability, Guardian, Rule, Session
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, namespaces_pb2

ALL = (Rule(None, b"", read=True, write=True),)
READ = (Rule(None, b"", read=True, write=False),)
WRITE = (Rule(None, b"", read=False, write=True),)


def session(namespace_id: int = 7, guardian: Guardian = Guardian.NONE, rules: tuple[Rule, ...] = (), **more: object):
    facts = {"subject": "bob", "jti": "j", "groups": (), "issued_at_ms": 1, "expires_at_ms": 10**12, "incarnation": 3}
    return Session(namespace_id=namespace_id, guardian=guardian, rules=rules, **{**facts, **more})


def refusal(call, *arguments: object) -> Reason | None:
    try:
        call(*arguments)
    except PrefixdbError as failure:
        return failure.reason
    return None


ROLES = {
    "nobody": None,
    "no rules": session(),
    "reader": session(rules=READ),
    "writer only": session(rules=WRITE),
    "writer": session(rules=ALL),
    "namespace guardian": session(guardian=Guardian.NAMESPACE),
    "namespace guardian in the default namespace": session(0, Guardian.NAMESPACE),
    "cluster guardian": session(0, Guardian.CLUSTER),
    "cluster guardian claimed elsewhere": session(7, Guardian.CLUSTER, ALL),
    "cluster guardian by a minted token": session(0, Guardian.CLUSTER, ALL, minted=True),
}

HOLDERS = {
    Capability.PUBLIC: set(ROLES),
    Capability.ANY_TOKEN: set(ROLES) - {"nobody"},
    Capability.ROWS_READ: {
        "reader",
        "writer",
        "cluster guardian claimed elsewhere",
        "cluster guardian by a minted token",
    },
    Capability.ROWS_WRITE: {
        "writer only",
        "writer",
        "cluster guardian claimed elsewhere",
        "cluster guardian by a minted token",
    },
    Capability.ROWS: {
        "reader",
        "writer only",
        "writer",
        "cluster guardian claimed elsewhere",
        "cluster guardian by a minted token",
    },
    Capability.NAMESPACE_VIEW: {
        "namespace guardian",
        "namespace guardian in the default namespace",
        "cluster guardian",
    },
    Capability.TOKENS: {"namespace guardian", "namespace guardian in the default namespace", "cluster guardian"},
    Capability.TOKENS_EVERYONE: {"cluster guardian"},
    Capability.NAMESPACES_EDIT: {"cluster guardian"},
    Capability.MAINTENANCE: {"cluster guardian"},
}


def test_every_method_of_every_service_has_exactly_one_row():
    files = [key_value_pb2, namespaces_pb2, auth_pb2, maintenance_pb2, health_pb2, reflection_pb2]
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    # Newer releases of the health and reflection packages bring these two; their rows are ready.
    methods |= {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/List"}
    assert set(policy.METHODS) == methods


def test_only_health_and_reflection_are_public():
    public = {name for name, needs in policy.METHODS.items() if needs is Capability.PUBLIC}
    assert public and all(name.startswith("/grpc.") for name in public)
    assert not any(name.startswith("/grpc.") for name in set(policy.METHODS) - public)


def test_the_method_table_gives_every_method_the_capability_its_comment_names():
    expected = {
        "KeyValue": dict.fromkeys(["Get", "BatchGet", "Scan", "Count"], Capability.ROWS_READ)
        | dict.fromkeys(["Put", "Delete"], Capability.ROWS_WRITE)
        | dict.fromkeys(["Write", "Pipeline"], Capability.ROWS),
        "Auth": dict.fromkeys(["IssueToken", "ListTokens", "RevokeTokens"], Capability.TOKENS)
        | dict.fromkeys(["ListKeys", "RotateKey"], Capability.MAINTENANCE)
        | {"WhoAmI": Capability.ANY_TOKEN},
        "Maintenance": dict.fromkeys(["Status", "Compact"], Capability.MAINTENANCE),
    }
    for service, methods in expected.items():
        for method, needs in methods.items():
            assert policy.METHODS[f"/prefixdb.v1.{service}/{method}"] is needs
    for name, needs in policy.METHODS.items():
        if name.startswith("/prefixdb.v1.Namespaces/"):
            view = name.endswith("/GetNamespace")
            assert needs is (Capability.NAMESPACE_VIEW if view else Capability.NAMESPACES_EDIT)


def test_the_method_table_cannot_be_changed():
    with pytest.raises(TypeError):
        policy.METHODS["/prefixdb.v1.KeyValue/New"] = Capability.PUBLIC  # type: ignore[index]


def test_the_table_of_this_test_covers_every_capability():
    assert set(HOLDERS) == set(Capability)


@pytest.mark.parametrize("capability", Capability)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_a_capability_exactly_when_the_table_says_so(role, capability):
    found = refusal(policy.check_capability, ROLES[role], capability)
    if role in HOLDERS[capability]:
        assert found is None
    else:
        assert found is (Reason.TOKEN_MISSING if role == "nobody" else Reason.NOT_PERMITTED)


def test_something_that_is_no_capability_is_refused():
    assert refusal(policy.check_capability, ROLES["cluster guardian"], "backup") is Reason.NOT_PERMITTED


@pytest.mark.parametrize("capability", [Capability.NAMESPACE_VIEW, Capability.TOKENS])
def test_a_namespace_guardian_reaches_its_own_namespace_and_learns_nothing_of_others(capability):
    guardian = session(7, Guardian.NAMESPACE)
    assert refusal(policy.check_target, guardian, capability, 7) is None
    errors = []
    for target in (0, 8, None):
        with pytest.raises(PrefixdbError) as caught:
            policy.check_target(guardian, capability, target)
        errors.append((caught.value.reason, str(caught.value), caught.value.metadata))
    assert errors == [(Reason.NOT_PERMITTED, Reason.NOT_PERMITTED.value.summary, {})] * 3


def test_a_guardian_of_the_default_namespace_who_is_not_the_clusters_reaches_only_that():
    guardian = session(0, Guardian.NAMESPACE)
    assert refusal(policy.check_target, guardian, Capability.TOKENS, 0) is None
    assert refusal(policy.check_target, guardian, Capability.TOKENS, 7) is Reason.NOT_PERMITTED
    assert refusal(policy.check_target, guardian, Capability.NAMESPACES_EDIT, 0) is Reason.NOT_PERMITTED


@pytest.mark.parametrize("capability", [c for c in Capability if c not in {Capability.PUBLIC, Capability.ANY_TOKEN}])
def test_a_cluster_guardian_reaches_any_namespace_it_has_the_capability_for(capability):
    guardian = session(0, Guardian.CLUSTER)
    held = "cluster guardian" in HOLDERS[capability]
    assert refusal(policy.check_target, guardian, capability, 9) is (None if held else Reason.NOT_PERMITTED)
    assert refusal(policy.check_target, guardian, capability, None) is (
        Reason.NAMESPACE_NOT_FOUND if held else Reason.NOT_PERMITTED
    )


def test_a_member_may_not_name_even_its_own_namespace():
    assert refusal(policy.check_target, session(7, rules=ALL), Capability.NAMESPACE_VIEW, 7) is Reason.NOT_PERMITTED


ISSUE = [
    # issuer, target, guardian asked for, expected: refusal or (minted, bounded by the issuer's own end, longest)
    (session(7, Guardian.NAMESPACE), 7, Guardian.NONE, (False, False, limits.SERVICE_TOKEN_S_MAX)),
    (session(7, Guardian.NAMESPACE), 7, Guardian.NAMESPACE, (False, False, limits.SERVICE_TOKEN_S_MAX)),
    (session(7, Guardian.NAMESPACE), 7, Guardian.CLUSTER, Reason.NOT_PERMITTED),
    (session(7, Guardian.NAMESPACE), 8, Guardian.NONE, Reason.NOT_PERMITTED),
    (session(7, Guardian.NAMESPACE), None, Guardian.NONE, Reason.NOT_PERMITTED),
    (session(7, Guardian.NAMESPACE), 0, Guardian.CLUSTER, Reason.NOT_PERMITTED),
    (session(0, Guardian.NAMESPACE), 0, Guardian.CLUSTER, Reason.NOT_PERMITTED),
    (session(0, Guardian.NAMESPACE), 0, Guardian.NAMESPACE, (False, False, limits.SERVICE_TOKEN_S_MAX)),
    (session(0, Guardian.CLUSTER), 0, Guardian.CLUSTER, (False, False, limits.SERVICE_TOKEN_S_MAX)),
    (session(0, Guardian.CLUSTER), 7, Guardian.CLUSTER, Reason.NOT_PERMITTED),
    (session(0, Guardian.CLUSTER), 7, Guardian.NAMESPACE, (True, False, limits.MINTED_TOKEN_S_MAX)),
    (session(0, Guardian.CLUSTER), 7, Guardian.NONE, (True, False, limits.MINTED_TOKEN_S_MAX)),
    (session(0, Guardian.CLUSTER), None, Guardian.NONE, Reason.NAMESPACE_NOT_FOUND),
    (session(7, Guardian.NAMESPACE, minted=True), 7, Guardian.NONE, (True, True, limits.MINTED_TOKEN_S_MAX)),
    (session(7, Guardian.NAMESPACE, minted=True), 7, Guardian.NAMESPACE, (True, True, limits.MINTED_TOKEN_S_MAX)),
    (session(7, rules=ALL), 7, Guardian.NONE, Reason.NOT_PERMITTED),
]


@pytest.mark.parametrize(("issuer", "target", "asked", "expected"), ISSUE)
def test_who_may_issue_what_and_for_how_long(issuer, target, asked, expected):
    if isinstance(expected, Reason):
        assert refusal(policy.check_issue, issuer, target, asked) is expected
        return
    minted, bounded, longest_s = expected
    found = policy.check_issue(issuer, target, asked)
    assert (found.minted, bool(found.expires_at_ms_max), found.ttl_s_max) == (minted, bounded, longest_s)
    if bounded:
        assert found.expires_at_ms_max == issuer.expires_at_ms


def record(state: NamespaceState, namespace_id: int = 7, incarnation: int = 3) -> NamespaceRecord:
    return NamespaceRecord(namespace_id, "n", state, incarnation, {}, 1, 1, "", 3)


STATES = {
    NamespaceState.ACTIVE: (None, None, None),
    NamespaceState.READ_ONLY: (None, Reason.READ_ONLY, None),
    NamespaceState.SUSPENDED: (Reason.NAMESPACE_SUSPENDED,) * 3,
    NamespaceState.BANNED: (Reason.NAMESPACE_BANNED,) * 3,
    NamespaceState.RECLAIMED: (Reason.NAMESPACE_BANNED,) * 3,
}


@pytest.mark.parametrize("state", NamespaceState)
def test_a_state_allows_exactly_what_its_row_says(state):
    found = tuple(refusal(policy.check_state, record(state), session(), access) for access in Access)
    assert found == STATES[state]


@pytest.mark.parametrize("state", NamespaceState)
@pytest.mark.parametrize("other", [{"incarnation": 4}, {"namespace_id": 8}, None])
def test_a_session_of_another_issue_of_the_number_is_no_session(state, other):
    found = None if other is None else record(state, **other)
    assert refusal(policy.check_state, found, session(), Access.READ) is Reason.TOKEN_INVALID


def test_enums_that_are_stored_or_sent_equal_those_of_the_wire():
    for ours, theirs, prefix in (
        (NamespaceState, namespaces_pb2.NamespaceState, "NAMESPACE_STATE_"),
        (ReclaimPhase, namespaces_pb2.ReclaimPhase, "RECLAIM_PHASE_"),
    ):
        assert {prefix + item.name: int(item) for item in ours} | {prefix + "UNSPECIFIED": 0} == dict(theirs.items())
    assert {item.name: int(item) for item in Guardian} == {"NONE": 0, "NAMESPACE": 1, "CLUSTER": 2}


# --- rules ---------------------------------------------------------------------------------------------------------

ALPHABET = (0x00, 0x61, 0x62, 0xFF)
WITNESSES = (0x00, 0x01, 0x61, 0x62, 0x63, 0xFF)
# Every byte the strategies draw and the byte after it, one byte longer: whatever lies just outside a prefix is in here.
UNIVERSE = [bytes(key) for length in range(5) for key in itertools.product(WITNESSES, repeat=length)]
short = st.lists(st.sampled_from(ALPHABET), max_size=3).map(bytes)
databases = st.sampled_from([0, 1])
rules = st.lists(
    st.builds(Rule, st.sampled_from([None, 0, 1]), short, read=st.booleans(), write=st.booleans()), max_size=3
).map(tuple)


def permits(rule: Rule, write: bool, database: int, key: bytes) -> bool:
    asked = rule.write if write else rule.read
    return asked and rule.database in (None, database) and key[: len(rule.prefix)] == rule.prefix


@given(rules, databases, short, st.booleans())
def test_a_key_is_permitted_exactly_when_some_rule_matches_it(held, database, key, write):
    check = policy.check_write if write else policy.check_read
    expected = any(permits(rule, write, database, key) for rule in held)
    assert (refusal(check, session(rules=held), database, key) is None) == expected


@settings(max_examples=400)
@given(rules, databases, short, short, st.booleans())
def test_a_range_is_permitted_exactly_when_one_rule_matches_every_key_in_it(held, database, start, end, write):
    inside = [key for key in UNIVERSE if start <= key and (not end or key < end)]
    check = policy.check_write_range if write else policy.check_read_range
    allowed = refusal(check, session(rules=held), database, start, end) is None
    if inside:
        assert allowed == any(all(permits(rule, write, database, key) for key in inside) for rule in held)


@settings(max_examples=300)
@given(rules, databases, short, short)
def test_a_permitted_range_never_holds_a_key_that_is_not_permitted_by_itself(held, database, start, end):
    if refusal(policy.check_read_range, session(rules=held), database, start, end) is None:
        for key in UNIVERSE:
            if start <= key and (not end or key < end):
                assert refusal(policy.check_read, session(rules=held), database, key) is None


def test_two_rules_that_cover_a_range_only_together_do_not_permit_it():
    halves = (Rule(None, b"a", read=True, write=True), Rule(None, b"b", read=True, write=True))
    assert refusal(policy.check_read_range, session(rules=halves), 0, b"a", b"c") is Reason.NOT_PERMITTED
    assert refusal(policy.check_read_range, session(rules=halves), 0, b"a", b"b") is None


def test_a_rule_shows_no_prefix_in_its_repr():
    assert "secret" not in repr(Rule(None, b"secret", read=True, write=True))
