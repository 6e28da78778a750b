"""Goal: claims that are each well-formed by themselves are accepted only in the combinations that mean something.

Method: payloads are put together at random from good and odd values of every claim, and signed with our own key.
Whether one is an access token, a refresh token or nothing is said by the few sentences of ``oracle``, which share no
code with the judge; both must agree, thousands of times.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from prefixdb.errors import PrefixdbError, Reason
from tests.security.forging import MISSING, Forge, merged
from tests.support.catalog import World

ROUNDS = 20_000
HOUR_S, DAY_S = 3600, 24 * 3600

CHOICES: dict[str, list[Any]] = {
    "typ": ["access", "access", "refresh"],
    "ns": ["7", "7", "0"],
    "guardian": [MISSING, MISSING, MISSING, "namespace", "cluster"],
    "mint": [MISSING, MISSING, MISSING, "root"],
    "fam": [MISSING, "f1", "f1"],
    "home": [MISSING, MISSING, "0", "7"],
    "groups": [[], [], ["readers"]],
    "life_s": [1, 900, 901, HOUR_S, HOUR_S + 1, 7 * DAY_S, 7 * DAY_S + 1, 366 * DAY_S, 366 * DAY_S + 1],
}


def oracle(claims: dict[str, Any], life_s: int) -> str:
    """Return "access", "refresh" or "nothing"."""
    has = set(claims)
    in_0 = claims["ns"] == "0"
    if claims["typ"] == "refresh":
        bare = not has & {"guardian", "mint", "home"} and not claims["groups"]
        return "refresh" if "fam" in has and bare and life_s <= 7 * DAY_S else "nothing"
    if claims.get("guardian") == "cluster" and not in_0:
        return "nothing"
    if "mint" in has and (in_0 or "fam" in has or life_s > HOUR_S):
        return "nothing"
    if "home" in has and (claims["home"] != "0" or in_0 or "fam" not in has or has & {"guardian", "mint"}):
        return "nothing"
    if "fam" in has and life_s > 900:
        return "nothing"
    return "access" if life_s <= 366 * DAY_S else "nothing"


def found(world: World, token: str) -> str:
    """Return what the token is accepted as; every refusal must be the same one."""
    accepted = []
    for name, judge in (("access", world.authority.verify), ("refresh", world.authority.read_refresh)):
        try:
            judge(token)
            accepted.append(name)
        except PrefixdbError as refusal:
            assert refusal.reason is Reason.TOKEN_INVALID
    assert len(accepted) <= 1
    return accepted[0] if accepted else "nothing"


def test_combinations_of_claims_are_accepted_as_the_rules_say(tmp_path: Path) -> None:
    seed = int(os.environ.get("PREFIXDB_TEST_SEED") or time.time_ns() % 2**32)
    sys.stdout.write(f"replay with PREFIXDB_TEST_SEED={seed}\n")  # Shown when the test fails.
    dice = random.Random(seed)
    world = World(tmp_path)
    world.registry.create("acme", namespace_id=7)
    forges = {"7": Forge(world, 7), "0": Forge(world, 0)}
    seen: dict[str, int] = {}
    tried: set[str] = set()
    for _ in range(ROUNDS):
        drawn = {name: dice.choice(values) for name, values in CHOICES.items()}
        if repr(drawn) in tried:
            continue
        tried.add(repr(drawn))
        life_s = drawn.pop("life_s")
        forge = forges[drawn["ns"]]
        claims = merged(forge.payload(exp=forge.now_s + life_s), drawn)
        expected = oracle(claims, life_s)
        assert found(world, forge.sign(forge.header(), claims)) == expected, (seed, drawn, life_s)
        seen[expected] = seen.get(expected, 0) + 1
    assert min(seen.get(kind, 0) for kind in ("access", "refresh", "nothing")) >= 10, seen
