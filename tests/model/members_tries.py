"""Trying tokens: a call with a token, compared with what the model says; and what every act of the walk needs."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

from prefixdb.catalog.entities import Guardian
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service.throttle import Throttle
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import namespaces_pb2 as spaces
from tests.model import members_model as m
from tests.model.members_model import Model, Person, Space, Token
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer

NAMES = ("ada", "bob", "cy", "dee")
KEYS = (b"a", b"a/1", b"a/2", b"a0", b"b/1")
TOKENS_MAX = 150
TURNED_MAX, GOOD_MAX, ANY_MAX = 8, 3, 1
"""Tokens tried after each act: of those that the act turned good or bad, of those that are good, of all."""


class WrongAnswerError(AssertionError):
    """The server and the model differ."""


class Tries:
    """One running server, its model, and the tokens that were given.

    Args:
        server: the server, new.
        clock: its clock.
        seed: of the walk.
        first_password: of the member ``guardian`` of namespace 0.
    """

    def __init__(self, server: RunningServer, clock: HeldClock, seed: int, first_password: str) -> None:
        self.server = server
        self.clock = clock
        self.seed = seed
        self.random = random.Random(seed)
        self.model = Model(clock.now_ms())
        self.model.zero.people["guardian"] = Person("guardian", ["guardians"], first_password)
        self.tokens: list[Token] = []
        self.counts: Counter[str] = Counter()
        self.story: deque[str] = deque(maxlen=25)
        self._values = 0
        for number in (1, 2, 3):
            self._new_space(server.create(f"space-{number}", number).id)

    # --- trying tokens ---------------------------------------------------------------------------------------------

    async def _try_some(self) -> None:
        refused = {token: self.model.refusals(token) for token in self.tokens}
        turned = [token for token in self.tokens if token.was_good is bool(refused[token])]
        good = [token for token in self.tokens if not refused[token]]
        chosen = self._sample(turned, TURNED_MAX) + self._sample(good, GOOD_MAX) + self._sample(self.tokens, ANY_MAX)
        for token in chosen:
            refusals = refused[token]
            token.was_good = not refusals
            kind = self.random.choice(("get", "put", "delete", "scan", "who"))
            who = f"{token.subject} of {token.home.id} in {token.space.id}, {kind}"
            found = await getattr(self, f"_try_{kind}")(token, refusals, who)
            self.counts["tried"] += 1
            self.counts["tried and accepted" if found is None else f"tried and {found}"] += 1

    async def _tried(self, token: Token, method: str, request: Any, refusals: set[str], who: str) -> Any:
        """Make a call and compare how it ends; return (reason, answer)."""
        caller = self.server.nobody(token.text)
        try:
            if method == "Scan":
                answer = await caller.pages(caller.key_value.Scan, request)
            else:
                stub = caller.auth if method == "WhoAmI" else caller.key_value
                answer = await caller.call(getattr(stub, method), request)
        except PrefixdbError as failure:
            self._require(failure.reason.name in refusals, who, sorted(refusals) or "an answer", failure.reason.name)
            return failure.reason.name, None
        self._require(not refusals, who, sorted(refusals), "an answer")
        return None, answer

    def _denied(self, token: Token, refusals: set[str], right: str, key: tuple[int, bytes]) -> set[str]:
        """Return why a call for one key is refused."""
        if refusals:
            return refusals
        return set() if self.model.standing(token).may(right, *key) else {"NOT_PERMITTED"}

    async def _try_get(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "r", (database, key))
        found, answer = await self._tried(token, "Get", kv.GetRequest(database=database, key=key), denied, who)
        if found is None:
            wanted = token.space.rows.get((database, key))
            self._require(answer.found is (wanted is not None) and answer.value == (wanted or b""), who, wanted, answer)
        return found

    async def _try_put(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "w", (database, key))
        if token.space.state == m.READ_ONLY and not refusals:
            denied = denied | {"READ_ONLY"}
        self._values += 1
        value = b"%d of %d" % (self._values, token.space.id)
        request = kv.PutRequest(database=database, key=key, value=value)
        found, _ = await self._tried(token, "Put", request, denied, who)
        if found is None:
            token.space.rows[database, key] = value
        return found

    async def _try_delete(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "w", (database, key))
        found, _ = await self._tried(token, "Delete", kv.DeleteRequest(database=database, key=key), denied, who)
        if found is None:
            token.space.rows.pop((database, key), None)
        return found

    async def _try_scan(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, prefix = self.random.choice((0, 1)), self.random.choice((b"", b"a/", b"b"))
        denied = self._denied(token, refusals, "r", (database, prefix))
        request = kv.ScanRequest(database=database, range=kv.KeyRange(prefix=prefix))
        found, pages = await self._tried(token, "Scan", request, denied, who)
        if found is None:
            rows = {row.key: row.value for page in pages for row in page.rows}
            held = token.space.rows.items()
            wanted = {key: value for (at, key), value in held if at == database and key.startswith(prefix)}
            self._require(rows == wanted, who, wanted, rows)
        return found

    async def _try_who(self, token: Token, refusals: set[str], who: str) -> str | None:
        found, answer = await self._tried(token, "WhoAmI", auth.WhoAmIRequest(), refusals, who)
        if found is None:
            standing = self.model.standing(token)
            told = (list(answer.groups), int(answer.guardian), set(answer.privileges), answer.home_namespace_id)
            wanted = (standing.groups, standing.guardian, standing.privileges, token.home.id)
            self._require(told == wanted, who, wanted, told)
        return found

    def _key(self) -> tuple[int, bytes]:
        return self.random.choice((0, 1)), self.random.choice(KEYS)

    # --- private ---------------------------------------------------------------------------------------------------

    async def _act(self, what: str, token: str | None, method: str, request: Any, expected: Any) -> Any:
        """Make a call and compare how it ends; ``expected`` is a reason, a set of them, or nothing for well."""
        wanted = {expected} if isinstance(expected, str) else set(expected or ())
        service, name = method.split(".")
        caller: Caller = self.server.nobody(token)
        self.story.append(what)
        try:
            answer = await caller.call(getattr(getattr(caller, service), name), request)
        except PrefixdbError as failure:
            self._require(failure.reason.name in wanted, what, sorted(wanted) or "an answer", failure.reason.name)
            self.counts[f"{name} {failure.reason.name}"] += 1
            if failure.reason is Reason.BAD_CREDENTIALS:  # How often one may try has tests of its own.
                Throttle.__init__(self.server.app.throttle)
            return None
        self._require(not wanted, what, sorted(wanted), "an answer")
        return answer

    async def _as_guardian(self, home: Space, what: str, method: str, request: Any, expected: Any) -> Any:
        """Have a guardian act whose token was just made."""
        guardian = Guardian.CLUSTER if home.id == 0 else Guardian.NAMESPACE
        token = self.server.token(home.id, subject="operator", groups=(), guardian=guardian)
        return await self._act(f"in {home.id}: {what}", token, method, request, expected)

    def _require(self, right: bool, what: str, wanted: object, found: object) -> None:
        if not right:
            story = "\n  ".join(self.story)
            raise WrongAnswerError(f"seed {self.seed}: {what}: expected {wanted}, was {found}; before:\n  {story}")

    def _token(self, text: str, space: Space, subject: str, home: Space, ttl_s: int, *, keep: bool = True) -> Token:
        expires_ms = (self.model.now_ms // 1000 + ttl_s) * 1000
        kid = self.server.app.authority.keyring.signing_kid
        token = Token(text, space, subject, home, self.model.step, kid, expires_ms)
        if keep:
            self.tokens.append(token)
        return token

    def _drop_some(self) -> None:
        """Forget most of the dead tokens, and the oldest of the others."""
        good = [token for token in self.tokens if not self.model.refusals(token)]
        dead = [token for token in self.tokens if self.model.refusals(token)]
        self.tokens = dead[-TOKENS_MAX // 4 :] + good[-TOKENS_MAX // 2 :]
        self.model.families = self.model.families[-200:]

    def _new_space(self, number: int) -> None:
        self.model.spaces[number] = Space(number, f"space-{number}")

    def _sample(self, among: list[Any], count: int) -> list[Any]:
        return self.random.sample(among, min(count, len(among)))

    def _pick(self, among: list[Any]) -> Any:
        return self.random.choice(among) if among else None

    def _space(self) -> Space:
        """Return a namespace, often namespace 0."""
        return self.random.choice([self.model.zero, *self.model.spaces.values()])

    def _live(self) -> list[Space]:
        return [space for space in self.model.spaces.values() if space.state != m.BANNED]

    def _open_space(self) -> Space:
        """Return a namespace whose guardians can act."""
        space = self._space()
        return self.model.zero if space.state in m.OPEN else space


def ref(space: Space) -> spaces.NamespaceRef:
    """Return what names a namespace in a request."""
    return spaces.NamespaceRef(id=space.id)
