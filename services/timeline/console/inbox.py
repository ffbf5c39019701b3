"""The list of conversations beside everything: its views, its counts, and what every page of the console shows."""

from __future__ import annotations

import asyncio
import time
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response

from services.timeline.console.answers import page
from services.timeline.console.backends import Backends, Colleague
from services.timeline.console.panels import Row, initials, row
from services.timeline.console.render import Words, render, utcnow
from services.timeline.console.session import Signed
from services.timeline.live import Feed
from services.timeline.order import NotACursor, key_of
from services.timeline.reader import Inbox, Reader

VIEWS: tuple[Inbox, ...] = ("mine", "queue", "public", "due")
PAGE = 40
COUNTED = 100
COUNTED_FOR_S = 1.0


class Lists:
    def __init__(self, reader: Reader, backends: Backends, feed: Feed) -> None:
        self._reader, self._backends, self._feed = reader, backends, feed
        self._counts: dict[tuple[str, str | None], tuple[float, dict[str, int]]] = {}

    # -- pages and fragments

    async def inbox(self, request: Request, signed: Signed) -> Response:
        values = await self.common(request, signed)
        return page(render("inbox.html", signed.lang, signed.theme, {**values, "page": None, "pane": "list"}))

    async def rows(self, request: Request, signed: Signed) -> Response:
        """The list. With `keep`, rows keep their places and what is new stands at the end, so that nothing moves under a
        pointer; order comes from here, never from the browser."""
        keep = [one for one in request.query_params.get("keep", "").split(",") if one]
        found = await self._list(request, signed)
        by = {one.id: one for one in found["rows"]}
        if keep:
            found["rows"] = [by[one] for one in keep if one in by] + [one for one in found["rows"] if one.id not in keep]
        values = {**Words(signed, {}, utcnow()).globals(), **found, "current": request.query_params.get("current", "")}
        return page(render("_rows.html", signed.lang, signed.theme, values))

    async def views(self, request: Request, signed: Signed) -> Response:
        counts = await self.counts(signed)
        values = {**Words(signed, {}, utcnow()).globals(), "view": view_of(request), "counts": counts}
        return page(render("_views.html", signed.lang, signed.theme, values))

    # -- what they are made of

    async def common(self, request: Request, signed: Signed) -> dict[str, Any]:
        """What every page shows: the list, the counts, who is signed in. `live` is where its stream goes on."""
        live = self._feed.now()
        agents, counts, found = await asyncio.gather(
            self._backends.agents(signed), self.counts(signed), self._list(request, signed)
        )
        frame = self.frame(request, signed, agents, counts)
        return {**Words(signed, agents, utcnow()).globals(), **found, **frame, "live": live}

    async def rail(self, request: Request, signed: Signed) -> dict[str, Any]:
        """What a page without the list shows."""
        agents, counts = await asyncio.gather(self._backends.agents(signed), self.counts(signed))
        return {**Words(signed, agents, utcnow()).globals(), **self.frame(request, signed, agents, counts)}

    def frame(self, request: Request, signed: Signed, agents: dict[str, Colleague], counts: dict[str, int]) -> dict[str, Any]:
        who = signed.principal
        me = agents.get(who.agent or "")
        name = me.name if me else who.name or who.agent or ""
        path = request.url.path if request.method == "GET" else "/inbox"
        return {
            "counts": counts,
            "me": {"name": name.split(" ")[0], "face": initials(name), "on": me.on if me else None},
            "back": path + (f"?{request.url.query}" if request.method == "GET" and request.url.query else ""),
            "current": "",
            "keys_off": signed.keys_off,
        }

    async def _list(self, request: Request, signed: Signed) -> dict[str, Any]:
        now, view = utcnow(), view_of(request)
        before = request.query_params.get("from", "")
        found = await self._reader.conversations(
            signed.principal.tenant, view, agent=signed.principal.agent, before=cursor_of(before), limit=PAGE
        )
        rows: list[Row] = [row(one, now) for one in found.items]
        return {"view": view, "rows": rows, "more": found.older, "since": before if cursor_of(before) else ""}

    async def counts(self, signed: Signed) -> dict[str, int]:
        """Up to a hundred each: beyond that nobody reads the number. Kept for a moment, since every event asks again."""
        tenant, agent = signed.principal.tenant, signed.principal.agent
        until, known = self._counts.get((tenant, agent), (0.0, {}))
        if time.monotonic() < until:
            return known
        lists = [self._reader.conversations(tenant, view, agent=agent, limit=COUNTED) for view in VIEWS]
        found, letters = await asyncio.gather(asyncio.gather(*lists), self._reader.dead_letters(tenant, limit=COUNTED))
        named = {str(view): len(one.items) for view, one in zip(VIEWS, found, strict=True)} | {"dead": len(letters.items)}
        if len(self._counts) > 1000:
            self._counts.clear()
        self._counts[tenant, agent] = (time.monotonic() + COUNTED_FOR_S, named)
        return named


def view_of(request: Request) -> Inbox:
    wanted = request.query_params.get("view", "queue")
    return next((name for name in get_args(Inbox) if name == wanted and name != "customer"), "queue")


def cursor_of(text: str | None) -> bytes | None:
    """A place in a list; an unreadable one is its beginning."""
    try:
        return key_of(text) if text else None
    except NotACursor:
        return None
