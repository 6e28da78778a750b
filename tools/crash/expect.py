"""What prefixdb must answer, computed with a dict: the oracle of the model test.

One ``Issue`` is one issue of one namespace number. Its methods take the request messages of KeyValue and return the
response that is right at the model's time; ``version`` is what the server said a commit got, checked elsewhere to
grow. A refusal is ``Refused`` with the reason. Written from docs/semantics.md and the comments of the .proto files, and
sharing no code with the server: keys are never encoded, ranges never become spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from prefixdb.v1 import key_value_pb2 as pb

KEY_BYTES_MAX = 4096
DATABASE_MAX = 65_535
ACTIVE, READ_ONLY, SUSPENDED, BANNED, RECLAIMED = 1, 2, 3, 4, 5

Place = tuple[int, bytes]


class Refused(Exception):  # the answer is a refusal, not an error of the model
    """The right answer is one of these reasons; several when the request is wrong in several ways."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(" or ".join(reasons))
        self.reasons = frozenset(reasons)


class Cell(NamedTuple):
    """One row. ``expires_at_ms`` is 0 for a row without a lifetime."""

    value: bytes
    version: int
    expires_at_ms: int


@dataclass(slots=True, eq=False)
class Issue:
    """One issue of a namespace number.

    marker: in front of every value of this issue and of no other.
    reclaim_after_ms: end of the grace while BANNED. state_before_ban: what an unban gives back.
    superseded: the number was issued again since; the token is worthless.
    """

    id: int
    name: str
    token: str = field(repr=False)
    marker: bytes
    state: int = ACTIVE
    state_before_ban: int = ACTIVE
    reclaim_after_ms: int = 0
    superseded: bool = False
    cells: dict[Place, Cell] = field(default_factory=dict)

    # --- admission -------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Refuse what the token or the namespace's state refuses before a request is looked at."""
        if self.superseded:
            raise Refused("TOKEN_INVALID")
        if self.state == SUSPENDED:
            raise Refused("NAMESPACE_SUSPENDED")
        if self.state in {BANNED, RECLAIMED}:
            raise Refused("NAMESPACE_BANNED")

    def _put_faults(self) -> Iterator[str]:
        if self.state == READ_ONLY:
            yield "READ_ONLY"

    # --- reads -----------------------------------------------------------------------------------------------------

    def live(self, place: Place, now_ms: int) -> Cell | None:
        """Return the row unless it is absent or expired."""
        cell = self.cells.get(place)
        return None if cell is None or 0 < cell.expires_at_ms <= now_ms else cell

    def get(self, request: pb.GetRequest, now_ms: int) -> pb.GetResponse:
        """Return the answer of a Get."""
        _refuse(_place_faults(request.database, request.key))
        return self._found((request.database, request.key), now_ms)

    def batch_get(self, request: pb.BatchGetRequest, now_ms: int) -> pb.BatchGetResponse:
        """Return the answer of a BatchGet."""
        _refuse(fault for key in request.keys for fault in _place_faults(request.database, key))
        return pb.BatchGetResponse(results=[self._found((request.database, key), now_ms) for key in request.keys])

    def scan(self, request: pb.ScanRequest, now_ms: int) -> list[pb.Row]:
        """Return all rows of a Scan, over all its pages."""
        resume_fault = ("KEY_TOO_LARGE",) if len(request.resume_after) > KEY_BYTES_MAX else ()
        _refuse((*_range_faults(request.range, request.database), *resume_fault))
        keys = self._keys_in(request.range, request.database, now_ms)
        if request.reverse:
            keys.reverse()
        if request.resume_after:
            after = request.resume_after
            keys = [key for key in keys if (key < after if request.reverse else key > after)]
        if request.limit:
            keys = keys[: request.limit]
        rows = []
        for key in keys:
            cell = self.cells[request.database, key]
            row = pb.Row(key=key, version=cell.version, ttl_ms=_ttl_ms(cell, now_ms))
            if not request.keys_only:
                row.value = cell.value
            rows.append(row)
        return rows

    def count(self, request: pb.CountRequest, now_ms: int) -> pb.CountResponse:
        """Return the answer of a Count."""
        _refuse(_range_faults(request.range, request.database))
        return pb.CountResponse(count=len(self._keys_in(request.range, request.database, now_ms)))

    # --- writes ----------------------------------------------------------------------------------------------------

    def put(self, request: pb.PutRequest, now_ms: int, version: int) -> pb.PutResponse:
        """Apply a Put and return its answer."""
        place = (request.database, request.key)
        _refuse((*_single_faults(request), *self._put_faults()))
        if request.HasField("condition") and not self._holds(place, request.condition, now_ms):
            return pb.PutResponse(current_version=self._version(place, now_ms))
        self.cells[place] = Cell(request.value, version, now_ms + request.ttl_ms if request.ttl_ms else 0)
        return pb.PutResponse(applied=True, version=version)

    def delete(self, request: pb.DeleteRequest, now_ms: int, version: int) -> pb.DeleteResponse:
        """Apply a Delete and return its answer."""
        place = (request.database, request.key)
        _refuse(_single_faults(request))
        if request.HasField("condition") and not self._holds(place, request.condition, now_ms):
            return pb.DeleteResponse(current_version=self._version(place, now_ms))
        self.cells.pop(place, None)
        return pb.DeleteResponse(applied=True, version=version)

    def write(self, request: pb.WriteRequest, now_ms: int, version: int) -> pb.WriteResponse:
        """Apply a Write and return its answer; one without mutations, or with empty ranges only, has version 0."""
        faults = [fault for mutation in request.mutations for fault in _mutation_faults(mutation)]
        for condition in request.conditions:
            faults += [*_place_faults(condition.database, condition.key), *_test_faults(condition.test)]
        if any(mutation.HasField("put") for mutation in request.mutations):
            faults += self._put_faults()
        _refuse(faults)
        for index, condition in enumerate(request.conditions):
            place = (condition.database, condition.key)
            if not self._holds(place, condition.test, now_ms):
                return pb.WriteResponse(failed_condition=index, current_version=self._version(place, now_ms))
        for mutation in request.mutations:
            self._mutate(mutation, now_ms, version)
        commits_something = any(not _is_empty_range(mutation) for mutation in request.mutations)
        return pb.WriteResponse(applied=True, version=version if commits_something else 0)

    def _mutate(self, mutation: pb.Mutation, now_ms: int, version: int) -> None:
        if mutation.HasField("put"):
            put = mutation.put
            expires_at_ms = now_ms + put.ttl_ms if put.ttl_ms else 0
            self.cells[put.database, put.key] = Cell(put.value, version, expires_at_ms)
        elif mutation.HasField("delete"):
            self.cells.pop((mutation.delete.database, mutation.delete.key), None)
        else:
            deletion = mutation.delete_range
            for place in [place for place in self.cells if _in_range(place, deletion.database, deletion.range)]:
                del self.cells[place]

    # --- private ---------------------------------------------------------------------------------------------------

    def _found(self, place: Place, now_ms: int) -> pb.GetResponse:
        cell = self.live(place, now_ms)
        if cell is None:
            return pb.GetResponse()
        return pb.GetResponse(found=True, value=cell.value, version=cell.version, ttl_ms=_ttl_ms(cell, now_ms))

    def _version(self, place: Place, now_ms: int) -> int:
        cell = self.live(place, now_ms)
        return cell.version if cell is not None else 0

    def _holds(self, place: Place, test: pb.Test, now_ms: int) -> bool:
        cell = self.live(place, now_ms)
        which = test.WhichOneof("test")
        if which == "absent":
            return cell is None
        if cell is None:
            return False
        if which == "version":
            return cell.version == test.version
        return cell.value == test.value if which == "value" else True

    def _keys_in(self, bounds: pb.KeyRange, database: int, now_ms: int) -> list[bytes]:
        inside = (place for place in self.cells if _in_range(place, database, bounds))
        return sorted(place[1] for place in inside if self.live(place, now_ms) is not None)


