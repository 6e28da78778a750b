"""Goal: what the benchmark says is what was measured: nothing is lost, added or judged wrongly on the way to the page.

Method: made-up samples whose medians, ratios and verdicts are worked out by hand; output of the load generators as they
once wrote it; frozen bytes of the replay file and of etcd's messages, which others wrote down first. No server runs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.bench.page import calls, etcd_proto, keys, operations, report
from tools.bench.page.calls import Sizes
from tools.bench.page.generators import read_redis_benchmark
from tools.bench.page.measure import as_json, run_once
from tools.bench.page.mixed import growth_of
from tools.bench.page.operations import ETCD, GOALS, NATIVE, REDIS, Goal, judge
from tools.bench.page.profile import shares
from tools.bench.page.report import Section
from tools.bench.page.samples import (
    BadResponsesError,
    Counted,
    NothingAnsweredError,
    Sample,
    Timing,
    median,
    paired,
    ratio,
    sample_of,
    spread,
)
from tools.bench.page.side import Load

FACTS = {
    "date": "2026-01-02 03:04", "commit": "abc1234", "processors": 2, "processor": "a processor", "memory_gib": 8,
    "kernel": "6.1", "file_system": "ext4", "fdatasync_us": 300, "load_before": 0.1, "versions": {"etcd": "3.4.23"},
}  # fmt: skip
SETTINGS = {"seconds": 3.0, "warm_up": 1.0, "rounds": 3}

REDIS_SAID = """\
====== GET key:__rand_int__ ======
  300032 requests completed in 0.59 seconds
  8 parallel clients

Latency by percentile distribution:
50.000% <= 0.879 milliseconds (cumulative count 158752)
99.805% <= 4.783 milliseconds (cumulative count 299424)
99.902% <= 4.847 milliseconds (cumulative count 299744)
100.000% <= 4.983 milliseconds (cumulative count 300000)

Cumulative distribution of latencies:
99.950% <= 0.103 milliseconds (cumulative count 0)

Summary:
  throughput summary: 500000.00 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.964     0.264     0.879     1.415     3.159     4.983
"""

PERF_SAID = """\
# Samples: 653  of event 'cpu-clock:ppp'
#
# Overhead  Shared Object         Symbol                               IPC   [IPC Coverage]
# ........  ....................  ...................................  ....................
#
    21.44%  libpython3.11.so.1.0  [.] _PyObject_Malloc                 -      -
     8.73%  [kernel.kallsyms]     [k] do_syscall_64                    -      -

