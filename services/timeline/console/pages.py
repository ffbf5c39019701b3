"""The console's pages and their fragments. Every state is an address; a fragment is the same template as its page's part."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.common.errors import Away
from services.common.events import Head
from services.timeline.console.backends import Backends
from services.timeline.console.panels import clocks, initials, name_of, panel, row
from services.timeline.console.places import NOTE, Place, chosen, places
from services.timeline.console.render import Words, render, utcnow
from services.timeline.console.session import COOKIE, Sessions, Signed, language, theme
from services.timeline.console.threads import SAID, Block, thread
from services.timeline.order import key_of
from services.timeline.pages import Span
from services.timeline.reader import Inbox, Reader
from services.timeline.views import ChannelView, ConversationView, DeadView, EntryView

VIEWS: tuple[Inbox, ...] = ("mine", "queue", "public", "due")
CONTENT_SECURITY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": CONTENT_SECURITY, "cache-control": "no-store", "vary": "cookie"}
PAGE = 60
PREFERRED = ("whatsapp", "telegram", "webchat")
COUNTED = 100


@dataclass(frozen=True, slots=True)
class Case:
    """An open page: a conversation with what its templates ask for."""

    id: str
    view: ConversationView
    who: str
    face: str
    head: Head
    channels: int
    agent: str | None
    mine: bool
    blocks: list[Block]
    older: str | None
    saw: str

    @property
    def first(self) -> str:
        return self.who.split(" ")[0] if self.who else "…"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a command was not carried out, shown where it was given."""

    kind: str
    at: str = "composer"
    detail: str = ""
    found: tuple[Mapping[str, Any], ...] = ()
    version: int = 0


Page = Callable[[Request, Signed], Awaitable[Response]]


