"""How often: failed sign-ins by name and by address, and requests by principal. In this process, in bounded memory.

Names and addresses come from strangers: they are counted in a fixed number of buckets, so that no flood of new ones
grows the memory or pushes out the count of an old one.
"""

import hashlib
import ipaddress
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from shared.access import Principal, Via
from shared.clock import Clock

NAME_ATTEMPTS: Final = 10
"""A minute, by one name."""
ADDRESS_ATTEMPTS: Final = 60
"""A minute, from one address: a whole shift may sit behind it."""
CODE_ATTEMPTS: Final = 10
"""Login links that were none, a minute, from one address."""
BUCKETS: Final = 4096
MAX_KEYS: Final = 4 * BUCKETS
_SHORT_V6: Final = 64
"""An IPv6 network of this length is one customer."""


class Counts(Storage):
    """Counters that expire on a `Clock`; the one made first makes way when there are MAX_KEYS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}
        super().__init__()

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing here fails."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter, made with this life if there is none."""
        count, until = self._counts.get(key, (0, 0.0))
        now = self._clock.monotonic()
        if until <= now:
            self._counts.pop(key, None)
            count, until = 0, now + expiry
            if len(self._counts) >= MAX_KEYS:
                del self._counts[next(iter(self._counts))]
        self._counts[key] = (count + amount, until)
        return count + amount

    def get(self, key: str) -> int:
        """A counter; 0 if it is over."""
        count, until = self._counts.get(key, (0, 0.0))
        return count if until > self._clock.monotonic() else 0

    def get_expiry(self, key: str) -> float:
        """When a counter is over, in this clock's monotonic time; now if there is none."""
        now = self._clock.monotonic()
        return max(self._counts.get(key, (0, now))[1], now)

    def check(self) -> bool:
        """It is there."""
        return True

    def reset(self) -> int:
        """Forget all."""
        count = len(self._counts)
        self._counts.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget one."""
        self._counts.pop(key, None)


class Limiter:
    """At most so many a minute, under any key."""

    def __init__(self, counts: Counts, clock: Clock, most: int, kind: str) -> None:
        self._item: RateLimitItem = RateLimitItemPerMinute(most)
        self._windows = FixedWindowRateLimiter(counts)
        self._counts, self._clock, self._kind = counts, clock, kind

    def take(self, key: str) -> float:
        """Count one; seconds to wait if it was too many, else 0."""
        return 0.0 if self._windows.hit(self._item, self._kind, key) else self._left(key)

    def full(self, key: str) -> float:
        """Seconds to wait if one more would be too many, else 0. Counts nothing."""
        return 0.0 if self._windows.test(self._item, self._kind, key) else self._left(key)

    def forget(self, key: str) -> None:
        """Begin anew."""
        self._windows.clear(self._item, self._kind, key)

    def _left(self, key: str) -> float:
        until = self._counts.get_expiry(self._item.key_for(self._kind, key))
        return max(0.001, until - self._clock.monotonic())


class Attempts:
    """Sign-ins: every try counts against its address and its name; one that worked clears the name."""

    def __init__(self, clock: Clock) -> None:
        counts = Counts(clock)
        self._names = Limiter(counts, clock, NAME_ATTEMPTS, "name")
        self._addresses = Limiter(counts, clock, ADDRESS_ATTEMPTS, "address")
        self._codes = Limiter(counts, clock, CODE_ATTEMPTS, "code")

    def take(self, name: str, address: str) -> float:
        """Count a try with a password; seconds to wait if it may not be made."""
        return max(self._addresses.take(_network(address)), self._names.take(_bucket(name)))

    def worked(self, name: str) -> None:
        """It was the right password."""
        self._names.forget(_bucket(name))

    def code(self, address: str) -> float:
        """Seconds to wait before another code may be tried from there."""
        return self._codes.full(_network(address))

    def code_failed(self, address: str) -> None:
        """It was no code."""
        self._codes.take(_network(address))


class Requests:
    """How often a principal may ask. The plant's own services are not counted."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._limiter = Limiter(Counts(clock), clock, most, "requests")

    def wait(self, who: Principal) -> float:
        """Count a request; seconds to wait if it was too many. Fits `shared.asgi_access.Access`."""
        return 0.0 if who.via is Via.SERVICE else self._limiter.take(who.name)


def _bucket(text: str) -> str:
    found = hashlib.blake2b(text.encode(errors="replace"), digest_size=4).digest()
    return str(int.from_bytes(found) % BUCKETS)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return _bucket(address)
    if found.version == 6:  # noqa: PLR2004 - IP's own number
        return _bucket(str(ipaddress.ip_network((found, _SHORT_V6), strict=False)))
    return _bucket(address)
