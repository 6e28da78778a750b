"""Measure what members and groups cost: a token's first call, its later ones, and those of everybody else.

    tools/bench/admission.py [--members 10000] [--groups 1000] [--store rocksdict ...] [--rounds 40] [--json]

Method: two data directories for each store, one whose namespace has so many members and groups and one with three, made
with the catalog's own calls. First in process, where a token's way from its text to a session is ``Sessions.admit``:

    fresh    a token that was never seen, of a member in 1, 8 or 32 groups: signature, login, member, groups, rules
    cached   the same token again, in both directories by turns
    moved    the same again after something changed in a neighbour's namespace, which must cost nothing, and after
             something changed in its own, which costs another look

Fresh tokens are timed by the clock, the others, which wait for nothing, by the processor's time of their thread. Then
through a server on each directory: Get with a member's token, in short slices by turns. Whatever else the machine does
hits both alike; the table shows medians, of the slices the median of their ratios with the smallest and the
largest. Demands are marked met or missed; it ends with 1 when one is missed or something broke.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc

from prefixdb.catalog.entities import MemberRecord, NamespaceIssue, NamespaceRecord, Rule
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.passwords import hash_password
from prefixdb.catalog.tokens import Keyring, TokenAuthority
from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import data_key
from prefixdb.service.sessions import Sessions
from prefixdb.store import open_store
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import auth_pb2, key_value_pb2, namespaces_pb2
from tools.lab.process import ServerFailedError, ServerProcess

NAMESPACE, NEIGHBOUR = "crowded", "neighbour"
FEW = 3
GROUPS_OF = (1, 8, 32)
"""Groups of the members whose tokens are admitted; the last is as many as one may have."""

TOKENS, PORTION = 400, 50
"""Fresh tokens of each kind, each admitted once, and how many of them by turns."""

SLICE_CALLS, SLICE_MOVES, SLICE_GETS = 4_000, 200, 150
"""Calls of one slice: some 30 to 100 ms, too short for much to change in between."""

PASSWORD = "as long as it is the same"
KEY, VALUE = b"user/00000001", bytes(range(33, 133))
FRESH_RATIO_MAX = 1.25
CACHED_RATIO_MAX = 1.1
NEIGHBOUR_RATIO_MAX = 1.1
GETS_RATIO_MIN = 0.9


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. ``demand``: positive: at least, negative: at most so much; None when nothing is."""

    store: str
    name: str
    unit: str
    few: float
    many: float
    judged: float
    of_all: tuple[float, float]
    demand: float | None

    @property
    def met(self) -> bool:
        """False when a demand is missed."""
        if self.demand is None:
            return True
        return self.judged >= self.demand if self.demand > 0 else self.judged <= -self.demand

    @property
    def verdict(self) -> str:
        """The demand and whether it is met, in words."""
        if self.demand is None:
            return ""
        wanted = f">= {self.demand:g}" if self.demand > 0 else f"<= {-self.demand:g}"
        return f"{wanted}: {'met' if self.met else 'MISSED'}"


