"""What the router does with the records of its topics. A return means that every effect is durable; records may come again,
in any number and from any earlier point, and change nothing the second time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from services.common import metrics
from services.common.cloudevents import Event, Record
from services.common.events import (
    ConsentGiven,
    ConsentWithdrawn,
    CustomerChanged,
    Data,
    IdentityMapped,
    JourneyStep,
    MessageDeleted,
    MessageFailed,
    MessageRefused,
    MessageSent,
    MessageUnknown,
    ReferralFollowed,
    Said,
)
from services.common.identifiers import entry_id
from services.common.kafka import DeadLetters, Publisher, read
from services.common.topics import CONVERSATION_EVENTS
from services.router import conversations as decide
from services.router.directory import Directory
from services.router.handoffs import Handoffs
from services.router.inputs import appended, as_input, as_referral, leg_of
from services.router.outputs import Change
from services.router.people import Parties, People, facts_of
from services.router.placing import Placer
from services.router.protocol import Conversations
from services.router.state import Conversation, milliseconds
from services.router.stores import Known
from services.router.together import all_of

GROUP = "router"


class CustomerEvents:
    """hilo.customer.events: words open and continue conversations, the fate of our messages is noted."""

    def __init__(
        self,
        conversations: Conversations,
        directory: Directory,
        people: People,
        parties: Parties,
        handoffs: Handoffs,
        publisher: Publisher,
        dead: DeadLetters,
    ) -> None:
        self._conversations, self._directory, self._people, self._parties = conversations, directory, people, parties
        self._handoffs, self._publisher, self._dead = handoffs, publisher, dead
        self._placer = Placer(conversations, handoffs.heard)

    async def __call__(self, records: Sequence[Record]) -> None:
        events = [event for _, event in await read(records, self._dead, GROUP)]
        await self._note(events)
        live = [event for event in events if event.origin == "live"]
        news = await self._place(live)
        found = await all_of(*(self._fact(event) for event in live if not isinstance(event.data, Said)))
        found += await all_of(*(self._old(event) for event in events if event.origin != "live"))
        await self._publisher.emit(CONVERSATION_EVENTS, news + [one for one in found if one])
        now, age = datetime.now(UTC), metrics.EVENT_AGE.labels("router")
        for event in live:
            if isinstance(event.data, Said):
                age.observe(max(0.0, (now - event.data.received_at).total_seconds()))

    async def _note(self, events: Sequence[Event[Data]]) -> None:
        """Who people are, for the check of public texts and for writing first; also from before they wrote."""
        by_tenant: dict[str, list[Event[Data]]] = {}
        for event in events:
            by_tenant.setdefault(event.tenant, []).append(event)
        for tenant, ones in by_tenant.items():
            spoken = [e.data for e in ones if isinstance(e.data, Said | JourneyStep)]
            told = [(data.sender.id, facts_of(data)) for data in spoken]
            told += [(also.identifier, ()) for data in spoken for also in data.sender.also]
            await self._people.note(tenant, [(who, facts) for who, facts in told if who.key])

    async def _place(self, events: Sequence[Event[Data]]) -> list[Event[Data]]:
        pairs = [(event, one) for event in events if (one := as_input(event, self._directory, self._parties))]
        carrying = [(event, one) for event, one in pairs if one.kind == "said" and self._handoffs.may_carry(one.text)]
        await all_of(*(self._handoffs.redeem(event.tenant, one) for event, one in carrying))
        placed = await self._placer.place([one for _, one in pairs])
        return [
            appended(event, one.entry_id, where.conversation, one.leg.key)
            for (event, one), where in zip(pairs, placed, strict=True)
        ]

    async def _old(self, event: Event[Data]) -> Event[Data] | None:
        """Imported or replayed: belongs to the leg's conversation if there is one, and changes nothing there."""
        one = as_input(event, self._directory, self._parties)
        if one is None or (holder := await self._conversations.locate(one.leg.key)) is None:
            return None
        return appended(event, one.entry_id, holder, one.leg.key)

    async def _fact(self, event: Event[Data]) -> Event[Data] | None:
        match event.data:
            case MessageSent(outbound_id=str(outbound)) as data:
                return await self._sent(event, data, outbound)
            case MessageFailed(outbound_id=str(outbound)) as data:
                await self._handoffs.lost(outbound, "failed", data.then)
            case MessageRefused(outbound_id=str(outbound)):
                await self._handoffs.lost(outbound, "refused")
            case MessageUnknown(outbound_id=str(outbound)):
                await self._handoffs.unknown(outbound)
            case MessageDeleted() as data if leg := leg_of(event, data, self._directory):
                await self._handoffs.deleted(leg, data.provider_id)
            case ReferralFollowed(sender=None) as data:
                await self._handoffs.tapped(data.ref)
            case ReferralFollowed() as data if one := as_referral(event, data, self._directory, self._parties):
                await self._handoffs.redeem(event.tenant, one)
            case ConsentGiven() | ConsentWithdrawn() as data:
                await self._consent(event, data)
        return None

    async def _sent(self, event: Event[Data], data: MessageSent, outbound: str) -> Event[Data] | None:
        """Ours, sent by the worker; the conversation that asked for it is also the one it belongs to."""
        at = milliseconds(data.at or data.received_at)
        holder = await self._handoffs.sent(outbound, at) if data.piece >= data.pieces else None
        leg = leg_of(event, data, self._directory)
        holder = holder or (await self._conversations.locate(leg) if leg else None)
        if holder is None or leg is None:
            return None
        return appended(event, entry_id(event.tenant, event.channel, event.account, data.provider_id), holder, leg)

    async def _consent(self, event: Event[Data], data: ConsentGiven | ConsentWithdrawn) -> None:
        at = milliseconds(data.at or data.received_at)
        place = f"{event.channel}/{event.account}"
        await self._people.consent(event.tenant, data.sender.id, place, at, given=isinstance(data, ConsentGiven))


class MapRecords:
    """hilo.identity.map: every record is a reason to look whether conversations still fit the customers."""

    def __init__(self, conversations: Conversations, dead: DeadLetters) -> None:
        self._conversations, self._dead = conversations, dead

    async def __call__(self, records: Sequence[Record]) -> None:
        newest: dict[str, IdentityMapped] = {}
        for _, event in await read(records, self._dead, GROUP):
            data = event.data
            if isinstance(data, IdentityMapped):
                known = newest.get(data.identifier)
                if known is None or known.version < data.version:
                    newest[data.identifier] = data
        await all_of(*(self._learn(data) for data in newest.values()))

    async def _learn(self, data: IdentityMapped) -> None:
        await self._conversations.learned(data.identifier, Known(None if data.erased else data.customer_id, data.version))


class Erasures:
    """hilo.identity.changes: what an erased customer leaves behind here is taken out."""

    def __init__(self, conversations: Conversations, people: People, dead: DeadLetters) -> None:
        self._conversations, self._people, self._dead = conversations, people, dead

    async def __call__(self, records: Sequence[Record]) -> None:
        for _, event in await read(records, self._dead, GROUP):
            if isinstance(event.data, CustomerChanged) and event.data.type == "hilo.customer.erased.v1":
                for identifier in event.data.identifiers:
                    await self._forget(identifier)

    async def _forget(self, identifier: str) -> None:
        await self._people.forget(identifier)
        for found in await self._conversations.store.of_identifier(identifier):
            c: Conversation | None = found
            while c is not None and (change := decide.forgotten(c, identifier)) is not None:
                if await self._conversations.change(c, Change(change.after)):
                    break
                c = await self._conversations.find(c.id)
