"""How much one stranger may ask of a door: token buckets by name, in the memory of this process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Holds up to `burst` tokens and gains `per_s` a second."""

    per_s: float
    burst: float
    tokens: float
    at: float

    def left(self, now: float) -> float:
        return min(self.burst, self.tokens + max(0.0, now - self.at) * self.per_s)

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self.tokens, self.at = self.left(now), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Buckets:
    """A bucket for each name. The longest unused is forgotten first, and by then is full again unless strangers come by
    thousands a second; those are for the proxy in front."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float], *, most: int = 50_000) -> None:
        self._per_s, self._burst, self._clock, self._most = per_s, burst, clock, most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def spent(self, name: str) -> bool:
        """Whether `take` would refuse; takes nothing."""
        bucket = self._buckets.get(name)
        return bucket is not None and bucket.left(self._clock()) < 1

    def take(self, name: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(name, Bucket(self._per_s, self._burst, self._burst, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket.take(now)


def caller(peer: str | None, headers: Mapping[str, str], proxies: int) -> str:
    """The address that a request comes from. `proxies` of our own stand in front, and each has added to X-Forwarded-For
    whom it was called by: what the caller wrote itself stands before that and is not believed. Of an IPv6 address the
    network counts, since a home has a whole one."""
    told = [one.strip() for one in headers.get("x-forwarded-for", "").split(",") if one.strip()]
    address = told[-proxies] if proxies and len(told) >= proxies else peer or ""
    return ":".join(address.split(":")[:4]) if address.count(":") > 1 else address
