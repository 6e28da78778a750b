"""Metrics for Prometheus: counts, times and sizes. No label ever holds a tenant, a key, a user or a peer.

Calls are counted on the serving thread for every request, so the label look-ups are made once and kept. What can be
read at any time (sizes, states, open streams) is read when somebody asks, not pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a scrape reads. All functions are cheap and may be called from the event loop.

    namespaces: how many are in each state, by the state's name.
    alarms: how many problems an operator should look at, by where they come from (a fixed short word).
    """

    store: Callable[[], StoreStatus]
    namespaces: Callable[[], dict[str, int]]
    streams_open: Callable[[], int]
    sessions_cached: Callable[[], int]
    audit_available: Callable[[], bool]
    serving: Callable[[], bool]
    alarms: Callable[[], dict[str, int]] = dict


class Metrics:
    """Counts calls (a ``CallObserver``) and renders everything on demand."""

    def __init__(self) -> None:
        # Otherwise a second series for each counter says when it was made, which nobody asks.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._calls = Counter("prefixdb_calls", "Calls that ended.", ["method", "code"], registry=self.registry)
        self._seconds = Histogram(
            "prefixdb_call_seconds", "Time from a request to its status.", ["method"],
            buckets=LATENCY_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self._count_of: dict[tuple[str, int], Counter] = {}
        self._seconds_of: dict[str, Histogram] = {}

    def call_ended(self, method: str, code: int, seconds: float) -> None:
        """Count a call. ``method`` is a path the server knows or one fixed word, so the labels are bounded."""
        count = self._count_of.get((method, code))
        if count is None:
            count = self._count_of[method, code] = self._calls.labels(method, Code(code).name)
        count.inc()
        histogram = self._seconds_of.get(method)
        if histogram is None:
            histogram = self._seconds_of[method] = self._seconds.labels(method)
        histogram.observe(seconds)

    def observe(self, facts: Facts) -> None:
        """Have ``facts`` read at every scrape."""
        self.registry.register(_FactsCollector(facts))

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)


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
        for key, text in STORE_COUNTS.items():
            if key in store.extra:
                yield GaugeMetricFamily(f"prefixdb_store_{key}", text, value=float(store.extra[key]))
