"""Goal: the front is told about a token exactly what the gate would have found, in the same order of checks, with words
that are the errors' own; whatever goes wrong, each question is answered and no other is kept waiting.

Method: ``Answers`` over a real catalog with tokens of every kind, and a front that only writes down what it hears.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefixdb.catalog.entities import NamespaceState, Rule
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import TOKEN_LEEWAY_S
from prefixdb.service.answers import AnswerParts, Answers
from prefixdb.service.sessions import Sessions
from tests.security.forging_kinds import Crowd
from tests.support.fake_front import FakeFront


class Scene(Crowd):
    """Everybody's tokens and somebody who answers. ``closed``: what the gate refuses with."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.front = FakeFront()
        self.gate = SimpleNamespace(closed=None, halted=[])
        self.gate.halt = self.gate.halted.append
        self.tokens = {name: kind.token for name, kind in self.kinds().items()}
        self.seen: list[tuple[bytes, str]] = []
        self.answers = self.make()

    def make(self, **parts: Any) -> Answers:
        world = self.world
        sessions = Sessions(world.authority, world.registry, world.clock, parts.pop("anonymous", "off"))
        wanted: dict[str, Any] = {"translate": self.translate, "ready": self.ready, **parts}
        self.answers = Answers(self.front, AnswerParts(sessions, world.registry, self.gate, **wanted))
        return self.answers

    def admit(self, token: str | None, certificate: str = "") -> int:
        number = self.front.ask("admit", token, certificate)
        self.answers.answer()
        return number

    def refusal(self, token: str | None, certificate: str = "") -> str | None:
        number = self.admit(token, certificate)
        return self.front.refused[number]["name"] if number in self.front.refused else None

    @staticmethod
    def translate(doing: str, failure: Exception) -> PrefixdbError:
        return error(Reason.DISK_FULL, f"{doing}: {failure}", retry_after_ms=5)

    async def ready(self, doing: str, only_deletes: bool) -> None:
        if doing == "write" and not only_deletes:
            raise error(Reason.DISK_FULL)

    def only_the_certificates(self, certificate: bytes, subject: str) -> None:
        self.seen.append((certificate, subject))
        if certificate != subject.encode():
            raise error(Reason.NOT_PERMITTED, "another's")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# --- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["member", "guest", "service", "minted", "foreign"])
def test_a_good_token_is_handed_over_as_the_gate_would_have_admitted_it(scene, kind):
    token = scene.tokens[kind]
    held = scene.front.held[scene.admit(token)]
    session = scene.world.admit(token)
    record = scene.world.registry.get(7)
    guard = scene.world.registry.guard(record)
    assert held.said == {
        "namespace_id": 7,
        "rules": [(None, b"", True, False)],
        "read_only": False,
        "ends_at_ms": session.expires_at_ms + TOKEN_LEEWAY_S * 1000,
        "guard_key": guard.key,
        "guard_version": record.row_version,
        "home_counts": kind in ("guest", "minted"),
    }
    assert session.rules == (Rule(None, b"", read=True, write=False),)


def test_a_read_only_namespace_is_said_with_the_guard_of_that_record(scene):
    scene.world.registry.suspend(7, NamespaceState.READ_ONLY)
    held = scene.front.held[scene.admit(scene.tokens["member"])]
    assert held["read_only"] and held["guard_version"] == scene.world.registry.get(7).row_version


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "\udcff", "x" * 4_096, "refresh"], ids=ascii)
def test_what_is_no_token_is_refused_in_the_errors_own_words(scene, token):
    number = scene.admit(scene.tokens.get(token, token))
    assert scene.front.refused[number] == {
        "code": 16,
        "reason": 21,
        "name": "TOKEN_INVALID",
        "message": Reason.TOKEN_INVALID.value.summary,
        "metadata": {},
        "retry_after_ms": None,
    }
    assert number not in scene.front.held


def test_every_refusal_of_a_token_that_was_good_is_the_gates(scene):
    world, token = scene.world, scene.tokens["member"]
    assert scene.refusal(token) is None
    world.registry.suspend(7, NamespaceState.SUSPENDED)
    assert scene.refusal(token) == "NAMESPACE_SUSPENDED"
    world.registry.ban(7, by="root", grace_ms=1_000)
    assert scene.refusal(token) == "NAMESPACE_BANNED"
    world.registry.unban(7)
    world.registry.resume(7)
    assert scene.refusal(token) is None
    scene.world.authority.identities.logins.end_all(7, "ann")
    assert scene.refusal(token) == "TOKEN_REVOKED"
    assert scene.refusal(scene.tokens["service"]) is None
    world.clock.advance(3_600_000 * 24 * 400)
    assert scene.refusal(scene.tokens["service"]) == "TOKEN_EXPIRED"
    world.authority.identities.grants.delete("gus", 7)
    assert scene.refusal(scene.tokens["guest"]) == "TOKEN_EXPIRED"