def commits(response: object) -> Iterable[int]:
    """Return the version that an answer says was committed, if it says so."""
    applied = isinstance(response, pb.PutResponse | pb.DeleteResponse | pb.WriteResponse) and response.applied
    return (response.version,) if applied and response.version else ()  # type: ignore[attr-defined]


def _ttl_ms(cell: Cell, now_ms: int) -> int:
    return cell.expires_at_ms - now_ms if cell.expires_at_ms else 0


def _in_range(place: Place, database: int, bounds: pb.KeyRange) -> bool:
    if place[0] != database:
        return False
    key = place[1]
    if bounds.prefix:
        return key.startswith(bounds.prefix)
    return bounds.start <= key and (not bounds.end or key < bounds.end)


def _is_empty_range(mutation: pb.Mutation) -> bool:
    bounds = mutation.delete_range.range
    return mutation.HasField("delete_range") and bool(bounds.end) and bounds.start == bounds.end


def _refuse(faults: Iterable[str]) -> None:
    found = tuple(faults)
    if found:
        raise Refused(*found)


def _place_faults(database: int, key: bytes) -> Iterator[str]:
    if not key:
        yield "KEY_EMPTY"
    if len(key) > KEY_BYTES_MAX:
        yield "KEY_TOO_LARGE"
    if database > DATABASE_MAX:
        yield "BAD_FIELD"


def _range_faults(bounds: pb.KeyRange, database: int) -> Iterator[str]:
    if database > DATABASE_MAX:
        yield "BAD_FIELD"
    if bounds.prefix and (bounds.start or bounds.end):
        yield "BAD_RANGE"
    if bounds.end and bounds.start > bounds.end:
        yield "BAD_RANGE"


def _test_faults(test: pb.Test) -> Iterator[str]:
    which = test.WhichOneof("test")
    if which is None or (which == "absent" and not test.absent) or (which == "exists" and not test.exists):
        yield "BAD_FIELD"


def _single_faults(request: pb.PutRequest | pb.DeleteRequest) -> Iterator[str]:
    yield from _place_faults(request.database, request.key)
    if request.HasField("condition"):
        yield from _test_faults(request.condition)


def _mutation_faults(mutation: pb.Mutation) -> Iterator[str]:
    if mutation.HasField("put"):
        yield from _place_faults(mutation.put.database, mutation.put.key)
    elif mutation.HasField("delete"):
        yield from _place_faults(mutation.delete.database, mutation.delete.key)
    elif mutation.HasField("delete_range"):
        yield from _range_faults(mutation.delete_range.range, mutation.delete_range.database)
    else:
        yield "BAD_FIELD"
