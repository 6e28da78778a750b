"""Everyone who takes part: started, with rows, and ended together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.bench.page import operations, servers
from tools.bench.page.side import Side
from tools.bench.page.side_bare import NghttpdSide, RocksdbSide
from tools.bench.page.side_etcd import EtcdSide
from tools.bench.page.side_prefixdb import PrefixdbSide
from tools.bench.page.side_redis import RedisSide

FRONTS = {operations.NATIVE: "native", operations.PYTHON: "python"}


@contextmanager
def all_sides(scratch: Path, wanted: list[str] | None) -> Iterator[tuple[list[Side], dict[str, str]]]:
    """Start every server that is wanted and write its rows; yield them with everyone's version."""
    names = wanted or list(operations.SIDES)
    with ExitStack() as stack:
        sides: list[Side] = []
        versions = servers.versions()
        ours = list(_prefixdb_sides(stack, scratch, names))
        sides += ours
        if operations.ETCD in names:
            sides.append(EtcdSide(stack.enter_context(servers.etcd(scratch)), scratch))
        for name, appendfsync in ((operations.REDIS, "everysec"), (operations.REDIS_ALWAYS, "always")):
            if name in names:
                running = stack.enter_context(servers.redis(scratch, appendfsync))
                sides.append(RedisSide(name, running, reads=name == operations.REDIS))
        if operations.ROCKSDB in names:
            sides.append(RocksdbSide(scratch))
        for side in sides:
            stack.callback(side.close)
            print(f"writing the rows of {side.name}", file=sys.stderr)
            side.prepare()
        if ours:
            versions = {"prefixdb": ours[0].facts(), **versions}
            sides += _nghttpd_sides(stack, scratch, names, ours[0])
        yield sides, versions


def front_arguments(front: str) -> list[str]:
    """Return the arguments of ``prefixdb serve`` that choose a front."""
    return ["--front", front]


def _prefixdb_sides(stack: ExitStack, scratch: Path, names: list[str]) -> Iterator[PrefixdbSide]:
    for name, front in FRONTS.items():
        if name in names:
            server = stack.enter_context(servers.prefixdb(scratch, front_arguments(front)))
            yield PrefixdbSide(name, server, scratch)


def _nghttpd_sides(stack: ExitStack, scratch: Path, names: list[str], ours: PrefixdbSide) -> Iterator[Side]:
    """nghttpd answers with a file as large as prefixdb's answer to a Get."""
    content = bytes(ours.answer_bytes())
    for name, request in ((operations.NGHTTPD, ours.get_request()), (operations.NGHTTPD_GET, None)):
        if name in names:
            yield NghttpdSide(name, stack.enter_context(servers.nghttpd(scratch, content)), content, request)
