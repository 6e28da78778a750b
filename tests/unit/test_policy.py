"""Goal: nobody may do what the table in the security page does not give them.

Method: the table is written out here a second time, by role and capability, and compared cell by cell. The list of
methods comes from the descriptors of every service, so a new method without a row turns this red. What rules permit is
the business of ``test_rules``.
"""

from __future__ import annotations

import itertools

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import limits
from prefixdb.catalog import policy
from prefixdb.catalog.entities import GrantEffect, NamespaceRecord, NamespaceState, Privilege, ReclaimPhase
from prefixdb.catalog.policy import Access, Capability, Guardian, Rule, Session
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2

ALL = (Rule(None, b"", read=True, write=True),)
READ = (Rule(None, b"", read=True, write=False),)
WRITE = (Rule(None, b"", read=False, write=True),)

short = st.lists(st.sampled_from((0x00, 0x61, 0x62, 0xFF)), max_size=3).map(bytes)
UNIVERSE = [
    bytes(key) for length in range(5) for key in itertools.product((0, 1, 0x61, 0x62, 0x63, 0xFF), repeat=length)
]


def session(namespace_id: int = 7, guardian: Guardian = Guardian.NONE, rules: tuple[Rule, ...] = (), **more: object):
    facts = {"subject": "bob", "jti": "j", "groups": (), "issued_at_ms": 1, "expires_at_ms": 10**12, "incarnation": 3}
    return Session(namespace_id=namespace_id, guardian=guardian, rules=rules, **{**facts, **more})


def refusal(call, *arguments: object) -> Reason | None:
    try:
        call(*arguments)
    except PrefixdbError as failure:
        return failure.reason
    return None


USE = frozenset({Privilege.NAMESPACES_USE})
EDIT = frozenset({Privilege.NAMESPACES_EDIT})
AUDIT = frozenset({Privilege.AUDIT})
BACKUP = frozenset({Privilege.BACKUP})
EVERY = USE | EDIT | AUDIT | BACKUP
LOGIN = {"family": "f"}

ROLES = {
    "nobody": None,
    # Service tokens, tokens of other issuers, anonymous callers: nobody logged in for them.
    "no rules": session(),
    "reader": session(rules=READ),
    "writer only": session(rules=WRITE),
    "writer": session(rules=ALL),
    "issuer's writer": session(subject="corp:bob", rules=ALL),
    "anonymous reader": session(0, subject="anonymous", rules=READ),
    "namespace guardian": session(guardian=Guardian.NAMESPACE),
    "minted namespace guardian": session(guardian=Guardian.NAMESPACE, minted=True),
    "namespace guardian in the default namespace": session(0, Guardian.NAMESPACE),
    "cluster guardian": session(0, Guardian.CLUSTER),
    "cluster guardian claimed elsewhere": session(7, Guardian.CLUSTER, ALL),
    "cluster guardian by a minted token": session(0, Guardian.CLUSTER, ALL, minted=True),
    "privileges without a login": session(0, privileges=EVERY),
    # Members who logged in.
    "member": session(rules=ALL, **LOGIN),
    "member guardian": session(guardian=Guardian.NAMESPACE, rules=ALL, **LOGIN),
    "member with privileges elsewhere": session(privileges=EVERY, **LOGIN),
    "default member": session(0, rules=READ, **LOGIN),
    "default member who may use": session(0, privileges=USE, **LOGIN),
    "default member who may edit": session(0, privileges=EDIT, **LOGIN),
    "default member who may audit": session(0, privileges=AUDIT, **LOGIN),
    "default member who may back up": session(0, privileges=BACKUP, **LOGIN),
    "default member by a minted token": session(0, privileges=EVERY, minted=True, **LOGIN),
    "member cluster guardian": session(0, Guardian.CLUSTER, ALL, **LOGIN),
    "guest": session(rules=READ, guest=True, **LOGIN),
    "guest with every privilege": session(rules=WRITE, guest=True, privileges=EVERY, **LOGIN),
    "guest claimed to be a guardian": session(7, Guardian.CLUSTER, guest=True, **LOGIN),
}

