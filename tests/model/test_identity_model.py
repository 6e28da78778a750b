"""Whoever may do something can, and whoever may not cannot, on the very next request, whatever happened before.

Goal: logins, refreshes, exchanges, passwords, members, groups, grants, service tokens, revocations, keys, states of
namespaces and the passing of time together do what docs/security.md says, with sessions cached all along.
Method: a random walk over gRPC against a server whose clock is held. After every act some tokens, good ones and dead
ones, are tried with Get, Put, Delete, Scan or WhoAmI; what each may comes from a model that looks at it from scratch
(``members_model.py``). A failure prints the seed and the acts before; PREFIXDB_TEST_SEED repeats it,
PREFIXDB_IDENTITY_STEPS makes the walk as long as one likes.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.model.members_walk import ACTS, Walk
from tests.store.stores import DURABLE
from tests.support.clocks import HeldClock
from tests.support.server import running

STEPS = 500
SEEDS = {"native": 21, "rocksdict": 22}


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("store", DURABLE)
def test_tokens_may_what_the_model_says_after_every_act(tmp_path: Path, store: str) -> None:
    seed = int(os.environ.get("PREFIXDB_TEST_SEED", SEEDS[store]))
    settings = {"store.kind": store, "store.durability": "os"}
    steps = int(os.environ.get("PREFIXDB_IDENTITY_STEPS", STEPS))

    async def main() -> Walk:
        clock = HeldClock()
        async with running(tmp_path / "data", clock=clock, settings=settings) as server:
            password = (tmp_path / "data" / "guardian.password").read_text().strip()
            walk = Walk(server, clock, seed, password)
            await walk.run(steps)
            return walk

    walk = asyncio.run(main())
    print(f"seed {seed}: {dict(sorted(walk.counts.items()))}")
    assert walk.counts.keys() >= ACTS.keys(), f"seed {seed}: some acts never came up"
    reasons = ("accepted", "TOKEN_REVOKED", "TOKEN_EXPIRED", "NOT_PERMITTED", "NAMESPACE_SUSPENDED", "NAMESPACE_BANNED")
    for reason in reasons:
        assert walk.counts[f"tried and {reason}"], f"seed {seed}: no token was ever {reason}"
