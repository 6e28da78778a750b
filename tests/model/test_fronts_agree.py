"""The native front and the Python server say the same to everything, byte by byte.

Goal: no caller can tell which of the two answers: the same answers, statuses, messages and details, in every state of
a token and a namespace, also to requests that no library would make.
Method: two servers with the same history and the same clock, one with each front, get the same seeded random calls over
sockets; between them, namespaces are suspended, banned and resumed, groups changed and tokens revoked on both. Versions
are sequence numbers of one history and have to agree, too. PREFIXDB_TEST_SEED repeats a walk, PREFIXDB_FRONTS_CALLS
makes it longer (100,000 take some minutes).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from prefixdb.catalog.entities import Guardian, NamespaceState, Rule
from prefixdb.rpcstatus import DETAILS_KEY
from prefixdb.store import native_is_built
from prefixdb.v1 import key_value_pb2 as pb
from tests.model.fronts_requests import SERVICE, VALUE_BYTES_MAX, Requests
from tests.support.clocks import HeldClock
from tests.support.server import RunningServer, running

CALLS = 6_000
SEED = 61
SEVERAL = 8
"""Reads that are made at once, so that calls meet on a connection."""

MADE_UP = "Internal error from Core"

pytestmark = pytest.mark.skipif(not native_is_built(), reason="the native store is not built")

NAMESPACES = {"acme": 7, "globex": 2**63, "ends": 2**64 - 2, "default": 0}


class Answer(NamedTuple):
    """What a caller gets to see of a call."""

    messages: tuple[bytes, ...]
    code: int
    text: str
    details: tuple[object, ...]


class Side:
    """One of the two servers."""

    def __init__(self, server: RunningServer, clock: HeldClock) -> None:
        self.server = server
        self.clock = clock
        self.callers: dict[str, tuple[tuple[str, str], ...]] = {}
        for name, number in NAMESPACES.items():
            if number:
                server.create(name, number)
            rules = (Rule(0, b"a", read=True, write=False), Rule(None, b"user/", read=True, write=True))
            server.add_group(number, "limited", *rules)
            server.add_group(number, "nothing")
            server.add_group(number, "blind", Rule(None, b"", read=False, write=True))
            for group in ("writers", "readers", "limited", "nothing", "blind"):
                self.callers[f"{name} {group}"] = bearer(server.token(number, groups=(group,)))
            self.callers[f"{name} both"] = bearer(server.token(number, groups=("readers", "limited")))
        self.callers["acme guardian"] = bearer(server.token(7, guardian=Guardian.NAMESPACE))
        self.callers["guardian"] = bearer(server.token(0, guardian=Guardian.CLUSTER))
        self.callers["revoked"] = bearer(server.token(7, subject="revoked"))
        server.app.authority.revoke_subject(7, "revoked")
        record = server.app.registry.get(7)
        assert record is not None
        self.callers["expired"] = bearer(server.expired_token(record))
        self.callers["forged"] = bearer(server.forged_token(record))
        self.callers["short"] = bearer(server.token(7, ttl_s=1_000))
        good = self.callers["acme writers"][0][1]
        self.callers |= {
            "nobody": (),
            "twice": (("authorization", good), ("authorization", good)),
            "basic": (("authorization", good.replace("Bearer", "Basic")),),
            "lower": (("authorization", good.replace("Bearer", "bearer")),),
            "empty": (("authorization", "Bearer "),),
            "spaced": (("authorization", good.replace(" ", "  ")),),
            "long": (("authorization", "Bearer " + "x" * 4_096),),
            "longer": (("authorization", "Bearer " + "x" * 4_097),),
            "with more": (("authorization", good), ("x-namespace", "5"), ("prefixdb-peer", "ipv4:9.9.9.9:9")),
            "cut": (("authorization", good[:-1]),),
        }

    async def ask(self, path: str, messages: list[bytes], caller: str) -> Answer:
        """Make one call; once more when the client made the status up: it does when it writes while it is refused."""
        while (answer := await self._ask(path, messages, caller)).text == MADE_UP:
            assert not answer.messages
        return answer

    async def _ask(self, path: str, messages: list[bytes], caller: str) -> Answer:
        channel = self.server.channel
        metadata = self.callers[caller]
        answers: list[bytes] = []
        options: dict[str, Any] = {"metadata": metadata, "timeout": 30.0}
        try:
            if path.endswith("Pipeline"):
                call = channel.stream_stream(path)(**options)
                for message in messages:  # One at a time: what is written to a call that has ended may be made up.
                    await call.write(message)
                    if (answer := await call.read()) is grpc.aio.EOF:
                        break
                    answers.append(in_order(answer))
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF  # Raises what the call ended with.
            elif path.endswith("Scan"):
                answers += [answer async for answer in channel.unary_stream(path)(messages[0], **options)]
            else:
                answers.append(await channel.unary_unary(path)(messages[0], **options))
        except grpc.aio.AioRpcError as failure:
            found = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY)
            return Answer(tuple(answers), failure.code().value[0], failure.details() or "", details_of(found))
        return Answer(tuple(answers), 0, "", ())

    def act(self, act: str) -> None:
        """Change something that every call depends on."""
        server, registry = self.server, self.server.app.registry
        match act.split():
            case ["tick", ms]:
                self.clock.advance(int(ms))
            case ["suspend", name]:
                registry.suspend(NAMESPACES[name], NamespaceState.SUSPENDED, "")
            case ["read-only", name]:
                registry.suspend(NAMESPACES[name], NamespaceState.READ_ONLY, "")
            case ["resume", name]:
                registry.resume(NAMESPACES[name])
            case ["ban", name]:
                registry.ban(NAMESPACES[name], by="test", grace_ms=365 * 24 * 3_600_000)
            case ["unban", name]:
                registry.unban(NAMESPACES[name])
            case ["label", name]:
                registry.update(NAMESPACES[name], labels={"at": str(self.clock.now_ms())})
            case ["group", name, *prefixes]:
                rules = [Rule(None, prefix.encode(), read=True, write=i % 2 == 0) for i, prefix in enumerate(prefixes)]
                server.app.authority.identities.groups.update(NAMESPACES[name], "limited", tuple(rules))
            case _:
                raise ValueError(act)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a token's holder."""
    return (("authorization", f"Bearer {token}"),)


