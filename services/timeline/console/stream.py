"""What is new, for an open page: the names of the parts to fetch again. The words themselves are never in the stream, so a
page that was away fetches once what many events have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from services.timeline.console.entrance import Entrance
from services.timeline.console.session import Signed
from services.timeline.live import Feed, Sent
from services.timeline.reader import Reader
from services.timeline.subjects import Listen
from services.timeline.vectors import NotAVector, Vector, vector_of
from services.timeline.views import ConversationView, EntryView

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Stream:
    def __init__(self, reader: Reader, feed: Feed, *, heartbeat_s: float) -> None:
        self._reader, self._feed, self._heartbeat = reader, feed, heartbeat_s

    def routes(self, door: Entrance) -> list[BaseRoute]:
        return [Route("/console/stream", door.signed(self.stream), methods=["GET"])]

    async def stream(self, request: Request, signed: Signed) -> Response:
        tenant, wanted = signed.principal.tenant, request.query_params.get("conversation")
        shown = {wanted} if wanted else set()
        if wanted and (row := await self._reader.conversation(tenant, wanted)):
            shown |= {row.id, *row.head.absorbed}
        stream = self._feed.open(tenant, Listen(tenant=True), _way_back(request))

        async def events() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n\n"
            async for batch in stream.batches(self._heartbeat):
                shown.update(absorbed(batch, shown))
                yield told(batch, shown)

        return StreamingResponse(events(), media_type="text/event-stream", headers=HEADERS)


def _way_back(request: Request) -> Vector | None:
    """Where the browser was: its stream, else its page. What is no such place is a new beginning."""
    try:
        given = request.headers.get("last-event-id") or request.query_params.get("since")
        return vector_of(given) if given else None
    except NotAVector:
        return None


def absorbed(batch: Iterable[Sent], shown: Collection[str]) -> set[str]:
    """Conversations that became part of those that are shown."""
    views = [push.view for sent in batch for push in (sent.item.pushes if sent.item else ())]
    return {name for view in views if isinstance(view, ConversationView) and view.id in shown for name in view.head.absorbed}


def told(batch: Iterable[Sent], shown: Collection[str]) -> bytes:
    """One message a name, however many events there were; the last id stands on the last of them."""
    names: set[str] = set()
    last: str | None = None
    for sent in batch:
        last = sent.id or last
        for push in sent.item.pushes if sent.item else ():
            names |= _names(push.event, push.view, shown)
        if sent.push and sent.push.event == "reset":
            names |= {"list", "thread"}
    identity = f"id: {last}\n".encode() if last else b""
    lines = [f"event: {name}\ndata: \n\n".encode() for name in sorted(names)] or [b"event: beat\ndata: \n\n"]
    return b"".join(lines[:-1]) + identity + lines[-1]


def _names(event: str, view: object, shown: Collection[str]) -> set[str]:
    match view:
        case ConversationView(id=found):
            return {"list", "thread"} if found in shown or view.head.into in shown else {"list"}
        case EntryView(conversation_id=found) if found is not None and found in shown:
            return {"list", "thread"}
        case EntryView():
            return {"list"}
    return {"list", "thread"} if event in ("removed", "customer") else set()


__all__ = ["Stream", "absorbed", "told"]
