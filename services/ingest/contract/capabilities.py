"""What a channel can carry, as data: the core splits, refuses, waits and hands over by this."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from services.common.events import Action, PartKind
from services.common.identifiers import Visibility


@dataclass(frozen=True)
class Can:
    """One kind of part that a leg carries, and how much of it: a text of `size` in `unit`, a file of `mb` and one of
    `types` (empty: any) with a `caption` so long, up to `choices` buttons."""

    kind: PartKind
    size: int | None = None
    unit: Literal["chars", "utf16", "bytes"] = "chars"
    mb: float | None = None
    types: tuple[str, ...] = ()
    caption: int = 0
    choices: int | None = None


@dataclass(frozen=True)
class Window:
    """We may write freely for so long after the person wrote; `messages` caps how often; outside only `outside` works."""

    length: timedelta
    outside: Action | None = None
    messages: int | None = None


@dataclass(frozen=True)
class Rate:
    per_second: float
    of: Literal["account", "thread"] = "account"


@dataclass(frozen=True)
class Leg:
    """A kind of thread on this channel, and what it can carry. What it receives is not declared: the fixtures show it.
    `replies_only`: we cannot start a thread here."""

    visibility: Visibility
    sends: tuple[Can, ...] = ()
    window: Window | None = None
    rates: tuple[Rate, ...] = ()
    replies_only: bool = False


@dataclass(frozen=True)
class Handoff:
    """A private leg that the platform itself opens from a public item, for the same subject."""

    public: str
    private: str
    within: timedelta | None = None
    once: bool = True