CLUSTER = {"cluster guardian", "member cluster guardian"}
LOGGED_IN = {role for role, held in ROLES.items() if held is not None and held.family}
READERS = {
    "reader",
    "writer",
    "issuer's writer",
    "anonymous reader",
    "cluster guardian claimed elsewhere",
    "cluster guardian by a minted token",
    "member",
    "member guardian",
    "default member",
    "member cluster guardian",
    "guest",
}
WRITERS = {
    "writer only",
    "writer",
    "issuer's writer",
    "cluster guardian claimed elsewhere",
    "cluster guardian by a minted token",
    "member",
    "member guardian",
    "member cluster guardian",
    "guest with every privilege",
}

HOLDERS = {
    Capability.PUBLIC: set(ROLES),
    Capability.CREDENTIALS: set(ROLES),
    Capability.ANY_TOKEN: set(ROLES) - {"nobody"},
    Capability.NAMESPACES_LIST: set(ROLES) - {"nobody"},
    Capability.OWN_PASSWORD: LOGGED_IN,
    Capability.EXCHANGE: LOGGED_IN - {"member", "member guardian", "member with privileges elsewhere"},
    Capability.ROWS_READ: READERS,
    Capability.ROWS_WRITE: WRITERS,
    Capability.ROWS: READERS | WRITERS,
    Capability.MEMBERS: {"namespace guardian", "minted namespace guardian", "member guardian", *CLUSTER},
    Capability.GRANTS: CLUSTER,
    Capability.NAMESPACE_VIEW: {
        "namespace guardian",
        "minted namespace guardian",
        "namespace guardian in the default namespace",
        "member guardian",
        "default member who may edit",
        *CLUSTER,
    },
    Capability.TOKENS: {
        "namespace guardian",
        "minted namespace guardian",
        "namespace guardian in the default namespace",
        "member guardian",
        *CLUSTER,
    },
    Capability.TOKENS_EVERYONE: CLUSTER,
    Capability.NAMESPACES_EDIT: {"default member who may edit", *CLUSTER},
    Capability.MAINTENANCE: CLUSTER,
    Capability.AUDIT: {"default member who may audit", *CLUSTER},
    Capability.BACKUP: {"default member who may back up", *CLUSTER},
    Capability.EXPORT: {
        *READERS,
        "namespace guardian",
        "minted namespace guardian",
        "namespace guardian in the default namespace",
        "default member who may back up",
        *CLUSTER,
    },
}

METHODS = {
    "KeyValue": dict.fromkeys(["Get", "BatchGet", "Scan", "Count"], Capability.ROWS_READ)
    | dict.fromkeys(["Put", "Delete"], Capability.ROWS_WRITE)
    | dict.fromkeys(["Write", "Pipeline"], Capability.ROWS),
    "Namespaces": dict.fromkeys(
        [
            "CreateNamespace",
            "UpdateNamespace",
            "SuspendNamespace",
            "ResumeNamespace",
            "BanNamespace",
            "UnbanNamespace",
            "ReclaimReport",
            "WatchReclaim",
        ],
        Capability.NAMESPACES_EDIT,
    )
    | {"GetNamespace": Capability.NAMESPACE_VIEW, "ListNamespaces": Capability.NAMESPACES_LIST},
    "Auth": dict.fromkeys(["Login", "Refresh", "Logout"], Capability.CREDENTIALS)
    | dict.fromkeys(["IssueToken", "ListTokens", "RevokeTokens"], Capability.TOKENS)
    | dict.fromkeys(["ListKeys", "RotateKey", "RemoveKey"], Capability.MAINTENANCE)
    | {
        "Exchange": Capability.EXCHANGE,
        "ChangePassword": Capability.OWN_PASSWORD,
        "WhoAmI": Capability.ANY_TOKEN,
    },
    "Members": dict.fromkeys(
        [
            "CreateMember",
            "GetMember",
            "ListMembers",
            "UpdateMember",
            "DeleteMember",
            "SetPassword",
            "CreateGroup",
            "GetGroup",
            "ListGroups",
            "UpdateGroup",
            "DeleteGroup",
        ],
        Capability.MEMBERS,
    )
    | dict.fromkeys(["SetGrant", "DeleteGrant", "ListGrants"], Capability.GRANTS),
    "Maintenance": dict.fromkeys(["Status", "Compact"], Capability.MAINTENANCE) | {"ReadAudit": Capability.AUDIT},
    "Transfer": dict.fromkeys(["Backup", "ListBans"], Capability.BACKUP)
    | dict.fromkeys(["RestoreNamespace", "CloneNamespace"], Capability.NAMESPACES_EDIT)
    | {"Export": Capability.EXPORT, "Import": Capability.ROWS_WRITE},
}


