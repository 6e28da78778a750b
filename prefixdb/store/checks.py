"""Checksums inside the engine's files, held against their bytes without opening the database.

A read meets only the blocks it needs, so damage may lie unseen for a long time; whoever copies files is about to give
it a sum that says it is right. Both stores write the same format, so the compiled part can look at the files of either.
Where it is not built nobody looks, and the caller is told so.
"""

from __future__ import annotations

from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.faults import Doing, translate


def check_table(path: Path) -> bool:
    """Read a table file once and compare the checksum of every block; False when this installation cannot.

    Raises:
        DataLossError: CORRUPTION, with the file's name.
        UnavailableError: READ_ONLY_STORE; the machine is out of file descriptors or memory.
    """
    try:
        from prefixdb.store.native import check_table_file
    except ImportError:
        return False
    try:
        check_table_file(str(path))
    except Exception as failure:
        raise _named(failure, path) from failure
    return True


def check_manifest(engine_dir: Path) -> bool:
    """Compare the checksum of every record of the MANIFEST that CURRENT names; False when this installation cannot.

    Raises:
        As ``check_table``.
    """
    try:
        from prefixdb.store.native import check_manifest_of
    except ImportError:
        return False
    try:
        check_manifest_of(str(engine_dir))
    except Exception as failure:
        raise _named(failure, engine_dir / "MANIFEST") from failure
    return True


def _named(failure: Exception, path: Path) -> PrefixdbError:
    found = translate(failure, Doing.READ)
    if found.reason is not Reason.CORRUPTION:
        return found
    message = f"{path.name} of the data directory is damaged; restore the rows it held from a backup."
    return error(Reason.CORRUPTION, message, metadata={"place": f"{path.parent.name}/{path.name}"})
