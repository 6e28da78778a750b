"""Goal: every method answers every kind of caller about every kind of target as docs/security.md says, and a refusal
changes nothing and tells nothing.

Method: a table of some ten thousand calls on a real server. The methods come from the compiled descriptors, who may
what from ``roles.py``, which was written by hand and knows nothing of the policy. After every call that was refused
nothing anywhere may differ: rows and system records of all namespaces with their versions, and the numbers that say
who has to look again. All refusals for the same reason are compared byte for byte, so whether a target exists cannot be
told, and no answer may hold what belongs to a tenant the caller has no business with.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason
from prefixdb.keycodec import is_data_key, system_span
from prefixdb.rpcstatus import from_message
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import error_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2
from prefixdb.v1 import key_value_pb2 as kv
from tests.security.roles import ANONYMOUS, CREDENTIALS, EXCHANGES, FOUND, GOOD, KEYS, RANGES, ROLES, Line, Role, lines
from tests.security.roles_callers import CALLERS
from tests.security.roles_requests import Asking, RowCall, row_calls
from tests.security.roles_stage import SECRETS, Picture, Reply, Stage, ask, on_stage, owner_of
from tests.store.stores import DURABLE

WHOLE_TABLE_ON = DURABLE[0]
"""The store that has the whole table: native where it was built. The other one has every eleventh call."""

SAMPLE = 11
CELLS_MIN = 5_000

FILES = (key_value_pb2, namespaces_pb2, auth, members_pb2, maintenance_pb2, transfer_pb2, error_pb2)
ALL_METHODS = {
    f"{service.name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

Cell = tuple[Role, RowCall | Line]


def exchange_line(role: Role, target: str, by_name: bool) -> Line:
    """Return the line of an Exchange, which each role has its own of."""
    reached = target.removeprefix("@ ") in role.reach.split()
    return Line("Auth/Exchange", target, by_name, (("*", None),) if reached else ())


def cells(roles: tuple[Role, ...] = ROLES) -> list[Cell]:
    """Return the whole table, role by role."""
    table: list[Cell] = []
    for role in roles:
        # Whoever has no good token is refused before the message is read: one key and one name are enough there.
        table += [(role, call) for call in row_calls() if role.refused is None or call.target.startswith("in")]
        table += [(role, line) for line in lines() if role.refused is None or not line.by_name]
        table += [(role, exchange_line(role, target, by_name)) for target in EXCHANGES for by_name in (False, True)]
        table += [(role, Line(method, "right", False, ())) for method in CREDENTIALS]
    return table


def is_last(role: Role, line: RowCall | Line) -> bool:
    """True for calls after which the caller, or a whole namespace, needs new tokens."""
    if isinstance(line, RowCall) or line.answer(role) is not None:
        return False
    if line.method == "Auth/ChangePassword":
        return True
    where, _, scope = line.target.removeprefix("@ ").partition(", ")
    return line.method == "Auth/RevokeTokens" and (
        where == "everyone" or (scope == "all" and where in {"absent", role.where})
    )


class Table:
    """Goes through cells, compares, and collects what is wrong."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.refusals: dict[Reason, tuple[Any, ...]] = {}
        self.stale = True

    async def row(self, role: Role, call: RowCall) -> None:
        """One call of KeyValue."""
        if self.stale:
            self._look()
        reply = await ask(self.stage.channel, call.method, call.request, self.stage.tokens[role.name])
        expected, place = call.answers(role), f"{role.name}: {call.method} {call.target}"
        found = reasons_of(reply, len(expected))
        self._compare(place, reply, expected if len(found) == len(expected) else expected[:1], found)
        if call.finds and reply.reason is None and found == [None]:
            self._require(rows_of(reply) == wanted_rows(role, call), place, f"answered {rows_of(reply)}")
        self._require(not has_secret(reply, SECRETS), place, "told a secret of umbra")
        if all(expected):
            self._nothing_changed(place)
        elif call.writes:
            self._only_own_rows_changed(role, place)

    async def administration(self, role: Role, line: Line) -> None:
        """One call of any other service."""
        credentials = line.method in CREDENTIALS
        expected = None if credentials else line.answer(role)
        place = f"{role.name}: {line.method} {line.target}{' by name' if line.by_name else ''}"
        request = Asking(self.stage, role, line, let_in=expected is None).request()
        if is_last(role, line):
            self.stage.tokens[role.name] = await self.stage.enrol(role)
            self.stale = True
        if expected is None or self.stale:  # Victims were made for the former.
            self._look()
        reply = await ask(self.stage.channel, line.method, request, self.stage.tokens[role.name])
        self._compare(place, reply, [expected], [reply.reason])
        if not set(role.powers) & set("ceub") and not line.method.startswith("Members/Create"):
            self._require(not has_secret(reply, SECRETS), place, "told a secret of umbra")
        if line.method == "Namespaces/ListNamespaces" and reply.reason is None:
            self._require(is_list_right(self.stage, role, line, reply), place, f"answered {reply.messages}")
        if line.method == "Auth/WhoAmI" and reply.reason is None:
            self._require(is_itself(self.stage, role, reply.messages[0]), place, f"answered {reply.messages}")
        if expected is not None:
            self._nothing_changed(place)
        else:
            self._only_administration_changed(role, line, place)
            self.stage.tidy(role.where)
            self.stale = True

    def _look(self) -> None:
        self.before, self.stale = Picture(self.stage.server), False

    def _compare(self, place: str, reply: Reply, expected: list[Reason | None], found: list[Reason | None]) -> None:
        self.counts["cells"] += 1
        self.counts["let in" if None in expected else "refused"] += 1
        self._require(found == expected, place, f"expected {names(expected)}, was answered {names(found)}")
        if reply.reason in FIXED:
            first = self.refusals.setdefault(reply.reason, reply.told)
            self._require(reply.told == first, place, f"this refusal reads {reply.told}, others read {first}")

    def _nothing_changed(self, place: str) -> None:
        now = Picture(self.stage.server)
        if now != self.before:
            self.wrong.append(f"{place}: was refused and changed {now.changed(self.before) or 'an epoch or a record'}")
            self.before = now

    def _only_own_rows_changed(self, role: Role, place: str) -> None:
        changed = Picture(self.stage.server).changed(self.before)
        own = self.stage.id_of(role.where)
        result = system_span(own, Tag.IMPORT)  # What an import leaves of itself, for an hour.
        foreign = [key for key in changed if owner_of(key) != own or not (is_data_key(key) or key in result)]
        self._require(not foreign, place, f"changed {foreign}")
        self.stage.reset_rows(role.where)
        self.stale = True

    def _only_administration_changed(self, role: Role, line: Line, place: str) -> None:
        changed = Picture(self.stage.server).changed(self.before)
        reads = line.method.split("/")[1].startswith(READING)
        self._require(bool(changed) is not reads, place, f"was let in and changed {changed or 'nothing'}")
        known = {number for _, number in self.stage.spaces.values()}  # A restored or cloned one is new and has rows.
        rows = [key for key in changed if is_data_key(key) and owner_of(key) in known]
        self._require(not rows, place, "changed rows")
        if not set(role.powers) & set("ce") and line.method not in CREDENTIALS:
            homes = {0, self.stage.id_of(role.where)}
            foreign = [key for key in changed if owner_of(key) not in homes]
            self._require(not foreign, place, f"changed {foreign}")

    def _require(self, right: bool, place: str, otherwise: str) -> None:
        if not right:
            self.wrong.append(f"{place}: {otherwise}")


