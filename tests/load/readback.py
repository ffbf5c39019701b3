"""Reads everything back after it has become quiet: timelines through the API, arrivals and appends from the topics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from services.common import topics
from services.common.cloudevents import decode
from services.common.errors import ServiceAway
from services.common.events import MessageAppended, MessageReceived
from services.common.http import Http
from services.common.kafka import read_all
from services.common.settings import CommonSettings
from services.simulator.accounts import Accounts
from tests.load.plan import Person, bare
from tests.load.report import Seen


class Reading:
    def __init__(self, settings: CommonSettings, http: Http, tenant: str, key: str, scopes: dict[str, str]) -> None:
        self._settings, self._http, self._tenant, self._key, self._scopes = settings, http, tenant, key, scopes

    async def get(self, path: str) -> tuple[int, Any]:
        """The status and body of a read; a timeline that is restarting is waited for."""
        deadline = time.monotonic() + 60
        while True:
            try:
                url = self._settings.timeline_url + path
                answer = await self._http.service("GET", url, self._tenant, credential=self._key, tries=3)
                return answer.status, answer.json()
            except ServiceAway:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def entries_of(self, person: Person) -> list[Seen]:
        """Everything of a person that a channel named, oldest first."""
        scheme, value = person.identifier
        scope = self._scopes.get(scheme, "")
        status, found = await self.get(f"/v1/lookup?scheme={scheme}&value={quote(value)}&scope={quote(scope)}")
        if status == 404:
            return []
        assert status == 200, (status, found)
        seen: list[Seen] = []
        before = ""
        while True:
            path = f"/v1/customers/{found['customer_id']}/timeline?limit=200{before}"
            status, page = await self.get(path)
            assert status == 200, (status, page)
            seen += [_seen(item) for item in page["items"] if item["direction"] == "in" and item.get("provider_id")]
            if page["older"] is None:
                return seen[::-1]
            before = f"&before={page['older']}"

    async def everything(self, people: Iterable[Person]) -> dict[int, list[Seen]]:
        slots = asyncio.Semaphore(12)

        async def one(person: Person) -> tuple[int, list[Seen]]:
            async with slots:
                return person.number, await self.entries_of(person)

        return dict(await asyncio.gather(*(one(person) for person in people)))

    async def two_open(self) -> int:
        """Customers with more than one open conversation in a group."""
        counted: Counter[tuple[str, str]] = Counter()
        before = ""
        while True:
            status, page = await self.get(f"/v1/conversations?view=open&limit=100{before}")
            assert status == 200, (status, page)
            counted.update((one["head"]["customer_id"], one["head"].get("group", "")) for one in page["items"])
            if page["older"] is None:
                return sum(times - 1 for times in counted.values() if times > 1)
            before = f"&before={page['older']}"

    async def appended_above_one(self) -> int:
        """Entries to which messages were appended under more than one id: each would be shown twice."""
        ids: defaultdict[str, set[str]] = defaultdict(set)
        async for record in read_all(self._settings, topics.CONVERSATION_EVENTS):
            if record.attributes.get("type") == "hilo.message.appended.v1":
                event = decode(record)
                assert isinstance(event.data, MessageAppended)
                ids[event.data.entry_id].add(event.id)
        return sum(len(found) - 1 for found in ids.values() if len(found) > 1)

    async def arrived(self) -> Counter[str]:
        """How often each provider id came on hilo.events as a message that was received."""
        counted: Counter[str] = Counter()
        async for record in read_all(self._settings, topics.EVENTS):
            if record.attributes.get("type") == "hilo.message.received.v1":
                event = decode(record)
                assert isinstance(event.data, MessageReceived)
                counted[bare(event.channel or "", event.data.provider_id)] += 1
        return counted


def _seen(item: dict[str, Any]) -> Seen:
    return Seen(item["id"], bare(item["channel"], item["provider_id"]))


def scopes(accounts: Accounts, portfolio: str, site: str) -> dict[str, str]:
    """The scope in which each channel's identifiers stand."""
    return {"webchat": site, "whatsapp": portfolio, "instagram": accounts.instagram[0].ig_id}
