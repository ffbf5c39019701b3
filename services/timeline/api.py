"""The REST API of the timeline. The tenant comes from the credential, so another tenant's objects do not exist here."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from services.common.auth import Keyring, Principal
from services.common.errors import Problem, not_found
from services.common.identifiers import Identifier, NotAnIdentifier, Visibility, keyed
from services.timeline.access import Access
from services.timeline.live import Feed
from services.timeline.order import NotACursor, key_of
from services.timeline.reader import Filters, Inbox, Page, Reader, Span
from services.timeline.views import ChannelView, ConversationView, DeadView, EntryView

Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]


class EntriesPage(BaseModel):
    """Entries, the newest first. `older` is null at the beginning of the history and `newer` leads to what comes later; a
    page can be short and still have an `older`. `live` is where a stream that misses nothing after this page begins."""

    items: list[EntryView]
    older: str | None
    newer: str | None
    customer_id: str | None
    live: str


class ConversationsPage(BaseModel):
    """`live` is where a stream that misses nothing after this page begins."""

    items: list[ConversationView]
    older: str | None
    live: str


class DeadPage(BaseModel):
    items: list[DeadView]
    older: str | None


class ChannelList(BaseModel):
    items: list[ChannelView]


class Found(BaseModel):
    customer_id: str
    key: str


def routes(reader: Reader, feed: Feed, keyring: Keyring, access: Access) -> APIRouter:
    router = APIRouter(prefix="/v1")
    reading = Depends(access.requires("read", "agent"))

    @router.get("/customers/{customer_id}/timeline")
    async def timeline(
        customer_id: str,
        before: Cursor = None,
        after: Cursor = None,
        limit: Limit = 50,
        channel: str | None = None,
        kind: Annotated[list[str] | None, Query(max_length=10)] = None,
        visibility: Visibility | None = None,
        principal: Principal = reading,
    ) -> EntriesPage:
        """A customer's whole history, on every channel. An id that was merged away leads to the customer of today."""
        live = feed.now()
        filters = Filters(channel, tuple(sorted(set(kind or ()))), visibility)
        page = await reader.timeline(principal.tenant, customer_id, span(before, after, limit), filters)
        return entries_page(page, live, "customer")

    @router.get("/lookup")
    async def lookup(scheme: str, value: str, scope: str = "", principal: Principal = reading) -> Found:
        """Whose identifier this is: `tel`, `email`, or a channel's own scheme with its scope."""
        try:
            identifier = keyed(await keyring.tenant_key(principal.tenant), Identifier(scheme, value, scope))
        except NotAnIdentifier as error:
            raise Problem(422, "not_an_identifier", str(error)) from error
        except KeyError as error:
            raise not_found("tenant") from error
        customer = await reader.customer_of(principal.tenant, identifier.key)
        if customer is None:
            raise not_found("customer")
        return Found(customer_id=customer, key=identifier.key)

    @router.get("/conversations")
    async def conversations(
        view: Inbox = "open",
        agent: str | None = None,
        queue: str | None = None,
        customer: str | None = None,
        before: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 30,
        principal: Principal = reading,
    ) -> ConversationsPage:
        """An inbox: latest activity first, `due` by deadline. `mine` is the key's own agent unless another is named."""
        live = feed.now()
        agent = agent or principal.agent
        if view == "mine" and agent is None:
            raise Problem(422, "agent_missing", "This key belongs to no agent: name one with ?agent=.")
        if view == "customer" and customer is None:
            raise Problem(422, "customer_missing", "Name the customer with ?customer=.")
        if view == "customer" and customer:
            customer = (await reader.identifiers(principal.tenant, customer))[0] or customer
        rows = await reader.conversations(
            principal.tenant, view, agent=agent, queue=queue, customer=customer, before=key(before), limit=limit
        )
        return ConversationsPage(items=list(rows.items), older=rows.older, live=live)

    @router.get("/conversations/{conversation_id}")
    async def conversation(conversation_id: str, principal: Principal = reading) -> ConversationView:
        """The conversation; of one that was joined, the one that goes on."""
        if (found := await reader.conversation(principal.tenant, conversation_id)) is None:
            raise not_found("conversation")
        return found

    @router.get("/conversations/{conversation_id}/entries")
    async def conversation_entries(
        conversation_id: str,
        before: Cursor = None,
        after: Cursor = None,
        limit: Limit = 50,
        principal: Principal = reading,
    ) -> EntriesPage:
        """The thread: what was said and done in this conversation and in those it absorbed, and the journey before it."""
        live = feed.now()
        page = await reader.conversation_entries(principal.tenant, conversation_id, span(before, after, limit))
        return entries_page(page, live, "conversation")

    @router.get("/entries/{entry_id}")
    async def entry(entry_id: str, principal: Principal = reading) -> EntryView:
        """One entry. A queued message that got another id when it was sent is found under both."""
        if (found := await reader.entry(principal.tenant, entry_id)) is None:
            raise not_found("entry")
        return found

    @router.get("/dead")
    async def dead(
        state: Literal["open", "replayed", "discarded", "all"] = "open",
        before: Cursor = None,
        limit: Limit = 50,
        principal: Principal = reading,
    ) -> DeadPage:
        """Dead letters, the newest first. Decisions about them are commands to ingest."""
        letters = await reader.dead_letters(principal.tenant, state, before=key(before), limit=limit)
        return DeadPage(items=list(letters.items), older=letters.older)

    @router.get("/dead/{dead_id}")
    async def dead_letter(dead_id: str, principal: Principal = reading) -> DeadView:
        """One dead letter with its original bytes (base64) and headers."""
        if (found := await reader.dead_letter(principal.tenant, dead_id)) is None:
            raise not_found("dead letter")
        return found

    @router.get("/channels")
    async def channels(principal: Principal = reading) -> ChannelList:
        """What each channel can do, and this tenant's accounts on it."""
        return ChannelList(items=await reader.channels(principal.tenant))

    return router


def key(cursor: str | None) -> bytes | None:
    """Raises Problem 422."""
    try:
        return None if cursor is None else key_of(cursor)
    except NotACursor as error:
        raise Problem(422, "cursor_invalid", "This is no cursor of a timeline.") from error


def span(before: str | None, after: str | None, limit: int) -> Span:
    """Raises Problem 422."""
    if before is not None and after is not None:
        raise Problem(422, "cursor_twice", "Give before or after, not both.")
    return Span(key(before), key(after), limit)


def entries_page(page: Page | None, live: str, what: str) -> EntriesPage:
    if page is None:
        raise not_found(what)
    return EntriesPage(items=list(page.items), older=page.older, newer=page.newer, customer_id=page.customer_id, live=live)