class World:
    """A catalog on a store, as a server has it."""

    def __init__(self, kind: str, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.clock = SystemClock()
        self.store = open_store(kind, data_dir, clock=self.clock, durability="os")
        self.registry = Registry(self.store, self.clock)
        keyring = Keyring(self.store, self.clock, data_dir)
        self.authority = TokenAuthority(self.store, self.clock, self.registry, keyring)
        self.identities = self.authority.identities

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def namespace(self, name: str) -> NamespaceRecord:
        """Return a namespace that is there."""
        record = self.registry.find(name)
        if record is None:
            raise RuntimeError(f"the namespace {name} is missing")
        return record

    def member(self, name: str) -> MemberRecord:
        """Return a member of the namespace that is measured."""
        member = self.identities.members.get(self.namespace(NAMESPACE).id, name)
        if member is None:
            raise RuntimeError(f"the member {name} is missing")
        return member

    def token(self, name: str) -> str:
        """Return the access token of a new login."""
        home, member = self.namespace(NAMESPACE), self.member(name)
        login = self.identities.logins.begin(home.id, member, NamespaceIssue(home.id, home.incarnation))
        return self.authority.access_token(login, member, home, home).token


def main() -> int:
    """Run the measurement and print it; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=10_000, help="members of the larger namespace (default 10000)")
    parser.add_argument("--groups", type=int, default=1_000, help="groups of it (default 1000)")
    parser.add_argument("--store", action="append", help="store to measure; again for more (default: every one built)")
    parser.add_argument("--rounds", type=int, default=40, help="slices of each case (default 40)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    arguments = parser.parse_args()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="prefixdb-admission-") as directory:
        try:
            for kind in arguments.store or _built(Path(directory)):
                lines += _measure(kind, Path(directory) / kind, arguments)
        except (PrefixdbError, ServerFailedError, grpc.RpcError) as failure:
            print(f"bench: FAILED: {failure}", file=sys.stderr)
            return 1
    if arguments.json:
        cases = [asdict(line) | {"verdict": line.verdict} for line in lines]
        print(json.dumps({"cases": cases, "cores": os.cpu_count()}, indent=2))
    else:
        print(f"{arguments.members:,d} members, {arguments.groups:,d} groups", *_table(lines), sep="\n")
    return 0 if all(line.met for line in lines) else 1


def _built(directory: Path) -> Iterator[str]:
    """Yield the stores of this installation."""
    for kind in ("rocksdict", "native"):
        try:
            open_store(kind, directory / f"try-{kind}", clock=SystemClock()).close()
        except PrefixdbError as failure:
            print(f"{kind} is left out: {failure.message}", file=sys.stderr)
        else:
            yield kind


def _measure(kind: str, directory: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    for size, members, groups in (("few", FEW, max(GROUPS_OF)), ("many", arguments.members, arguments.groups)):
        print(f"{kind}: making {members:,d} members", file=sys.stderr)
        _fill(kind, directory / size, members, groups)
    with ExitStack() as opened:
        few, many = (opened.enter_context(closing(World(kind, directory / size))) for size in ("few", "many"))
        yield from _fresh(kind, few, many)
        yield from _cached(kind, few, many, arguments.rounds)
    yield _gets(kind, directory, arguments.rounds)


def _fill(kind: str, data_dir: Path, members: int, groups: int) -> None:
    """Make a namespace with members and groups, a neighbour, and those members whose tokens are admitted."""
    with closing(World(kind, data_dir)) as world:
        home, neighbour = world.registry.create(NAMESPACE), world.registry.create(NEIGHBOUR)
        identities, hashed = world.identities, hash_password(PASSWORD)
        names = [f"group-{number:05d}" for number in range(max(groups, *GROUPS_OF))]
        for number, name in enumerate(names):
            rules = [Rule(0, b"group/%05d/" % number, read=True, write=True), Rule(None, b"user/", True, False)]
            identities.groups.create(home.id, name, rules)
        chance = random.Random(members)
        for number in range(members):
            held = chance.sample(names, 3)
            identities.members.create(home.id, f"member-{number:06d}", password_hash=hashed, groups=held)
        for count in GROUPS_OF:
            identities.members.create(home.id, _in_groups(count), password_hash=hashed, groups=names[-count:])
        identities.members.create(neighbour.id, "busy", password_hash=hashed)
        put = Put(data_key(home.id, 0, KEY), VALUE)
        if not world.store.commit(Commit((put,))).applied:
            raise RuntimeError("a commit was not applied")
        world.store.flush()
        world.store.compact()


def _in_groups(count: int) -> str:
    """Return the name of the member in so many groups."""
    return f"in-{count}-groups"


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _fresh(kind: str, few: World, many: World) -> Iterator[Line]:
    """Admit tokens that were never seen, a few in each world by turns."""
    for count in GROUPS_OF:
        taken: dict[int, list[float]] = {id(few): [], id(many): []}
        for _ in range(TOKENS // PORTION):
            for world in random.sample((few, many), 2):
                # Made before they are admitted, and in portions: one open login too many ends the oldest.
                tokens = [_metadata(world.token(_in_groups(count))) for _ in range(PORTION)]
                sessions = Sessions(world.authority, world.registry, world.clock)
                taken[id(world)] += [_seconds(sessions.admit, token) * 1000 for token in tokens]
        for share, word, demand in ((0.50, "p50", -FRESH_RATIO_MAX), (0.99, "p99", None)):
            small, large = _quantile(taken[id(few)], share), _quantile(taken[id(many)], share)
            ratio = large / small
            yield Line(kind, f"fresh token, {count} groups, {word}", "ms", small, large, ratio, (ratio, ratio), demand)


def _cached(kind: str, few: World, many: World, rounds: int) -> Iterator[Line]:
    """Admit a token again and again: as it is, after a neighbour's change, and after one at home."""
    runs: dict[str, dict[int, list[float]]] = {}
    worlds = [(world, _admitted(world)) for world in (few, many)]
    for number in range(-1, rounds):  # The first of each warms up.
        for world, again in random.sample(worlds, 2):
            neighbour, home = world.namespace(NEIGHBOUR).id, world.namespace(NAMESPACE).id
            for name, moved, calls in (
                ("cached", None, SLICE_CALLS),
                ("neighbour", neighbour, SLICE_CALLS),
                ("own", home, SLICE_MOVES),
            ):
                per_call = _per_call(again, world, moved, calls)
                if number >= 0:
                    runs.setdefault(name, {}).setdefault(id(world), []).append(per_call * 1e6)
    small, large = id(few), id(many)
    yield _ratio((kind, "cached token", "µs"), runs["cached"][small], runs["cached"][large], -CACHED_RATIO_MAX)
    beside = runs["neighbour"][large]
    name = "cached token, as it is and after a neighbour's change"
    yield _ratio((kind, name, "µs"), runs["cached"][large], beside, -NEIGHBOUR_RATIO_MAX)
    yield _ratio((kind, "cached token, after a change at home", "µs"), runs["own"][small], runs["own"][large])


def _admitted(world: World) -> Callable[[], object]:
    """Return a function that admits one cached token again."""
    sessions = Sessions(world.authority, world.registry, world.clock)
    metadata = _metadata(world.token(_in_groups(8)))
    sessions.admit(metadata)
    return lambda: sessions.admit(metadata)


def _per_call(again: Callable[[], object], world: World, moved: int | None, calls: int) -> float:
    """Return the seconds of one call; before each the epoch of ``moved`` is moved, whose time does not count."""
    if moved is None:
        return _cpu_seconds(_repeat, again, calls) / calls
    # The clock is read for a portion of calls, not for each, when the move can be made once for the portion.
    portion = 1 if moved == world.namespace(NAMESPACE).id else 100
    spent = 0.0
    for _ in range(calls // portion):
        world.authority.epochs.move(moved)
        spent += _cpu_seconds(_repeat, again, portion)
    return spent / calls


def _gets(kind: str, directory: Path, rounds: int) -> Line:
    """Get one row through a server on each directory, by turns, one call at a time."""
    rates: dict[str, list[float]] = {"few": [], "many": []}
    with ExitStack() as opened:
        calls = {}
        for size in rates:
            server = opened.enter_context(ServerProcess(directory / size, store=kind))
            server.start()
            channel = opened.enter_context(grpc.insecure_channel(server.address))
            calls[size] = _get_call(channel)
        for number in range(-1, rounds):
            for size in random.sample(list(rates), 2):
                rate = SLICE_GETS / _seconds(_repeat, calls[size], SLICE_GETS)
                if number >= 0:
                    rates[size].append(rate)
    return _ratio((kind, "Get through a server", "/s"), rates["few"], rates["many"], GETS_RATIO_MIN)


def _get_call(channel: grpc.Channel) -> Callable[[], None]:
    """Log in and return a function that gets one row with the member's token."""
    login = channel.unary_unary("/prefixdb.v1.Auth/Login", response_deserializer=auth_pb2.LoginResponse.FromString)
    where = namespaces_pb2.NamespaceRef(name=NAMESPACE)
    asked = auth_pb2.LoginRequest(namespace=where, user=_in_groups(8), password=PASSWORD)
    metadata = _metadata(login(asked.SerializeToString()).tokens.access_token)
    stub = channel.unary_unary("/prefixdb.v1.KeyValue/Get", response_deserializer=key_value_pb2.GetResponse.FromString)
    request = key_value_pb2.GetRequest(key=KEY).SerializeToString()

    def call() -> None:
        if stub(request, metadata=metadata, timeout=10).value != VALUE:
            raise ServerFailedError("a Get did not answer what is stored")

    return call


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _seconds(work: Callable[..., object], *arguments: Any) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


def _cpu_seconds(work: Callable[..., object], *arguments: Any) -> float:
    """Return the time this thread was on a processor: what others make it wait does not count."""
    begin = time.thread_time()
    work(*arguments)
    return time.thread_time() - begin


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _ratio(
    case: tuple[str, str, str], few: Sequence[float], many: Sequence[float], demand: float | None = None
) -> Line:
    """Return the line of a case (store, name, unit) from the figures of its rounds."""
    ratios = [large / small for small, large in zip(few, many, strict=True)]
    middle, bounds = statistics.median(ratios), (min(ratios), max(ratios))
    return Line(*case, statistics.median(few), statistics.median(many), middle, bounds, demand)


def _table(lines: Sequence[Line]) -> Iterator[str]:
    yield "| store | case | unit | few | many | ratio | of all rounds | demand |"
    yield "|---|---|---|---:|---:|---:|---|---|"
    for line in lines:
        figure = ",.0f" if line.few > 100 else ".3g"
        bounds = f"{line.of_all[0]:.2f} to {line.of_all[1]:.2f}"
        yield (
            f"| {line.store} | {line.name} | {line.unit} | {line.few:{figure}} | {line.many:{figure}} | "
            f"{line.judged:.2f} | {bounds} | {line.verdict} |"
        )


if __name__ == "__main__":
    sys.exit(main())
