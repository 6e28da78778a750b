"""Steps of a reclaim: every span wholly in them, no file rewritten twice without need, none that holds nothing of them.

Method: chosen layouts state the rules one by one; random layouts are compared with a model that knows for each byte
position of the key space which file and which span it belongs to.
"""

from __future__ import annotations

import itertools
import random

import pytest

from prefixdb.keycodec import RowKey, Span, data_key, namespace_span
from prefixdb.store.engine import LiveFile
from prefixdb.store.plan import FileIndex, Step, bytes_on_disk, namespace_of_span, overlaps, plan_steps


def key(namespace_id: int, number: int = 0) -> bytes:
    return data_key(namespace_id, 0, b"%06d" % number)


def file(name: str, first: bytes, last: bytes, *, level: int = 6, size: int = 10, entries: int = 5) -> LiveFile:
    return LiveFile(name, size, level, first, last, entries, 0)


def spans(*namespace_ids: int) -> list[Span]:
    return [namespace_span(namespace_id) for namespace_id in namespace_ids]


def plan(wanted: list[Span], files: list[LiveFile], step_bytes: int = 1 << 40, pieces_max: int = 1 << 30) -> list[Step]:
    return plan_steps(wanted, FileIndex(files), step_bytes=step_bytes, pieces_max=pieces_max)


def test_nothing_is_planned_for_nothing() -> None:
    assert plan([], [file("a", key(1), key(2))]) == []


def test_spans_that_share_a_bottom_file_are_one_range_and_others_are_left_apart() -> None:
    files = [file("a", key(1), key(3)), file("b", key(4), key(5)), file("c", key(6), key(9))]
    (step,) = plan(spans(1, 3, 8), files)
    assert step.pieces == tuple(spans(1, 3, 8))
    assert step.ranges == (Span(spans(1)[0].begin, spans(3)[0].end), spans(8)[0])


def test_files_of_upper_levels_join_nothing() -> None:
    files = [file("a", key(1), key(2)), file("b", key(3), key(9)), file("up", key(1), key(9), level=0)]
    (step,) = plan(spans(1, 5), files)
    assert step.ranges == tuple(spans(1, 5))


def test_spans_that_touch_are_one_range() -> None:
    files = [file("a", key(1), key(1, 9)), file("b", key(2), key(2, 9))]
    assert plan(spans(2, 1), files)[0].ranges == (Span(spans(1)[0].begin, spans(2)[0].end),)


def test_a_large_span_is_cut_right_behind_files() -> None:
    files = [file(str(n), key(1, 10 * n), key(1, 10 * n + 9), size=40) for n in range(5)]
    steps = plan(spans(1), files, step_bytes=80)
    cuts = [RowKey(key(1, 19) + b"\0"), RowKey(key(1, 39) + b"\0")]
    (whole,) = spans(1)
    assert [step.pieces for step in steps] == [
        (Span(whole.begin, cuts[0]),),
        (Span(cuts[0], cuts[1]),),
        (Span(cuts[1], whole.end),),
    ]
    # Compactions take both bounds for inclusive: no cut may reach the first key of the next file.
    assert cuts[0] < files[2].first_key


def test_small_spans_fill_a_step_and_a_shared_file_counts_once() -> None:
    files = [file("a", key(1), key(4), size=60), file("b", key(5), key(8), size=60)]
    assert [step.pieces for step in plan(spans(*range(1, 9)), files, step_bytes=100)] == [tuple(spans(*range(1, 9)))]
    steps = plan(spans(*range(1, 9)), files, step_bytes=60)
    assert [step.pieces for step in steps] == [tuple(spans(1, 2, 3, 4)), tuple(spans(5, 6, 7, 8))]


def test_a_step_has_no_more_pieces_than_allowed() -> None:
    steps = plan(spans(*range(1, 8)), [file("a", key(1), key(9))], pieces_max=3)
    assert [len(step.pieces) for step in steps] == [3, 3, 1]


def test_a_file_that_ends_with_a_tombstone_at_a_span_does_not_hold_it() -> None:
    (span,) = spans(5)
    assert not overlaps(file("a", key(4), span.begin), span)
    assert overlaps(file("a", key(4), key(5)), span)
    assert overlaps(file("a", key(4), RowKey(key(5))), Span(RowKey(key(5)), span.end))
    assert not overlaps(file("a", key(6), key(6)), span)


