# Generated from tests/client/test_aio_gather_failures.py by tools/async_to_sync.py; do not edit.
"""Goal: a stream under gathered calls may end at any time and for any reason: reads go on, writes are told the truth.

Method: a server that plays a script for whole streams and for single operations, and counts what reached it. A write
that was carried out, or may have been, must be there once at most.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from prefixdb import connect
from prefixdb.client import methods
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync.database import Database
from prefixdb.errors import (
    ConflictError,
    InternalError,
    NamespaceSuspendedError,
    OutcomeUnknownError,
    PrefixdbError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
)
from prefixdb.v1.key_value_pb2 import GetResponse, PutRequest, PutResponse
from tests.client.harness import sync_gather, sync_test, sync_until
from tests.support.scripted_server import Answer, Hang, Hold, Lose, Refuse, ScriptedServer, Serve, Step

pytestmark = pytest.mark.usefixtures("gathered")

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))
MANY = Serve(1_000_000)


def gatherer(db: Database) -> Any:
    """Return what gathers the calls of a client."""
    return db._connection._gatherer


def put_keys(scripted: ScriptedServer) -> list[bytes]:
    """Return the keys of the puts that reached the server, in their order."""
    return [PutRequest.FromString(call.requests[0]).key for call in scripted.calls_of(methods.PUT)]


@pytest.mark.parametrize("end", [Lose(), Refuse(Reason.DRAINING), Refuse(Reason.TOKEN_EXPIRED), None])
@sync_test
def test_a_stream_that_ends_while_it_is_idle_is_not_noticed(scripted: ScriptedServer, end: Lose | None) -> None:
    scripted.script(methods.PIPELINE, Serve(1, end), Serve(1, end), MANY)
    scripted.script(methods.PUT, APPLIED)
    with connect(scripted.endpoint, token="t") as db:
        for number in range(3):
            assert db.put(str(number), b"v") == 8
            if number < 2:
                sync_until(lambda: has_no_stream(db))
    assert put_keys(scripted) == [b"0", b"1", b"2"]
    assert scripted.streams == 3


def has_no_stream(db: Database) -> bool:
    """True when the client has no open stream."""
    stream = gatherer(db)._stream
    return stream is None or not stream.is_open


@sync_test
def test_closing_a_client_ends_its_stream_in_order(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    with connect(scripted.endpoint, token="t") as db:
        assert db.get("k") == b"v"
        assert scripted.streams == 1
        assert scripted.ended == 0
    assert scripted.ended == 1


@pytest.mark.parametrize(("idle_s", "deadline_s"), [(0.05, 60), (1.2, 1)])
@sync_test
def test_an_idle_stream_is_ended_and_opened_again(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, idle_s: float, deadline_s: float
) -> None:
    monkeypatch.setattr("prefixdb.client.gathering.IDLE_S", idle_s)
    scripted.script(methods.GET, FOUND)
    with connect(scripted.endpoint, token="t", deadline_s=deadline_s) as db:
        for number in (1, 2):
            assert db.get("k") == b"v"
            sync_until(lambda number=number: scripted.ended == number)
            assert gatherer(db)._stream is None
        assert scripted.streams == 2


@sync_test
def test_a_stream_that_grew_old_is_left_when_its_answers_have_come(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.gathering.STREAM_S_MAX", 0.0)
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    with connect(scripted.endpoint, token="t", deadline_s=30) as db:

        def work(number: int) -> bytes | None:
            if number > 0:
                sync_until(lambda: bool(scripted.calls))
            if number == 2:
                sync_until(lambda: len(gatherer(db)._gathering.waiting) == 1)
                assert scripted.streams == 1, "or the second could be carried out before the first"
                go_on.set()
                return b"v"
            return db.get(str(number))

        assert sync_gather(work, 3) == [b"v"] * 3
    assert scripted.streams == 2


@sync_test
def test_a_stream_is_replaced_before_it_grows_old(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefixdb.client.gathering.STREAM_S_MAX", 0.0)
    scripted.script(methods.PIPELINE, MANY)
    scripted.script(methods.PUT, APPLIED)
    with connect(scripted.endpoint, token="t") as db:

        def work(number: int) -> None:
            for step in range(5):
                assert db.put(f"{number}/{step}", b"v") == 8

        sync_gather(work, 8)
        sync_until(lambda: scripted.ended >= 4)
    assert sorted(put_keys(scripted)) == sorted(b"%d/%d" % (n, step) for n in range(8) for step in range(5))
    assert scripted.messages.count(0) == scripted.streams == len(scripted.messages) / 2


@sync_test
def test_a_lost_stream_costs_reads_a_moment_and_leaves_writes_in_doubt(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Lose(), FOUND)
    scripted.script(methods.PUT, Lose(), APPLIED)
    with connect(scripted.endpoint, token="t") as db:
        db.exists("k")
        scripted.script(methods.GET, Lose(), FOUND)
        answers = sync_gather(lambda number: db.get(str(number)), 20)
        assert answers == [b"v"] * 20
        with pytest.raises(OutcomeUnknownError, match="may or may not have been applied"):
            db.put("k", b"v")
        assert len(scripted.calls_of(methods.PUT)) == 1


@sync_test
def test_every_write_of_a_lost_message_is_told_so_and_none_is_sent_twice(scripted: ScriptedServer) -> None:
    go_on = threading.Event()
    scripted.script(methods.PUT, Hold(go_on, APPLIED), *[APPLIED] * 4, Lose())
    with connect(scripted.endpoint, token="t") as db:

        def work(number: int) -> int | PrefixdbError:
            if number > 0:
                sync_until(lambda: bool(scripted.calls))
            if number == 10:
                sync_until(lambda: len(gatherer(db)._gathering.waiting) + sent(db) == 9)
                go_on.set()
                return 8
            try:
                return db.put(str(number), b"v")
            except OutcomeUnknownError as failure:
                return failure

        answers = sync_gather(work, 11)
        lost = [answer for answer in answers if isinstance(answer, OutcomeUnknownError)]
        assert lost and len({id(failure) for failure in lost}) == len(lost), "each has an error of its own"
    keys = put_keys(scripted)
    assert len(keys) == len(set(keys))


def sent(db: Database) -> int:
    """Return how many operations are under way behind the oldest message."""
    return sum(len(message) for message in list(gatherer(db)._gathering.under_way)[1:])


@sync_test
def test_a_conditional_write_is_repeated_and_a_repeat_that_fails_is_doubt(scripted: ScriptedServer) -> None:
    unmet = Answer(PutResponse(applied=False, current_version=9))
    with connect(scripted.endpoint, token="t") as db:
        scripted.script(methods.PUT, Lose(), APPLIED)
        assert db.put("k", b"v", if_absent=True) == 8
        scripted.script(methods.PUT, Lose(), unmet)
        with pytest.raises(OutcomeUnknownError):
            db.put("k", b"v", if_version=3)
        scripted.script(methods.PUT, unmet)
        with pytest.raises(ConflictError):
            db.put("k", b"v", if_version=3)
    assert scripted.streams == 3


@sync_test
def test_a_refused_stream_is_opened_again_with_another_token_and_nothing_is_lost_or_doubled(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    scripted.script(methods.PIPELINE, Refuse(Reason.TOKEN_EXPIRED), MANY)
    scripted.script(methods.PUT, APPLIED)
    with connect(scripted.endpoint, token_file=file) as db:
        assert db.options.token_file is not None
        token = db._connection._token(5.0)
        assert token == "old"
        replace_unseen(file, "new")
        handed_in: list[bytes] = []

        def work(number: int) -> None:
            handed_in.append(b"%d" % number)
            assert db.put(str(number), b"v") == 8

        sync_gather(work, 30)
    assert sorted(put_keys(scripted)) == sorted(handed_in)
    assert {call.token for call in scripted.calls_of(methods.PUT)} == {"Bearer new"}
    assert [call.token for call in scripted.calls_of(methods.PIPELINE)] == ["Bearer old", "Bearer new"]


def replace_unseen(file: Path, text: str) -> None:
    """Write a token file anew without a new time stamp: only the server's word can be the reason to look."""
    import os

    stamp = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(stamp, stamp))