def test_every_method_of_every_service_has_exactly_one_row():
    files = [key_value_pb2, namespaces_pb2, auth_pb2, members_pb2, maintenance_pb2, transfer_pb2]
    files += [health_pb2, reflection_pb2]
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
        f"/prefixdb.v1.{service}/{method}": needs
        for service, methods in METHODS.items()
        for method, needs in methods.items()
    }
    ours = {name: needs for name, needs in policy.METHODS.items() if name.startswith("/prefixdb.")}
    assert ours == expected


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
    assert refusal(policy.check_capability, ROLES["cluster guardian"], "everything") is Reason.NOT_PERMITTED


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


EVERYBODYS = {Capability.PUBLIC, Capability.CREDENTIALS, Capability.ANY_TOKEN, Capability.NAMESPACES_LIST}


@pytest.mark.parametrize("capability", [capability for capability in Capability if capability not in EVERYBODYS])
def test_a_cluster_guardian_reaches_any_namespace_it_has_the_capability_for(capability):
    guardian = session(0, Guardian.CLUSTER)
    held = "cluster guardian" in HOLDERS[capability]
    assert refusal(policy.check_target, guardian, capability, 9) is (None if held else Reason.NOT_PERMITTED)
    assert refusal(policy.check_target, guardian, capability, None) is (
        Reason.NAMESPACE_NOT_FOUND if held else Reason.NOT_PERMITTED
    )


def test_a_member_may_not_name_even_its_own_namespace():
    assert refusal(policy.check_target, session(7, rules=ALL), Capability.NAMESPACE_VIEW, 7) is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    ("role", "reaches"),
    [
        ("default member who may edit", {Capability.NAMESPACE_VIEW, Capability.NAMESPACES_EDIT}),
        ("default member who may use", set()),
        ("default member who may audit", set()),
        ("default member who may back up", set()),
        ("privileges without a login", set()),
        ("default member by a minted token", set()),
        ("guest with every privilege", set()),
        ("member with privileges elsewhere", set()),
    ],
)
def test_privileges_reach_other_namespaces_only_where_the_table_says_so(role, reaches):
    for capability in set(Capability) - EVERYBODYS - {Capability.ROWS_WRITE, Capability.ROWS}:
        found = refusal(policy.check_target, ROLES[role], capability, 9)
        assert found is (None if capability in reaches else Reason.NOT_PERMITTED)
        absent = refusal(policy.check_target, ROLES[role], capability, None)
        assert absent is (Reason.NAMESPACE_NOT_FOUND if capability in reaches else Reason.NOT_PERMITTED)


def test_only_cluster_guardians_and_editors_see_every_namespace():
    seeing = {role for role, held in ROLES.items() if held is not None and policy.sees_every_namespace(held)}
    assert seeing == {"default member who may edit", *CLUSTER}


SWITCHING = {
    # role: (to namespace 0, to a granted one, to one that is not granted)
    "default member": (True, False, False),
    "default member who may use": (True, True, False),
    "default member who may edit": (True, False, False),
    "member cluster guardian": (True, True, False),
    "guest": (True, False, False),
    "guest with every privilege": (True, True, False),
    "member": (False, False, False),
    "member with privileges elsewhere": (False, False, False),
    "cluster guardian": (False, False, False),
    "privileges without a login": (False, False, False),
    "writer": (False, False, False),
}


@pytest.mark.parametrize("role", SWITCHING)
def test_who_may_switch_where(role):
    home, other = record(NamespaceState.ACTIVE, 0), record(NamespaceState.ACTIVE, 9)
    for target, granted, expected in zip([home, other, other], [False, True, False], SWITCHING[role], strict=True):
        try:
            policy.check_exchange(ROLES[role], target, granted=granted)
            found = True
        except PrefixdbError as failure:
            assert failure.reason is Reason.NOT_PERMITTED
            found = False
        assert found is expected


