"""What namespaces and live sessions cost in memory: a server with a hundred thousand of the ones and ten thousand of
the others, beside a server with one of each.

The catalog is filled in process, without a server and without syncs, as a restore would; the tokens are issued there
too. Then both servers are started, and each answers the same number of calls: the one with a token for each, the other
always with the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import grpc

from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.tokens import Keyring, TokenAuthority, TokenRequest
from prefixdb.clock import SystemClock
from prefixdb.store import open_store
from prefixdb.v1 import key_value_pb2
from tools.bench.page import meters
from tools.bench.page.calls import CALL_S_MAX, bearer, new_channel
from tools.bench.page.report import Section
from tools.bench.page.servers import PrefixdbProcess

NAMESPACES = 100_000
SESSIONS = 10_000
COST_MIB_MAX = 200
TOKEN_S = 24 * 3600
TELL_EVERY = 10_000
IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one server in MiB."""

    name: str
    after_start: float
    after_calls: float
    start_s: float


def run(scratch: Path, front: Sequence[str], namespaces: int = NAMESPACES, sessions: int = SESSIONS) -> Section:
    """Measure and return what is to be told. ``front``: arguments that choose the front."""
    found = []
    with ExitStack() as stack:
        for name, count, tokens_wanted in (("small", 1, 1), ("large", namespaces, sessions)):
            data_dir = scratch / name / "data"
            tokens = fill(data_dir, count, tokens_wanted)
            server = stack.enter_context(PrefixdbProcess(data_dir, front))
            start_s = server.start()
            after_start = meters.memory_mib(server.pid)
            print(f"{name}: started in {start_s:.1f} s with {after_start:,.0f} MiB", file=sys.stderr)
            _call(server.address, tokens, sessions)
            found.append(Memory(name, after_start, meters.memory_mib(server.pid), start_s))
    cost = found[1].after_calls - found[0].after_calls
    raw = {
        "namespaces": namespaces,
        "sessions": sessions,
        "cost_mib": cost,
        "servers": [{name: getattr(one, name) for name in Memory.__slots__} for one in found],
    }
    return Section("memory", _table(found, cost, namespaces, sessions), raw)


def fill(data_dir: Path, namespaces: int, tokens: int) -> list[str]:
    """Make a data directory with so many namespaces; return a writer's token for each of the first ``tokens``."""
    data_dir.mkdir(parents=True, mode=0o700)
    clock = SystemClock()
    with closing(open_store("native", data_dir, clock=clock, durability="os")) as store:
        registry = Registry(store, clock)
        authority = TokenAuthority(store, clock, registry, Keyring(store, clock, data_dir))
        issued = []
        begin = time.monotonic()
        for number in range(namespaces):
            namespace = registry.create(f"tenant-{number:06d}")
            if number < tokens:
                request = TokenRequest(namespace.id, f"service-{number}", ("writers",), ttl_s=TOKEN_S)
                issued.append(authority.issue_locally(request)[0])
            if (number + 1) % TELL_EVERY == 0:
                print(f"{number + 1:,d} namespaces in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return issued


def _call(address: str, tokens: Sequence[str], calls: int) -> None:
    """Get a row that is not there, ``calls`` times, with the tokens in turn."""
    with new_channel(address) as channel:
        get = channel.unary_unary("/prefixdb.v1.KeyValue/Get", None, key_value_pb2.GetResponse.FromString)
        request = key_value_pb2.GetRequest(key=b"nothing").SerializeToString()
        for first in range(0, calls, IN_FLIGHT):
            numbers = range(first, min(calls, first + IN_FLIGHT))
            waiting: list[grpc.Future[key_value_pb2.GetResponse]] = [
                get.future(request, metadata=bearer(tokens[number % len(tokens)]), timeout=CALL_S_MAX)
                for number in numbers
            ]
            for answer in waiting:
                answer.result()  # Raises what the server said when a token is not taken.


def _table(found: Sequence[Memory], cost: float, namespaces: int, sessions: int) -> str:
    lines = [
        "| resident memory, MiB | one namespace, one session | "
        f"{namespaces:,d} namespaces, {sessions:,d} sessions | more |",
        "|---|---:|---:|---:|",
    ]
    for label, field, figure in (
        ("after the start", "after_start", ",.0f"),
        ("after the calls", "after_calls", ",.0f"),
        ("start, seconds", "start_s", ".1f"),
    ):
        small, large = (getattr(one, field) for one in found)
        lines.append(f"| {label} | {small:{figure}} | {large:{figure}} | {large - small:{figure}} |")
    verdict = "reached" if cost < COST_MIB_MAX else "**missed**"
    return "\n".join([*lines, "", f"At most {COST_MIB_MAX} MiB are asked for: {verdict}."])