READING = (
    "Backup", "Compact", "Exchange", "Export", "Get", "List", "Read", "ReclaimReport", "Status", "WatchReclaim",
    "WhoAmI",
)  # fmt: skip
"""How the names of methods begin that change nothing in the catalog."""

FIXED = frozenset(
    {
        Reason.TOKEN_MISSING, Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.NOT_PERMITTED,
        Reason.NAMESPACE_BANNED, Reason.NAMESPACE_SUSPENDED, Reason.NAMESPACE_NOT_FOUND, Reason.MEMBER_NOT_FOUND,
        Reason.GROUP_NOT_FOUND, Reason.TOKEN_NOT_FOUND, Reason.MEMBER_EXISTS, Reason.GROUP_EXISTS,
    }
)  # fmt: skip
"""Reasons that are told in the same bytes whatever was called, by whom, about what."""


def names(reasons: list[Reason | None]) -> str:
    """Return reasons as people read them."""
    return ", ".join("OK" if reason is None else reason.name for reason in reasons)


def reasons_of(reply: Reply, count: int) -> list[Reason | None]:
    """Return how a call ended; of a Pipeline that was answered, how each operation ended."""
    if count == 1 or reply.reason is not None:
        return [reply.reason]
    (answer,) = reply.messages
    return [from_message(result.error).reason if result.HasField("error") else None for result in answer.results]


def has_secret(reply: Reply, secrets: tuple[bytes, ...]) -> bool:
    """True when anything the caller was sent holds a secret."""
    raw = reply.raw
    return any(secret in raw for secret in secrets)