def details_of(raw: bytes | None) -> tuple[object, ...]:
    """Return what a status says besides code and text, without the one thing that is drawn: the request id."""
    if raw is None:
        return ("no details",)
    status = Status.FromString(raw)
    found: list[object] = [status.code, status.message]
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo.FromString(detail.value)
            metadata = {key: value for key, value in info.metadata.items() if key != "request_id"}
            found.append((info.reason, info.domain, sorted(metadata.items())))
        else:
            found.append((detail.type_url, detail.value))
    return tuple(found)


def in_order(raw: bytes) -> bytes:
    """Return an answer of a Pipeline with the maps of its errors in order: the format leaves that open."""
    return pb.PipelineResponse.FromString(raw).SerializeToString(deterministic=True)


class Acts:
    """Draws what happens between calls: only what the state of the namespaces allows."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.state = dict.fromkeys((name for name in NAMESPACES if name != "default"), "active")

    def draw(self) -> str:
        """Return the next act."""
        name = self.random.choice(tuple(self.state))
        if self.random.random() < 0.4:
            return f"tick {self.random.choice((1, 999, 5_000, 20_000))}"
        if self.random.random() < 0.3:
            return f"label {name}" if self.state[name] != "banned" else "tick 1"
        if self.random.random() < 0.4 and self.state[name] != "banned":
            return f"group {name} {self.random.choice(('a b', 'user/ a', 'b/', 'aa ab'))}"
        if self.state[name] == "banned":
            self.state[name] = "active"
            return f"unban {name}"
        if self.state[name] != "active":
            self.state[name] = "active"
            return f"resume {name}"
        act, self.state[name] = self.random.choice((("suspend", "x"), ("read-only", "x"), ("ban", "banned")))
        return f"{act} {name}"


async def walk(directory: Path, seed: int, calls: int) -> Counter[str]:
    """Ask both servers; return how often which method ended with which code.

    Raises:
        AssertionError: they differ.
    """
    source = random.Random(seed)
    requests, acts = Requests(source), Acts(source)
    counts: Counter[str] = Counter()
    settings: dict[str, object] = {"store.kind": "native", "store.value_max": VALUE_BYTES_MAX}
    clocks = HeldClock(), HeldClock()
    async with (
        running(directory / "n", clock=clocks[0], settings=settings | {"server.front": "native"}) as native,
        running(directory / "p", clock=clocks[1], settings=settings | {"server.front": "python"}) as python,
    ):
        sides = Side(native, clocks[0]), Side(python, clocks[1])
        callers = tuple(sides[0].callers)
        usual = tuple(each for each in callers if each.endswith(("writers", "limited", "readers")))
        story: list[str] = []
        done = 0
        while done < calls:
            if source.random() < 0.02:
                act = acts.draw()
                story.append(act)
                for side in sides:
                    await asyncio.to_thread(side.act, act)
            batch = [(*requests.draw(), source.choice(usual if source.random() < 0.85 else callers))]
            while source.random() < 0.3 and len(batch) < SEVERAL and reads(batch[-1][0]):
                path, messages = requests.draw()
                if not reads(path):
                    break  # Writes would race for versions.
                batch.append((path, messages, source.choice(usual)))
            answers = [await asyncio.gather(*(side.ask(*each) for each in batch)) for side in sides]
            for index, each in enumerate(batch):
                ours, theirs = answers[0][index], answers[1][index]
                named = f"{each[2]}: {each[0]} {[message.hex() for message in each[1]]}"
                if ours != theirs:
                    before = "\n  ".join(story[-12:])
                    raise AssertionError(
                        f"seed {seed}, call {done}: the fronts differ\n{named[:3000]}\nnative: {str(ours)[:3000]}\n"
                        f"python: {str(theirs)[:3000]}\nbefore:\n  {before}"
                    )
                counts[f"{each[0].removeprefix(SERVICE)} {ours.code}"] += 1
                note_versions(requests, each[0], ours)
                story.append(f"{each[2]}: {each[0].removeprefix(SERVICE)} -> {ours.code}")
            done += len(batch)
            del story[:-20]
    return counts


def reads(path: str) -> bool:
    """True for calls that change nothing."""
    return path.removeprefix(SERVICE) in {"Get", "BatchGet", "Scan", "Count"}


def note_versions(requests: Requests, path: str, answer: Answer) -> None:
    """Have later conditions name versions that exist."""
    if answer.code == 0 and path.endswith("Get") and answer.messages and not path.endswith("BatchGet"):
        found = pb.GetResponse.FromString(answer.messages[0])
        if found.found:
            requests.versions.append(found.version)
            del requests.versions[:-8]


def test_the_native_front_and_the_python_server_answer_everything_alike(tmp_path: Path) -> None:
    seed = int(os.environ.get("PREFIXDB_TEST_SEED", SEED))
    calls = int(os.environ.get("PREFIXDB_FRONTS_CALLS", CALLS))
    print(f"seed {seed}, {calls} calls")
    counts = asyncio.run(walk(tmp_path, seed, calls))
    print(dict(sorted(counts.items())))
    for name in ("Get", "BatchGet", "Put", "Delete", "Write", "Scan", "Count", "Pipeline"):
        assert counts[f"{name} 0"], f"no {name} was ever answered"
        assert counts[f"{name} 7"], f"no {name} was ever refused"
        assert counts[f"{name} 3"] or name == "Pipeline", f"no {name} was ever wrong"
    assert sum(count for name, count in counts.items() if name.endswith(" 16")), "no token was ever bad"
