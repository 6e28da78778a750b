# Generated from tests/client/test_aio_transfers.py by tools/async_to_sync.py; do not edit.
"""Goal: archives go out and in whole or not at all, over lost connections and lost answers, with nothing applied twice.

Method: a server of the tests' own that fails where it is told to; the oracle is what it applied, and the bytes it gave.
"""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from prefixdb import connect
from prefixdb.archive import ArchiveWriter, Header
from prefixdb.client.models import ConflictPolicy, TransferPhase, TransferProgress
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync import Database
from prefixdb.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    OutcomeUnknownError,
    PrefixdbError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
    error,
)
from tests.client.harness import sync_test
from tests.support.transfer_server import TransferServer

FRAMES = 12
"""Frames of rows of the archive that most tests send."""


@pytest.fixture
def server() -> Iterator[TransferServer]:
    """A server that takes and gives archives."""
    with TransferServer() as running:
        yield running


def client(server: TransferServer, *, resume_s: float = 10.0) -> Database:
    """Return a client of the server."""
    return connect(options=ClientOptions(endpoint=server.endpoint, token="t", resume_s=resume_s))


def archive(frames: int = FRAMES, *, mark: str = "v", codec: str = "zstd") -> list[bytes]:
    """Return the frames of an archive: a row in each frame of rows."""
    writer = ArchiveWriter(Header("export", codec=codec, last_version=1000))
    made = [writer.header()]
    made += [writer.rows(0, [(b"k%05d" % n, f"{mark}{n}".encode() * 50, n + 1, 0)]) for n in range(frames)]
    return [*made, writer.footer()]


def rows_of(frames: int = FRAMES, *, mark: str = "v") -> list[tuple[int, bytes, bytes]]:
    """Return the rows of ``archive``, as the server applies them."""
    return [(0, b"k%05d" % n, f"{mark}{n}".encode() * 50) for n in range(frames)]


def names_in(directory: Path) -> list[str]:
    """Return the names of what is there."""
    return sorted(path.name for path in directory.iterdir())


def pipe_of(frames: list[bytes]) -> BinaryIO:
    """Return an open pipe that gives these frames and ends."""
    read, write = os.pipe()

    def fill() -> None:
        with os.fdopen(write, "wb") as file:
            file.writelines(frames)

    threading.Thread(target=fill, daemon=True).start()
    return os.fdopen(read, "rb")


@sync_test
def test_an_export_is_the_frames_as_they_came(server: TransferServer, tmp_path: Path) -> None:
    server.exported = archive()
    seen = []
    with client(server) as db:
        done = db.export(tmp_path / "a.prefixdb", on_progress=lambda frame: seen.append(frame.rows_done))
        assert (tmp_path / "a.prefixdb").read_bytes() == b"".join(server.exported)
        assert (done.rows, done.bytes) == (FRAMES, sum(map(len, server.exported)))
        assert seen == list(range(FRAMES + 2))
        target = io.BytesIO()
        db.export(target)
        assert target.getvalue() == b"".join(server.exported)
    assert names_in(tmp_path) == ["a.prefixdb"]


