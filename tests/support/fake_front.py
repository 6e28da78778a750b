"""A native front without C++: what it believes and for how long, as ``_native/front/sessions.h`` says it, in few lines.

It keeps every answer with its stamp, moves stamps when it is told of a change, and says of each token whether it would
still be served. Questions are put in by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefixdb.service.answers import FailureFields, Question


@dataclass
class Held:
    """A finished answer: what was handed over, and what it was found under."""

    said: dict[str, Any]
    stamp: int

    def __getitem__(self, name: str) -> Any:
        return self.said[name]


@dataclass
class FakeFront:
    """A ``FrontPort``.

    told: the changes it was told of, in order.
    on_change: called with each, before ``changed`` returns: whoever made the change has not been answered yet.
    refused: by number: what was answered with a failure.
    """

    told: list[int | None] = field(default_factory=list)
    on_change: Callable[[int | None], None] = lambda _namespace_id: None
    held: dict[int, Held] = field(default_factory=dict)
    refused: dict[int, dict[str, Any]] = field(default_factory=dict)
    readied: list[int] = field(default_factory=list)
    _asked: list[Question] = field(default_factory=list)
    _taken: dict[int, int] = field(default_factory=dict)
    _number: int = 0

    def ask(self, kind: str, *what: Any) -> int:
        """Put a question, and return its number."""
        self._number += 1
        self._asked.append((kind, self._number, *what))  # type: ignore[arg-type]
        return self._number

    def holds(self, number: int) -> bool:
        """Whether the session that answered the question would still be served, as far as changes go."""
        held = self.held.get(number)
        if held is None:
            return False
        counts = {None, held["namespace_id"], *([0] if held["home_counts"] else [])}
        return not any(namespace_id in counts for namespace_id in self.told[held.stamp :])

    # --- FrontPort

    def questions(self) -> Sequence[Question]:
        asked, self._asked = self._asked, []
        for question in asked:
            self._taken[question[1]] = len(self.told)
        return asked

    def admitted(self, number: int, namespace_id: int, rules: Sequence[Any], **said: Any) -> None:
        said |= {"namespace_id": namespace_id, "rules": list(rules)}
        self.held[number] = Held(said, self._taken.pop(number))

    def ready(self, number: int) -> None:
        self.readied.append(number)

    def failed(self, number: int, *failure: *FailureFields) -> None:
        self._taken.pop(number, None)
        names = ("code", "reason", "name", "message", "metadata", "retry_after_ms")
        said: dict[str, Any] = dict(zip(names, failure, strict=True))
        self.refused[number] = said | {"metadata": dict(said["metadata"])}

    def changed(self, namespace_id: int | None) -> None:
        self.told.append(namespace_id)
        self.on_change(namespace_id)
