"""Invitations as agents command them and as the page behind a link shows them. The decisions are `inviting.py`'s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.common.errors import Problem
from services.common.events import HandoffDeclared, Part
from services.common.identifiers import leg_key
from services.router import handoff, inviting
from services.router.codes import link_to, token_hash
from services.router.commands import Commands, Request, judged, lost, over
from services.router.handoff import Refusal, Step
from services.router.inviting import Invitation, Links, Platform
from services.router.outputs import Change
from services.router.state import Conversation, LegRecord, Offer

REFUSALS = {
    "nothing_public": "Nobody wrote in public here.",
    "post_deleted": "The author deleted the post.",
    "under_way": "An invitation is under way.",
    "private_reply_used": "The platform allows one private reply to a post, and it was sent.",
    "window_over": "The platform's time for a private reply is over.",
    "no_way": "The platform has no private reply, and the public text has no {link}.",
    "no_targets": "Name the accounts that the invitation leads to.",
    "not_drafted": "There is no draft.",
    "not_resolved": "The case is not resolved yet.",
    "leg_elsewhere": "Another conversation holds the public thread by now.",
}


class Link(BaseModel):
    channel: str
    title: str
    url: str


class Page(BaseModel):
    """What a handoff page shows: whose it is, until when, and the ways in with the code in them."""

    tenant: str
    offer_id: str
    state: Literal["open", "claimed", "used", "expired"]
    expires_at: datetime
    title: str
    language: str | None
    code: str
    links: list[Link]


class Invitations:
    def __init__(self, commands: Commands, links: Links) -> None:
        self._commands, self._links = commands, links

    async def invite(
        self,
        request: Request,
        private: tuple[Part, ...],
        public: tuple[Part, ...],
        targets: tuple[str, ...],
        *,
        approval: bool,
    ) -> dict[str, Any]:
        self._refuse_unknown(request.tenant, targets)
        wish = Invitation(request.by, private, public, targets)

        def decide(c: Conversation, platform: Platform | None, now: datetime) -> Step | Refusal:
            return inviting.invite(c, wish, platform, self._links, now, approval=approval)

        return await self._inviting(request, lambda _: wish, decide)

    async def approve(self, request: Request) -> dict[str, Any]:
        def wish(c: Conversation) -> Invitation:
            h = c.handoff
            return Invitation(request.by, h.say, h.then, h.ways) if h else Invitation(request.by)

        def decide(c: Conversation, platform: Platform | None, now: datetime) -> Step | Refusal:
            return inviting.approve(c, platform, self._links, now, request.by)

        return await self._inviting(request, wish, decide)

    async def decline(self, request: Request) -> dict[str, Any]:
        def decide(c: Conversation, now: datetime) -> Step | Refusal:
            return handoff.declined(c, now, request.by) or Refusal("nothing_public")

        return await self._step(request, decide)

    async def finish(self, request: Request, parts: tuple[Part, ...]) -> dict[str, Any]:
        c = await self._commands.read(request.tenant, request.conversation)
        if (done := await self._commands.repeated(c, request.key)) is not None:
            return done
        await self._commands.refuse_private(c, parts)
        return await self._step(request, lambda c, now: handoff.closed_in_public(c, parts, now, request.by), also_closed=True)

    async def offer(self, request: Request, leg: str, parts: tuple[Part, ...], targets: tuple[str, ...]) -> dict[str, Any]:
        self._refuse_unknown(request.tenant, targets)

        def decide(c: Conversation, now: datetime) -> Step | Refusal:
            return inviting.offered_on(c, leg, parts, targets, self._links, now, request.by)

        return await self._step(request, decide)

    # -- what they have in common

    async def _step(
        self,
        request: Request,
        decide: Callable[[Conversation, datetime], Step | Refusal],
        *,
        also_closed: bool = False,
    ) -> dict[str, Any]:
        def decision(c: Conversation) -> tuple[Change, dict[str, Any]]:
            if c.state != "open" and not also_closed:
                raise over(c)
            now = self._commands.conversations.now()
            step = decide(c, now)
            if isinstance(step, Refusal):
                raise Problem(409, step.reason, REFUSALS.get(step.reason, ""))
            change = self._commands.wishes.granted(Change(c), step, now)
            told = change.after.handoff
            sending = told.waits_for if told else None
            return change, {"state": told.state if told else None, "outbound_id": sending, "by": request.by.id}

        return await self._commands.carry_out(request, decision)

    async def _inviting(
        self,
        request: Request,
        wished: Callable[[Conversation], Invitation],
        decide: Callable[[Conversation, Platform | None, datetime], Step | Refusal],
    ) -> dict[str, Any]:
        """What the caller knows is judged before the private leg is brought, which raises the version; then it is decided on
        what is there."""
        c = await self._commands.read(request.tenant, request.conversation)
        if (done := await self._commands.repeated(c, request.key)) is not None:
            return done
        judged(c, request)
        wish = wished(c)
        await self._commands.refuse_private(c, wish.public)
        platform, brought = await self._platform(c, wish)

        def decided(now_there: Conversation, now: datetime) -> Step | Refusal:
            if wished(now_there) != wish or _post(now_there) != _post(c):
                raise lost(now_there)  # another draft or another post came meanwhile, which nobody has read
            return decide(now_there, platform, now)

        return await self._step(replace(request, version=None) if brought and not request.saw else request, decided)

    async def _platform(self, c: Conversation, wish: Invitation) -> tuple[Platform | None, bool]:
        """The platform's private reply, if it has one, with its leg in this conversation, so that the message and the answer
        to it have a place; and whether the leg had to be brought."""
        public = c.leg(c.handoff.public_leg) if c.handoff else None
        declared = self._commands.directory.private_reply(public.channel, public.leg) if public else None
        if public is None or declared is None:
            return None, False
        record = _private(c, public, declared)
        platform, here = Platform(record.key, declared.once), c.leg(record.key)
        if not wish.private or c.state != "open" or (here and here.held):
            return platform, False
        holder = await self._commands.conversations.bring(record, c)
        if holder.id != c.id:
            raise Problem(409, "leg_elsewhere", "Another conversation holds their private leg.", conversation_id=holder.id)
        return platform, True

    def _refuse_unknown(self, tenant: str, targets: tuple[str, ...]) -> None:
        ways = self._commands.directory.ways_in(tenant)
        if unknown := [one for one in targets if one not in ways]:
            raise Problem(422, "no_such_way", "These accounts have no invitation link.", targets=unknown)

    # -- the page

    async def page(self, tenant: str, token: str) -> Page | None:
        """None for a token that is not ours, or of another tenant. `tenant` is empty for our own services."""
        for c in await self._commands.conversations.store.with_token(token_hash(token)):
            issued = self._links.keys.opened(token, c.tenant)
            offer = next((one for one in c.offers if issued and one.id == issued.id), None)
            if issued and offer and tenant in ("", c.tenant):
                end = await self._commands.conversations.survivor(c.id) or c
                mine = next((one for one in end.offers if one.id == offer.id), offer)
                return self._shown(end, mine, issued.code)
        return None

    def _shown(self, c: Conversation, offer: Offer, code: str) -> Page:
        directory = self._commands.directory
        ways = directory.ways_in(c.tenant)
        on = c.leg(offer.on)
        account = directory.account(c.tenant, on.channel, on.account) if on else None
        over = offer.expires <= self._commands.conversations.now() and offer.state != "used"
        links = [
            Link(channel=way.channel, title=way.title or way.channel, url=link_to(way.invite, code))
            for name in offer.targets or ways
            if (way := ways.get(name)) and way.invite
        ]
        return Page(
            tenant=c.tenant,
            offer_id=offer.id,
            state="expired" if over else offer.state,
            expires_at=offer.expires,
            title=account.title if account else "",
            language=c.language,
            code=code,
            links=links,
        )


def _post(c: Conversation) -> tuple[str, str] | None:
    """What an invitation would answer."""
    return (c.handoff.public_leg, c.handoff.item) if c.handoff else None


def _private(c: Conversation, public: LegRecord, declared: HandoffDeclared) -> LegRecord:
    """The private leg that the platform's own private reply opens: of the same person, on the same account."""
    return replace(
        LegRecord(
            key=leg_key(c.tenant, public.channel, public.account, public.party, "private"),
            party=public.party,
            channel=public.channel,
            account=public.account,
        ),
        who=public.who,
        leg=declared.private,
        name=public.name,
        proof=public.proof,
    )
