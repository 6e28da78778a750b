"""The way of a write from admission to the acknowledgement: guard, shared commit, and again when the guard failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Access, Session
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.service.calls import Call
from prefixdb.service.mutations import check_change
from prefixdb.store.base import Commit, CommitResult, Committer, Condition, Mutation

ADMISSIONS_MAX = 50
"""Times a write is admitted again after its guard failed. The namespace's record changes when a guardian acts, so a
second admission nearly always decides; the store may be a moment ahead of what the registry shows."""

READMIT_PAUSE_S = 0.005
"""Pause before an admission is repeated."""


@dataclass(frozen=True, slots=True)
class Change:
    """One atomic change, checked but for the state of the namespace: ``access`` says what it does.

    session: whose rights it was checked against.
    """

    session: Session
    mutations: tuple[Mutation, ...]
    conditions: tuple[Condition, ...]
    access: Access


class Writer:
    """Commits changes under the guard that the caller's namespace is still as it was when the call was admitted.

    Args:
        committer: of the store; used from the event loop only.
        registry: gives the guards.
    """

    def __init__(self, committer: Committer, registry: Registry) -> None:
        self._committer = committer
        self._registry = registry

    async def commit(self, call: Call, change: Change) -> CommitResult:
        """Apply one change.

        Raises:
            PrefixdbError: the store's; UnauthenticatedError, PermissionDeniedError or READ_ONLY when the namespace or
                the token does not allow it, at the moment of the commit. Nothing was applied then.
        """
        call.refresh(change.access)
        if forbidden := _forbidden(call, change):
            raise forbidden
        guards = (self._registry.guard(call.record),)
        result = await self._committer.commit(Commit(change.mutations, change.conditions, guards))
        if result.failed_guard < 0:
            return result
        outcome = (await self.commit_all(call, [change]))[0]
        if isinstance(outcome, PrefixdbError):
            raise outcome
        return outcome

    async def commit_all(self, call: Call, changes: Sequence[Change]) -> list[CommitResult | PrefixdbError]:
        """Apply changes in order, each all or nothing, as one request to the committer.

        Returns:
            One outcome for each, in order: its result, or why it was not applied (raised by ``commit``).
        """
        outcomes: dict[int, CommitResult | PrefixdbError] = {}
        pending = list(range(len(changes)))
        for _ in range(ADMISSIONS_MAX):
            refusals = {access: _refusal(call, access) for access in {changes[index].access for index in pending}}
            for index in pending:
                if refusal := refusals[changes[index].access] or _forbidden(call, changes[index]):
                    outcomes[index] = refusal
            admitted = [index for index in pending if index not in outcomes]
            guards = (self._registry.guard(call.record),)
            commits = [Commit(changes[index].mutations, changes[index].conditions, guards) for index in admitted]
            try:
                results = await self._committer.commit_all(commits)
            except PrefixdbError as failure:
                outcomes |= dict.fromkeys(admitted, failure)
                pending = []
                break
            # A record's version only moves on, so what failed its guard is the tail: the order of changes is kept.
            outcomes |= {index: found for index, found in zip(admitted, results, strict=True) if found.failed_guard < 0}
            pending = [index for index in admitted if index not in outcomes]
            if not pending:
                break
            await asyncio.sleep(READMIT_PAUSE_S)
        stalled = error(Reason.WRITE_STALL, "The namespace is being changed over and over; the write was not applied.")
        outcomes |= dict.fromkeys(pending, stalled)
        return [outcomes[index] for index in range(len(changes))]


def _refusal(call: Call, access: Access) -> PrefixdbError | None:
    """Return why the call may not do ``access`` now, or None."""
    try:
        call.refresh(access)
    except PrefixdbError as refusal:
        return refusal
    return None


def _forbidden(call: Call, change: Change) -> PrefixdbError | None:
    """Return why the caller's rights, which changed since the change was checked, do not cover it, or None."""
    if call.session is change.session:
        return None
    try:
        check_change(call.session, change.mutations, change.conditions)
    except PrefixdbError as refusal:
        return refusal
    return None
