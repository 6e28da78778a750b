"""``prefixdb recover-guardian``: the data directory of a stopped server, opened for one audited act."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, DEFAULT_NAMESPACE_NAME
from prefixdb.catalog.recovery import Recovered, Recovery
from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.server.audit import AUDIT_FILE, SERVER_USER, AuditFile
from prefixdb.server.config import ServerConfig
from prefixdb.service.ports import RESULT_OK, RESULT_STARTED, AuditEntry
from prefixdb.store import open_store
from prefixdb.store.directory import ENGINE_NAME

METHOD = "recover-guardian"


def recover_guardian(config: ServerConfig, name: str, *, revoke_tokens: bool) -> Recovered:
    """Make ``name`` a cluster guardian who can log in; see ``Recovery.recover``. Blocks.

    The act is written into the audit before it is done, and again with its outcome, as the server would.

    Raises:
        FailedPreconditionError: DIRECTORY_LOCKED, the server is running.
        InvalidArgumentError: BAD_FIELD, there is no data directory there, or it is another user's.
        PrefixdbError: as ``open_store``, ``AuditFile`` and ``Recovery.recover``.
    """
    data_dir = config.data_dir
    if not (data_dir / ENGINE_NAME).is_dir():
        message = f"{data_dir} is no data directory of a server; name the right one with --data-dir."
        raise error(Reason.BAD_FIELD, message, metadata={"field": "server.data_dir"})
    _check_owner(data_dir)
    clock = SystemClock()
    try:
        store = open_store(
            config.store.kind,
            data_dir,
            clock=clock,
            cache_bytes=config.store.cache_bytes,
            write_buffer_bytes=config.store.write_buffer_bytes,
        )
    except PrefixdbError as failure:
        if failure.reason is not Reason.DIRECTORY_LOCKED:
            raise
        message = f"A server is running on {data_dir}. Recovery needs it stopped, for it writes to the same files."
        raise error(Reason.DIRECTORY_LOCKED, message) from failure
    try:
        return asyncio.run(_audited(data_dir, clock, Recovery(store, clock), name, revoke_tokens))
    finally:
        store.close()


def _check_owner(data_dir: Path) -> None:
    """Refuse another user, root above all: the engine's new files would be that user's, and the server locked out."""
    owner = data_dir.stat().st_uid
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        message = (
            f"{data_dir} belongs to the user {name}. Run this as that user (sudo -u {name} prefixdb recover-guardian "
            "...), or the server could not open the files that are written now."
        )
        raise error(Reason.BAD_FIELD, message, metadata={"field": "server.data_dir"})


async def _audited(data_dir: Path, clock: SystemClock, recovery: Recovery, name: str, revoke_tokens: bool) -> Recovered:
    audit = await asyncio.to_thread(AuditFile, data_dir / AUDIT_FILE, clock)
    target = f"member {name} of {DEFAULT_NAMESPACE_NAME}" + (", its tokens revoked" if revoke_tokens else "")

    async def note(result: str) -> None:
        await audit.record(
            AuditEntry(
                user=SERVER_USER,
                namespace_id=DEFAULT_NAMESPACE_ID,
                namespace=DEFAULT_NAMESPACE_NAME,
                method=METHOD,
                target=target,
                result=result,
            )
        )

    try:
        await note(RESULT_STARTED)
        try:
            recovered = await asyncio.to_thread(recovery.recover, data_dir, name, revoke_tokens=revoke_tokens)
        except PrefixdbError as failure:
            await note(failure.reason.name)
            raise
        await note(RESULT_OK)
    finally:
        await audit.close()
    return recovered
