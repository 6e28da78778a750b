"""Goal: a server that lists or sends something else than it should makes no backup, and a pace is kept.

Method: the messages of a server are made by hand and handed to what receives them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from prefixdb.client.backup_files import RATE_MIN, Listing, Pace, check_family, check_room
from prefixdb.client.backup_storing import Storing
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.manifest import BackupFile
from prefixdb.repository.repository import Repository
from prefixdb.v1 import transfer_pb2 as pb
from tests.support.repositories import CONTENT, NOON_MS, digest, files_of, manifest_of, put_backup, put_objects

FILES = list(files_of(CONTENT))


def refused(work: Callable[[], object]) -> Reason:
    """Return the reason with which something is refused."""
    with pytest.raises(PrefixdbError) as caught:
        work()
    return caught.value.reason


def facts() -> pb.BackupResponse:
    message = pb.BackupResponse(facts=pb.BackupFacts(server_version="0.1.0", store="native", engine="RocksDB"))
    message.facts.taken_at.FromMilliseconds(NOON_MS)
    return message


def page(files: list[BackupFile], *, last: bool = True) -> pb.BackupResponse:
    items = [pb.BackupFile(path=file.path, size=file.size, sha256=bytes.fromhex(file.sha256)) for file in files]
    return pb.BackupResponse(files=pb.BackupFiles(files=items, last=last))


def test_a_list_of_pages_becomes_a_manifest_in_order() -> None:
    listing = Listing()
    assert not listing.add(facts())
    assert not listing.add(page(FILES[3:], last=False))
    assert listing.add(page(FILES[:3]))
    manifest = listing.manifest()
    assert manifest.files == tuple(FILES)
    assert manifest.taken_at_ms == NOON_MS
    assert [listing.files[position].path for position in listing.lacking({FILES[1].sha256: FILES[1].size})] == [
        file.path for file in [*FILES[3:], FILES[0], FILES[2]]
    ]


def test_a_content_is_asked_for_once_and_again_when_its_size_is_another() -> None:
    listing = Listing()
    listing.add(facts())
    twin = BackupFile("db/000099.sst", FILES[1].size, FILES[1].sha256)
    listing.add(page([*FILES, twin]))
    assert listing.lacking({}) == list(range(len(FILES)))
    assert listing.lacking({FILES[1].sha256: FILES[1].size - 1}) == list(range(len(FILES)))


def test_a_list_out_of_order_or_of_what_no_backup_has_is_refused() -> None:
    assert refused(lambda: Listing().add(page(FILES))) is Reason.INTERNAL
    assert refused(lambda: Listing().add(pb.BackupResponse())) is Reason.INTERNAL
    assert refused(lambda: Listing().add(pb.BackupResponse(chunk=pb.BackupChunk()))) is Reason.INTERNAL
    for hostile in (
        [*FILES, BackupFile("../../etc/passwd", 1, "0" * 64)],
        [*FILES, BackupFile("keys/a.pem", 1, "0" * 64)],
        [*FILES, FILES[0]],
        FILES[1:],
    ):
        listing = Listing()
        listing.add(facts())
        listing.add(page(hostile))
        assert refused(listing.manifest) is Reason.ARCHIVE_INVALID


def chunk(file: int, data: bytes) -> pb.BackupChunk:
    return pb.BackupChunk(file=file, data=data)


def test_pieces_become_files(tmp_path: Path) -> None:
    repository = Repository.open_or_create(tmp_path / "repo")
    with repository.lock(exclusive=True) as lease:
        storing = Storing(repository, lease, FILES, [0, 1, 2])
        for piece in (
            chunk(0, b""),
            chunk(1, CONTENT["db/000009.sst"][:1000]),
            chunk(1, CONTENT["db/000009.sst"][1000:]),
            chunk(2, CONTENT["db/CURRENT"]),
        ):
            storing.take(piece.file, piece.data)
        storing.check_done()
        assert storing.files_done == 3
    assert repository.objects() == {file.sha256: file.size for file in FILES[:3]}


ROWS = CONTENT["db/000009.sst"]
BROKEN: dict[str, tuple[list[pb.BackupChunk], Reason]] = {
    "a file that was not asked for": ([chunk(3, b"x")], Reason.INTERNAL),
    "another file in between": ([chunk(1, ROWS[:9]), chunk(2, ROWS[9:])], Reason.INTERNAL),
    "nothing where something is left": ([chunk(1, ROWS[:9]), chunk(1, b"")], Reason.INTERNAL),
    "more than the file has": ([chunk(1, ROWS + b"x")], Reason.CORRUPTION),
    "other bytes": ([chunk(1, ROWS[:-1] + b"x")], Reason.CORRUPTION),
    "more after the last file": ([chunk(1, ROWS), chunk(2, CONTENT["db/CURRENT"]), chunk(2, b"")], Reason.INTERNAL),
    "an early end": ([chunk(1, ROWS)], Reason.INTERNAL),
    "an early end in a file": ([chunk(1, ROWS), chunk(2, b"MANI")], Reason.INTERNAL),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_was_not_asked_for_is_refused_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    repository = Repository.open_or_create(tmp_path / "repo")
    chunks, reason = BROKEN[kind]
    with repository.lock(exclusive=True) as lease:
        storing = Storing(repository, lease, FILES, [1, 2])

        def receive() -> None:
            for piece in chunks:
                storing.take(piece.file, piece.data)
            storing.check_done()

        assert refused(receive) is reason
        storing.abort()
    assert list(repository.place.files("tmp")) == []
    assert all(digest(b"x") not in name for name in repository.objects())


def test_a_pace_is_kept_and_not_saved_up() -> None:
    pace = Pace(RATE_MIN)
    assert 0.9 < pace.wait_s(RATE_MIN) <= 1.0
    assert 1.9 < pace.wait_s(RATE_MIN) <= 2.0
    assert Pace(None).wait_s(10**12) == 0
    assert refused(lambda: Pace(RATE_MIN - 1)) is Reason.BAD_FIELD


def test_a_store_belongs_by_its_name_or_by_a_shared_data_file(tmp_path: Path) -> None:
    repository = Repository.open_or_create(tmp_path / "repo")
    check_family(repository, manifest_of(CONTENT, store_id="other"))
    put_backup(repository)
    check_family(repository, manifest_of({**CONTENT, "db/000009.sst": b"new"}))
    check_family(repository, manifest_of(CONTENT, store_id="other"))
    stranger = manifest_of({**CONTENT, "db/000009.sst": b"new", "db/000010.sst": b""}, store_id="other")
    put_objects(repository, {"db/000010.sst": b""})
    check_family(repository, stranger, restored_from=manifest_of(CONTENT).store_id)
    assert refused(lambda: check_family(repository, stranger, restored_from="third")) is Reason.DIRECTORY_NOT_EMPTY
    assert refused(lambda: check_family(repository, stranger)) is Reason.DIRECTORY_NOT_EMPTY


def test_what_cannot_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    repository = Repository.open_or_create(tmp_path / "repo")
    check_room(repository, 1)
    with pytest.raises(OSError) as caught:
        check_room(repository, 2**60)
    assert caught.value.errno == errno.ENOSPC
