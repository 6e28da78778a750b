"""The clock that tests hold in their hand; the random walks of ``tools/crash`` hold the same."""

from __future__ import annotations

from tools.lab.clocks import HeldClock

__all__ = ["HeldClock"]
