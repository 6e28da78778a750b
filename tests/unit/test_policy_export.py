"""Goal: whoever exports a namespace may read all of what is exported, or looks after it, or after the cluster.

Method: holders of every kind, each with what it may export of its own, written down by hand; foreign namespaces and
those that do not exist are asked for by all of them.
"""

from __future__ import annotations

import pytest

from prefixdb.catalog import policy
from prefixdb.catalog.policy import ExportTarget, Guardian, Rule
from prefixdb.errors import Reason
from tests.unit.test_policy import BACKUP, EVERY, LOGIN, READ, WRITE, refusal, session

ANY, ONE, SOME = {}, {"database": 4}, {"database": 4, "prefix": b"ab"}
IN_FOUR = (Rule(4, b"", read=True, write=False),)
UNDER_AB = (Rule(None, b"ab", read=True, write=True),)
OF_AB_IN_FOUR = (Rule(4, b"a", read=True, write=False), Rule(5, b"", read=True, write=False))
EXPORTS = {
    # who: (what it may export of its own rows, whether its members too)
    "reader": (session(rules=READ), [ANY, ONE, SOME], False),
    "guest": (session(rules=READ, guest=True, **LOGIN), [ANY, ONE, SOME], False),
    "writer only": (session(rules=WRITE), [], False),
    "reader of a database": (session(rules=IN_FOUR), [ONE, SOME], False),
    "reader of a prefix everywhere": (session(rules=UNDER_AB), [SOME], False),
    "reader of a shorter prefix": (session(rules=OF_AB_IN_FOUR), [SOME], False),
    "reader of all databases by parts": (
        session(rules=tuple(Rule(None, bytes([head]), read=True, write=False) for head in range(256))),
        [SOME],
        False,
    ),
    "guardian": (session(guardian=Guardian.NAMESPACE), [ANY, ONE, SOME], True),
    "minted guardian": (session(guardian=Guardian.NAMESPACE, minted=True), [ANY, ONE, SOME], True),
    "guardian of the default namespace only": (session(0, Guardian.NAMESPACE), [], False),
    "who may back up": (session(0, privileges=BACKUP, **LOGIN), [ANY, ONE, SOME], True),
    "who may back up, without a login": (session(0, privileges=BACKUP), [], False),
    "cluster guardian": (session(0, Guardian.CLUSTER), [ANY, ONE, SOME], True),
    "who may do everything else": (session(0, privileges=EVERY - BACKUP, **LOGIN), [], False),
}


@pytest.mark.parametrize("who", EXPORTS)
def test_who_may_export_what_of_its_own(who):
    holder, may, members = EXPORTS[who]
    for scope in (ANY, ONE, SOME):
        target = ExportTarget(holder.namespace_id, **scope)
        assert refusal(policy.check_export, holder, target) is (None if scope in may else Reason.NOT_PERMITTED)
    with_members = ExportTarget(holder.namespace_id, members=True)
    assert refusal(policy.check_export, holder, with_members) is (None if members else Reason.NOT_PERMITTED)


@pytest.mark.parametrize("who", EXPORTS)
def test_only_who_may_back_up_exports_foreign_namespaces_and_others_learn_nothing(who):
    holder = EXPORTS[who][0]
    backs_up = who in {"who may back up", "cluster guardian"}
    for members in (False, True):
        foreign, nothing = ExportTarget(9, members=members), ExportTarget(None, members=members)
        assert refusal(policy.check_export, holder, foreign) is (None if backs_up else Reason.NOT_PERMITTED)
        absent = Reason.NAMESPACE_NOT_FOUND if backs_up else Reason.NOT_PERMITTED
        assert refusal(policy.check_export, holder, nothing) is absent


def test_an_export_by_rules_is_told_from_one_by_right():
    rows = ExportTarget(7)
    assert policy.check_export(session(rules=READ), rows) is False
    assert policy.check_export(session(7, Guardian.NAMESPACE, rules=READ), rows) is True
    assert policy.check_export(session(0, Guardian.CLUSTER), rows) is True