def test_without_an_entry_there_is_the_anonymous_or_nobody(scene):
    assert scene.refusal(None) == "TOKEN_MISSING"
    scene.make(anonymous="writer")
    held = scene.front.held[scene.admit(None)]
    assert held["namespace_id"] == 0 and held["rules"] == [(None, b"", True, True)] and not held["home_counts"]
    assert scene.refusal("") == "TOKEN_INVALID"


def test_a_closed_gate_is_looked_at_before_the_token_and_the_token_before_the_certificate(scene):
    scene.make(check_peer=scene.only_the_certificates)
    good = scene.tokens["member"]
    scene.gate.closed = error(Reason.DRAINING)
    assert [scene.refusal(token, "ann") for token in (good, "bad", None)] == ["DRAINING"] * 3
    scene.gate.closed = None
    assert scene.refusal("bad", "ann") == "TOKEN_INVALID" and scene.seen == []
    assert scene.refusal(good, "bob") == "NOT_PERMITTED"
    assert scene.refusal(good, "") == "NOT_PERMITTED"
    assert scene.refusal(good, "ann") is None
    assert scene.seen == [(b"bob", "ann"), (b"", "ann"), (b"ann", "ann")]


# --- the store, and the end ----------------------------------------------------------------------------------------


def test_the_stores_failures_are_translated_and_a_halt_halts(scene):
    number = scene.front.ask("translate", "write", OSError("no space"))
    scene.front.ask("halt", "/prefixdb.v1.KeyValue/Get")
    scene.answers.answer()
    refused = scene.front.refused[number]
    assert (refused["name"], refused["message"], refused["retry_after_ms"]) == ("DISK_FULL", "write: no space", 5)
    assert scene.gate.halted == ["/prefixdb.v1.KeyValue/Get"]


def test_whether_a_stream_may_go_on_is_answered_when_it_is_known(scene):
    async def act() -> None:
        gate = asyncio.Event()

        async def ready(doing: str, only_deletes: bool) -> None:
            await gate.wait()
            await scene.ready(doing, only_deletes)

        answers = scene.make(ready=ready)
        reads = scene.front.ask("ready", "read", False)
        puts = scene.front.ask("ready", "write", False)
        deletes = scene.front.ask("ready", "write", True)
        answers.answer()
        later = scene.admit(scene.tokens["member"])
        assert later in scene.front.held and not scene.front.readied  # Who waits keeps nobody waiting.
        gate.set()
        while len(scene.front.readied) + len(scene.front.refused) < 3:
            await asyncio.sleep(0)
        assert scene.front.readied == [reads, deletes]
        assert scene.front.refused[puts]["retry_after_ms"] == 100

        gate.clear()
        forgotten = scene.front.ask("ready", "read", False)
        answers.answer()
        await asyncio.sleep(0)
        answers.close()
        gate.set()
        await asyncio.sleep(0)
        assert forgotten not in scene.front.readied and forgotten not in scene.front.refused

    asyncio.run(act())


def test_a_mistake_is_told_as_an_id_that_is_in_the_log_and_the_next_question_is_answered(scene, caplog):
    def broken(*_: object) -> PrefixdbError:
        raise RuntimeError("of the store, with a secret")

    async def broken_too(*_: object) -> None:
        raise RuntimeError("of readiness, with a secret")

    async def act() -> list[dict[str, Any]]:
        answers = scene.make(translate=broken, ready=broken_too, check_peer=broken)
        numbers = [
            scene.front.ask("translate", "read", OSError()),
            scene.front.ask("admit", scene.tokens["member"], ""),
            scene.front.ask("ready", "read", False),
        ]
        last = scene.front.ask("admit", "bad", "")
        answers.answer()
        assert scene.front.refused[last]["name"] == "TOKEN_INVALID"
        while len(scene.front.refused) < 4:
            await asyncio.sleep(0)
        return [scene.front.refused[number] for number in numbers]

    for refused in asyncio.run(act()):
        assert refused["name"] == "INTERNAL" and refused["message"] == Reason.INTERNAL.value.summary
        assert refused["metadata"]["request_id"] in [record.__dict__.get("request_id") for record in caplog.records]
        assert "secret" not in str(refused)
    assert scene.tokens["member"] not in caplog.text