"""


def sample(rows_per_s: float, cpu_us: float = 10.0, p999_ms: float | None = 3.0) -> Sample:
    """Return a sample with a rate and plausible rest."""
    return Sample(rows_per_s, rows_per_s, 0.5, 1.25, p999_ms, cpu_us, 123.4, 0.5)


def samples(*rates: float) -> list[Sample]:
    """Return a sample for each rate."""
    return [sample(rate) for rate in rates]


def test_the_replay_file_has_these_bytes(tmp_path: Path) -> None:
    path = keys.write_replay(tmp_path / "r", [b"ab", b""], [1, 0, 1])
    assert path.read_bytes() == (b"PFXREPL1\x02\0\0\0\x02\0\0\0ab\0\0\0\0\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0")


@pytest.mark.parametrize("draws", [[], [2], [-1]])
def test_a_draw_that_names_no_message_is_refused(tmp_path: Path, draws: list[int]) -> None:
    with pytest.raises(ValueError, match="draw"):
        keys.write_replay(tmp_path / "r", [b"a", b"b"], draws)


def test_keys_are_the_ones_that_redis_benchmark_asks_for() -> None:
    assert keys.key(42) == b"key:000000000042"
    assert {len(keys.value(number)) for number in range(100)} == {keys.VALUE_BYTES}
    assert len({keys.value(number) for number in range(100)}) == 100


def test_the_counted_prefix_covers_exactly_so_many_rows() -> None:
    covered = [number for number in range(keys.ROWS) if keys.key(number).startswith(keys.COUNTED_PREFIX)]
    assert covered == list(range(keys.COUNTED_ROWS))


def test_uniform_draws_favour_no_key() -> None:
    counts = Counter(keys.uniform(count=200_000))
    assert max(counts.values()) < 20
    assert len(counts) > 80_000


def test_zipfian_draws_follow_the_exponent() -> None:
    draws = keys.zipfian(count=200_000)
    (hottest, most), (_, second), *_ = Counter(draws).most_common(2)
    weights = [(rank + 1) ** -0.99 for rank in range(keys.ROWS)]
    assert most / len(draws) == pytest.approx(weights[0] / sum(weights), rel=0.05)
    assert second / most == pytest.approx(0.5, rel=0.1)
    assert hottest != 0, "the hot keys lie anywhere"


def test_draws_are_the_same_for_every_side() -> None:
    assert keys.uniform(count=100) == keys.uniform(count=100)
    assert keys.zipfian(count=100) == keys.zipfian(count=100)
    assert keys.groups(10, count=5) == keys.groups(10, count=5)


def test_no_group_has_a_key_twice() -> None:
    assert all(len(set(group)) == 100 for group in keys.groups(100, count=50))


def test_a_frame_is_what_a_grpc_client_sends() -> None:
    assert calls.frame(b"abc") == b"\0\0\0\0\x03abc"


def test_sizes_of_good_answers_leave_room_for_a_longer_version_and_no_more() -> None:
    sizes = Sizes(110, 112)
    slack = calls.VERSION_BYTES_SLACK * 2
    assert sizes.accept(110 - slack, 112 + slack, rows=1)
    assert not sizes.accept(110 - slack - 1, 112, rows=1)
    assert not sizes.accept(110, 112 + slack + 1, rows=1)


def test_etcds_messages_have_the_numbers_of_its_proto() -> None:
    found = etcd_proto.RangeRequest(key=b"k", range_end=b"l", limit=7, serializable=True, count_only=True)
    assert found.SerializeToString() == b"\x0a\x01k\x12\x01l\x18\x07\x38\x01\x48\x01"
    assert etcd_proto.PutRequest(key=b"k", value=b"v").SerializeToString() == b"\x0a\x01k\x12\x01v"
    txn = etcd_proto.TxnRequest()
    txn.success.add().request_put.key = b"k"
    txn.success.add().request_range.key = b"k"
    assert txn.SerializeToString() == b"\x12\x05\x12\x03\x0a\x01k\x12\x05\x0a\x03\x0a\x01k"
    answer = etcd_proto.RangeResponse.FromString(b"\x12\x06\x0a\x01k\x2a\x01v\x20\x09")
    assert (answer.kvs[0].key, answer.kvs[0].value, answer.count) == (b"k", b"v", 9)


def test_a_sample_counts_the_warm_up_for_cost_but_not_for_speed() -> None:
    counted = Counted(2.0, 50, 100, 400, 0.5, 1.0, 2.0, generator_cpu_s=4.0)
    found = sample_of(counted, cpu_s=0.004, memory_mib=10.0)
    assert (found.calls_per_s, found.rows_per_s) == (25.0, 50.0)
    assert found.cpu_us_per_row == pytest.approx(10.0)
    assert found.generator_cpu_share == pytest.approx(0.5)


def test_a_run_without_answers_is_no_measurement() -> None:
    with pytest.raises(BadResponsesError):
        sample_of(Counted(2.0, 0, 0, 0, None, None, None), cpu_s=1.0, memory_mib=1.0)


class QuietSide:
    """A side whose generator is the server itself."""

    name = "quiet"
    pid = None

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def loads(self) -> dict[str, Load]:
        """It does what a test says."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


def test_a_run_that_the_machine_had_no_time_for_is_made_again_and_longer() -> None:
    asked: list[float] = []

    def load(timing: Timing) -> Counted:
        asked.append(timing.seconds)
        rows = 0 if len(asked) == 1 else 30
        return Counted(timing.seconds, rows, rows, rows, None, None, None, cpu_s=0.3, memory_mib=7.0)

    found = run_once(QuietSide(), load, Timing(0.5, 0.1))
    assert asked == [0.5, 3.0]
    assert (found.rows_per_s, found.cpu_us_per_row, found.memory_mib) == (10.0, pytest.approx(10_000.0), 7.0)
    asked.clear()
    with pytest.raises(NothingAnsweredError):
        run_once(QuietSide(), lambda timing: Counted(timing.seconds, 0, 0, 0, None, None, None), Timing(0.5, 0.1))


