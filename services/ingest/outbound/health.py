"""Accounts that the provider refuses: their sends wait instead of failing one by one, and everybody is told once.

One document per account in `outbound_accounts`, changed by compare-and-set. While an account is broken, one try at a time is
let through: when the account was changed, else every `probe_s`. A declared health check is that try; where there is none,
one of the waiting messages is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.common import topics
from services.common.cloudevents import Event
from services.common.errors import BrokerAway
from services.common.events import AccountHealth
from services.common.http import AnswerLost, NotSent
from services.common.identifiers import entry_id, event_id
from services.common.kafka import Publisher
from services.common.logs import log
from services.common.mongo import ASCENDING, Document, DuplicateKeyError, Mongo, reaching
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Response
from services.ingest.outbound.call import Caller
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import later, milliseconds

State = Literal["ok", "broken"]


@dataclass(frozen=True, slots=True)
class Broken:
    reason: str
    check_at: datetime


class Health:
    """Every method raises StoreAway."""

    def __init__(self, mongo: Mongo, publisher: Publisher, journal: Journal, caller: Caller, *, probe_s: float = 60) -> None:
        self._accounts = mongo.database("ingest")["outbound_accounts"]
        self._publisher, self._journal, self._caller, self._probe_s = publisher, journal, caller, probe_s

    async def start(self) -> None:
        async with reaching():
            await self._accounts.create_index([("untold", ASCENDING)], name="untold", sparse=True)

    async def stop(self) -> None:
        pass

    async def broken(self, connected: Connected) -> Broken | None:
        async with reaching():
            found = await self._accounts.find_one({"_id": connected.stored.name, "state": "broken"})
        return Broken(found["reason"], found["check_at"]) if found else None

    async def refused(self, connected: Connected, reason: str, now: datetime) -> None:
        """The provider refuses the account. Told once, until it works again."""
        if await self._turn(connected, "broken", reason, now):
            log().error("account_refused", tenant=connected.tenant, channel=connected.channel.name, account=connected.id)
            await self.tell()

    async def works(self, connected: Connected, now: datetime) -> None:
        """Whatever waited for it is due."""
        if await self._turn(connected, "ok", "", now):
            await self._journal.release(connected.channel.name, connected.id, now)
            await self.tell()

    async def may_try(self, connected: Connected, now: datetime) -> bool:
        """Whether this caller is the one who tries a broken account now; everybody else waits for `check_at`."""
        due: list[Document] = [{"check_at": {"$lte": now}}, {"version": {"$ne": connected.stored.version}}]
        where = {"_id": connected.stored.name, "state": "broken", "$or": due}
        change = {"$set": {"check_at": later(now, self._probe_s), "version": connected.stored.version}}
        async with reaching():
            done = await self._accounts.update_one(where, change)
        return bool(done.modified_count)

    async def look_again(self, accounts: Accounts, now: datetime) -> None:
        """What waits for a broken account that was changed since is due: the first to come tries it."""
        async with reaching():
            found = await self._accounts.find({"state": "broken"}).to_list(1000)
        for one in found:
            try:
                account = await accounts.get(one["channel"], one["account"])
            except AccountBroken:
                continue
            if account and account.stored.version != one["version"]:
                await self._journal.release(one["channel"], one["account"], now)

    async def check(self, connected: Connected) -> bool | None:
        """Ask the provider whether the account works; None where the channel declares no such question."""
        declared = connected.channel.health
        if declared is None:
            return None
        try:
            answer = await self._caller.call(connected.channel.name, declared.request(connected.account))
        except (NotSent, AnswerLost):
            return False
        return healthy(answer) and not (declared.read and declared.read(answer))

    async def tell(self) -> None:
        """Publish every change that is not on hilo.events yet."""
        async with reaching():
            found = await self._accounts.find({"untold": {"$exists": True}}).to_list(100)
        for one in found:
            try:
                await self._publisher.emit(topics.EVENTS, [_event(one)])
            except BrokerAway:
                return
            async with reaching():
                await self._accounts.update_one({"_id": one["_id"], "untold": one["untold"]}, {"$unset": {"untold": ""}})

    async def _turn(self, connected: Connected, state: State, reason: str, now: datetime) -> bool:
        """Whether this changed anything. An account that nobody complained of has no document and counts as ok."""
        since = milliseconds(now)
        document: Document = {
            "tenant": connected.tenant,
            "channel": connected.channel.name,
            "account": connected.id,
            "state": state,
            "reason": reason[:500],
            "since": since,
            "untold": since,
            "check_at": later(now, self._probe_s),
            "version": connected.stored.version,
        }
        where = {"_id": connected.stored.name, "state": {"$ne": state}}
        async with reaching():
            try:
                done = await self._accounts.update_one(where, {"$set": document}, upsert=state == "broken")
            except DuplicateKeyError:  # it is in this state already
                return False
        return bool(done.modified_count or done.upserted_id)


def healthy(answer: Response) -> bool:
    return 200 <= answer.status < 300


def _event(d: Document) -> Event[AccountHealth]:
    provider_id = f"account:{d['since'].isoformat()}"
    names = (d["tenant"], d["channel"], d["account"], provider_id)
    return Event(
        id=event_id(*names, "account.health", d["state"]),
        tenant=d["tenant"],
        key=entry_id(*names),
        time=d["since"],
        data=AccountHealth(
            provider_id=provider_id, at=d["since"], received_at=d["since"], state=d["state"], reason=d["reason"]
        ),
        channel=d["channel"],
        account=d["account"],
    )