def rows_of(reply: Reply) -> Any:
    """Return what a read found: values by key, or a number."""
    message = reply.messages[0] if reply.messages else None
    if isinstance(message, kv.GetResponse):
        return [message.value]
    if isinstance(message, kv.BatchGetResponse):
        return [result.value for result in message.results]
    if isinstance(message, kv.CountResponse):
        return message.count
    return {row.key: row.value for page in reply.messages for row in page.rows}


def wanted_rows(role: Role, call: RowCall) -> Any:
    """Return what it has to find."""
    if call.finds in KEYS:
        return [Stage.value(role.where, *KEYS[call.finds])]
    database = RANGES[call.finds][0]
    if call.method == "KeyValue/Count":
        return len(FOUND[call.finds])
    return {key: Stage.value(role.where, database, key) for key in FOUND[call.finds]}


def is_list_right(stage: Stage, role: Role, line: Line, reply: Reply) -> bool:
    """True when the list has exactly the namespaces the role may know of."""
    listed = {namespace.name for namespace in reply.messages[0].namespaces}
    dropped = {"gone", "dust"} & listed
    if role.sees == ("everything",):
        everything = {name for name, _ in stage.spaces.values()} - {"nobodys", "gone", "dust", "last"}
        return everything <= listed and (dropped == {"gone", "dust"}) is (line.target == "all")
    if role.sees == ("every live one",):
        briefly = all(not namespace.labels and not namespace.incarnation for namespace in reply.messages[0].namespaces)
        return {"default", "acme", "umbra", "still"} <= listed and not dropped and briefly
    return listed == set(role.sees)


def is_itself(stage: Stage, role: Role, answer: Any) -> bool:
    """True when WhoAmI says what the role is."""
    guest = role.name.startswith("guest")
    privileges = {"namespaces.edit": [2], "namespaces.use": [1], "audit": [3], "backup": [4], "guest who writes": [1]}
    privileges["guest by wildcard"] = [1, 2, 3, 4]
    own = stage.id_of(role.where)
    guardian = {"c": auth.GUARDIAN_CLUSTER, "a": auth.GUARDIAN_NAMESPACE, "z": auth.GUARDIAN_NAMESPACE}
    powers = [guardian[letter] for letter in role.powers if letter in guardian]
    return bool(
        answer.namespace_id == own
        and answer.home_namespace_id == (0 if guest else own)
        and answer.namespace_name == stage.spaces[role.where][0]
        and tuple(answer.groups) == role.groups
        and answer.guardian == (powers or [auth.GUARDIAN_UNSPECIFIED])[0]
        and list(answer.privileges) == privileges.get(role.name, [])
        and answer.member is ("l" in role.powers)
    )


async def go_through(directory: Path, chosen: list[Cell], anonymous: str = "off") -> Table:
    """Make every call of the chosen cells, those that end tokens last; return the table."""
    async with on_stage(directory, anonymous) as stage:
        stage.tokens |= {role.name: None for role in ANONYMOUS.values()}
        table = Table(stage)
        for role, call in sorted(chosen, key=lambda cell: is_last(*cell)):
            if isinstance(call, RowCall):
                await table.row(role, call)
            else:
                await table.administration(role, call)
        return table


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server_store", DURABLE, indirect=True, scope="session")
def test_every_method_answers_every_role_as_the_table_says(tmp_path: Path, server_store: str) -> None:
    table = cells()
    if server_store != WHOLE_TABLE_ON:
        table = random.Random(5).sample(table, len(table) // SAMPLE)
    gone_through = asyncio.run(go_through(tmp_path, table))
    counts = dict(gone_through.counts)
    print(f"{server_store}: {counts}")
    wrong = gone_through.wrong
    assert not wrong, f"{len(wrong)} of {counts['cells']} are wrong:\n" + "\n".join(wrong[:40])
    assert server_store != WHOLE_TABLE_ON or counts["cells"] >= CELLS_MIN


def test_the_table_has_every_method_and_every_role() -> None:
    table = cells()
    assert {call.method for _, call in table} == ALL_METHODS
    assert {role.name for role in ROLES} == CALLERS.keys()
    for method in ALL_METHODS - set(CREDENTIALS):
        answers = {role.name for role, call in table if call.method == method and not all(answers_of(role, call))}
        assert answers, f"{method} lets nobody in"
        assert not answers & {role.name for role in ROLES if role not in GOOD}


def answers_of(role: Role, call: RowCall | Line) -> list[Reason | None]:
    """Return how a cell's call has to end."""
    return call.answers(role) if isinstance(call, RowCall) else [call.answer(role)]
