"""How things are sent: requests as values, and a table that reads the answer. The core owns sockets, clock and retries."""

from __future__ import annotations

import base64
import json as jsonlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Literal
from urllib.parse import urlencode

from services.common.events import Action, Part
from services.ingest.contract.account import A_contra, Secret
from services.ingest.contract.inputs import JSON, Node

Transport = Literal["http", "smtp", "session", "websocket", "sse"]
Then = Literal["nothing", "template", "other_leg", "fix_account", "stop_contact"]


@dataclass(frozen=True)
class Request:
    """Something for the core to send. `url` names the provider's real origin. `idempotent`: the provider drops a second
    one with the same id, so that after a lost answer it may be sent again."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    transport: Transport = "http"
    idempotent: bool = False


def post(
    url: str,
    json: JSON = None,
    *,
    form: Mapping[str, str] | None = None,
    auth: str | None = None,
    headers: Mapping[str, str] | None = None,
    idempotent: bool = False,
) -> Request:
    kind = "application/json" if form is None else "application/x-www-form-urlencoded"
    body = jsonlib.dumps(json) if form is None else urlencode(form)
    sent = {"content-type": kind, **({"authorization": auth} if auth else {}), **(headers or {})}
    return Request("POST", url, sent, body.encode(), idempotent=idempotent)


def get(url: str, *, auth: str | None = None) -> Request:
    return Request("GET", url, {"authorization": auth} if auth else {})


def bearer(token: Secret) -> str:
    return f"Bearer {token.reveal()}"


def basic(user: str, password: Secret) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str) -> JSON:
        """The value at `path` of a JSON answer; None where there is none, whatever came back."""
        try:
            return Node(jsonlib.loads(self.body)).get(path)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Outgoing:
    """One thing to send, already checked against window and visibility, split and with its media made reachable.

    `id` is ours and the same for every attempt (identifiers.piece_id): idempotency key or correlation. `target` is the
    provider's id of the message to edit, delete or react to. `context` is what the newest message of the thread came with,
    and `age` how old that is. `opens`: the public item that this first private message of a handoff answers."""

    id: str
    leg: str
    thread: str
    part: Part
    action: Action = "message"
    reply_to: str | None = None
    target: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    age: timedelta | None = None
    opens: str | None = None


@dataclass(frozen=True)
class Sent:
    """The provider has it. `id` is None where it says so without naming it (a repeated idempotency key)."""

    id: str | None


@dataclass(frozen=True)
class Retry:
    """Nothing was sent; the same request may be made again after `seconds` (the core backs off when None)."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True)
class Failed:
    """It will never be sent like this. `then` tells the router what may work instead."""

    reason: str
    then: Then = "nothing"


@dataclass(frozen=True)
class Unknown:
    """It may or may not have been sent: the journal keeps it until an echo, a receipt or a reconciler tells."""

    reason: str


Result = Sent | Retry | Failed | Unknown


@dataclass(frozen=True)
class Left:
    """What the provider says is left of our budget; the core slows down before it is gone. `until` is as the provider
    writes it: seconds, Unix time or ISO 8601."""

    calls: int
    until: str | None = None


def left_by(calls: str, until: str) -> Callable[[Response], Left | None]:
    """Read `Left` from two headers."""
    return lambda r: Left(int(r.headers[calls]), r.headers.get(until)) if r.headers.get(calls, "").isdecimal() else None


def retry_after(response: Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdecimal() else None


def successful(response: Response) -> bool:
    return 200 <= response.status < 300


def nothing_left(response: Response) -> Left | None:
    return None


@dataclass(frozen=True)
class Send(Generic[A_contra]):
    """A pure request per action, and a table that reads the answer: provider code or HTTP status to what it means.
    `sent_id` and `error_code` are paths in the JSON answer; `cost` is of one request, in units of `Poll.budget_per_day`."""

    requests: Mapping[Action, Callable[[A_contra, Outgoing], Request]]
    sent_id: str | Callable[[Outgoing, Response], str | None]
    error_code: str = ""
    answers: Mapping[object, Result] = field(default_factory=dict)
    left: Callable[[Response], Left | None] = nothing_left
    cost: int = 0
    ok: Callable[[Response], bool] = successful
    wait: Callable[[Response], float | None] = retry_after


@dataclass(frozen=True)
class Media(Generic[A_contra]):
    """How a media reference becomes bytes, and bytes a reference. Requests only; the core streams, limits and stores.
    `link` is the path of a URL in the JSON answer of `fetch`, to be fetched with the same headers."""

    fetch: Callable[[A_contra, str], Request]
    link: str | Callable[[A_contra, Response], str | None] | None = None
    upload: Callable[[A_contra, Part, bytes], Request] | None = None
    uploaded_id: str = "id"


@dataclass(frozen=True)
class Check(Generic[A_contra]):
    """Whether the account works. 401 and 403 mean broken unless `read` says otherwise."""

    request: Callable[[A_contra], Request]
    read: Callable[[Response], Failed | None] | None = None


@dataclass(frozen=True)
class Renew(Generic[A_contra]):
    """How a short-lived token is renewed. The core asks before it expires, stores it `into` the account's field, and keeps
    the old one until then. `token` and `seconds` are paths in the JSON answer."""

    request: Callable[[A_contra], Request]
    into: str
    token: str = "access_token"  # noqa: S105  # a path in the answer
    seconds: str = "expires_in"
