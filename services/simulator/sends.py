"""What the platforms were asked to send, and the faults that were ordered: shared by all stand-ins."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Fault = Literal["lost_answer", "error_500", "rate_limit", "window_closed", "token_expired", "rejected"]


@dataclass(frozen=True, slots=True)
class Taken:
    """A send that a platform accepted. `reference` is the sender's own id, where the platform carries one."""

    platform: str
    account: str
    to: str
    id: str
    reference: str | None
    at: float
    body: Mapping[str, Any]


@dataclass
class Sends:
    taken: list[Taken] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    _faults: defaultdict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def order(self, platform: str, fault: Fault, times: int = 1) -> None:
        """The next `times` sends to this platform meet this fault."""
        self._faults[platform] += [fault] * times

    def fault(self, platform: str) -> Fault | None:
        self.calls[platform] += 1
        return self._faults[platform].pop(0) if self._faults[platform] else None

    def take(
        self, platform: str, account: str, to: str, identifier: str, reference: str | None, body: Mapping[str, Any]
    ) -> Taken:
        taken = Taken(platform, account, to, identifier, reference, time.time(), body)
        self.taken.append(taken)
        return taken

    def wrote(self, platform: str, person: str) -> None:
        """The person wrote to us just now: a window opens."""
        self._last[platform, person] = time.time()

    def window_open(self, platform: str, person: str, hours: float = 24) -> bool:
        last = self._last.get((platform, person))
        return last is not None and time.time() - last < hours * 3600

    def above_one(self) -> dict[str, int]:
        """What a platform took more than once, by our reference, or by its words where the platform carries none: each is a
        message that a customer read twice."""
        counted = Counter(f"{t.platform}:{t.to}:{t.reference or _words(t.body)}" for t in self.taken)
        return {reference: times for reference, times in counted.items() if times > 1}


def _words(body: Mapping[str, Any]) -> str:
    """The text of a send, wherever the platform has it."""
    inner = body.get("message")
    return str(inner.get("text") if isinstance(inner, dict) else inner or body.get("text") or body.get("subject") or "")