class Console:
    """The routes. What it reads comes from the timeline's reader, what it does goes through `Backends`."""

    def __init__(self, reader: Reader, sessions: Sessions, backends: Backends, *, demo_key: str = "") -> None:
        self.reader, self.sessions, self.backends, self._demo_key = reader, sessions, backends, demo_key

    def routes(self) -> list[BaseRoute]:
        static = StaticFiles(directory=Path(__file__).parent / "static")
        return [
            Route("/", self.home, methods=["GET"]),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/lang/{lang}", self.choose_language, methods=["GET"]),
            Route("/inbox", self._signed(self.inbox), methods=["GET"]),
            Route("/inbox/rows", self._signed(self.rows), methods=["GET"]),
            Route("/inbox/views", self._signed(self.views), methods=["GET"]),
            Route("/c/{id}", self._signed(self.conversation), methods=["GET"]),
            Route("/c/{id}/details", self._signed(self.conversation), methods=["GET"]),
            Route("/c/{id}/thread", self._signed(self.fragment("_legs.html")), methods=["GET"]),
            Route("/c/{id}/bar", self._signed(self.fragment("_bar.html")), methods=["GET"]),
            Route("/c/{id}/side", self._signed(self.fragment("_side.html")), methods=["GET"]),
            Route("/c/{id}/ids", self._signed(self.identifiers), methods=["GET"]),
            Route("/operations/dead", self._signed(self.dead), methods=["GET"]),
            Route("/operations/dead/{id}", self._signed(self.dead), methods=["GET"]),
            Mount("/static", _Cached(static)),
        ]

    # -- entrance

    async def home(self, request: Request) -> Response:
        return RedirectResponse("/inbox?view=queue", 303)

    async def login(self, request: Request) -> Response:
        bad = False
        if request.method == "POST":
            if not same_origin(request):
                return Response(status_code=403)
            key = str((await request.form()).get("key", "")).strip()
            cookie = self.sessions.sealed(key)
            if await self.sessions.signed({COOKIE: cookie}, ""):
                answer = RedirectResponse("/inbox?view=queue", 303)
                secure = request.url.scheme == "https"
                answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure, max_age=7 * 86400)
                return answer
            bad = True
        lang = language(request.cookies, request.headers.get("accept-language", ""))
        words = _plain(lang)
        values = {"t": words, "demo_key": self._demo_key, "bad": bad}
        return page(render("login.html", lang, theme(request.cookies), values), 401 if bad else 200)

    async def logout(self, request: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def choose_language(self, request: Request) -> Response:
        back = request.query_params.get("back", "/inbox")
        answer = RedirectResponse(back if back.startswith("/") and not back.startswith("//") else "/inbox", 303)
        if request.path_params["lang"] in ("es", "en"):
            answer.set_cookie("lang", request.path_params["lang"], samesite="strict", max_age=365 * 86400)
        return answer

    def _signed(self, handler: Page) -> Callable[[Request], Awaitable[Response]]:
        """Only for who is signed in; a page leads to the entrance, a fragment makes its page do so."""

        async def run(request: Request) -> Response:
            signed = await self.sessions.signed(request.cookies, request.headers.get("accept-language", ""))
            if signed is None:
                if "hx-request" in request.headers or "x-part" in request.headers:
                    return Response(status_code=401, headers={"hx-redirect": "/login"})
                return RedirectResponse("/login", 303)
            return await handler(request, signed)

        return run

    def commanding(self, handler: Page) -> Callable[[Request], Awaitable[Response]]:
        """The same for what changes something: only from our own pages."""
        signed = self._signed(handler)

        async def run(request: Request) -> Response:
            return await signed(request) if same_origin(request) else Response(status_code=403)

        return run

    # -- the inbox

    async def inbox(self, request: Request, signed: Signed) -> Response:
        values = await self.common(request, signed)
        return page(render("inbox.html", signed.lang, signed.theme, {**values, "page": None, "pane": "list"}))

    async def rows(self, request: Request, signed: Signed) -> Response:
        """The list. With `keep`, rows keep their places and what is new stands at the end, so that nothing moves under a
        pointer; counts and order come from here, never from the browser."""
        values = await self.common(request, signed)
        keep = [one for one in request.query_params.get("keep", "").split(",") if one]
        found = {one.id: one for one in values["rows"]}
        if keep:
            values["rows"] = [found[one] for one in keep if one in found] + [r for r in values["rows"] if r.id not in keep]
        current = request.query_params.get("current")
        values["page"] = _Current(current) if current else None
        return page(render("_rows.html", signed.lang, signed.theme, values))

    async def views(self, request: Request, signed: Signed) -> Response:
        values = await self.common(request, signed)
        return page(render("_views.html", signed.lang, signed.theme, values))

    async def common(self, request: Request, signed: Signed) -> dict[str, Any]:
        """What every page of the inbox shows."""
        now, tenant = utcnow(), signed.principal.tenant
        wanted = request.query_params.get("view", "queue")
        view: Inbox = next((name for name in get_args(Inbox) if name == wanted), "queue")
        agents, counts, found = await asyncio.gather(
            self.backends.agents(signed), self.counts(signed), self._inbox(tenant, view, signed)
        )
        words = Words(signed, agents, now)
        me = agents.get(signed.principal.agent or "", signed.principal.agent or signed.principal.name)
        return {
            **words.globals(),
            "view": view,
            "rows": [row(one, now) for one in found],
            "counts": counts,
            "me": {"name": me.split(" ")[0], "face": initials(me)},
            "back": quote(str(request.url.path), safe="/"),
        }

    async def _inbox(self, tenant: str, view: Inbox, signed: Signed) -> list[ConversationView]:
        found = await self.reader.conversations(tenant, view, agent=signed.principal.agent, limit=PAGE)
        return list(found.items)

    async def counts(self, signed: Signed) -> dict[str, Any]:
        """Up to a hundred each: beyond that nobody reads the number."""
        tenant, agent = signed.principal.tenant, signed.principal.agent
        lists = await asyncio.gather(
            *(self.reader.conversations(tenant, view, agent=agent, limit=COUNTED) for view in VIEWS),
        )
        letters = await self.reader.dead_letters(tenant, limit=COUNTED)
        named = {str(view): len(one.items) for view, one in zip(VIEWS, lists, strict=True)}
        return {**named, "dead": len(letters.items)}

    # -- a conversation

    async def conversation(self, request: Request, signed: Signed) -> Response:
        return await self.show(request, signed)

    async def show(
        self,
        request: Request,
        signed: Signed,
        *,
        trouble: Trouble | None = None,
        draft: str = "",
        leg: str | None = None,
        ask: bool = False,
    ) -> Response:
        """The page of a conversation, with what was refused where it was refused."""
        values = await self.case(request, signed, leg=leg)
        if values is None:
            return self.missing(signed)
        details = request.url.path.endswith("/details")
        values |= {"trouble": trouble, "draft": draft, "ask_again": ask, "pane": "side" if details else "main"}
        status = 200 if trouble is None else {"refused": 422, "conflict": 409, "away": 503}.get(trouble.kind, 400)
        return page(render("inbox.html", signed.lang, signed.theme, values), status)

    def fragment(self, template: str) -> Page:
        """A part of the page, for morphing in place."""

        async def part(request: Request, signed: Signed) -> Response:
            values = await self.case(request, signed)
            if values is None:
                return Response(status_code=404)
            return page(render(template, signed.lang, signed.theme, values))

        return part

    async def case(self, request: Request, signed: Signed, *, leg: str | None = None) -> dict[str, Any] | None:
        """Everything the templates of a conversation ask for; None where there is none of this tenant."""
        tenant, now = signed.principal.tenant, utcnow()
        found = await self.reader.conversation(tenant, request.path_params["id"])
        if found is None:
            return None
        before = request.query_params.get("before")
        span = Span(before=key_of(before) if before else None, limit=PAGE)
        values, entries, channels = await asyncio.gather(
            self.common(request, signed),
            self.reader.conversation_entries(tenant, found.id, span),
            self.reader.channels(tenant),
        )
        declared = {one.channel.name: one.channel for one in channels}
        agents = await self.backends.agents(signed)
        head = found.head
        items: list[EntryView] = list(reversed(entries.items)) if entries else []
        agent = head.assignee.agent if head.assignee else None
        who = name_of(found) or _name(items)
        case = Case(
            found.id,
            found,
            who,
            initials(who),
            head,
            len({(one.channel, one.visibility) for one in head.legs}),
            agents.get(agent, agent) if agent else None,
            agent is not None and agent == signed.principal.agent,
            thread(items, signed.zone),
            entries.older if entries else None,
            next((e.id for e in reversed(items) if e.kind in SAID and e.direction == "in"), ""),
        )
        where = places(head, declared, now)
        words = Words(signed, agents, now)
        picked = chosen(where, leg)
        me = agents.get(signed.principal.agent or "", signed.principal.name)
        names = {"name": case.first, "agent": me.split(" ")[0]}
        return {
            **values,
            "page": case,
            "places": where,
            "chosen": picked,
            "where": lambda place: _where(words, place, case.first),
            "panel": panel(head, now),
            "targets": targets(channels),
            "clocks": clocks(head, now),
            "key": str(uuid.uuid4()),
            "draft": "",
            "trouble": None,
            "ask_again": False,
            "invite_private": words.t("invite_private_text", link="{link}", **names),
            "invite_public": words.t("invite_public_text", **names),
            "close_text": words.t("close_public_text", **names),
        }

    async def identifiers(self, request: Request, signed: Signed) -> Response:
        """Who the customer is, by identity; the page stands without it."""
        found = await self.reader.conversation(signed.principal.tenant, request.path_params["id"])
        customer = found.head.customer_id if found else None
        try:
            ids = await self.backends.identifiers(signed, customer) if customer else []
        except Away:
            ids = None
        words = Words(signed, {}, utcnow())
        return page(render("_ids.html", signed.lang, signed.theme, {**words.globals(), "ids": ids}))

    def missing(self, signed: Signed) -> Response:
        return page(f"<!doctype html><title>404</title><p>{_plain(signed.lang)('not_found')}</p>", 404)

    # -- dead letters

    async def dead(self, request: Request, signed: Signed) -> Response:
        return await self.show_dead(request, signed)

    async def show_dead(
        self, request: Request, signed: Signed, *, outcome: Mapping[str, Any] | None = None, mended: str | None = None
    ) -> Response:
        tenant, wanted = signed.principal.tenant, request.path_params.get("id")
        values = await self.common(request, signed)
        letters = await self.reader.dead_letters(tenant, "all" if wanted else "open", limit=PAGE)
        letter = await self.reader.dead_letter(tenant, wanted) if wanted else None
        if wanted and letter is None:
            return self.missing(signed)
        original = _readable(letter) if letter else ""
        values |= {
            "letters": letters.items,
            "letter": letter,
            "original": original,
            "mended": mended if mended is not None else original,
            "mendable": bool((letter and letter.path) or (letter and letter.stage == "ingest")),
            "outcome": outcome,
        }
        return page(render("dead.html", signed.lang, signed.theme, values))


@dataclass(frozen=True, slots=True)
class _Current:
    """The open conversation, where only its id matters."""

    id: str


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


def targets(channels: Sequence[ChannelView]) -> list[str]:
    """Where a link can lead the customer, the best liked first: accounts that say how they are reached."""
    accounts = [one.account for channel in channels for one in channel.accounts]
    able = [one for one in accounts if one.invite and one.state == "active" and one.channel in PREFERRED]
    return [f"{one.channel}/{one.account}" for one in sorted(able, key=lambda one: PREFERRED.index(one.channel))]


def page(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, HEADERS)


def same_origin(request: Request) -> bool:
    """A browser says where a form was sent from; what comes from elsewhere is not ours."""
    origin = request.headers.get("origin")
    return origin is None or origin == "null" or origin.partition("://")[2] == request.headers.get("host", "")


def _plain(lang: Any) -> Callable[..., str]:
    from services.timeline.console.texts import text

    return text(lang)


def _name(items: list[EntryView]) -> str:
    return next((e.sender.name for e in reversed(items) if e.direction == "in" and e.sender and e.sender.name), "") or ""


def _where(words: Words, place: Place, first: str) -> str:
    if place is NOTE or place.sees == "note":
        return words.t("where_note")
    if place.sees == "public":
        return words.t("where_public")
    return words.t("where_private", name=first, place=words.place(place.channel, place.leg))


def _readable(letter: DeadView) -> str:
    """The original bytes as a person can mend them: JSON laid out, else the text, else what is left of it."""
    content = base64.b64decode(letter.body or "")
    try:
        return orjson.dumps(orjson.loads(content), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")
