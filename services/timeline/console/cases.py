"""A conversation as one page: its thread, the composer and what is true of it at the side. Fragments are parts of that page."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.common.errors import Away
from services.common.events import Head
from services.timeline.console.answers import page
from services.timeline.console.backends import Backends, Shown, addresses, identifiers
from services.timeline.console.entrance import Page
from services.timeline.console.inbox import PAGE, Lists, cursor_of, view_of
from services.timeline.console.panels import Panel, clocks, initials, name_of, panel
from services.timeline.console.places import Place, beginnings, chosen, elsewhere, places
from services.timeline.console.render import Words, render, utcnow
from services.timeline.console.session import Signed
from services.timeline.console.threads import SAID, Block, thread
from services.timeline.pages import Span
from services.timeline.reader import Reader
from services.timeline.views import ChannelView, ConversationView, EntryView

# Where a link leads best: one tap opens a private talk.
PREFERRED = ("whatsapp", "telegram", "webchat")
STATUS = {"refused": 422, "conflict": 409, "away": 503}


@dataclass(frozen=True, slots=True)
class Case:
    """An open page: a conversation with what its templates ask for."""

    id: str
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
    """Why a command was not carried out, shown where it was given (`at`). `theirs` is what somebody else wrote first; who
    goes on all the same has seen `version` and `saw`."""

    kind: str
    at: str = "composer"
    detail: str = ""
    found: tuple[Mapping[str, Any], ...] = ()
    version: int = 0
    saw: str = ""
    joined: str = ""
    theirs: EntryView | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What the agent has typed so far, given back with a page that says why it did not go."""

    text: str = ""
    leg: str | None = None
    ask: bool = False
    forms: Mapping[str, str] = field(default_factory=dict)


