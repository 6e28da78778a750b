"""A whole server answers like a dict, whatever the order of calls, bans, restarts and the passing of time.

Goal: every answer of KeyValue and of the life of namespaces is what docs/semantics.md says, also after suspensions,
bans, unbans, reclaims, numbers issued again, compactions, restarts, and for tokens of namespaces that are gone.
Method: a random walk over gRPC against a server whose clock is held, compared call by call with a model that shares no
code with it (``tools/crash/expect.py``). ``make model`` walks as far as one likes. A failure prints both answers, the
steps before and the seed; PREFIXDB_TEST_SEED repeats it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefixdb.v1 import key_value_pb2 as pb
from tools.crash import expect
from tools.crash.model import walk

OPERATIONS = 3_000


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_random_walk_gets_the_answers_of_the_model(tmp_path: Path, seed: int) -> None:
    seed = int(os.environ.get("PREFIXDB_TEST_SEED", seed))
    counts = walk(tmp_path, seed, OPERATIONS)
    assert counts["operations"] >= OPERATIONS, f"seed {seed}"
    for step in ("call", "pipeline", "refused", "create", "ban", "unban", "set_state", "reclaim"):
        assert counts[f"step {step}"] > 0, f"seed {seed}: the walk never took the step {step!r}"
    for reason in ("NAMESPACE_BANNED", "TOKEN_INVALID", "READ_ONLY", "KEY_EMPTY"):
        assert counts[f"refused {reason}"] > 0, f"seed {seed}: nothing was ever refused with {reason}"


def test_the_model_itself_expires_counts_and_refuses() -> None:
    issue = expect.Issue(1, "one", "", b"")
    issue.put(pb.PutRequest(key=b"a", value=b"1", ttl_ms=10), now_ms=100, version=5)
    issue.put(pb.PutRequest(key=b"b", value=b"2"), now_ms=100, version=6)
    assert issue.get(pb.GetRequest(key=b"a"), now_ms=109) == pb.GetResponse(found=True, value=b"1", version=5, ttl_ms=1)
    assert issue.get(pb.GetRequest(key=b"a"), now_ms=110) == pb.GetResponse()
    assert issue.count(pb.CountRequest(), now_ms=110).count == 1
    refused = issue.put(pb.PutRequest(key=b"b", condition=pb.Test(version=5)), now_ms=110, version=7)
    assert refused == pb.PutResponse(current_version=6)
    with pytest.raises(expect.Refused, match="BAD_RANGE"):
        issue.count(pb.CountRequest(range=pb.KeyRange(start=b"b", end=b"a")), now_ms=110)
    issue.state = expect.BANNED
    with pytest.raises(expect.Refused, match="NAMESPACE_BANNED"):
        issue.admit()
