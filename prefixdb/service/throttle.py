"""How fast passwords may be tried: a growing delay for each member and for each address.

A try is counted when it begins, so two hundred at once are not two hundred free ones. The first failures cost nothing,
for people mistype; each further one makes everybody who says that name, or comes from that address, wait twice as long,
also with the right password: an answer during the delay would tell which password is right. A success forgets what was
counted against the member, never what was counted against the address.

Whoever keeps failing at somebody's name from elsewhere must not lock that somebody out. So an address that a member
has logged in from has a count of its own for that member, at the same pace, and failures from other addresses do not
touch it.

Names are counted as they were said, whether anybody has them or not: the delay tells nothing about who exists. Both
tables are bounded, and what was quiet for ``FORGOTTEN_S`` is forgotten.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from prefixdb.errors import PrefixdbError, Reason, error

FORGOTTEN_S = 15 * 60.0
"""A count is forgotten when nothing failed for so long. Longer than the longest delays, so that waiting for it gives
nobody more tries than the delays do."""

BUSY_RETRY_S = 1.0
"""What is told to a try that is refused because others of the same name or address are under way."""

ENTRIES_MAX = 65_536
"""Counts kept of each kind, about 10 MiB; the one that was touched longest ago goes first."""

_IPV6_SITE_BITS = 64
"""What one customer is given at least: all of it is one address here."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How failures turn into delay.

    free: failures that cost no delay, and tries that may be under way at once.
    delay_s_max: the delay begins with a second and doubles up to this.
    """

    free: int
    delay_s_max: float

    def delay_s(self, failures: int) -> float:
        """Return the delay after so many failures."""
        beyond = failures - self.free
        return 0.0 if beyond <= 0 else min(self.delay_s_max, 2.0 ** min(beyond - 1, 30))


MEMBER_PACE = Pace(free=5, delay_s_max=60.0)
ADDRESS_PACE = Pace(free=20, delay_s_max=30.0)
"""Many people share an address, so it has more free tries; an attacker's many names share it too."""


class Throttle:
    """Counts tries. Belongs to the event loop's thread.

    Args:
        monotonic: time in seconds that never runs backwards.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._members = _Table(MEMBER_PACE, monotonic)
        self._addresses = _Table(ADDRESS_PACE, monotonic)
        self._usual: OrderedDict[bytes, None] = OrderedDict()

    @contextlib.contextmanager
    def attempt(self, home: str, user: str, peer: str) -> Iterator[Attempt]:
        """Let one password be tried, or refuse it.

        The caller says ``right`` or ``wrong`` to the attempt; when neither was found out, it counts for nothing.

        Args:
            home: the namespace as the caller named it.
            user: the name as the caller gave it.
            peer: where the caller comes from, as gRPC says it.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, with the time to wait.
        """
        # Hashed, so that a name takes the same room however long it is, and none can be read in a memory dump.
        said = f"{len(home)}:{home}{user}".encode("utf-8", "surrogatepass")
        name, place = hashlib.sha256(said).digest(), address_of(peer).encode()
        here = hashlib.sha256(name + place).digest()
        member = self._members.entry(here if here in self._usual else name)
        address = self._addresses.entry(place)
        wait_s = max(self._members.wait_s(member), self._addresses.wait_s(address))
        if wait_s > 0:
            raise _refusal(wait_s)
        attempt = Attempt()
        self._members.begin(member)
        self._addresses.begin(address)
        try:
            yield attempt
        finally:
            self._members.end(member, failed=attempt.outcome is False, cleared=attempt.outcome is True)
            self._addresses.end(address, failed=attempt.outcome is False)
            if attempt.outcome is True:
                self._remember(here)

    def _remember(self, here: bytes) -> None:
        """Note that a member has logged in from an address."""
        self._usual[here] = None
        self._usual.move_to_end(here)
        if len(self._usual) > ENTRIES_MAX:
            self._usual.popitem(last=False)


class Attempt:
    """One try, while it lasts. ``outcome``: True when the password was right, False when not, None while unknown."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        self.outcome: bool | None = None

    def right(self) -> None:
        """The password was right."""
        self.outcome = True

    def wrong(self) -> None:
        """The password was wrong, or there is nobody of that name."""
        self.outcome = False


def address_of(peer: str) -> str:
    """Return what counts as one address: an IPv4 address, the /64 of an IPv6 address, or all local sockets."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return "local" if kind.startswith("unix") else "unknown"
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, _IPV6_SITE_BITS), strict=False))
    return str(address)


class _Entry:
    """What is known of one name or address."""

    __slots__ = ("blocked_until", "failures", "key", "running", "touched")

    def __init__(self, key: bytes, now: float) -> None:
        self.key = key
        self.failures = 0
        self.running = 0
        self.blocked_until = now
        self.touched = now


class _Table:
    """The entries of one kind, the one that was touched longest ago first."""

    def __init__(self, pace: Pace, monotonic: Callable[[], float]) -> None:
        self._pace = pace
        self._monotonic = monotonic
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: bytes) -> _Entry:
        """Return the entry of ``key``, a new one when there is none or it is long ago. It is kept by ``begin`` only."""
        now = self._monotonic()
        found = self._entries.get(key)
        if found is None or (not found.running and now - found.touched >= FORGOTTEN_S):
            return _Entry(key, now)
        return found

    def wait_s(self, entry: _Entry) -> float:
        """Return how long the next try has to wait, 0 when it may begin."""
        wait_s = entry.blocked_until - self._monotonic()
        if wait_s > 0:
            return wait_s
        # Once the free failures are used up, one at a time: what is under way may be the next failure.
        return BUSY_RETRY_S if entry.running and entry.failures + entry.running >= self._pace.free else 0.0

    def begin(self, entry: _Entry) -> None:
        """Count a try that begins."""
        entry.running += 1
        self._entries[entry.key] = entry
        self._entries.move_to_end(entry.key)
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def end(self, entry: _Entry, *, failed: bool, cleared: bool = False) -> None:
        """Count its end."""
        entry.running -= 1
        if failed:
            now = self._monotonic()
            entry.failures += 1
            entry.touched = now
            entry.blocked_until = now + self._pace.delay_s(entry.failures)
        elif cleared:
            entry.failures, entry.blocked_until = 0, self._monotonic()
        if not entry.running and not entry.failures and self._entries.get(entry.key) is entry:
            del self._entries[entry.key]


def _refusal(wait_s: float) -> PrefixdbError:
    return error(
        Reason.RATE_LIMITED,
        "Too many logins failed; wait before trying again.",
        retry_after_ms=max(1, math.ceil(wait_s * 1000)),
    )
