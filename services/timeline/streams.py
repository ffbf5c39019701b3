"""`GET /v1/stream`: server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse

from services.common.auth import Principal
from services.common.errors import Away, Problem
from services.common.logs import log
from services.timeline.access import Access
from services.timeline.live import Feed, Stream
from services.timeline.settings import TimelineSettings
from services.timeline.subjects import Listen
from services.timeline.vectors import NotAVector, Vector, vector_of

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
Names = Annotated[list[str] | None, Query(max_length=50)]


def routes(feed: Feed, access: Access, settings: TimelineSettings) -> APIRouter:
    router = APIRouter(prefix="/v1")
    reading = Depends(access.requires("read", "agent"))

    @router.get("/stream", response_class=StreamingResponse)
    async def stream(
        customer: str | None = None,
        conversation: str | None = None,
        queue: Names = None,
        agent: Names = None,
        identifier: Names = None,
        tenant: bool = False,
        since: str | None = None,
        last_event_id: Annotated[str | None, Header()] = None,
        principal: Principal = reading,
    ) -> StreamingResponse:
        """What happens from now on, or since `Last-Event-ID` (or `since`, a page's `live`), without a gap. Events: `entry`,
        `revised`, `removed`, `customer`, `conversation`, `typing`, `reset` (read your page again), and, before the
        end, `shed` or `renew` (connect again). Every id is a place to come back to, for three days."""
        listen = Listen(customer, conversation, tuple(queue or ()), tuple(agent or ()), tuple(identifier or ()), tenant=tenant)
        if listen.empty:
            raise Problem(422, "subject_missing", "Name a customer, conversation, queue, agent or identifier, or tenant=1.")
        opened = feed.open(principal.tenant, listen, way_back(last_event_id or since))
        return StreamingResponse(wire(opened, settings), headers=HEADERS, media_type="text/event-stream")

    return router


def way_back(text: str | None) -> Vector | None:
    """Raises Problem 422."""
    try:
        return vector_of(text) if text else None
    except NotAVector as error:
        raise Problem(422, "event_id_invalid", "Last-Event-ID is no id of this stream.") from error


async def wire(stream: Stream, settings: TimelineSettings) -> AsyncIterator[bytes]:
    """What goes to the client. It waits while the client's buffers are full, and the stream counts what piles up."""
    yield b"retry: 1000\n\n"
    batches = stream.batches(settings.heartbeat_s, settings.stream_max_s)
    try:
        async for batch in batches:
            yield b"".join(sent.wire() for sent in batch)
    except Away as error:  # the past cannot be read now; the client comes back with the id it has
        log().warning("stream_ends", part=error.part)
    finally:
        await batches.aclose()