def test_a_ratio_compares_runs_of_the_same_round() -> None:
    # The third round hit both; medians of each side by itself would say 100 / 20.
    found = ratio(samples(100, 200, 10), samples(10, 40, 20))
    assert (found.middle, found.low, found.high) == (5.0, 0.5, 10.0)


def test_a_round_that_was_interrupted_is_left_out_of_a_ratio() -> None:
    assert ratio(samples(100, 200), samples(50)).middle == 2.0


def test_any_field_can_be_paired() -> None:
    assert paired([sample(1, cpu_us=30)], [sample(1, cpu_us=20)], "cpu_us_per_row").middle == 1.5


def test_a_median_leaves_out_what_was_not_seen() -> None:
    assert median([sample(1, p999_ms=None), sample(1, p999_ms=4.0)], "p999_ms") == 4.0
    assert median([sample(1, p999_ms=None)], "p999_ms") is None


def test_the_spread_is_told_in_parts_of_the_median() -> None:
    assert spread(samples(90, 100, 120)) == pytest.approx(0.3)


def test_the_targets_are_these() -> None:
    wanted = {(goal.operation, goal.against_operation, goal.against_side): goal.at_least for goal in GOALS}
    assert wanted == {
        ("get-uniform", "get-uniform", "etcd"): 8.0,
        ("get-uniform", "get-uniform", "redis everysec"): 1.1,
        ("get-h2load", "get-h2load", "nghttpd"): 0.55,
        ("batch-get", "get-uniform", "prefixdb native"): 3.0,
        ("scan", "scan", "RocksDB"): 0.4,
        ("pipeline-get", "pipeline-get", "redis everysec"): 0.6,
        ("put", "put", "etcd"): 3.0,
        ("put", "put", "redis everysec"): 0.7,
        ("pipeline-put", "pipeline-put", "redis always"): 1.0,
        ("python-get-256", "python-get-256", "etcd"): 5.0,
        ("python-get-256", "python-get-256", "redis everysec"): 1.5,
    }
    assert {goal.side for goal in GOALS} == {NATIVE}


def test_targets_name_what_is_measured() -> None:
    for goal in GOALS:
        assert {goal.operation, goal.against_operation} <= set(operations.BY_NAME), goal.text
        assert {goal.side, goal.against_side} <= set(operations.SIDES), goal.text


@pytest.mark.parametrize(("ours", "met"), [(79.9, False), (80.0, True)])
def test_a_target_is_reached_from_its_figure_on(ours: float, met: bool) -> None:
    goal = Goal("a target", 8.0, "put", NATIVE, "put", ETCD)
    (verdict,) = judge({"put": {NATIVE: samples(ours), ETCD: samples(10)}}, [goal])
    assert verdict.met is met


def test_a_target_is_not_judged_when_a_side_is_missing() -> None:
    assert list(judge({"put": {NATIVE: samples(80)}})) == []


def page(measured: operations.Measured, **settings: object) -> str:
    """Return the page of these samples."""
    return report.page(FACTS, SETTINGS | settings, measured, list(judge(measured)))


def test_the_page_has_every_figure_and_verdict() -> None:
    text = page(
        {
            "put": {NATIVE: samples(61_000, 60_000, 66_000), ETCD: samples(20_000, 30_000, 22_000)},
            "python-get-256": {NATIVE: samples(900, 1_000), REDIS: samples(1_000, 900)},
        }
    )
    assert "| Put, against etcd's put | 3 | 3.00 | 2.00 to 3.05 | reached |" in text
    assert "| Python, 256 Gets at once, against redis-py | 1.5 | 1.01 | 0.90 to 1.11 | **missed** |" in text
    assert "| | prefixdb native | etcd |" in text
    assert "| Put | 61.0 | 22.0 |" in text
    assert "| 256 Gets at once | 0.950 | 0.950 |" in text
    assert "| Put | 0.500 / 1.25 / 3.00 | 0.500 / 1.25 / 3.00 |" in text
    assert "| Put | 10.0 · 123 | 10.0 · 123 |" in text
    assert "ext4 whose fdatasync takes 300 µs" in text and "etcd 3.4.23" in text
    assert "interrupted" not in text


