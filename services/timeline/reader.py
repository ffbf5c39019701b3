"""Everything that is read from the timeline: by the REST API, the live feed and the console."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from services.common.events import AccountDescribed, ChannelDeclared
from services.common.identifiers import Visibility
from services.common.mongo import ASCENDING, DESCENDING, Collection, Document, Mongo, reaching
from services.timeline.order import NOWHERE, cursor, id_bytes, id_text, milliseconds, moment, order_key
from services.timeline.pages import Found, Source, Span, groups, page
from services.timeline.stores import Collections, receipt_id
from services.timeline.views import (
    AccountView,
    ChannelView,
    ConversationView,
    DeadView,
    EntryView,
    RemovedView,
    conversation_view,
    dead_view,
    entry_view,
    removed_view,
)

Inbox = Literal["mine", "queue", "public", "due", "open", "closed", "customer"]
MOST = 200
HOPS = 20


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first. `older` is None at the beginning of the history; `newer` always points on, since more may
    come. A page may be shorter than asked for and still have an `older`."""

    items: tuple[EntryView, ...] = ()
    older: str | None = None
    newer: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    items: tuple[ConversationView, ...] = ()
    older: str | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """What entries and conversations are now. `removed` are in no list any more; what has no base yet is in neither."""

    entries: Mapping[bytes, EntryView]
    removed: Mapping[bytes, RemovedView]
    rows: Mapping[str, ConversationView]


