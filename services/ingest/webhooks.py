"""The one webhook route: find the account, read within bounds, handshake, signature, onto the log, answer.

Bare ASGI in front of the FastAPI app, since this is the hot path: the layers of FastAPI and Starlette cost as much again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.common import metrics
from services.common.errors import Away, Poison, Problem
from services.common.logs import log
from services.common.web import bug_response, problem_response, safe
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Channel, Raw, Registry, Reply, Webhook, admit
from services.ingest.intake import Intake
from services.ingest.patience import Patience
from services.ingest.settings import IngestSettings

PREFIX = "/webhooks/"
METHODS = ("GET", "HEAD", "POST")
RETRY_S = 2
PLAIN = Reply()
# The answer to nearly every request, as it goes out.
TAKEN: tuple[Message, Message] = (
    {"type": "http.response.start", "status": 200, "headers": safe(Response()).raw_headers},
    {"type": "http.response.body", "body": b""},
)


class Turned(Exception):
    """The request is answered with this problem; `outcome` is how it is counted."""

    def __init__(self, outcome: str, problem: Problem) -> None:
        super().__init__(outcome)
        self.outcome, self.problem = outcome, problem


def away(outcome: str, detail: str) -> Turned:
    """The provider keeps what it has and tries again."""
    return Turned(outcome, Problem(503, outcome, detail, retry_after=RETRY_S))


def door_of(channel: Channel[Any], name: str | None) -> str | None:
    """The name of the webhook door of an address; without a name in the address it is the channel's first."""
    doors = [door.name for door in channel.doors if isinstance(door, Webhook)]
    if name is None:
        return doors[0] if doors else None
    return name if name in doors else None


def address_of(path: str) -> tuple[str, str, str | None]:
    """Channel, account and door of a path. Raises Turned."""
    match path.removeprefix(PREFIX).split("/"):
        case [channel, account] if channel and account:
            return channel, account, None
        case [channel, account, door] if channel and account and door:
            return channel, account, door
    raise Turned("unknown_account", Problem(404, "http", "Not Found"))


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, patience: Patience) -> bytes:
    """The body, in pieces and never more than `limit` of it. Raises Turned: 413 before it is read, where its length is said;
    408 for one that does not come; 415 for a compressed one, which could be a thousand times as long as it looks."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Turned("encoded", Problem(415, "content_encoding", "Send the body without Content-Encoding."))
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size, more = 0, True
    try:
        with patience:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Turned("disconnected", Problem(400, "disconnected", "The body did not arrive."))
                pieces.append(message.get("body", b""))
                size, more = size + len(pieces[-1]), message.get("more_body", False)
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Turned("slow", Problem(408, "body_slow", "The body did not arrive in time.")) from None
    return b"".join(pieces) if len(pieces) > 1 else pieces[0]


def _too_large(limit: int) -> Turned:
    return Turned("too_large", Problem(413, "body_too_large", f"The body may have {limit} bytes."))


def raw_of(scope: Scope, headers: Mapping[str, str], body: bytes, door: str, public_url: str) -> Raw:
    """The request as the provider made it: its own address, which a signature may cover, and not what a proxy or the Host
    header say it is."""
    path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return Raw(
        body=body,
        headers=headers,
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        method=scope["method"],
        url=f"{public_url}{path}?{query}" if query else public_url + path,
        received_at=datetime.now(UTC),
        door=door,
    )


def headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Repeated headers joined by commas, as HTTP means them: a second signature does not replace the first unseen. Headers
    named `hilo-` are what the core says to channels; nobody says them from outside."""
    found: dict[str, str] = {}
    for key, value in pairs:
        if not key.startswith(b"hilo-"):
            name, text = key.decode("latin-1"), value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def proven(account: Connected, raw: Raw) -> bool:
    """Whether the provider has signed this, asked again after the channel's own handshake or reply has failed."""
    try:
        door = account.channel.door(raw.door)
        assert isinstance(door, Webhook)
        door.scheme.check(account.account, raw)
    except Exception:
        return False
    return True


