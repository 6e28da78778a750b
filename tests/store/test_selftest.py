"""The self-test at start-up passes on what is installed and refuses an engine that misbehaves in any way it looks for.

Method: real engines with one call bent; the self-test must say what it found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import InternalError
from prefixdb.keycodec import namespace_span
from prefixdb.store import rocksdict as binding
from prefixdb.store import selftest
from prefixdb.store.engine import EngineOptions
from tests.store.stores import DURABLE

needs_native = pytest.mark.skipif("native" not in DURABLE, reason="the native store is not built")


def test_the_self_test_is_quick_and_refuses_an_engine_that_breaks_its_bounds() -> None:
    selftest._passed.discard(binding.RocksdictEngine)
    start = time.monotonic()
    selftest.check_engine(binding.RocksdictEngine)
    assert time.monotonic() - start < 1.0  # 0.03 s on an idle machine.

    class Unbounded(binding.RocksdictEngine):
        def iterate(self, end: bytes) -> binding.IteratorHandle:
            return super().iterate(end + b"\xff" * 9 if end != namespace_span(8).end else end)

    with pytest.raises(InternalError):
        selftest.check_engine(Unbounded)


def test_the_self_test_refuses_an_engine_that_hides_damage() -> None:
    class Blind(binding.RocksdictEngine):
        def iterate(self, end: bytes) -> binding.IteratorHandle:
            handle = super().iterate(end)
            return binding.IteratorHandle(_NoStatus(handle.iterator), handle)  # type: ignore[arg-type]

    class _NoStatus:
        def __init__(self, iterator: object) -> None:
            self._iterator = iterator

        def __getattr__(self, name: str) -> object:
            return getattr(self._iterator, name)

        def status(self) -> None:
            return None

    with pytest.raises(InternalError, match="damage"):
        selftest.check_engine(Blind)


def bent(bend: Callable[[Any], None]) -> Callable[[Path, EngineOptions], Any]:
    """Return an opener of native engines that ``bend`` has changed."""
    from prefixdb.store.native import NativeEngine

    def open_bent(path: Path, options: EngineOptions) -> Any:
        engine = NativeEngine(path, options)
        bend(engine)
        return engine

    return open_bent


def runs_on(engine: Any) -> None:
    cursor = engine.open_cursor
    engine.open_cursor = lambda begin, end, **options: cursor(begin, end, **(options | {"bound": end}))


def forgets_bans(engine: Any) -> None:
    engine.publish_bans = lambda _ids: None


def keeps_what_expired(engine: Any) -> None:
    engine.set_expiry_horizon = lambda _now_ms: None


def drops_too_early(engine: Any) -> None:
    tell = engine.set_expiry_horizon
    engine.set_expiry_horizon = lambda now_ms: tell(now_ms + 1)


def drops_a_neighbour(engine: Any) -> None:
    publish = engine.publish_bans
    engine.publish_bans = lambda ids: publish([*ids, 8])


def miscounts(engine: Any) -> None:
    count = engine.last_sequence
    engine.last_sequence = lambda: count() + 1


def hides_damage(engine: Any) -> None:
    class Blind:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor
            self.count, self.close = cursor.count, cursor.close

        def fetch(self, *limits: int) -> list[Any]:
            try:
                return self._cursor.fetch(*limits)
            except Exception as failure:
                if "orruption" in str(failure):
                    return []
                raise

    cursor = engine.open_cursor
    engine.open_cursor = lambda *span, **options: Blind(cursor(*span, **options))


@needs_native
def test_the_native_self_test_is_quick_and_passes() -> None:
    from prefixdb.store import native, native_selftest

    native_selftest._passed.discard(native.NativeEngine)
    start = time.monotonic()
    native_selftest.check_native(native.NativeEngine, native.read_failure)
    assert time.monotonic() - start < 1.0
    assert native.NativeEngine in native_selftest._passed


@needs_native
@pytest.mark.parametrize(
    ("bend", "finding"),
    [
        (runs_on, "foreign row"),
        (forgets_bans, "did not drop"),
        (keeps_what_expired, "did not drop"),
        (drops_too_early, "neither banned nor expired"),
        (drops_a_neighbour, "neither banned nor expired"),
        (miscounts, "another version"),
        (hides_damage, "damaged block"),
    ],
)
def test_the_native_self_test_refuses_an_engine_that(bend: Callable[[Any], None], finding: str) -> None:
    from prefixdb.store import native, native_selftest

    with pytest.raises(InternalError, match=finding):
        native_selftest.check_native(bent(bend), native.read_failure)
