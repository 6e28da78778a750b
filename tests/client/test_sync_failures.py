# Generated from tests/client/test_aio_failures.py by tools/async_to_sync.py; do not edit.
"""Goal: a failure is told as what it is: nothing happened, or nobody knows; reads are repeated, writes only when safe.

Method: a server that plays a script, for the failures a real one cannot be made to show at the right moment. It counts
the calls, so a repeat that should not be, or should have been, is seen.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.client import methods
from prefixdb.client.options import ClientOptions
from prefixdb.errors import (
    CancelledError,
    ConflictError,
    DeadlineExceededError,
    InternalError,
    OutcomeUnknownError,
    PermissionDeniedError,
    Reason,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from prefixdb.v1 import auth_pb2
from prefixdb.v1.key_value_pb2 import (
    GetResponse,
    PutResponse,
    Row,
    ScanResponse,
    WriteResponse,
)
from tests.client.harness import sync_test
from tests.support.scripted_server import Answer, Hang, Lose, Refuse, ScriptedServer

pytestmark = pytest.mark.usefixtures("way")
"""Every test runs with calls that are gathered, and with calls that are not."""

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))
UNMET = Answer(PutResponse(applied=False, current_version=9))


@pytest.mark.parametrize("failure", [Refuse(Reason.STARTING), Refuse(Reason.DRAINING), Lose()])
@sync_test
def test_a_read_is_repeated_while_the_server_is_not_available(scripted: ScriptedServer, failure: Lose) -> None:
    scripted.script(methods.GET, failure, failure, FOUND)
    with connect(scripted.endpoint, token="t") as db:
        assert db.get("k") == b"v"
    assert len(scripted.calls_of(methods.GET)) == 3


@sync_test
def test_a_read_gives_up_after_as_many_tries_as_the_options_say(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Refuse(Reason.STARTING))
    with connect(options=ClientOptions(scripted.endpoint, read_attempts=3)) as db:
        with pytest.raises(UnavailableError) as caught:
            db.get("k")
    assert caught.value.reason is Reason.STARTING
    assert len(scripted.calls_of(methods.GET)) == 3


@sync_test
def test_a_read_that_was_refused_for_good_is_not_repeated(scripted: ScriptedServer, way: str) -> None:
    scripted.script(methods.GET, Refuse(Reason.NOT_PERMITTED))
    with connect(scripted.endpoint, token="t") as db:
        with pytest.raises(PermissionDeniedError) as caught:
            db.get("k")
    assert (caught.value.__cause__ is None) is (way == "gathered")
    assert len(scripted.calls_of(methods.GET)) == 1


@sync_test
def test_a_plain_write_is_never_repeated_and_its_doubt_is_told(scripted: ScriptedServer) -> None:
    scripted.script(methods.PUT, Lose(), APPLIED)
    with connect(scripted.endpoint, token="t") as db:
        with pytest.raises(OutcomeUnknownError, match="may or may not have been applied"):
            db.put("k", b"v")
        assert len(scripted.calls_of(methods.PUT)) == 1
        scripted.script(methods.PUT, Refuse(Reason.WRITE_STALL), APPLIED)
        with pytest.raises(UnavailableError) as caught:
            db.put("k", b"v")
        assert not isinstance(caught.value, OutcomeUnknownError), "a refusal with a reason leaves no doubt"
        assert caught.value.retry_after_ms is not None
        scripted.script(methods.PUT, Refuse(Reason.INTERNAL))
        with pytest.raises(InternalError, match="may or may not have been applied"):
            db.put("k", b"v")


@sync_test
def test_a_write_with_a_telling_condition_is_repeated(scripted: ScriptedServer) -> None:
    for condition in ({"if_absent": True}, {"if_version": 7}):
        scripted.script(methods.PUT, Lose(), Refuse(Reason.WRITE_STALL, retry_after_ms=1), APPLIED)
        with connect(scripted.endpoint, token="t") as db:
            assert db.put("k", b"v", **condition) == 8
    assert len(scripted.calls_of(methods.PUT)) == 6
    for condition in ({"if_exists": True}, {"if_value": b"x"}):
        scripted.script(methods.PUT, Lose(), APPLIED)
        with connect(scripted.endpoint, token="t") as db:
            with pytest.raises(OutcomeUnknownError):
                db.put("k", b"v", **condition)


@sync_test
def test_a_repeat_whose_condition_fails_is_doubt_and_not_a_conflict(scripted: ScriptedServer) -> None:
    """The first try may have been applied, and then it is the very reason why the condition does not hold."""
    with connect(scripted.endpoint, token="t") as db:
        scripted.script(methods.PUT, Lose(), UNMET)
        with pytest.raises(OutcomeUnknownError):
            db.put("k", b"v", if_absent=True)
        scripted.script(methods.PUT, Refuse(Reason.WRITE_STALL, retry_after_ms=1), UNMET)
        with pytest.raises(ConflictError):
            db.put("k", b"v", if_absent=True)
        scripted.script(methods.PUT, Lose(), Refuse(Reason.NAMESPACE_BANNED))
        with pytest.raises(OutcomeUnknownError):
            db.put("k", b"v", if_absent=True)


@sync_test
def test_a_batch_is_repeated_only_when_its_own_condition_makes_that_safe(scripted: ScriptedServer) -> None:
    done = Answer(WriteResponse(applied=True, version=8))
    with connect(scripted.endpoint, token="t") as db:
        scripted.script(methods.WRITE, Lose(), done)
        with db.batch() as batch:
            batch.require("k", version=3).delete("k")
        assert batch.version == 8
        scripted.script(methods.WRITE, Lose(), done)
        with pytest.raises(OutcomeUnknownError):
            with db.batch() as batch:
                batch.require("other", version=3).put("k", b"v")
        scripted.script(methods.WRITE, Lose(), done)
        with pytest.raises(OutcomeUnknownError):
            with db.batch() as batch:
                # Deleting leaves the row absent: a repeat would be applied again.
                batch.require("k", absent=True).put("k", b"v").delete("k")


@sync_test
def test_a_transaction_in_doubt_is_not_run_again(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    runs = []

    def change(txn):  # type: ignore[no-untyped-def]
        runs.append(1)
        txn.put("k", txn.get("k") + b"+")

    with connect(scripted.endpoint, token="t") as db:
        scripted.script(methods.WRITE, Lose(), Answer(WriteResponse(applied=False, current_version=9)))
        with pytest.raises(OutcomeUnknownError):
            db.run(change)
    assert len(runs) == 1


@sync_test
def test_a_deadline_says_how_long_it_was_and_whether_a_write_may_be_there(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Hang())
    scripted.script(methods.PUT, Hang())
    with connect(scripted.endpoint, token="t", deadline_s=0.2) as db:
        with pytest.raises(DeadlineExceededError, match=r"0\.2 s") as caught:
            db.get("k")
        assert isinstance(caught.value, TimeoutError)
        assert "may" not in caught.value.message
        with pytest.raises(DeadlineExceededError, match="may or may not have been applied"):
            db.put("k", b"v")
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            db.with_deadline(0.05).get("k")
        assert time.monotonic() - begun < 2


@sync_test
def test_a_server_that_is_not_there_is_told_with_its_address_and_without_doubt() -> None:
    with connect("127.0.0.1:1", token="t") as db:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1.*Nothing was sent") as caught:
            db.put("k", b"v")
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.metadata["endpoint"] == "127.0.0.1:1"


@sync_test
def test_a_scan_goes_on_behind_the_last_row_however_its_stream_ends(scripted: ScriptedServer) -> None:
    pages = [ScanResponse(rows=[Row(key=key, value=b"v")]) for key in (b"a", b"b", b"c", b"d")]
    scripted.script(
        methods.SCAN,
        Answer(pages[0], then=Lose()),
        Refuse(Reason.STARTING, retry_after_ms=1),
        Answer(pages[1], then=Refuse(Reason.DRAINING)),
        Answer(pages[2], then=Refuse(Reason.DEADLINE)),  # As when the consumer was too slow for the server.
        Answer(pages[3]),
        stream=True,
    )
    with connect(scripted.endpoint, token="t") as db:
        assert [key for key in db.scan("", limit=9, keys_only=True)] == [b"a", b"b", b"c", b"d"]
    requests = scripted.requests_of(methods.SCAN)
    assert [request.resume_after for request in requests] == [b"", b"a", b"a", b"b", b"c"]
    assert [request.limit for request in requests] == [9, 8, 8, 7, 6]


@pytest.mark.parametrize("reason", [Reason.NAMESPACE_BANNED, Reason.CORRUPTION, Reason.INTERNAL, Reason.TOKEN_REVOKED])
@sync_test
def test_a_scan_ends_with_what_cannot_get_better(scripted: ScriptedServer, reason: Reason) -> None:
    page = ScanResponse(rows=[Row(key=b"a")])
    scripted.script(methods.SCAN, Answer(page, then=Refuse(reason)), stream=True)
    with connect(scripted.endpoint, token="t") as db:
        seen = []
        with pytest.raises(reason.value.error):
            for key in db.scan(keys_only=True):
                seen.append(key)
    assert seen == [b"a"]
    assert len(scripted.calls_of(methods.SCAN)) == 1


@sync_test
def test_a_scan_stops_trying_after_the_time_it_was_given(scripted: ScriptedServer) -> None:
    scripted.script(methods.SCAN, Lose(), stream=True)
    with connect(options=ClientOptions(scripted.endpoint, resume_s=0.3)) as db:
        begun = time.monotonic()
        with pytest.raises(UnavailableError):
            for _ in db.scan():
                pass
        assert time.monotonic() - begun < 5
    assert len(scripted.calls_of(methods.SCAN)) > 1


@sync_test
def test_a_page_that_does_not_come_is_a_deadline(scripted: ScriptedServer) -> None:
    page = ScanResponse(rows=[Row(key=b"a")])
    scripted.script(methods.SCAN, Answer(page, then=Hang()), stream=True)
    with connect(scripted.endpoint, token="t", deadline_s=0.3) as db:
        with pytest.raises(DeadlineExceededError):
            for _ in db.scan():
                pass


@sync_test
def test_an_expired_token_is_read_again_from_its_file_once(scripted: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    with connect(scripted.endpoint, token_file=file, gather=False) as db:
        scripted.script(methods.PUT, APPLIED)
        db.put("k", b"v")
        # The time stamp is that of the old token, so only the server's word can be the reason to look.
        stamp = file.stat().st_mtime_ns
        file.write_text("new\n")
        os.utime(file, ns=(stamp, stamp))
        scripted.script(methods.PUT, Refuse(Reason.TOKEN_EXPIRED), APPLIED)
        db.put("k", b"v")
        assert [call.token for call in scripted.calls] == ["Bearer old", "Bearer old", "Bearer new"]
        scripted.script(methods.PUT, Refuse(Reason.TOKEN_EXPIRED))
        with pytest.raises(UnauthenticatedError) as caught:
            db.put("k", b"v")
        assert caught.value.reason is Reason.TOKEN_EXPIRED
        assert len(scripted.calls) == 4, "the file has nothing new, so there is no second try"


@sync_test
def test_a_changed_token_file_is_noticed_without_an_error(scripted: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    scripted.script(methods.GET, FOUND)
    with connect(scripted.endpoint, token_file=file) as db:
        db.get("k")
        file.write_text("new")
        gives_up_at = time.monotonic() + 10
        while scripted.calls[-1].token != "Bearer new" and time.monotonic() < gives_up_at:
            db.get("k")
        assert scripted.calls[-1].token == "Bearer new"


@sync_test
def test_a_token_file_that_is_missing_is_named_and_nothing_is_sent(scripted: ScriptedServer, tmp_path: Path) -> None:
    with connect(scripted.endpoint, token_file=tmp_path / "none") as db:
        with pytest.raises(UnauthenticatedError, match="none cannot be read"):
            db.get("k")
    assert scripted.calls == []


@pytest.mark.parametrize(("content", "reason"), [("", Reason.TOKEN_MISSING), ("two words", Reason.TOKEN_INVALID)])
@sync_test
def test_a_token_file_without_a_token_says_so_in_one_sentence(
    scripted: ScriptedServer, tmp_path: Path, content: str, reason: Reason
) -> None:
    file = tmp_path / "t"
    file.write_text(content)
    with connect(scripted.endpoint, token_file=file) as db:
        with pytest.raises(UnauthenticatedError, match=rf"^There is no token in the file {file}: [^.]+\.$") as caught:
            db.get("k")
    assert caught.value.reason is reason
    assert scripted.calls == []


@sync_test
def test_a_client_without_a_token_is_told_where_to_give_one(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Refuse(Reason.TOKEN_MISSING))
    with connect(scripted.endpoint) as db:
        with pytest.raises(UnauthenticatedError, match="token_file") as caught:
            db.get("k")
    assert caught.value.reason is Reason.TOKEN_MISSING


@sync_test
def test_a_message_that_is_too_large_is_told_with_its_size_and_the_limit(scripted: ScriptedServer) -> None:
    with connect(scripted.endpoint, token="t") as db:
        with pytest.raises(ResourceExhaustedError, match=r"^The request has \d+ bytes; .*16777216") as caught:
            db.put("k", bytes(17 << 20))
        assert caught.value.reason is Reason.REQUEST_TOO_LARGE
        assert caught.value.metadata["limit"] == "16777216"
    assert scripted.calls == []


@sync_test
def test_a_token_for_another_namespace_is_refused_before_the_first_call(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    scripted.script(methods.WHO_AM_I, Answer(auth_pb2.WhoAmIResponse(namespace_id=5, namespace_name="acme")))
    for expected in ("other", 6):
        with connect(scripted.endpoint, token="t", namespace=expected) as db:
            with pytest.raises(PermissionDeniedError, match=r"acme|5"):
                db.get("k")
    assert not scripted.calls_of(methods.GET)
    for right in ("acme", 5):
        with connect(scripted.endpoint, token="t", namespace=right) as db:
            assert db.get("k") == b"v"
            assert db.get("k") == b"v"
    assert len(scripted.calls_of(methods.WHO_AM_I)) == 4, "asked once for each client"


@sync_test
def test_a_closed_client_says_so(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    db = connect(scripted.endpoint, token="t")
    assert db.get("k") == b"v"
    db.close()
    db.close()
    for number in (0, 3):
        with pytest.raises(CancelledError, match="closed"):
            db.database(number).get("k")