class Webhooks:
    """The route. At most `in_flight` requests are worked on at once; one more is turned away before its body is read."""

    def __init__(self, settings: IngestSettings, registry: Registry, accounts: Accounts, intake: Intake) -> None:
        self._settings, self._registry, self._accounts, self._intake = settings, registry, accounts, intake
        self._patience = Patience(settings.webhook_body_s)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(scope, receive)
        if response is None:
            for message in TAKEN:
                await send(message)
        else:
            await safe(response)(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive) -> Response | None:
        """None is TAKEN. Never 2xx for what is not on the log, but for a handshake, which tells us nothing."""
        began, label = time.perf_counter(), "unknown"
        self._in_flight += 1
        try:
            name, account, door = address_of(scope["path"])
            label = name if name in self._registry.channels or name in self._registry.broken else label
            if scope["method"] not in METHODS:
                raise Turned("method", Problem(405, "http", "Method Not Allowed"))
            if self._in_flight > self._settings.webhook_in_flight:
                raise away("overload", "There is more to do than can be done at once; try again.")
            return await self._taken(scope, receive, name, account, door)
        except Turned as turned:
            metrics.INPUTS.labels(label, "webhook", turned.outcome).inc()
            return problem_response(turned.problem)
        except Exception as error:
            return bug_response(scope["path"], error)
        finally:
            self._in_flight -= 1
            metrics.child(metrics.ANSWER_SECONDS, label).observe(time.perf_counter() - began)

    async def _taken(self, scope: Scope, receive: Receive, name: str, account: str, door: str | None) -> Response | None:
        sharing, door_name = await self._find(name, account, door)
        headers = headers_of(scope["headers"])
        body = await read_body(receive, headers, self._settings.webhook_max_bytes, self._patience)
        raw = raw_of(scope, headers, body, door_name, self._settings.public_url)
        reply, keep = self._admitted(sharing[0], raw)
        if keep:
            await self._kept(sharing, raw)
        else:
            outcome = "refused" if reply.status == 401 else "handshake"
            metrics.INPUTS.labels(name, door_name, outcome).inc()
        if reply == PLAIN:
            return None
        if reply.status == 401:
            return problem_response(Problem(401, "signature_wrong", reply.body.decode(errors="replace")))
        return Response(reply.body, reply.status, dict(reply.headers), reply.media_type if reply.body else None)

    async def _find(self, name: str, account: str, door: str | None) -> tuple[Sequence[Connected], str]:
        """The accounts behind the address and the door's name. Raises Turned."""
        if name in self._registry.broken:
            raise away("broken", "This channel cannot be loaded at the moment; try again.")
        try:
            sharing = await self._accounts.sharing(name, account)
        except Away as error:
            raise away("away", f"The {error.part} does not answer; try again.") from error
        except AccountBroken as error:
            raise away("broken", "This account cannot be used at the moment; try again.") from error
        found = door_of(sharing[0].channel, door) if sharing else None
        if found is None:
            raise Turned("unknown_account", Problem(404, "not_found", "There is no such account or door."))
        return sharing, found

    def _admitted(self, account: Connected, raw: Raw) -> tuple[Reply, bool]:
        """The reply, and whether the input is to be kept. Where the channel itself fails, what is proven is kept and confirmed
        plainly; what could not be verified is neither. Raises Turned."""
        try:
            verdict = admit(account.channel, account.account, raw)
            return verdict.reply, verdict.keep
        except Exception as error:
            metrics.CHANNEL_BUGS.labels(account.channel.name).inc()
            log().error("door_bug", channel=account.channel.name, door=raw.door, exc_type=type(error).__name__, exc_info=error)
            if proven(account, raw):
                return Reply(), True
            raise away("channel_bug", "This failed on our side and was recorded; try again.") from error

    async def _kept(self, sharing: Sequence[Connected], raw: Raw) -> None:
        try:
            await self._intake.take(sharing, raw)
        except Away as error:
            raise away("away", f"The {error.part} does not answer; try again.") from error
        except Poison as error:
            raise Turned("too_large", Problem(413, "body_too_large", "This is larger than can be kept.")) from error