def test_what_was_not_measured_is_a_dash() -> None:
    text = page({"put": {NATIVE: samples(1_000)}, "get-uniform": {NATIVE: samples(2_000), REDIS: samples(3_000)}})
    assert "| Put | 1.00 | – |" in text
    text = page({"scan": {NATIVE: [sample(1_000, p999_ms=None)]}})
    assert "| Scan of everything | – |" in text


def test_a_page_of_an_interrupted_run_says_so() -> None:
    assert "interrupted" in page({"put": {NATIVE: samples(1_000)}}, interrupted=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (1.234, "1.23"), (9.996, "10.0"), (12.34, "12.3"), (99.96, "100"), (12345, "12,345")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert report.three_digits(value) == text


def test_everything_raw_is_kept() -> None:
    found = as_json({"put": {NATIVE: samples(5.0, 6.0)}})
    assert [one["rows_per_s"] for one in found["put"][NATIVE]] == [5.0, 6.0]  # type: ignore[index]


def test_a_section_replaces_what_stands_between_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "d.md"
    document.write_text("before\n<!-- page:begin -->\nold\n<!-- page:end -->\nafter\n", encoding="utf-8")
    for text in ("new", "newer"):
        report.publish(document, Section("page", text, {}))
        expected = f"before\n<!-- page:begin -->\n\n{text}\n\n<!-- page:end -->\nafter\n"
        assert document.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- page:begin -->",
        "<!-- page:end --><!-- page:begin -->",
        "<!-- page:begin --><!-- page:end --><!-- page:end -->",
        "<!-- memory:begin --><!-- memory:end -->",
    ],
)
def test_a_document_without_both_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    document = tmp_path / "d.md"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="page:begin"):
        report.publish(document, Section("page", "new", {}))
    assert document.read_text(encoding="utf-8") == text


def test_the_document_has_a_place_for_every_section() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
    text = document.read_text(encoding="utf-8")
    for name in ("page", "session-check", "memory", "mixed", "profile"):
        assert text.count(f"<!-- {name}:begin -->") == text.count(f"<!-- {name}:end -->") == 1, name


def test_what_redis_benchmark_says_is_read() -> None:
    found = read_redis_benchmark(REDIS_SAID)
    assert found.calls == 300_032
    assert found.calls / found.seconds == pytest.approx(500_000)
    assert (found.p50_ms, found.p99_ms, found.p999_ms) == (0.879, 3.159, 4.847)


def test_words_that_are_not_redis_benchmarks_are_refused() -> None:
    with pytest.raises(BadResponsesError, match="throughput"):
        read_redis_benchmark("Error from server: ERR unknown command")


def test_what_perf_says_is_read() -> None:
    assert shares(PERF_SAID) == [
        (21.44, "libpython3.11.so.1.0 [.] _PyObject_Malloc"),
        (8.73, "[kernel.kallsyms] [k] do_syscall_64"),
    ]


def test_memory_that_settles_has_not_grown() -> None:
    settling = [100.0 + min(second, 25) * 4 for second in range(100)]
    assert growth_of(settling).more == 0.0


def test_memory_that_grows_slowly_is_noticed() -> None:
    found = growth_of([100.0 + second for second in range(100)])
    assert (found.settled, found.end) == (134.5, 194.5)


def test_one_peak_is_no_growth() -> None:
    assert growth_of([100.0] * 95 + [500.0] + [100.0] * 4).more == 0.0


def test_growth_needs_samples() -> None:
    with pytest.raises(ValueError, match="too few"):
        growth_of([1.0] * 9)