@sync_test
def test_a_token_that_is_refused_for_good_is_the_error_of_every_call(scripted: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    scripted.script(methods.PIPELINE, Refuse(Reason.TOKEN_REVOKED))
    with connect(scripted.endpoint, token_file=file) as db:

        def work(number: int) -> None:
            with pytest.raises(UnauthenticatedError) as caught:
                (db.put("k", b"v") if number % 2 else db.get("k"))
            assert caught.value.reason is Reason.TOKEN_REVOKED

        sync_gather(work, 6)
        begun = len(scripted.calls_of(methods.PIPELINE))
        replace_unseen(file, "new")
        work(0)
        assert len(scripted.calls_of(methods.PIPELINE)) == begun + 2, "once more with the new one, and no more"
        work(1)
        assert len(scripted.calls_of(methods.PIPELINE)) == begun + 3
    assert not scripted.calls_of(methods.PUT)


@sync_test
def test_another_token_is_looked_for_once_however_many_there_are(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script(methods.PIPELINE, Refuse(Reason.TOKEN_INVALID))
    with connect(scripted.endpoint, token="t") as db:
        renewals: list[str | None] = []

        def renew(refused: str | None) -> bool:
            renewals.append(refused)
            return True

        monkeypatch.setattr(db._connection, "renew", renew)
        with pytest.raises(UnauthenticatedError):
            db.put("k", b"v")
    assert renewals == ["t"]
    assert scripted.streams == 2


@sync_test
def test_a_token_that_ends_under_way_leaves_writes_in_doubt_and_reads_go_on(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    with connect(scripted.endpoint, token_file=file) as db:
        scripted.script(methods.GET, FOUND)
        db.get("k")
        replace_unseen(file, "new")
        scripted.script(methods.GET, Refuse(Reason.TOKEN_EXPIRED), FOUND)
        assert db.get("k") == b"v"
        assert scripted.calls[-1].token == "Bearer new"
        scripted.script(methods.PUT, Refuse(Reason.TOKEN_EXPIRED), APPLIED)
        with pytest.raises(OutcomeUnknownError) as caught:
            db.put("k", b"v")
        assert isinstance(caught.value.__cause__, UnauthenticatedError)
        assert len(scripted.calls_of(methods.PUT)) == 1
        scripted.script(methods.GET, FOUND)
        replace_unseen(file, "newest")
        assert db.get("k") == b"v"
        replace_unseen(file, "newer")
        scripted.script(methods.PUT, Refuse(Reason.TOKEN_EXPIRED), APPLIED)
        assert db.put("k", b"v", if_absent=True) == 8
        assert scripted.calls[-1].token == "Bearer newer"


@sync_test
def test_without_a_stream_to_be_had_calls_go_alone(scripted: ScriptedServer) -> None:
    scripted.script(methods.PIPELINE, Refuse(Reason.TOO_MANY_STREAMS, retry_after_ms=60_000), MANY)
    scripted.script(methods.GET, FOUND)
    scripted.script(methods.PUT, APPLIED)
    with connect(scripted.endpoint, token="t") as db:

        def work(number: int) -> object:
            return db.put("k", b"v") if number % 2 else db.get("k")

        assert sync_gather(work, 8) == [b"v", 8] * 4
        assert db.put("k", b"v") == 8
        assert len(scripted.calls_of(methods.PUT)) == 5
        assert scripted.streams == 1, "there is no use in asking again at once"
        gatherer(db)._gathering.bypass_until_s = 0.0
        assert db.put("k", b"v") == 8
        assert scripted.streams == 2


@sync_test
def test_an_error_that_ends_the_stream_is_only_told_to_whom_it_concerns(scripted: ScriptedServer) -> None:
    """INTERNAL says that something went wrong with one operation; nobody knows with which."""
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND, Refuse(Reason.INTERNAL), FOUND)
    with connect(scripted.endpoint, token="t") as db:

        def work(number: int) -> bytes | None:
            if number > 0:
                sync_until(lambda: bool(scripted.calls))
            if number == 9:
                go_on.set()
                return b"v"
            return db.get(str(number))

        assert sync_gather(work, 10) == [b"v"] * 10
        scripted.script(methods.GET, Refuse(Reason.INTERNAL))
        with pytest.raises(InternalError):
            db.get("k")
        scripted.script(methods.PUT, Refuse(Reason.INTERNAL), APPLIED)
        with pytest.raises(InternalError, match="may or may not have been applied"):
            db.put("k", b"v")
    assert len(scripted.calls_of(methods.PUT)) == 1


@sync_test
def test_a_read_that_fails_alone_for_now_is_tried_again(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Refuse(Reason.WRITE_STALL, retry_after_ms=1), FOUND)
    with connect(scripted.endpoint, token="t") as db:
        assert db.get("k") == b"v"
    assert scripted.streams == 1


@sync_test
def test_a_pipelines_first_message_may_have_been_begun_when_its_stream_is_cut(scripted: ScriptedServer) -> None:
    scripted.script(methods.PUT, Refuse(Reason.TOKEN_REVOKED))
    with connect(scripted.endpoint, token="t") as db:
        pipeline = db.pipeline()
        doubtful = pipeline.put("k", b"v")
        with pytest.raises(UnauthenticatedError):
            pipeline.flush()
        with pytest.raises(OutcomeUnknownError):
            doubtful.result()
        pipeline.cancel()


@sync_test
def test_a_suspended_namespace_refuses_every_call(scripted: ScriptedServer) -> None:
    scripted.script(methods.PIPELINE, Refuse(Reason.NAMESPACE_SUSPENDED))
    with connect(scripted.endpoint, token="t") as db:

        def work(number: int) -> None:
            with pytest.raises(NamespaceSuspendedError):
                (db.put("k", b"v") if number % 2 else db.get("k"))

        sync_gather(work, 4)


@pytest.mark.parametrize("wrong", ["fewer results", "another id", "another result"])
@sync_test
def test_an_answer_that_does_not_fit_is_nobodys_answer(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def spoil(answer: Any) -> None:
        if wrong == "fewer results":
            del answer.results[:]
        elif wrong == "another id":
            answer.id += 1
        else:
            for result in answer.results:
                result.write.applied = True

    scripted.script(methods.GET, FOUND)
    scripted.script(methods.PUT, APPLIED)
    with connect(options=ClientOptions(scripted.endpoint, read_attempts=1)) as db:
        db.get("k")
        scripted.spoil = spoil
        with pytest.raises(OutcomeUnknownError):
            db.put("k", b"v")
        with pytest.raises((UnavailableError, InternalError)) as caught:
            db.get("k")
        assert not isinstance(caught.value, OutcomeUnknownError), "a read has no outcome"
        scripted.spoil = None
        assert db.get("k") == b"v"


@sync_test
def test_a_server_that_is_not_there_is_told_as_for_any_call() -> None:
    with connect(options=ClientOptions("127.0.0.1:1", read_attempts=2)) as db:

        def work(number: int) -> None:
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1.*Nothing was sent") as caught:
                (db.put("k", b"v") if number % 2 else db.get("k"))
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert caught.value.__cause__ is not None

        sync_gather(work, 6)


@sync_test
def test_reads_are_tried_as_often_as_the_options_say_and_no_longer_than_their_time(
    scripted: ScriptedServer,
) -> None:
    step: Step = Lose()
    scripted.script(methods.GET, step)
    with connect(options=ClientOptions(scripted.endpoint, read_attempts=3)) as db:
        with pytest.raises(UnavailableError, match="try again") as caught:
            db.get("k")
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert len(scripted.calls_of(methods.GET)) == 3
        scripted.script(methods.GET, Refuse(Reason.STARTING, retry_after_ms=60_000))
        with pytest.raises(UnavailableError) as caught:
            db.get("k")
        assert caught.value.reason is Reason.STARTING, "there is no time to wait so long"
        scripted.script(methods.GET, Hang())
        with pytest.raises(TimeoutError):
            db.with_deadline(0.1).get("k")
