"""``ns bans``: everything that was ever dropped, as restores obey it."""

from __future__ import annotations

from datetime import UTC, datetime

from prefixdb.cli.base import command
from prefixdb.cli.output import Lines, put_table
from prefixdb.cli.session import At, connected
from prefixdb.cli.settings import load_settings
from prefixdb.cli.text import instant


@command("bans")
def bans() -> None:
    """List every namespace that was ever banned and not taken back, each issue of its id.

    With --json, one object on each line as in the bans.jsonl of a backup: kept in a file, 'backup restore --bans FILE'
    obeys them, so that nothing comes back that was dropped since the backup. For cluster guardians and the privilege
    backup.
    """
    settings = load_settings()
    rows: list[list[str]] = []
    lines = Lines()
    from prefixdb.repository.bans import encode_ban

    with connected(settings, At.HOME) as db:
        for ban in db.guardian.backups.bans():
            if settings.json:
                lines.put(encode_ban(ban).decode("ascii").rstrip("\n"))
                continue
            number, incarnation = str(ban.namespace_id), str(ban.incarnation)
            left = "gone" if ban.reclaimed else f"until {_time(ban.reclaim_after_ms)}"
            who = ban.banned_by or "-"
            rows.append([number, incarnation, ban.name, _time(ban.banned_at_ms), who, left, ban.reason or "-"])
    lines.flush()
    if not settings.json:
        heads = ["id", "issue", "name", "banned", "by", "can come back", "reason"]
        put_table(settings, heads, rows, [0, 1], whole=[0], sparse=[6])


def _time(time_ms: int) -> str:
    return instant(datetime.fromtimestamp(time_ms / 1000, UTC))
