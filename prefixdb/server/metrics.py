"""Metrics for Prometheus: counts, times and sizes. No label ever holds a tenant, a key, a user or a peer.

Calls are counted on the serving thread for every request, in plain numbers. Those that the front answers are counted
there, and added when somebody asks. What can be read at any time (sizes, states, open streams) is read then, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from prefixdb import __version__
from prefixdb.errors import Code
from prefixdb.store.base import StoreStatus

LATENCY_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""From a Get in memory to a compaction somebody waits for."""

STORE_COUNTS = {
    "published_bans": "Banned namespaces whose rows the store may drop.",
    "namespaces_skipped": "Times a compaction dropped what it met of a banned namespace, since the start.",
    "expired_dropped": "Expired rows that compactions dropped, since the start.",
    "malformed_kept": "Rows the compaction filter did not understand and kept, since the start: look into any.",
}
"""Numbers of ``StoreStatus.extra`` that are shown where the store in use tells them."""

FRONT_FACTS = {
    "connections": "Open connections to the front.",
    "forwarded": "Calls that the front has passed on to Python as they came, since the start.",
    "punted": "Calls that the front began and handed over to Python, since the start.",
}
"""Numbers of the front that are shown where there is one."""

FrontCalls = Mapping[str, tuple[Mapping[int, int], list[int], int]]
"""By method: calls by status code, calls by time (in the buckets above and beyond, not cumulative), microseconds."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a scrape reads. All functions are cheap and may be called from the event loop.

    namespaces: how many are in each state, by the state's name.
    alarms: how many problems an operator should look at, by where they come from (a fixed short word).
    front: numbers of the front; none when Python answers the port.
    """

    store: Callable[[], StoreStatus]
    namespaces: Callable[[], dict[str, int]]
    streams_open: Callable[[], int]
    sessions_cached: Callable[[], int]
    audit_available: Callable[[], bool]
    serving: Callable[[], bool]
    alarms: Callable[[], dict[str, int]] = dict
    front: Callable[[], Mapping[str, int]] = dict


@dataclass(slots=True)
class _Calls:
    """The calls of one method."""

    codes: dict[int, int] = field(default_factory=dict)
    times: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    seconds: float = 0.0


class Metrics:
    """Counts calls (a ``CallObserver``) and renders everything on demand."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls: dict[str, _Calls] = {}
        self._front_calls: Callable[[], FrontCalls] = dict
        self.registry.register(_CallsCollector(self._all_calls))

    def call_ended(self, method: str, code: int, seconds: float) -> None:
        """Count a call. ``method`` is a path the server knows or one fixed word, so the labels are bounded."""
        calls = self._calls.get(method)
        if calls is None:
            calls = self._calls[method] = _Calls()
        calls.codes[code] = calls.codes.get(code, 0) + 1
        calls.times[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        calls.seconds += seconds

    def count_with(self, front_calls: Callable[[], FrontCalls]) -> None:
        """Add the calls that ``front_calls`` tells to those counted here."""
        self._front_calls = front_calls

    def _all_calls(self) -> dict[str, _Calls]:
        added = {
            method: _Calls(dict(calls.codes), list(calls.times), calls.seconds) for method, calls in self._calls.items()
        }
        for method, (codes, times, microseconds) in self._front_calls().items():
            calls = added.setdefault(method, _Calls())
            for code, count in codes.items():
                calls.codes[code] = calls.codes.get(code, 0) + count
            calls.times = [here + there for here, there in zip(calls.times, times, strict=True)]
            calls.seconds += microseconds / 1e6
        return added

    def observe(self, facts: Facts) -> None:
        """Have ``facts`` read at every scrape."""
        self.registry.register(_FactsCollector(facts))

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)


class _CallsCollector:
    """Turns counted calls into a counter and a histogram at the moment of a scrape."""

    def __init__(self, calls: Callable[[], dict[str, _Calls]]) -> None:
        self._calls = calls

    def describe(self) -> list[Metric]:
        """Return nothing: there is nothing to compare with other collectors."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield both."""
        ended = CounterMetricFamily("prefixdb_calls", "Calls that ended.", labels=["method", "code"])
        seconds = HistogramMetricFamily(
            "prefixdb_call_seconds", "Time from a request to its status.", labels=["method"]
        )
        for method, calls in sorted(self._calls().items()):
            for code, count in sorted(calls.codes.items()):
                ended.add_metric([method, Code(code).name], count)
            bounds = (*map(floatToGoString, LATENCY_BUCKETS_S), "+Inf")
            buckets = list(zip(bounds, accumulate(calls.times), strict=True))
            seconds.add_metric([method], buckets, calls.seconds)
        yield ended
        yield seconds


class _FactsCollector:
    """Turns ``Facts`` into gauges at the moment of a scrape."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        facts = self._facts
        info = GaugeMetricFamily("prefixdb_build", "1, with version and store.", labels=["version", "store"])
        store = facts.store()
        info.add_metric([__version__, store.name], 1)
        yield info
        namespaces = GaugeMetricFamily("prefixdb_namespaces", "Namespaces by state.", labels=["state"])
        for state, count in facts.namespaces().items():
            namespaces.add_metric([state.lower()], count)
        yield namespaces
        alarms = GaugeMetricFamily(
            "prefixdb_alarms", "Problems to look at; 'prefixdb status' says which.", labels=["of"]
        )
        for name, count in facts.alarms().items():
            alarms.add_metric([name], count)
        yield alarms
        for name, text, value in (
            ("prefixdb_streams_open", "Open streaming calls.", facts.streams_open()),
            ("prefixdb_sessions_cached", "Verified tokens kept.", facts.sessions_cached()),
            ("prefixdb_serving", "1 while calls are answered.", facts.serving()),
            ("prefixdb_audit_available", "1 while the audit file can be written.", facts.audit_available()),
            ("prefixdb_store_writable", "0 after a write error until the store has recovered.", store.writable),
            ("prefixdb_store_disk_bytes", "Bytes of the store's files.", store.disk_bytes),
            ("prefixdb_store_memory_bytes", "Bytes of caches and memtables.", store.memory_bytes),
            ("prefixdb_store_rows_estimate", "Rows, roughly.", store.rows_estimate),
            ("prefixdb_store_last_version", "Version of the newest commit.", store.last_version),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))
        front = facts.front()
        for key, text in FRONT_FACTS.items():
            if key in front:
                yield GaugeMetricFamily(f"prefixdb_front_{key}", text, value=float(front[key]))
        for key, text in STORE_COUNTS.items():
            if key in store.extra:
                yield GaugeMetricFamily(f"prefixdb_store_{key}", text, value=float(store.extra[key]))
