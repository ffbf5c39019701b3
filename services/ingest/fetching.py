"""Asking for what a notification only names. A channel yields a Fetch; it is kept, sealed, until its answer is on the log.

Kept before the notification is answered, so a crash loses none. Several processes may work: a fetch is claimed by moving its
due time, and a claim whose process died falls due again. An answer taken twice has the same event ids.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from services.common.errors import Away, StoreAway
from services.common.http import Answer, AnswerLost, Http, NotSent, TooLarge
from services.common.logs import log
from services.common.mongo import ASCENDING, Document, Mongo, UpdateOne, bulk, reaching
from services.common.vault import Unsealable, Vault
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Fetch, Outcome, Raw
from services.ingest.intake import Intake, aside

TRIES = 12
LEASE = timedelta(seconds=60)
MAX_ANSWER = 5_000_000
AT_ONCE = 8


def wait_for(tries: int, retry_after: str = "") -> timedelta:
    """How long to wait before the next try: what the provider says, else doubling from two seconds up to an hour."""
    if retry_after.isdecimal():
        return timedelta(seconds=min(int(retry_after), 24 * 3600))
    return timedelta(seconds=min(2.0**tries, 3600))


def final(answer: Answer) -> bool:
    """Whether asking again would change nothing."""
    return answer.status != 429 and answer.status < 500


def raw_of(document: Document, answer: Answer, url: str, now: datetime) -> Raw:
    """The answer as an input of its own, by the door that the channel named."""
    kept = {name: answer.headers[name] for name in ("content-type", "etag", "last-modified", "date") if name in answer.headers}
    headers = {**kept, "hilo-fetch": document["fetch"], "hilo-status": str(answer.status)}
    return Raw(answer.body, headers, method="GET", url=url, received_at=now, door=document["door"])


class Fetches:
    """What is to be asked for, and the loop that asks."""

    def __init__(self, mongo: Mongo, vault: Vault, http: Http, accounts: Accounts, *, idle_s: float = 1) -> None:
        self._fetches = mongo.database("ingest")["fetches"]
        self._vault, self._http, self._accounts, self._idle_s = vault, http, accounts, idle_s
        self._new = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        async with reaching():
            await self._fetches.create_index([("due_at", ASCENDING)], name="due")

    async def stop(self) -> None:
        self._stopping = True
        self._new.set()

    async def keep(self, account: Connected, fetches: Sequence[Fetch]) -> None:
        """Returns once they are kept. Raises StoreAway."""
        now = datetime.now(UTC)
        changes = []
        for fetch in fetches:
            place = f"{account.tenant}\x00{account.channel.name}\x00{account.id}\x00{fetch.door}\x00{fetch.id}"
            request = fetch.request
            content = {"method": request.method, "url": request.url, "headers": dict(request.headers)}
            content["body"] = base64.b64encode(request.body).decode()
            document = {
                "tenant": account.tenant,
                "channel": account.channel.name,
                "account": account.id,
                "door": fetch.door,
                "fetch": fetch.id,
                "request": self._vault.seal(place, json.dumps(content).encode()),
                "due_at": now,
                "tries": 0,
            }
            changes.append(UpdateOne({"_id": place}, {"$set": document}, upsert=True))
        await bulk(self._fetches, changes)
        self._new.set()

    async def run(self, intake: Intake) -> None:
        """Until `stop`. What is away is waited for."""
        while not self._stopping:
            try:
                self._new.clear()
                claimed = await self._claim()
                await asyncio.gather(*(self._one(document, intake) for document in claimed))
            except Away as error:
                log().warning("away", part=error.part, reason=str(error))
                claimed = []
            if not claimed and not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._new.wait(), self._idle_s)

    async def _claim(self) -> list[Document]:
        claimed: list[Document] = []
        while len(claimed) < AT_ONCE:
            now = datetime.now(UTC)
            change = {"$set": {"due_at": now + LEASE}, "$inc": {"tries": 1}}
            async with reaching():
                found = await self._fetches.find_one_and_update(
                    {"due_at": {"$lte": now}}, change, sort=[("due_at", ASCENDING)], return_document=True
                )
            if found is None:
                break
            claimed.append(found)
        return claimed

    async def _one(self, document: Document, intake: Intake) -> None:
        try:
            sharing = await self._accounts.sharing(document["channel"], document["account"])
            request = json.loads(self._vault.open(document["_id"], bytes(document["request"])))
        except (AccountBroken, Unsealable) as error:
            await self._later(document, wait_for(document["tries"]), str(error))
            return
        if not sharing:  # the account was removed: there is nobody to ask for it
            await self._done(document)
            return
        answer, why = await self._ask(request)
        last = document["tries"] >= TRIES
        if (answer is None or not final(answer)) and not last:
            await self._later(
                document, wait_for(document["tries"], answer.headers.get("retry-after", "") if answer else ""), why
            )
            return
        raw = raw_of(document, answer or Answer(0), request["url"], datetime.now(UTC))
        try:
            await intake.take(sharing, raw, outcome=self._refused(raw, answer, why))
        except Away as error:
            await self._later(document, timedelta(seconds=2), str(error))
            return
        await self._done(document)

    def _refused(self, raw: Raw, answer: Answer | None, why: str) -> Outcome | None:
        """An answer that is none is kept and set aside, so that what was named is not lost without a trace."""
        return None if answer and 200 <= answer.status < 300 else aside(raw, f"fetch failed: {why}", "fetch")

    async def _ask(self, request: dict[str, Any]) -> tuple[Answer | None, str]:
        body = base64.b64decode(request["body"])
        try:
            answer = await self._http.provider(
                request["method"], request["url"], request["headers"], body, guarded=True, max_bytes=MAX_ANSWER
            )
        except TooLarge:
            return Answer(413), f"the answer has more than {MAX_ANSWER} bytes"
        except (NotSent, AnswerLost) as error:
            return None, f"no answer: {error}"
        return answer, f"answered {answer.status}"

    async def _later(self, document: Document, wait: timedelta, why: str) -> None:
        log().warning("fetch_later", channel=document["channel"], account=document["account"], reason=why[:100])
        due = {"$set": {"due_at": datetime.now(UTC) + wait}}
        with suppress(StoreAway):  # its lease runs out by itself
            async with reaching():
                await self._fetches.update_one({"_id": document["_id"], "tries": document["tries"]}, due)

    async def _done(self, document: Document) -> None:
        """Deleted only if nobody asked for it again meanwhile."""
        with suppress(StoreAway):
            async with reaching():
                await self._fetches.delete_one({"_id": document["_id"], "tries": document["tries"]})