class Cases:
    def __init__(self, reader: Reader, backends: Backends, lists: Lists) -> None:
        self.reader, self.backends, self._lists = reader, backends, lists

    # -- pages and fragments

    async def conversation(self, request: Request, signed: Signed) -> Response:
        return await self.show(request, signed)

    async def show(
        self, request: Request, signed: Signed, trouble: Trouble | None = None, written: Written = Written()
    ) -> Response:
        """The page of a conversation, with what was refused where it was refused."""
        found = await self.reader.conversation(signed.principal.tenant, request.path_params["id"])
        if found is None:
            return missing(signed)
        if found.id != request.path_params["id"] and request.method == "GET":
            return RedirectResponse(request.url.path.replace(request.path_params["id"], found.id), 303)
        values = await self._lists.common(request, signed)
        case = await self._values(request, signed, found)
        side = request.url.path.endswith("/details")
        values |= case | await self._composer(request, signed, found, case, written)
        trouble = _where_it_shows(trouble, case["panel"])
        values |= {"trouble": trouble, "pane": "side" if side else "main", "current": found.id, "forms": written.forms}
        status = 200 if trouble is None else STATUS.get(trouble.kind, 400)
        return page(render("inbox.html", signed.lang, signed.theme, values), status)

    def part(self, template: str) -> Page:
        """What may have changed on an open page, for morphing in place: the thread, or what is true beside it."""

        async def fragment(request: Request, signed: Signed) -> Response:
            found = await self.reader.conversation(signed.principal.tenant, request.path_params["id"])
            if found is None:
                return Response(status_code=404)
            values = await self._values(request, signed, found)
            agents = await self.backends.agents(signed)
            values |= {**Words(signed, agents, utcnow()).globals(), "view": view_of(request), "trouble": None, "forms": {}}
            return page(render(template, signed.lang, signed.theme, values))

        return fragment

    async def who(self, request: Request, signed: Signed) -> Response:
        """Who the customer is, by identity; the page stands without it."""
        found = await self.reader.conversation(signed.principal.tenant, request.path_params["id"])
        customer = found.head.customer_id if found else None
        shown: list[Shown] | None = []
        try:
            shown = identifiers(await self.backends.customer(signed, customer)) if customer else []
        except Away:
            shown = None
        values = {**Words(signed, {}, utcnow()).globals(), "ids": shown}
        return page(render("_ids.html", signed.lang, signed.theme, values))

    # -- what they are made of

    async def _values(self, request: Request, signed: Signed, found: ConversationView) -> dict[str, Any]:
        tenant, now, head = signed.principal.tenant, utcnow(), found.head
        span = Span(before=cursor_of(request.query_params.get("before")), limit=PAGE)
        entries, channels, agents = await asyncio.gather(
            self.reader.conversation_entries(tenant, found.id, span),
            self.reader.channels(tenant),
            self.backends.agents(signed),
        )
        items = list(reversed(entries.items)) if entries else []
        agent = head.assignee.agent if head.assignee else None
        who = name_of(found) or _name(items)
        declared, ways = {one.channel.name: one.channel for one in channels}, targets(channels)
        case = Case(
            found.id,
            who,
            initials(who),
            head,
            len({(one.channel, one.visibility) for one in head.legs}),
            agents[agent].name if agent in agents else agent,
            agent is not None and agent == signed.principal.agent,
            thread(items, signed.zone),
            entries.older if entries else None,
            next((e.id for e in reversed(items) if e.kind in SAID and e.direction == "in"), ""),
        )
        me = agents.get(signed.principal.agent or "")
        return {
            "page": case,
            "entries": {one.id: one for one in items},
            "channels": channels,
            "panel": panel(head, now, declared, ways),
            "clocks": clocks(head, now),
            "targets": ways,
            "key": str(uuid.uuid4()),
            "names": {"name": case.first, "agent": (me.name if me else signed.principal.name).split(" ")[0]},
        }

    async def _composer(
        self, request: Request, signed: Signed, found: ConversationView, case: Mapping[str, Any], written: Written
    ) -> dict[str, Any]:
        channels: Sequence[ChannelView] = case["channels"]
        where = places(found.head, {one.channel.name: one.channel for one in channels}, utcnow())
        note = where.pop()
        where += [*beginnings([*where, note], channels, await self._addresses(signed, found)), note]
        text, picked = written.text, chosen(where, written.leg or request.query_params.get("leg"))
        again = case["entries"].get(request.query_params.get("again", ""))
        if again is not None and not text:
            failed = next((p.value for p in where if (p.channel, p.sees) == (again.channel, again.visibility)), "")
            text, picked = again.text or "", elsewhere(where, failed)
        words = Words(signed, {}, utcnow())
        first = case["page"].first
        return {
            "places": where,
            "chosen": picked,
            "draft": text,
            "ask_again": written.ask,
            "where": lambda place: _where(words, place, first),
        }

    async def _addresses(self, signed: Signed, found: ConversationView) -> list[Any]:
        if found.head.customer_id is None or any(leg.channel == "email" for leg in found.head.legs):
            return []
        try:
            return addresses(await self.backends.customer(signed, found.head.customer_id))
        except Away:
            return []


def _where_it_shows(trouble: Trouble | None, panel: Panel | None) -> Trouble | None:
    """The form that a stale page gave may not be there any more; then what went wrong is said above the thread."""
    here = {"composer", "bar", *(("panel", panel.step.replace("_", "-")) if panel else ())}
    return trouble if trouble is None or trouble.at in here else replace(trouble, at="bar")


def targets(channels: Sequence[ChannelView]) -> list[str]:
    """Where a link can lead the customer, the best liked first: accounts that say how they are reached."""
    accounts = [one.account for channel in channels for one in channel.accounts]
    able = [one for one in accounts if one.invite and one.state == "active" and one.channel in PREFERRED]
    return [f"{one.channel}/{one.account}" for one in sorted(able, key=lambda one: PREFERRED.index(one.channel))]


def missing(signed: Signed) -> Response:
    """There is no such thing, or it is another tenant's: nobody learns which."""
    values = {**Words(signed, {}, utcnow()).globals(), "what": "not_found", "back": "/inbox"}
    return page(render("missing.html", signed.lang, signed.theme, values), 404)


def _name(items: list[EntryView]) -> str:
    return next((e.sender.name for e in reversed(items) if e.direction == "in" and e.sender and e.sender.name), "") or ""


def _where(words: Words, place: Place, first: str) -> str:
    if place.sees == "note":
        return words.t("where_note")
    if place.sees == "public":
        return words.t("where_public")
    at = words.place(place.channel, place.leg)
    return words.t("where_private", name=first, place=f"{at}, {place.which}" if place.which else at)