@pytest.mark.parametrize("role", SWITCHING)
def test_switching_to_what_does_not_exist_is_refused_like_to_what_is_not_granted(role):
    errors = []
    for target in (None, record(NamespaceState.ACTIVE, 9)):
        with pytest.raises(PrefixdbError) as caught:
            policy.check_exchange(ROLES[role], target, granted=False)
        errors.append((caught.value.reason, str(caught.value), caught.value.metadata))
    assert errors == [(Reason.NOT_PERMITTED, Reason.NOT_PERMITTED.value.summary, {})] * 2


def test_a_sessions_home_is_where_its_subject_belongs():
    assert session(7).home_id == 7 and session(0).home_id == 0
    assert session(7, guest=True, **LOGIN).home_id == 0


DENIED = Reason.NOT_PERMITTED
REVOKING = {
    # role: (tokens of its own namespace, of namespace 0, of none)
    "namespace guardian": (None, DENIED, DENIED),
    "member guardian": (None, DENIED, DENIED),
    "namespace guardian in the default namespace": (DENIED, DENIED, DENIED),
    "cluster guardian": (None, None, Reason.NAMESPACE_NOT_FOUND),
    "member cluster guardian": (None, None, Reason.NAMESPACE_NOT_FOUND),
    "default member who may edit": (DENIED, DENIED, DENIED),
    "member": (DENIED, DENIED, DENIED),
}


@pytest.mark.parametrize("role", REVOKING)
def test_tokens_of_the_default_namespace_are_revoked_by_cluster_guardians_alone(role):
    held = ROLES[role]
    found = tuple(refusal(policy.check_revoke, held, target) for target in (held.namespace_id, 0, None))
    assert found == REVOKING[role]


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
        (Privilege, auth_pb2.Privilege, "PRIVILEGE_"),
        (GrantEffect, members_pb2.GrantEffect, "GRANT_EFFECT_"),
    ):
        assert {prefix + item.name: int(item) for item in ours} | {prefix + "UNSPECIFIED": 0} == dict(theirs.items())
    assert {item.name: int(item) for item in Guardian} == {"NONE": 0, "NAMESPACE": 1, "CLUSTER": 2}


# --- rules: what they permit is compared with its definition in ``test_rules`` ---------------------------------------


@pytest.mark.parametrize(
    ("check", "asked", "permitted"),
    [
        (policy.check_read, (3, b"a1"), True),
        (policy.check_read, (3, b"b1"), False),
        (policy.check_read, (4, b"a1"), False),
        (policy.check_write, (3, b"b1"), True),
        (policy.check_write, (3, b"a1"), False),
        (policy.check_read_range, (3, b"a", b"b"), True),
        (policy.check_read_range, (3, b"a", b"b\x00"), False),
        (policy.check_read_range, (3, b"a", b""), False),
        (policy.check_read_range, (3, b"b", b"c"), False),
        (policy.check_write_range, (3, b"b", b"c"), True),
        (policy.check_write_range, (3, b"b", b""), False),
        (policy.check_write_range, (3, b"a", b"b"), False),
    ],
)
def test_each_check_asks_the_rules_for_its_own_right(check, asked, permitted):
    held = session(rules=(Rule(3, b"a", read=True, write=False), Rule(3, b"b", read=False, write=True)))
    assert refusal(check, held, *asked) is (None if permitted else Reason.NOT_PERMITTED)


def test_two_rules_that_cover_a_range_only_together_do_not_permit_it():
    halves = (Rule(None, b"a", read=True, write=True), Rule(None, b"b", read=True, write=True))
    assert refusal(policy.check_read_range, session(rules=halves), 0, b"a", b"c") is Reason.NOT_PERMITTED
    assert refusal(policy.check_read_range, session(rules=halves), 0, b"a", b"b") is None


@given(short, short)
def test_a_permitted_range_never_holds_a_key_that_is_not_permitted_by_itself(start, end):
    held = session(rules=(Rule(None, b"a", read=True, write=True), Rule(0, b"\xff", read=True, write=False)))
    if refusal(policy.check_read_range, held, 0, start, end) is None:
        for key in UNIVERSE:
            if start <= key and (not end or key < end):
                assert refusal(policy.check_read, held, 0, key) is None


def test_a_rule_shows_no_prefix_in_its_repr():
    assert "secret" not in repr(Rule(None, b"secret", read=True, write=True))