@dataclass(frozen=True, slots=True)
class Letters:
    items: tuple[DeadView, ...] = ()
    older: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page is narrowed to. `kinds` of rare entries have an index of their own."""

    channel: str | None = None
    kinds: tuple[str, ...] = ()
    visibility: Visibility | None = None

    @property
    def rare(self) -> bool:
        return bool(self.kinds) and "message" not in self.kinds

    def query(self) -> dict[str, Any]:
        found: dict[str, Any] = {"b.ch": self.channel, "b.vs": self.visibility}
        if self.kinds and not self.rare:
            found["b.kd"] = {"$in": list(self.kinds)}
        return {name: value for name, value in found.items() if value is not None}


class Reader:
    """Reads the live generation. Every method takes the tenant of the caller's credential; what belongs to another does
    not exist. Cursors are `k` values, valid under any filter and in both directions."""

    def __init__(self, mongo: Mongo, *, read_limit_ms: int = 1000, generation_ttl_s: float = 1) -> None:
        self._mongo, self._limit_ms, self._ttl = mongo, read_limit_ms, generation_ttl_s
        self._generations: dict[str, Collections] = {}
        self._live = ("", 0.0)

    async def collections(self) -> Collections:
        """Of the generation that readers see; looked up again every second, so that a switch takes effect."""
        name, until = self._live
        if time.monotonic() >= until:
            async with reaching():
                found = await self._mongo.database("timeline")["marks"].find_one({"_id": "live"})
            name = found["gen"] if found else "a"
            self._live = (name, time.monotonic() + self._ttl)
        return self.of(name)

    def see(self, generation: str) -> None:
        """The feed has just read which generation is live."""
        self._live = (generation, time.monotonic() + self._ttl)

    def of(self, generation: str) -> Collections:
        if generation not in self._generations:
            self._generations[generation] = Collections(self._mongo, generation)
        return self._generations[generation]

    # -- customers ------------------------------------------------------------------------------------------------------

    async def customer_of(self, tenant: str, identifier: str) -> str | None:
        """Whose identifier this is at present."""
        c = await self.collections()
        async with reaching():
            found = await c.identities.find_one({"_id": identifier, "tn": tenant}, {"m.c": 1})
        return found["m"]["c"] if found and "m" in found else None

    async def identifiers(self, tenant: str, customer: str) -> tuple[str | None, list[str]]:
        """The customer at present and its identifiers. The id of one that was merged away leads to where its identifiers
        went: to most of them, where they went apart. (None, []) for one that never was."""
        c = await self.collections()
        async with reaching():
            own = await c.identities.find({"tn": tenant, "m.c": customer}, {"_id": 1}).to_list(None)
            if own:
                return customer, sorted(one["_id"] for one in own)
            went = await c.identities.find({"tn": tenant, "was": customer}, {"m.c": 1}).to_list(None)
        counts: dict[str, int] = {}
        for one in went:
            if one.get("m", {}).get("c"):
                counts[one["m"]["c"]] = counts.get(one["m"]["c"], 0) + 1
        if not counts:
            return (customer, []) if went else (None, [])
        now = min(counts, key=lambda name: (-counts[name], name))
        async with reaching():
            own = await c.identities.find({"tn": tenant, "m.c": now}, {"_id": 1}).to_list(None)
        return now, sorted(one["_id"] for one in own)

    async def once(self, tenant: str, customer: str) -> list[str]:
        """The identifiers that are or were this customer's."""
        c = await self.collections()
        async with reaching():
            return [
                str(one["_id"]) for one in await c.identities.find({"tn": tenant, "was": customer}, {"_id": 1}).to_list(None)
            ]

    # -- entries --------------------------------------------------------------------------------------------------------

    async def timeline(
        self, tenant: str, customer: str, span: Span = Span(), filters: Filters = Filters()
    ) -> Page | None:  # None: there never was such a customer
        """A customer's history: the entries of the identifiers it has now."""
        present, identifiers = await self.identifiers(tenant, customer)
        if present is None:
            return None
        c = await self.collections()
        found = await page(c.entries, tenant, _sources(identifiers, filters), filters.query(), span, self._limit_ms)
        return await self._page(tenant, found, span, present)

    async def entries_of_identifier(self, tenant: str, identifier: str, span: Span = Span()) -> Page:
        c = await self.collections()
        found = await page(c.entries, tenant, _sources([identifier], Filters()), {}, span, self._limit_ms)
        return await self._page(tenant, found, span, None)

    async def conversation_entries(
        self, tenant: str, conversation: str, span: Span = Span(), *, journey: bool = True
    ) -> Page | None:
        """A conversation as one thread: its messages and what was done about them, those of the conversations it absorbed,
        and before it the journey that led the customer here."""
        c = await self.collections()
        document = await self._survivor(c, tenant, conversation)
        if document is None:
            return None
        head = document["h"]["head"]
        sources = [Source({"cv.id": {"$in": [document["_id"], *head.get("absorbed", ())][:MOST]}}, hint="conv")]
        if journey:
            sources += await self._journey(tenant, head)
        found = await page(c.entries, tenant, sources, {}, span, self._limit_ms)
        return await self._page(tenant, found, span, head.get("customer_id"))

    async def _journey(self, tenant: str, head: Mapping[str, Any]) -> list[Source]:
        opened = conversation_opened(head)
        identifiers = [leg["party"] for leg in head.get("legs", ())]
        if customer := head.get("customer_id"):
            identifiers += (await self.identifiers(tenant, customer))[1]
        return [
            Source({"b.i": {"$in": group}, "b.kd": "journey", "b.rare": True}, below=opened, hint="kind")
            for group in groups(sorted(set(identifiers)))
        ]

    async def entry(self, tenant: str, entry: str) -> EntryView | None:
        """The entry, or what stands for it now: a queued message got another id when it was sent."""
        found = await self.entries(tenant, [id_bytes(entry)])
        return next(iter(found.values()), None)

    async def entries(self, tenant: str, wanted: Iterable[bytes]) -> dict[bytes, EntryView]:
        """By the id that was asked for; what is in no list is missing."""
        c = await self.collections()
        documents = {bytes(one["_id"]): one for one in await self.documents(c, tenant, wanted)}
        gone = {name: bytes(list(one["gone"].values())[-1]["to"]) for name, one in documents.items() if retired(one)}
        later = {bytes(one["_id"]): one for one in await self.documents(c, tenant, gone.values())}
        shown = {name: later.get(gone[name], one) if name in gone else one for name, one in documents.items()}
        shown = {name: one for name, one in shown.items() if listed(one)}
        return dict(zip(shown, await self.rendered(c, tenant, shown.values()), strict=True))

    async def documents(self, c: Collections, tenant: str, wanted: Iterable[bytes]) -> list[Document]:
        names = list(set(wanted))
        if not names:
            return []
        async with reaching():
            rows = c.entries.find({"_id": {"$in": names}, "tn": tenant}).batch_size(len(names) + 1)
            found: list[Document] = await rows.to_list(None)
        return found

    async def rendered(self, c: Collections, tenant: str, documents: Iterable[Document]) -> list[EntryView]:
        """Entries as readers see them. Receipts up to a time are laid over what was written on their leg before it."""
        every = list(documents)
        legs = {leg for one in every if (leg := _leg(tenant, one)) is not None}
        marks: dict[str, Document] = {}
        if legs:
            async with reaching():
                marks = {one["_id"]: one for one in await c.receipts.find({"_id": {"$in": list(legs)}}).to_list(None)}
        return [entry_view(one, marks.get(_leg(tenant, one) or "")) for one in every]

    async def _page(self, tenant: str, found: Found, span: Span, customer: str | None) -> Page:
        items = tuple(await self.rendered(await self.collections(), tenant, found.documents))
        on = cursor(found.on) if found.on is not None else None
        if span.upward:
            assert span.after is not None
            return Page(items, items[-1].k if items else cursor(span.after), on or _newest(items, span.after), customer)
        return Page(items, on, _newest(items, span.before), customer)

    # -- conversations --------------------------------------------------------------------------------------------------

    async def conversation(self, tenant: str, conversation: str) -> ConversationView | None:
        """The conversation, or the one that it was joined into."""
        c = await self.collections()
        document = await self._survivor(c, tenant, conversation)
        return (await self._rows(c, tenant, [document]))[0] if document else None

    async def present(self, tenant: str, entries: Iterable[bytes], conversations: Iterable[str]) -> Present:
        """These as they are, conversations joined or not: for the feed, so in as few reads as can be."""
        c = await self.collections()
        heads = await self._heads(c, tenant, conversations)
        lasts = await self._lasts(c, tenant, heads)
        found = await self.documents(c, tenant, (*entries, *lasts.values()))
        shown = [one for one in found if listed(one)]
        views = dict(zip((bytes(one["_id"]) for one in shown), await self.rendered(c, tenant, shown), strict=True))
        removed = {bytes(one["_id"]): removed_view(one) for one in found if "b" in one and not listed(one)}
        last = views | await self.entries(tenant, removed.keys() & lasts.values())
        return Present(views, removed, {one["_id"]: _row(one, lasts, last) for one in heads})

    async def _heads(self, c: Collections, tenant: str, wanted: Iterable[str]) -> list[Document]:
        names = list(set(wanted))
        if not names:
            return []
        async with reaching():
            query = {"_id": {"$in": names}, "tn": tenant, "h": {"$exists": True}}
            found: list[Document] = await c.conversations.find(query).to_list(None)
        return found

    async def _survivor(self, c: Collections, tenant: str, conversation: str) -> Document | None:
        """Follows `into`. A survivor that has not arrived yet is not waited for: then the joined one is shown."""
        shown: Document | None = None
        for _hop in range(HOPS):
            async with reaching():
                found = await c.conversations.find_one({"_id": conversation, "tn": tenant, "h": {"$exists": True}})
            if found is None:
                return shown
            shown = found
            into = found["h"]["head"].get("into")
            if found["h"]["state"] != "joined" or not into:
                return shown
            conversation = into
        return shown

    async def conversations(
        self,
        tenant: str,
        view: Inbox,
        *,
        agent: str | None = None,
        queue: str | None = None,
        customer: str | None = None,
        before: bytes | None = None,
        limit: int = 30,
    ) -> Rows:
        """Rows of an inbox: the latest activity first; `due` the earliest deadline first."""
        c = await self.collections()
        query = {"tn": tenant, **_inbox(view, agent, customer), **({"h.queue": queue} if queue else {})}
        if view == "due":
            documents = await self._due(c.conversations, query, before, limit + 1)
        else:
            if before is not None:
                query["act"] = {"$lt": before}
            async with reaching():
                rows = c.conversations.find(query).sort("act", DESCENDING).limit(limit + 1).max_time_ms(self._limit_ms)
                documents = await rows.to_list(None)
        kept = documents[:limit]
        key = _due_key if view == "due" else _activity_key
        on = cursor(key(kept[-1])) if len(documents) > limit else None
        return Rows(tuple(await self._rows(c, tenant, kept)), on)

    async def _due(self, rows: Collection, query: dict[str, Any], before: bytes | None, limit: int) -> list[Document]:
        query = {**query, "h.due": {"$exists": True}}
        if before is not None:
            ms, name = int.from_bytes(before[:6], "big"), id_text(before[14:])
            query["$or"] = [{"h.due": {"$gt": ms}}, {"h.due": ms, "_id": {"$gt": name}}]
        order = [("h.due", ASCENDING), ("_id", ASCENDING)]
        async with reaching():
            found: list[Document] = await rows.find(query).sort(order).limit(limit).max_time_ms(self._limit_ms).to_list(None)
        return found

    async def _rows(self, c: Collections, tenant: str, documents: Sequence[Document]) -> list[ConversationView]:
        lasts = await self._lasts(c, tenant, documents)
        shown = await self.entries(tenant, lasts.values())
        return [_row(one, lasts, shown) for one in documents]

    async def _lasts(self, c: Collections, tenant: str, documents: Sequence[Document]) -> dict[str, bytes]:
        """By conversation: the entry that was said last, also in what it absorbed."""
        absorbed = {name for one in documents for name in one["h"]["head"].get("absorbed", ())}
        lasts = {one["_id"]: one["last"] for one in documents if "last" in one}
        if absorbed:
            query = {"_id": {"$in": list(absorbed)}, "tn": tenant, "last": {"$exists": True}}
            async with reaching():
                lasts |= {one["_id"]: one["last"] for one in await c.conversations.find(query, {"last": 1}).to_list(None)}
        return {one["_id"]: entry for one in documents if (entry := _last(one, lasts))}

    # -- operations -------------------------------------------------------------------------------------------------------

    async def dead_letters(
        self,
        tenant: str,
        state: Literal["open", "replayed", "discarded", "all"] = "open",
        *,
        before: bytes | None = None,
        limit: int = 50,
    ) -> Letters:
        """Dead letters, the newest first."""
        c = await self.collections()
        query: dict[str, Any] = {"tn": tenant, "l": {"$exists": True}}
        if state != "all":
            query["dec.decision"] = None if state == "open" else state
        if before is not None:
            at, name = moment(int.from_bytes(before[:6], "big")), id_text(before[14:])
            query["$or"] = [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": name}}]
        order = [("at", DESCENDING), ("_id", DESCENDING)]
        async with reaching():
            found = await c.dead.find(query, {"l.body": 0}).sort(order).limit(limit + 1).to_list(None)
        kept = found[:limit]
        on = cursor(order_key(milliseconds(kept[-1]["at"]), 0, id_bytes(kept[-1]["_id"]))) if len(found) > limit else None
        return Letters(tuple(dead_view(one) for one in kept), on)

    async def dead_letter(self, tenant: str, dead_id: str) -> DeadView | None:
        """One with its original bytes and headers."""
        c = await self.collections()
        async with reaching():
            found = await c.dead.find_one({"_id": dead_id, "tn": tenant, "l": {"$exists": True}})
        return dead_view(found, whole=True) if found else None

    async def channels(self, tenant: str) -> list[ChannelView]:
        """Every channel this installation has, with the tenant's accounts on it."""
        c = await self.collections()
        async with reaching():
            declared, described = await asyncio.gather(
                c.channels.find({"d": {"$exists": True}}).sort("_id", ASCENDING).to_list(None),
                c.accounts.find({"tn": tenant, "d": {"$exists": True}}).sort("_id", ASCENDING).to_list(None),
            )
        accounts = [_account(one) for one in described]
        return [
            ChannelView(
                channel=(channel := ChannelDeclared.model_validate_json(one["d"]["json"])),
                accounts=tuple(a for a in accounts if a.account.channel == channel.name and a.account.state != "removed"),
            )
            for one in declared
        ]


def retired(document: Document) -> bool:
    return "gone" in document and bytes(document.get("k", NOWHERE)) == NOWHERE


def listed(document: Document) -> bool:
    return "b" in document and bytes(document.get("k", NOWHERE)) != NOWHERE


def conversation_opened(head: Mapping[str, Any]) -> bytes:
    return order_key(milliseconds(datetime.fromisoformat(head["opened_at"])), 0, bytes(16))


def _sources(identifiers: Sequence[str], filters: Filters) -> list[Source]:
    if filters.rare:
        kinds = list(filters.kinds)
        where = [{"b.i": {"$in": group}, "b.kd": {"$in": kinds}, "b.rare": True} for group in groups(identifiers, len(kinds))]
        return [Source(one, hint="kind") for one in where]
    return [Source({"b.i": {"$in": group}}) for group in groups(identifiers)]


def _leg(tenant: str, document: Document) -> str | None:
    """The mark that may say more of this entry than its own receipts do."""
    base = document.get("b", {})
    if base.get("dr") != "out" or not isinstance(base.get("i"), str) or "read" in document.get("st", {}):
        return None
    return receipt_id(tenant, base.get("ch", ""), base.get("ac", ""), base["i"])


def _newest(items: Sequence[EntryView], given: bytes | None) -> str | None:
    return items[0].k if items else cursor(given) if given is not None else None


def _inbox(view: Inbox, agent: str | None, customer: str | None) -> dict[str, Any]:
    match view:
        case "mine":
            return {"h.state": "open", "h.agent": agent}
        case "queue":
            return {"h.state": "open", "h.agent": None}
        case "public":
            return {"h.pub": True}
        case "due" | "open":
            return {"h.state": "open"}
        case "closed":
            return {"h.state": "closed"}
        case "customer":
            return {"h.customer": customer, "h.state": {"$in": ["open", "closed"]}}


def _activity_key(document: Document) -> bytes:
    return bytes(document["act"])


def _due_key(document: Document) -> bytes:
    return order_key(document["h"]["due"], 0, id_bytes(document["_id"]))


def _last(document: Document, lasts: Mapping[str, Document]) -> bytes | None:
    names = [document["_id"], *document["h"]["head"].get("absorbed", ())]
    known = [lasts[name] for name in names if name in lasts]
    return bytes(max(known, key=lambda one: bytes(one["v"]))["e"]) if known else None


def _row(document: Document, lasts: Mapping[str, bytes], shown: Mapping[bytes, EntryView]) -> ConversationView:
    return conversation_view(document, shown.get(lasts.get(document["_id"], b"")))


def _account(document: Document) -> AccountView:
    health = document.get("health", {})
    described = AccountDescribed.model_validate_json(document["d"]["json"])
    return AccountView(account=described, health=health.get("state", "ok"), reason=health.get("reason", ""))


__all__ = ["Filters", "Inbox", "Letters", "Page", "Reader", "Rows", "Span"]
