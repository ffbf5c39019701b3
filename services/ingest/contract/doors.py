"""How things come in: the doors that a channel declares and the core opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Protocol

from services.ingest.contract.account import A, A_contra
from services.ingest.contract.inputs import Raw
from services.ingest.contract.sending import Request


@dataclass(frozen=True)
class Reply:
    """What the provider gets. Sent only after the input is durably on the log."""

    status: int = 200
    body: bytes = b""
    media_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


class Scheme(Protocol):
    """Proves that the provider sent a request. Pure, over raw bytes, constant time."""

    def check(self, account: Any, raw: Raw) -> None:
        """Return, or raise `Refused`. Must try every value of a rotating secret. Must not parse the body first."""

    def sign(self, account: Any, raw: Raw) -> Raw:
        """The same request as the provider would have signed it: for the kit only."""


PLAIN = Reply()


def accepted(account: Any, raw: Raw) -> Reply:
    return PLAIN


@dataclass(frozen=True)
class Webhook(Generic[A_contra]):
    """The provider calls us. `handshake` answers unsigned questions and reaches no log; `reply` answers verified ones."""

    scheme: Scheme
    handshake: Callable[[A_contra, Raw], Reply | None] | None = None
    reply: Callable[[A_contra, Raw], Reply] = accepted
    answer_within: timedelta = timedelta(seconds=5)
    name: str = "webhook"


@dataclass(frozen=True)
class Step:
    """Where a poller stands: the cursor to keep once this page is on the log, and whether to ask again at once."""

    cursor: str | None
    again: bool = False


@dataclass(frozen=True)
class Poll(Generic[A_contra]):
    """We ask. Both functions are pure; the core calls, keeps the cursor per account and honours cost and budget.
    `until_known`: newest first without a since, so pages are followed until one holds nothing new."""

    request: Callable[[A_contra, str | None], Request]
    after: Callable[[str | None, Raw], Step]
    every: timedelta
    cost: int = 0
    budget_per_day: int | None = None
    until_known: bool = False
    name: str = "poll"


def no_gap(raw: Raw) -> bool:
    return False


@dataclass(frozen=True)
class Stream(Generic[A_contra]):
    """We listen. A frame is one `Raw`; its cursor is stored after the frame is on the log. After `silence` we reconnect.
    `catch_up` is read after every connect where the provider does not replay; `gap`: it says that the cursor is too old."""

    connect: Callable[[A_contra, str | None], Request]
    cursor: Callable[[Raw], str | None]
    silence: timedelta = timedelta(seconds=60)
    catch_up: Poll[A_contra] | None = None
    gap: Callable[[Raw], bool] = no_gap
    name: str = "stream"


@dataclass(frozen=True)
class Mail:
    """SMTP. `Raw.body` is the MIME message, `Raw.headers` the envelope (`mail-from`, `rcpt-to`, `auth-results`)."""

    max_bytes: int = 25_000_000
    name: str = "mail"


@dataclass(frozen=True)
class Session(Generic[A_contra]):
    """The customer's browser connects to us. `admit` says who it is, or raises `Refused`; each frame is one `Raw` with that
    identity in its headers."""

    admit: Callable[[A_contra, Raw], Mapping[str, str]]
    reply: Callable[[A_contra, Raw], Reply] = accepted
    max_bytes: int = 32_000
    name: str = "session"


@dataclass(frozen=True)
class Posted:
    """Our own API takes it: the core authenticates the caller and says in the header `hilo-proof` how far it vouches for
    what is said (`signed`: an ingest key or a signature, `browser`: a publishable key that anybody can read)."""

    name: str = "api"


@dataclass(frozen=True)
class Fetched:
    """The answer to a `Fetch`, as a `Raw` of its own."""

    name: str


Door = Webhook[A] | Poll[A] | Stream[A] | Mail | Session[A] | Posted | Fetched
