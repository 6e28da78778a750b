"""Goal: whoever asks the manifest what is due, begun or next is told the truth, whatever happened to each ban before.

Method: random lives of bans beside a plain dict of them; every answer is compared with one that looks at all.
"""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from prefixdb.catalog.entities import Ban
from prefixdb.catalog.manifest import BanManifest


def ban_of(namespace_id: int, grace_end_ms: int) -> Ban:
    return Ban(namespace_id, 1, f"n{namespace_id}", 1, "x", "", grace_end_ms)


def check(manifest: BanManifest, model: dict[int, Ban], now_ms: int) -> None:
    waiting = [ban for ban in model.values() if not ban.reclaim_started_at_ms]
    due = sorted((ban for ban in waiting if ban.reclaim_after_ms <= now_ms), key=lambda ban: ban.namespace_id)
    assert sorted(manifest.due(now_ms), key=lambda ban: ban.namespace_id) == due
    ends = [ban.reclaim_after_ms for ban in waiting if ban.reclaim_after_ms > now_ms]
    assert manifest.next_grace_end_ms(now_ms) == (min(ends) if ends else None)
    begun = [ban for ban in model.values() if ban.reclaim_started_at_ms and not ban.reclaimed_at_ms]
    assert {ban.namespace_id: ban for ban in manifest.begun()} == {ban.namespace_id: ban for ban in begun}
    assert {ban.namespace_id for ban in manifest.undone()} == {ban.namespace_id for ban in [*waiting, *begun]}
    assert manifest.all() == [model[namespace_id] for namespace_id in sorted(model)]


@pytest.mark.parametrize("seed", range(20))
def test_every_answer_is_what_a_look_at_all_bans_says(seed):
    chance = random.Random(seed)
    manifest, model, now_ms = BanManifest(), {}, 1_000
    for _ in range(300):
        namespace_id = chance.randrange(8)
        ban = model.get(namespace_id)
        act = chance.choice(("ban", "take back", "begin", "finish", "wait", "load"))
        if act == "wait":
            now_ms += chance.randrange(50)
        elif act == "load":
            manifest = BanManifest(list(model.values()))
        elif act == "ban" and (ban is None or ban.reclaimed_at_ms):
            model[namespace_id] = ban_of(namespace_id, now_ms + chance.randrange(100))
            manifest.put(model[namespace_id])
        elif act == "take back" and ban is not None and not ban.reclaim_started_at_ms:
            del model[namespace_id]
            manifest.remove(namespace_id)
        elif act == "begin" and ban is not None and ban.reclaim_after_ms <= now_ms and not ban.reclaim_started_at_ms:
            model[namespace_id] = replace(ban, reclaim_started_at_ms=now_ms)
            manifest.put(model[namespace_id])
        elif act == "finish" and ban is not None and ban.reclaim_started_at_ms:
            model[namespace_id] = replace(ban, reclaimed_at_ms=now_ms)
            manifest.put(model[namespace_id])
        if chance.random() < 0.3:  # Not each time: asking sorts things out.
            check(manifest, model, now_ms)


def test_begun_ones_come_in_the_order_of_their_begin_and_due_ones_of_their_grace():
    bans = [ban_of(number, 100 - number) for number in range(5)]
    begun = [replace(ban_of(10 + number, 50), reclaim_started_at_ms=60 - number) for number in range(5)]
    manifest = BanManifest([*bans, *begun])
    assert [ban.namespace_id for ban in manifest.due(100)] == [4, 3, 2, 1, 0]
    assert [ban.namespace_id for ban in manifest.begun()] == [14, 13, 12, 11, 10]
    assert [ban.namespace_id for ban in manifest.undone()] == [14, 13, 12, 11, 10, 4, 3, 2, 1, 0]
