"""The client itself: one object for everything, and the function that makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, overload

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.batch import AsyncBatch
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.guardian import AsyncGuardian
from prefixdb.client.aio.keyvalue import AsyncKeyValue
from prefixdb.client.aio.pipeline import AsyncPipeline
from prefixdb.client.aio.scan import scan_pages
from prefixdb.client.aio.transaction import AsyncTransaction, run_transaction
from prefixdb.client.aio.transfers import AsyncTransfers
from prefixdb.client.encoding import Key, Lifetime, check_database, key_range
from prefixdb.client.models import Identity, LoginInfo, Row, identity_of, row_of
from prefixdb.client.options import ClientOptions, TlsOptions, check_deadline, resolve_options
from prefixdb.v1 import auth_pb2, key_value_pb2

T = TypeVar("T")


class AsyncDatabase(AsyncKeyValue, AsyncTransfers):
    """A numbered database of the namespace that the token names; ``connect_async`` makes it.

    Views made by ``database`` and ``with_deadline`` share its connection; closing any of them closes it for all.
    """

    @property
    def options(self) -> ClientOptions:
        """How this client was set up; its repr shows no secret."""
        return self._connection.options

    @property
    def number(self) -> int:
        """The number of this database, 0 .. 65535."""
        return self._database

    @property
    def guardian(self) -> AsyncGuardian:
        """Namespaces, tokens and maintenance, for those whose token permits it."""
        return AsyncGuardian(self._connection, self._deadline_s)

    def __repr__(self) -> str:
        return f"AsyncDatabase({self.options.endpoint}, database={self._database}, deadline_s={self._deadline_s:g})"

    def database(self, number: int) -> AsyncDatabase:
        """Return a view of another numbered database of the same namespace."""
        return AsyncDatabase(self._connection, check_database(number), self._deadline_s)

    def with_deadline(self, deadline_s: float) -> AsyncDatabase:
        """Return a view whose calls have another deadline, in seconds."""
        return AsyncDatabase(self._connection, self._database, check_deadline(deadline_s))

    @overload
    def scan(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        end: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[False] = False,
        resume: bool = True,
    ) -> wire.Stream[tuple[bytes, bytes]]: ...
    @overload
    def scan(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        end: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[True],
        resume: bool = True,
    ) -> wire.Stream[bytes]: ...
    async def scan(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        end: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: bool = False,
        resume: bool = True,
    ) -> wire.Stream[tuple[bytes, bytes]] | wire.Stream[bytes]:
        """Yield keys and values of a range in key order, or keys alone with ``keys_only``.

        Pages come as they are consumed. One stream is one snapshot; when the stream breaks the scan goes on behind the
        last row, from a newer snapshot, unless ``resume`` is False.

        Args:
            prefix: the keys that begin so; nothing at all is the whole database.
            start: first key of a half-open range, also when ``reverse``.
            end: first key behind it; None goes to the end of the database.
            reverse: from the last key to the first.
            limit: at most so many rows; None for all.
            keys_only: leave the values on the server.
            resume: whether to go on after the stream broke.
        """
        request = self._scan_request(key_range(prefix, start, end), reverse, limit, keys_only)
        pages = scan_pages(self._connection, request, deadline_s=self._deadline_s, resume=resume)
        try:
            async for page in pages:
                for row in page.rows:
                    yield row.key if keys_only else (row.key, row.value)
        finally:
            await pages.aclose()

    async def scan_rows(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        end: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
        resume: bool = True,
    ) -> wire.Stream[Row]:
        """As ``scan``, but yields rows with version and remaining lifetime."""
        request = self._scan_request(key_range(prefix, start, end), reverse, limit, False)
        pages = scan_pages(self._connection, request, deadline_s=self._deadline_s, resume=resume)
        try:
            async for page in pages:
                for row in page.rows:
                    yield row_of(row)
        finally:
            await pages.aclose()

    def batch(self) -> AsyncBatch:
        """Return an atomic batch: ``async with db.batch() as b: b.put("x", b"1").delete("y")``."""
        return AsyncBatch(self._connection, self._database, self._deadline_s)

    def pipeline(self, *, batch: int = 500, in_flight: int = 8, raise_errors: bool = True) -> AsyncPipeline:
        """Return a pipeline of independent operations.

        Args:
            batch: operations of one message, up to 1,000.
            in_flight: messages without an answer, at most; then handing in more waits.
            raise_errors: whether leaving the block raises the first operation's error.
        """
        return AsyncPipeline(
            self._connection,
            database=self._database,
            deadline_s=self._deadline_s,
            batch=batch,
            in_flight=in_flight,
            raise_errors=raise_errors,
        )

    async def put_many(self, rows: Iterable[tuple[Key, bytes]], *, ttl: Lifetime | None = None) -> int:
        """Write many rows as fast as the server takes them and return how many; each row for itself, not atomic."""
        async with self.pipeline() as pipeline:
            for key, value in rows:
                await pipeline.put(key, value, ttl=ttl)
        return pipeline.sent

    async def run(self, fn: Callable[[AsyncTransaction], Awaitable[T]], *, attempts: int | None = None) -> T:
        """Call ``fn`` with a transaction, commit it, and return what ``fn`` returned.

        When a row that was read has changed meanwhile, ``fn`` is called again with a new transaction: it must do
        nothing but through the transaction.

        Raises:
            ConflictError: every attempt met a conflict; nothing was applied.
        """
        most = self.options.transaction_attempts if attempts is None else attempts
        return await run_transaction(
            lambda: AsyncTransaction(self._connection, self._database, self._deadline_s), fn, most
        )

    async def whoami(self) -> Identity:
        """Return what the server makes of the caller's token."""
        request = auth_pb2.WhoAmIRequest()
        return identity_of(await self._connection.call(methods.WHO_AM_I, request, deadline_s=self._deadline_s))

    async def login(self) -> LoginInfo:
        """Log in now instead of with the first call, and anew if there was a login; kept in the credentials file.

        Raises:
            InvalidArgumentError: the client has no user and password.
            UnauthenticatedError: BAD_CREDENTIALS.
        """
        return await self._connection.login()

    async def logout(self, *, everywhere: bool = False) -> None:
        """End the login, on the next request, with everything that came from it; the client is of no use then.

        Args:
            everywhere: end every login of the member.

        Raises:
            InvalidArgumentError: the client has a token and no login.
        """
        await self._connection.logout(everywhere=everywhere)

    async def change_password(self, old: str, new: str) -> None:
        """Set the caller's own password. Every login of the caller ends, but this client goes on with a new one.

        Raises:
            UnauthenticatedError: BAD_CREDENTIALS for a wrong old password.
            InvalidArgumentError: the new one is too short or too long.
        """
        await self._connection.change_password(old, new)

    async def health(self) -> str:
        """Return the server's health, for example ``SERVING``; needs no token."""
        return await self._connection.health(deadline_s=self._deadline_s)

    async def close(self) -> None:
        """Close the connection, for all views of it. Calling it again is harmless."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _scan_request(
        self, walked: key_value_pb2.KeyRange, reverse: bool, limit: int | None, keys_only: bool
    ) -> key_value_pb2.ScanRequest:
        return key_value_pb2.ScanRequest(
            range=walked, database=self._database, reverse=reverse, limit=limit or 0, keys_only=keys_only
        )


def connect_async(
    endpoint: str | None = None,
    *,
    token: str | None = None,
    token_file: str | Path | None = None,
    user: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    home: int | str | None = None,
    credentials_file: str | Path | None = None,
    profile: str | None = None,
    namespace: int | str | None = None,
    database: int | None = None,
    tls: TlsOptions | None = None,
    insecure: bool | None = None,
    deadline_s: float | None = None,
    gather: bool = True,
    options: ClientOptions | None = None,
) -> AsyncDatabase:
    """Return a client. Nothing is sent before its first call.

    Args:
        endpoint: ``host:port``, ``[v6]:port`` or ``unix:/path``; None for the profile's, or 127.0.0.1:7311.
        token: the token itself; better is ``token_file``.
        token_file: a file with the token, read again when it changes.
        user: who logs in; with a password. Its tokens renew themselves for as long as the client lives.
        password: of the user; better is ``password_file``.
        password_file: a file whose first line is the password.
        home: name or id of the namespace the user belongs to; None when that is ``namespace``, or namespace 0 when
            that is None too.
        credentials_file: a login that several processes share, as ``prefixdb login`` writes it.
        profile: name of a profile made with ``prefixdb profile set`` or ``prefixdb login``; arguments win over it.
        namespace: name or id of the namespace to work in. With a login from namespace 0 it takes a grant; any other
            token must be for it, which is checked before the first call.
        database: numbered database, 0 .. 65535.
        tls: certificates; None for plaintext, which only loopback and unix sockets permit.
        insecure: permit plaintext elsewhere; tokens and passwords then travel readable.
        deadline_s: longest time of one call, in seconds; 5 unless the profile says otherwise.
        gather: whether calls of single rows that are made at the same time travel together; see ``ClientOptions``.
        options: everything at once, instead of all other arguments.

    Raises:
        InvalidArgumentError: the arguments do not fit together.
    """
    if options is None:
        options = resolve_options(
            endpoint,
            token=token,
            token_file=token_file,
            user=user,
            password=password,
            password_file=password_file,
            home=home,
            credentials_file=credentials_file,
            profile=profile,
            namespace=namespace,
            database=database,
            tls=tls,
            insecure=insecure,
            deadline_s=deadline_s,
            gather=gather,
        )
    return AsyncDatabase(AsyncConnection(options), options.database, options.deadline_s)
