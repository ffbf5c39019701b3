"""What is new, for an open page: the names of the parts to fetch again. The words themselves are never in the stream, so a
page that was away fetches once what many events have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from services.timeline.console.pages import Console
from services.timeline.live import Feed, Sent
from services.timeline.subjects import Listen
from services.timeline.vectors import NotAVector, vector_of
from services.timeline.views import ConversationView, EntryView

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Stream:
    def __init__(self, console: Console, feed: Feed, *, heartbeat_s: float = 15) -> None:
        self._console, self._feed, self._heartbeat = console, feed, heartbeat_s

    def routes(self) -> list[BaseRoute]:
        return [Route("/console/stream", self._console._signed(self.stream), methods=["GET"])]

    async def stream(self, request: Request, signed: object) -> Response:
        found = await self._console.sessions.signed(request.cookies, "")
        assert found
        try:
            since = vector_of(request.headers["last-event-id"]) if request.headers.get("last-event-id") else None
        except NotAVector:
            since = None
        stream = self._feed.open(found.principal.tenant, Listen(tenant=True), since)
        wanted = request.query_params.get("conversation")

        async def events() -> AsyncIterator[bytes]:
            async for batch in stream.batches(self._heartbeat):
                yield told(batch, wanted)

        return StreamingResponse(events(), media_type="text/event-stream", headers=HEADERS)


def told(batch: Iterable[Sent], conversation: str | None) -> bytes:
    """One message a name, however many events there were; the last id stands on the last of them."""
    names: set[str] = set()
    last: str | None = None
    for sent in batch:
        last = sent.id or last
        for push in sent.item.pushes if sent.item else ():
            names |= _names(push.event, push.view, conversation)
        if sent.push and sent.push.event == "reset":
            names.add("reload")
    identity = f"id: {last}\n".encode() if last else b""
    lines = [f"event: {name}\ndata: \n\n".encode() for name in sorted(names)] or [b"event: beat\ndata: \n\n"]
    return b"".join(lines[:-1]) + identity + lines[-1]


def _names(event: str, view: object, conversation: str | None) -> set[str]:
    match view:
        case ConversationView(id=found):
            return {"list", "thread"} if conversation in (found, *view.head.absorbed) else {"list"}
        case EntryView(conversation_id=found) if found is not None and found == conversation:
            return {"list", "thread"}
        case EntryView():
            return {"list"}
    return {"list", "thread"} if event in ("removed", "customer") else set()
