"""The console's routes: every state is an address, and a fragment is the same template as its page's part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.timeline.console.backends import Backends
from services.timeline.console.cases import Cases
from services.timeline.console.commands import Commands
from services.timeline.console.dead import Dead
from services.timeline.console.entrance import Entrance
from services.timeline.console.inbox import Lists
from services.timeline.console.session import Sessions
from services.timeline.console.stream import Stream
from services.timeline.live import Feed
from services.timeline.reader import Reader

PARTS = ("legs", "bar", "panel", "queue")


def routes(
    reader: Reader, feed: Feed, sessions: Sessions, backends: Backends, *, demo_key: str = "", heartbeat_s: float = 15
) -> list[BaseRoute]:
    """What it shows comes from the reader and the feed, what it does goes through the backends to the owner of the state."""
    door, lists = Entrance(sessions, demo_key=demo_key), Lists(reader, backends, feed)
    cases = Cases(reader, backends, lists)
    return [
        *door.routes(),
        Route("/inbox", door.signed(lists.inbox), methods=["GET"]),
        Route("/inbox/rows", door.signed(lists.rows), methods=["GET"]),
        Route("/inbox/views", door.signed(lists.views), methods=["GET"]),
        Route("/c/{id}", door.signed(cases.conversation), methods=["GET"]),
        Route("/c/{id}/details", door.signed(cases.conversation), methods=["GET"]),
        *(Route(f"/c/{{id}}/{part}", door.signed(cases.part(f"_{part}.html")), methods=["GET"]) for part in PARTS),
        Route("/c/{id}/ids", door.signed(cases.who), methods=["GET"]),
        *Commands(cases, backends).routes(door),
        *Dead(reader, backends, lists).routes(door),
        *Stream(reader, feed, heartbeat_s=heartbeat_s).routes(door),
        Mount("/static", _Cached(StaticFiles(directory=Path(__file__).parent / "static"))),
    ]


class _Cached:
    """Static files change with the version of the page that names them; an hour is short enough for a deployment."""

    def __init__(self, app: StaticFiles) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def cached(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"public, max-age=3600")]
            await send(message)

        await self._app(scope, receive, cached)
