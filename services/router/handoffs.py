"""The handoff's I/O: what came back by an invitation, what became of messages that a step waits for. Each is a read, a pure
step (`handoff.py`, `inviting.py`, `offers.py`) and a compare-and-set, again when somebody was faster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from services.router import handoff, inviting, offers, sending
from services.router.codes import codes_in, may_hold_any, tokens_in
from services.router.conversations import Input, unfinished
from services.router.directory import Directory
from services.router.handoff import Post
from services.router.inviting import Links
from services.router.outputs import Change
from services.router.protocol import Conversations
from services.router.state import Conversation, Offer
from services.router.timers import Clock
from services.router.wishes import Wishes

Decide = Callable[[Conversation, datetime], Change]
OFFER = "offer:"


class Handoffs:
    def __init__(self, conversations: Conversations, directory: Directory, wishes: Wishes, links: Links) -> None:
        self._conversations, self._directory, self._wishes, self._links = conversations, directory, wishes, links

    # -- what the customer writes

    def heard(self, change: Change, leg: str, one: Input, now: datetime) -> Change:
        """What a message means for the handoff, in the compare-and-set that applies it."""
        record = change.after.leg(leg)
        if one.kind != "said" or record is None:
            return change
        if record.visibility == "public":
            declared = self._directory.private_reply(record.channel, record.leg)
            within_s, kind = declared.within_s if declared else None, handoff.reads_as(one.text)
            post = Post(leg, one.provider_id, one.entry_id, one.at, kind, within_s)
            return self._wishes.granted(change, handoff.noticed(change.after, post, now), now)
        return self._wishes.granted(change, handoff.heard(change.after, leg, one.text, now), now)

    async def deleted(self, leg: str, item: str) -> None:
        """The author deleted something; perhaps the post that a handoff is about."""
        if found := await self._conversations.locate(leg):
            await self._until(found.id, lambda c, now: self._wishes.granted(Change(c), handoff.deleted(c, item, now), now))

    # -- invitations that come back

    async def tapped(self, ref: str) -> None:
        if ref.startswith(OFFER):
            offer = ref.removeprefix(OFFER)
            for found in (await self._conversations.store.with_offer(offer))[:1]:
                await self._until(found.id, lambda c, now: self._wishes.granted(Change(c), offers.tapped(c, offer, now), now))

    async def redeem(self, tenant: str, one: Input) -> None:
        """A message that carries an invitation's code or token attaches its leg, before it is put anywhere."""
        for offer, holder in await self._offers_in(tenant, one.text):
            await self._redeem(offer, holder, one)

    @staticmethod
    def may_carry(text: str) -> bool:
        """Whether it is worth looking closer."""
        return text.startswith(OFFER) or may_hold_any(text)

    async def _offers_in(self, tenant: str, text: str) -> list[tuple[str, str]]:
        """(offer, conversation) of every invitation of ours that a text carries."""
        store, found = self._conversations.store, list[tuple[str, str]]()
        if text.startswith(OFFER):
            name = text.removeprefix(OFFER)
            found += [(name, c.id) for c in (await store.with_offer(name))[:1] if c.tenant == tenant]
        for code in codes_in(text):
            for hashed in self._links.keys.code_hashes(tenant, code):
                for c in (await store.with_code(tenant, hashed))[:1]:
                    found += [(o.id, c.id) for o in c.offers if o.code == hashed]
        for token in tokens_in(text):
            if issued := self._links.keys.opened(token, tenant):
                found += [(issued.id, c.id) for c in (await store.with_token(issued.token_hash))[:1]]
        return list(dict.fromkeys(found))

    async def _redeem(self, offer: str, holder: str, one: Input) -> None:
        """First the offer says who used it, then the leg is brought here: so a leg is never on its way to a conversation whose
        invitation somebody else has used. After a crash between the two, the same input finds itself and goes on."""
        while True:
            c = await self._conversations.survivor(holder)
            if c is None or (mine := _offer(c, offer)) is None:
                return
            if mine.state == "used" and (mine.leg, mine.input) == (one.leg.key, one.id):
                await self._bring(c, mine, one)
                return
            found = await self._conversations.locate(one.leg.key)
            elsewhere = found.id if found and found.state == "open" and found.id != c.id else None
            if c.state != "open":
                return  # over: the message goes where its leg belongs
            now = self._conversations.now()
            step = offers.redeemed(c, offer, offers.Redeemer(one.leg, one.id, one.leg.proof, elsewhere), now).step
            if step is None:
                return
            await self._write(c, self._wishes.granted(Change(c), step, now), now)

    async def _bring(self, c: Conversation, mine: Offer, one: Input) -> None:
        if mine.proof and c.state == "open" and c.leg(one.leg.key) is None:
            await self._conversations.bring(one.leg, c)

    # -- what became of our messages

    async def sent(self, outbound: str, at: datetime) -> Conversation | None:
        def decide(c: Conversation, now: datetime) -> Change:
            change = sending.sent(Change(c), outbound, at)
            return self._wishes.granted(change, inviting.settled(change.after, outbound, "sent", self._links, now), now)

        return await self._of_send(outbound, decide)

    async def lost(self, outbound: str, fate: Literal["failed", "refused"], then: str = "nothing") -> None:
        """It will never be there. One that was stopped is told as such to the step that waits for it."""

        def decide(c: Conversation, now: datetime) -> Change:
            send = sending.send_of(c, outbound)
            what: inviting.Fate = "stopped" if send and send.state == "stopped" else "failed"
            change = sending.unsent(Change(c), outbound)
            step = inviting.settled(change.after, outbound, what, self._links, now, then)
            return self._wishes.granted(change, step, now)

        await self._of_send(outbound, decide)

    async def unknown(self, outbound: str) -> None:
        await self._of_send(
            outbound,
            lambda c, now: self._wishes.granted(Change(c), inviting.settled(c, outbound, "unknown", self._links, now), now),
        )

    async def _of_send(self, outbound: str, decide: Decide) -> Conversation | None:
        for found in (await self._conversations.store.with_send(outbound))[:1]:
            return await self._until(found.id, decide)
        return None

    # -- one decision, until it is written

    async def _until(self, conversation: str, decide: Decide) -> Conversation | None:
        while (c := await self._conversations.survivor(conversation)) is not None:
            now = self._conversations.now()
            if after := await self._write(c, decide(c, now), now):
                return after
        return None

    async def _write(self, c: Conversation, change: Change, now: datetime) -> Conversation | None:
        if change.after == c:
            return c
        ready = Change(unfinished(change.after, now), change.outputs) if change.outputs else change
        after = await self._conversations.change(c, ready)
        if after:
            await self._conversations.publish((after,))
        return after

    # -- time

    def clock(self) -> Clock:
        def fire(change: Change, now: datetime) -> Change:
            return self._wishes.granted(change, handoff.ticked(change.after, now), now)

        return Clock(handoff.due, fire)


def _offer(c: Conversation, offer: str) -> Offer | None:
    return next((one for one in c.offers if one.id == offer), None)