def test_only_a_whole_namespace_is_one() -> None:
    assert namespace_of_span(namespace_span(7)) == 7
    assert namespace_of_span(Span(key(7), namespace_span(7).end)) == -1
    assert namespace_of_span(Span(RowKey(b""), RowKey(b"\xff"))) == -1


def test_bytes_are_whole_files_and_a_share_of_shared_ones() -> None:
    (span,) = spans(5)
    inside = file("in", key(5, 1), key(5, 9), size=1_000, entries=100)
    shared = file("sh", key(4), key(5), size=1_000, entries=10)
    assert bytes_on_disk([inside], span, 100, 999.0) == 1_000
    assert bytes_on_disk([inside, shared], span, 102, 999.0) == 1_200
    assert bytes_on_disk([inside, shared], span, 102, 7.0) == 1_014
    # The engine has not looked into the file: how many of the rows are in it nobody knows.
    assert bytes_on_disk([inside._replace(entries=0)], span, 100, 999.0) == 1_000


@pytest.mark.parametrize("seed", range(40))
def test_random_layouts_are_covered_without_waste(seed: int) -> None:
    chance = random.Random(seed)
    namespaces = range(1, 60)
    banned = sorted(chance.sample(namespaces, chance.randrange(1, 40)))
    # Files of the bottom level: cut the numbered rows of all namespaces at random places.
    rows = [key(namespace_id, number) for namespace_id in namespaces for number in range(3)]
    cuts = sorted(chance.sample(range(1, len(rows)), chance.randrange(1, 60)))
    files = [
        file(str(begin), rows[begin], rows[end - 1], size=chance.randrange(1, 100))
        for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)
    ]
    step_bytes, pieces_max = chance.choice((1, 50, 300, 1 << 40)), chance.choice((1, 5, 1_000))
    steps = plan(chance.sample(spans(*banned), len(banned)), files, step_bytes, pieces_max)

    pieces = [piece for step in steps for piece in step.pieces]
    assert pieces == sorted(pieces, key=lambda piece: piece.begin)
    for row in rows:
        owner = int.from_bytes(row[:8], "big")
        assert sum(row in piece for piece in pieces) == (owner in banned)
        holding = [step for step in steps if any(row in span for span in step.ranges)]
        assert len(holding) == 1 if owner in banned else len(holding) <= 1
    assert b"".join(piece.begin for piece in pieces) != b""
    for namespace_id in banned:
        own = [piece for piece in pieces if piece.begin[:8] == namespace_span(namespace_id).begin]
        assert (own[0].begin, own[-1].end) == (namespace_span(namespace_id).begin, namespace_span(namespace_id).end)
        assert all(one.end == two.begin for one, two in itertools.pairwise(own))
    for step in steps:
        assert len(step.pieces) <= pieces_max
        for span in step.ranges:
            for each in files:
                if each.first_key <= span.end and each.last_key >= span.begin:  # As a compaction takes its bounds.
                    assert any(overlaps(each, piece) for piece in step.pieces), "a file is rewritten for nothing"
    if pieces_max == 1_000:
        for one, two in itertools.pairwise(steps):
            gathered = {each.name: each.size for each in files for piece in one.pieces if overlaps(each, piece)}
            assert sum(gathered.values()) >= step_bytes, "a step is smaller than it may be"
            shared = {each.name for each in files for piece in two.pieces if overlaps(each, piece)} & gathered.keys()
            assert not shared, "a file is rewritten in two steps"


def test_an_index_finds_what_a_look_at_every_file_finds() -> None:
    chance = random.Random(1)
    rows = sorted(key(namespace_id, number) for namespace_id in range(1, 30) for number in range(4))
    files = []
    for level in (1, 5, 6):
        cuts = sorted(chance.sample(range(len(rows)), 20))
        files += [
            file(f"{level}-{begin}", rows[begin], rows[chance.randrange(begin, end)], level=level)
            for begin, end in itertools.pairwise(cuts)
        ]
    files += [file(f"0-{n}", *sorted(chance.sample(rows, 2)), level=0) for n in range(10)]
    index = FileIndex(files)
    assert index.names() == {each.name for each in files}
    for _ in range(300):
        begin, end = sorted(chance.sample(rows, 2))
        span = chance.choice((Span(RowKey(begin), RowKey(end)), namespace_span(chance.randrange(1, 30))))
        assert {each.name for each in index.overlapping(span)} == {each.name for each in files if overlaps(each, span)}
        bottom = [each.name for each in index.at_bottom(span)]
        assert set(bottom) == {each.name for each in files if each.level == 6 and overlaps(each, span)}
