"""Namespaces and reclaim reports as JSON and as lines."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefixdb.cli.output import put_facts
from prefixdb.cli.settings import Settings
from prefixdb.cli.text import instant, size

if TYPE_CHECKING:
    from prefixdb.client.models import Namespace, ReclaimReport


def iso(moment: datetime | None) -> str | None:
    """Return a time for programs."""
    return None if moment is None else moment.isoformat()


def namespace_json(item: Namespace, *, with_size: bool = False) -> dict[str, Any]:
    """Return a namespace for programs. Ids are text: a JSON number would lose bits above 2^53.

    Who is no cluster guardian is told names and states of a list; the rest is null or empty then.
    """
    facts: dict[str, Any] = {
        "id": str(item.id),
        "name": item.name,
        "state": item.state.name,
        "incarnation": str(item.incarnation) if item.incarnation else None,
        "labels": dict(item.labels),
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
        "state_reason": item.state_reason,
        "banned_at": iso(item.banned_at),
        "reclaim_after": iso(item.reclaim_after),
    }
    if with_size:
        facts |= {"approximate_bytes": item.approximate_bytes, "approximate_rows": item.approximate_rows}
    return facts


def put_namespace(settings: Settings, item: Namespace, *, with_size: bool = False) -> None:
    """Write one namespace."""
    words = {"name": item.name, "id": str(item.id), "state": item.state.name}
    if item.state_reason:
        words["reason"] = item.state_reason
    words |= {"created": instant(item.created_at), "updated": instant(item.updated_at)}
    if item.banned_at is not None:
        words |= {"banned": instant(item.banned_at), "reclaim after": instant(item.reclaim_after)}
    words |= {f"label {name}": value for name, value in sorted(item.labels.items())}
    if with_size:
        words["size"] = (
            f"about {size(item.approximate_bytes)}, {item.approximate_rows:,} rows, groups and tokens included"
        )
    put_facts(settings, namespace_json(item, with_size=with_size), words)


def report_json(report: ReclaimReport) -> dict[str, Any]:
    """Return a reclaim report for programs."""
    return {
        "id": str(report.namespace_id),
        "name": report.name,
        "incarnation": str(report.incarnation),
        "phase": report.phase.name,
        "banned_at": iso(report.banned_at),
        "banned_by": report.banned_by,
        "reason": report.reason,
        "reclaim_after": iso(report.reclaim_after),
        "started_at": iso(report.started_at),
        "finished_at": iso(report.finished_at),
        "bytes_total": report.bytes_total,
        "bytes_done": report.bytes_done,
        "bytes_freed": report.bytes_freed,
        "rows_dropped": report.rows_dropped,
        "proof_rows_found": report.proof_rows_found,
        "proof_bytes_found": report.proof_bytes_found,
    }


def put_report(settings: Settings, report: ReclaimReport) -> None:
    """Write one reclaim report."""
    words = {
        "name": report.name,
        "id": str(report.namespace_id),
        "phase": f"{report.phase.name}, {report.fraction_done:.0%} done",
        "banned": f"{instant(report.banned_at)} by {report.banned_by}",
        "reason": report.reason or "-",
        "reclaim after": instant(report.reclaim_after),
        "started": instant(report.started_at),
        "finished": instant(report.finished_at),
    }
    if report.done:
        words["freed"] = f"about {size(report.bytes_freed)}, {report.rows_dropped:,} rows"
        found = f"{report.proof_rows_found} rows, {report.proof_bytes_found} bytes left in the whole range"
        words["proof"] = found
    put_facts(settings, report_json(report), words)
