"""``whoami``, ``ping``, ``status`` and ``compact``: the server and the caller's place in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.arguments import NAMESPACE
from prefixdb.cli.base import command
from prefixdb.cli.failures import EXIT_CODE_BASE
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import put_facts, put_json, say
from prefixdb.cli.rules import rule_json, rule_words
from prefixdb.cli.session import At, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import duration, instant, size

if TYPE_CHECKING:
    from prefixdb.client.models import Identity

EXIT_UNAVAILABLE = EXIT_CODE_BASE + 14


@command("whoami")
def whoami() -> None:
    """Show who you are to the server, and what you may do there.

    With --namespace: who you are in that namespace.
    """
    settings = load_settings()
    with connected(settings) as db:
        me = db.whoami()
    words = {
        "subject": me.subject,
        "namespace": f"{me.namespace_name} (id:{me.namespace_id}, {me.namespace_state.name})",
    }
    if me.home_namespace_id != me.namespace_id:
        words["belongs to"] = "the default namespace; here as a guest, by a grant"
    words |= {
        "kind": _kind(me),
        "groups": ", ".join(me.groups) or "-",
        "guardian": {"NONE": "no", "NAMESPACE": "of the namespace", "CLUSTER": "of the cluster"}[me.guardian.name],
        "rights": "; ".join(rule_words(rule) for rule in me.rules) or "none",
    }
    if me.privileges:
        words["privileges"] = ", ".join(privilege.label for privilege in me.privileges)
    renewed = " (renewed by itself)" if settings.credentials_file is not None else ""
    if me.jti:
        words |= {"expires": f"{instant(me.expires_at)}{renewed}", "jti": me.jti}
    put_facts(settings, _identity_json(settings, me), words)


def _kind(me: Identity) -> str:
    """Return what the server takes the caller for."""
    if me.member:
        return "a member who logged in"
    return "a token" if me.jti else "without a token"


def _identity_json(settings: Settings, me: Identity) -> dict[str, Any]:
    return {
        "subject": me.subject,
        "namespace_id": str(me.namespace_id),
        "namespace_name": me.namespace_name,
        "namespace_state": me.namespace_state.name,
        "groups": list(me.groups),
        "guardian": me.guardian.name.lower(),
        "jti": me.jti,
        "expires_at": iso(me.expires_at),
        "home_namespace_id": str(me.home_namespace_id),
        "member": me.member,
        "privileges": [privilege.label for privilege in me.privileges],
        "rules": [rule_json(rule, settings.enc) for rule in me.rules],
    }


@command("ping")
@click.option("--count", type=click.IntRange(1), default=3, show_default=True, help="How often.")
@click.pass_context
def ping(context: click.Context, count: int) -> None:
    """Ask the server whether it serves, and how fast.

    Needs no token.
    """
    settings = load_settings()
    with connected(settings) as db:
        health = db.health()  # The first call also connects; it is not measured.
        times_ms = []
        for _ in range(count):
            begun = time.perf_counter()
            health = db.health()
            times_ms.append((time.perf_counter() - begun) * 1000)
    best_ms, mean_ms, worst_ms = min(times_ms), sum(times_ms) / count, max(times_ms)
    if settings.json:
        put_json({"health": health, "best_ms": best_ms, "mean_ms": mean_ms, "worst_ms": worst_ms})
    else:
        times = f"best {best_ms:.2f} ms, mean {mean_ms:.2f} ms, worst {worst_ms:.2f} ms of {count}"
        click.echo(f"{settings.endpoint} is {health}: {times}")
    if health != "SERVING":
        context.exit(EXIT_UNAVAILABLE)


@command("status")
def status() -> None:
    """Show the server's version, store and sizes.

    For cluster guardians.
    """
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        now = db.guardian.maintenance.status()
    facts: dict[str, Any] = {name: getattr(now, name) for name in now.__dataclass_fields__}
    facts |= {"started_at": iso(now.started_at), "uptime_s": now.uptime.total_seconds()}
    facts["store_facts"] = dict(now.store_facts)
    del facts["uptime"]
    words: dict[str, str | Sequence[str]] = {
        "version": now.version,
        "store": now.engine if now.engine.startswith(now.store) else f"{now.store}, {now.engine}",
        "front": now.front or "python",
        "durability": now.durability,
        "writable": "yes" if now.writable else "NO: writes are refused until the store has recovered",
        "up for": f"{duration(now.uptime)}, since {instant(now.started_at)}",
        "data": f"{now.data_dir}: {size(now.disk_bytes)} on disk, about {now.rows_estimate:,} rows",
        "memory": size(now.memory_bytes),
        "namespaces": f"{now.namespaces_live:,} live, {now.namespaces_banned:,} being reclaimed, "
        f"{now.namespaces_reclaimed:,} gone",
        "open streams": f"{now.streams_open:,}",
        "sessions": f"{now.sessions_cached:,}",
        "last version": f"{now.last_version:,}",
    }
    words |= {name.replace("_", " "): value for name, value in sorted(now.store_facts.items())}
    if now.alarms:
        words["look at"] = now.alarms
    put_facts(settings, facts, words)


@command("compact")
@click.argument("namespace", type=NAMESPACE, required=False)
def compact(namespace: int | str | None) -> None:
    """Rewrite the files without what was deleted.

    Those of NAMESPACE, or of everything. It may take minutes; nothing stops meanwhile. For cluster
    guardians; --timeout bounds the wait (an hour unless given).
    """
    settings = load_settings()
    given = settings.by_name["timeout"].source != "default"
    limit = {"deadline_s": float(settings.timeout)} if given else {}
    begun = time.perf_counter()
    with connected(settings, At.HOME) as db:
        say(settings, "Compacting…")
        done = db.guardian.maintenance.compact(namespace, **limit)
    took_s = time.perf_counter() - begun
    if settings.json:
        put_json({"disk_bytes_before": done.disk_bytes_before, "disk_bytes_after": done.disk_bytes_after})
    change = f"{size(done.disk_bytes_before)} on disk before, {size(done.disk_bytes_after)} after"
    say(settings, f"Compacted in {duration(took_s)}: {change}.")