@sync_test
def test_a_lost_connection_begins_an_export_into_a_file_anew(server: TransferServer, tmp_path: Path) -> None:
    server.exported = archive()
    server.cuts = [3, 0, FRAMES + 2]
    with client(server) as db:
        db.export(tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == b"".join(server.exported)
        server.cuts = [3]
        with pytest.raises(UnavailableError):
            db.export(io.BytesIO())


@sync_test
def test_an_export_that_always_breaks_in_the_middle_gives_up(server: TransferServer, tmp_path: Path) -> None:
    server.exported = archive()
    server.cuts = [3] * 100
    with client(server) as db:
        with pytest.raises(UnavailableError):
            db.export(tmp_path / "a")
    assert len(server.cuts) >= 90
    assert names_in(tmp_path) == []


@sync_test
def test_a_stream_that_ends_well_too_early_is_no_export(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("what was there")
    whole = archive()
    broken = [*whole[:3], bytes([*whole[3][:-40], whole[3][-40] ^ 1, *whole[3][-39:]]), *whole[4:]]
    swapped = [*whole[:3], whole[4], whole[3], *whole[5:]]
    with client(server) as db:
        for frames in ([], whole[:-1], broken, swapped, [*whole, whole[-1]], whole[1:], [whole[0], *whole]):
            server.exported = frames
            with pytest.raises(InvalidArgumentError) as caught:
                db.export(tmp_path / "a")
            assert caught.value.reason is Reason.ARCHIVE_INVALID
            assert caught.value.metadata["place"].startswith("frame ")
    assert (tmp_path / "a").read_text() == "what was there"
    assert names_in(tmp_path) == ["a"]


@sync_test
def test_an_export_takes_a_new_token_once_and_only_before_its_first_frame(
    server: TransferServer, tmp_path: Path
) -> None:
    server.exported = archive()
    token = tmp_path / "token"
    token.write_text("first")
    token.chmod(0o600)
    with connect(options=ClientOptions(endpoint=server.endpoint, token_file=token)) as db:
        db.export(io.BytesIO())
        token.write_text("second")
        server.expired = [0]
        target = io.BytesIO()
        db.export(target)
        assert target.getvalue() == b"".join(server.exported)
        for number, expired in enumerate(([3], [0, 0], [0, 3])):
            # What has begun cannot go on: that would be another instant.
            token.write_text(f"{number}")
            server.expired = expired
            with pytest.raises(UnauthenticatedError):
                db.export(io.BytesIO())
            assert server.expired == []


@sync_test
def test_an_export_that_cannot_be_is_refused_before_anything_is_asked(server: TransferServer) -> None:
    with client(server) as db:
        with pytest.raises(InvalidArgumentError, match="zstd, none"):
            db.export(io.BytesIO(), codec="gzip")
        with pytest.raises(InvalidArgumentError, match="all databases"):
            db.export(io.BytesIO(), members=True, database=0)


@sync_test
def test_an_import_goes_on_where_the_connection_was_lost(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    server.cuts = [0, 5, 1, 0, 4]
    with client(server) as db:
        done = db.import_archive(tmp_path / "a", on_conflict="skip", keep_version_order=False)
    assert (done.received, done.inserted, done.way) == (FRAMES, FRAMES, "batches")
    assert server.applied == {done.upload: rows_of()}
    assert server.received == FRAMES + 2, "a frame that had arrived was sent again"
    assert {begin.upload for begin in server.begins} == {done.upload}
    assert len(server.begins) == 6


@sync_test
def test_a_lost_answer_is_asked_for_again_and_nothing_is_applied_twice(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    server.lost = 2
    with client(server) as db:
        done = db.import_archive(tmp_path / "a")
        assert (server.received, len(server.applied), done.received) == (FRAMES + 2, 1, FRAMES)
        again = db.import_archive(tmp_path / "a", upload=done.upload)
        assert (again, server.received) == (done, FRAMES + 2)


@sync_test
def test_a_server_that_forgot_the_upload_gets_a_file_from_its_beginning(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    server.cuts = [7]
    with client(server) as db:
        done = db.import_archive(
            tmp_path / "a",
            on_progress=lambda facts: server.forget() if facts.rows_received == 7 else None,
        )
    assert server.applied == {done.upload: rows_of()}


@sync_test
def test_a_pipe_goes_on_as_long_as_the_server_remembers(server: TransferServer) -> None:
    server.cuts = [4, 1]
    with client(server) as db:
        with pipe_of(archive()) as file:
            done = db.import_archive(file)
        assert server.applied == {done.upload: rows_of()}


@sync_test
def test_what_the_server_has_of_another_archive_is_not_gone_on_with(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive(mark="new")))
    upload = "0123456789abcdef" * 2
    server.keep(upload, archive(mark="old")[:5])
    with client(server) as db:
        done = db.import_archive(tmp_path / "a", upload=upload)
        assert done.upload != upload
        assert server.applied == {done.upload: rows_of(mark="new")}
        server.keep(upload, archive(mark="longer", frames=50)[:40])
        done = db.import_archive(tmp_path / "a", upload=upload)
        assert server.applied[done.upload] == rows_of(mark="new")


@sync_test
def test_a_server_that_stays_away_is_told_with_what_is_known(server: TransferServer, tmp_path: Path) -> None:
    # More than goes onto its way before the server is heard of: of a small one the client would have sent the end.
    heavy = "v" * 10_000
    (tmp_path / "a").write_bytes(b"".join(archive(mark=heavy, codec="none")))
    with client(server, resume_s=0.2) as db:
        server.cuts = [1, *[0] * 1000]
        with pytest.raises(UnavailableError, match="Nothing was applied") as caught:
            db.import_archive(tmp_path / "a")
        assert not isinstance(caught.value, OutcomeUnknownError)
        upload = caught.value.metadata["upload"]
        server.cuts = []
        done = db.import_archive(tmp_path / "a", upload=upload)
        assert (server.applied[upload], server.received) == (rows_of(mark=heavy), FRAMES + 2)
        assert done.upload == upload
        server.lost = 1000
        with pytest.raises(OutcomeUnknownError, match="may have the whole upload"):
            db.import_archive(tmp_path / "a")


@sync_test
def test_a_refusal_is_raised_as_it_is_and_not_repeated(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    server.refusal = error(Reason.IMPORT_CONFLICT)
    with client(server) as db:
        with pytest.raises(AlreadyExistsError) as caught:
            db.import_archive(tmp_path / "a")
        assert caught.value.reason is Reason.IMPORT_CONFLICT
        assert len(server.begins) == 1
        for content in (b"no archive", b"".join(archive())[:-50], b"".join(archive()[:-1])):
            (tmp_path / "b").write_bytes(content)
            with pytest.raises(InvalidArgumentError) as refused:
                db.import_archive(tmp_path / "b")
            assert refused.value.reason is Reason.ARCHIVE_INVALID
    assert server.applied == {}


@sync_test
def test_progress_tells_phases_rows_and_share(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    seen: list[TransferProgress] = []
    with client(server) as db:
        db.import_archive(tmp_path / "a", on_progress=seen.append)
    phases = list(dict.fromkeys(facts.phase for facts in seen))
    assert phases == [TransferPhase.READY, TransferPhase.RECEIVING, TransferPhase.APPLYING, TransferPhase.DONE]
    shares = [facts.share_sent for facts in seen]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert [facts.rows_total for facts in seen if facts.phase is TransferPhase.RECEIVING] == [0] * (FRAMES + 2)
    assert seen[-1].rows_total == FRAMES


@sync_test
def test_rows_of_a_program_are_loaded_as_an_archive_of_rows(server: TransferServer) -> None:
    with client(server) as db:
        rows = [(f"k{n}", b"v" * n) for n in range(20_000)]
        done = db.database(3).load(rows)
        assert server.applied[done.upload] == [(3, key.encode(), value) for key, value in rows]
        assert server.begins[-1].on_conflict == 3 and not server.begins[-1].keep_version_order
        db.load([("a", b"1", 60), ("b", b"2", None)], in_order=True, on_conflict=ConflictPolicy.SKIP)
        with pytest.raises(InvalidArgumentError, match="not in order"):
            db.load([("b", b"1"), ("a", b"2")], in_order=True)
        with pytest.raises(InvalidArgumentError) as caught:
            db.load([("b", b"1"), ("", b"2")])
        assert caught.value.reason is Reason.KEY_EMPTY
        with pytest.raises(TypeError):
            db.load([("b", "text")])  # type: ignore[list-item]


@sync_test
def test_what_a_programs_rows_raise_ends_the_load(server: TransferServer) -> None:
    class Mistake(Exception):
        pass

    def rows() -> Iterator[tuple[str, bytes]]:
        yield "k", b"v" * 500_000
        yield "l", b"v" * 600_000
        raise Mistake

    with client(server) as db:
        with pytest.raises(Mistake):
            db.load(rows())
    assert server.applied == {}


@sync_test
def test_a_namespace_is_restored_with_the_name_and_number_asked_for(server: TransferServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(archive()))
    with client(server) as db:
        made = db.guardian.namespaces.restore(tmp_path / "a")
        assert (made.namespace.name, made.rows, made.expired) == ("acme", FRAMES, 0)
        db.guardian.namespaces.restore(tmp_path / "a", name="other", id=5, members=False)
        server.cuts = [0]
        with pytest.raises(OutcomeUnknownError):
            db.guardian.namespaces.restore(tmp_path / "a")
        (tmp_path / "a").write_bytes(b"".join(archive())[:-1])
        with pytest.raises(PrefixdbError) as caught:
            db.guardian.namespaces.restore(tmp_path / "a")
        assert caught.value.reason is Reason.ARCHIVE_INVALID
    asked = [(begin.name, begin.id if begin.HasField("id") else None, begin.members) for begin in server.restored]
    assert asked == [("", None, True), ("other", 5, False), ("", None, True), ("", None, True)]


@sync_test
def test_password_hashes_travel_only_where_nobody_can_read_them(tmp_path: Path) -> None:
    options = ClientOptions(endpoint="db.example.org:7311", token=None)
    with connect(options=dataclasses.replace(options)) as db:
        with pytest.raises(InvalidArgumentError, match="Without TLS"):
            db.export(tmp_path / "a", members=True)
        (tmp_path / "b").write_bytes(b"".join(archive()))
        with pytest.raises(InvalidArgumentError, match="Without TLS"):
            db.guardian.namespaces.restore(tmp_path / "b")
    assert names_in(tmp_path) == ["b"]
