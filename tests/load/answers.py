"""An agent answers private conversations while the load runs, so that sends are there to be doubled when a worker is killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from email.message import EmailMessage
from typing import Any

from deploy.local import casa
from deploy.local.stack import Stack
from services.common.errors import ServiceAway
from services.common.http import Answer, Http
from services.simulator.app import Simulator
from services.simulator.visitor import Visitor
from tests.load.readback import Reading

AT_ONCE = 8
SETTLED = frozenset(("sent", "failed", "refused", "unknown"))


class Answers:
    """`accepted`: the text behind each outbound id that the router answered 200. `refused` counts other answers by status."""

    def __init__(self, stack: Stack, http: Http, reading: Reading, key: str, many: int) -> None:
        self._stack, self._http, self._reading, self._key, self._many = stack, http, reading, key, many
        self._tried: set[str] = set()
        self.accepted: dict[str, str] = {}
        self.refused: Counter[int] = Counter()

    async def run(self, sent_all: asyncio.Event) -> None:
        """Each open conversation once, until enough are answered; at most so long after the last message was sent."""
        last_look = float("inf")
        while len(self.accepted) < self._many and time.monotonic() < last_look:
            found = await self._open()
            while found and (left := self._many - len(self.accepted)) > 0:
                some, found = found[: min(left, AT_ONCE)], found[min(left, AT_ONCE) :]
                await asyncio.gather(*map(self._answer, some))
            if sent_all.is_set() and last_look == float("inf"):
                last_look = time.monotonic() + 120
            await asyncio.sleep(0.3)

    async def _open(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = ""
        while len(found) < self._many:
            status, page = await self._reading.get(f"/v1/conversations?view=open&limit=100{before}")
            assert status == 200, (status, page)
            found += [one for one in page["items"] if one["id"] not in self._tried]
            if page["older"] is None:
                break
            before = f"&before={page['older']}"
        return found

    async def _answer(self, one: dict[str, Any]) -> None:
        """With what was seen last; whoever wrote meanwhile is read first, as an agent would."""
        leg = next((leg for leg in one["head"]["legs"] if leg["visibility"] == "private" and leg["held"]), None)
        if leg is None or one["last"] is None:
            return
        self._tried.add(one["id"])
        text = f"Respuesta {len(self._tried)}."
        for attempt in range(5):
            body = {"leg": leg["key"], "text": text, "saw": one["last"]["id"]}
            answer = await self._command(one["id"], f"load-{one['id']}-{attempt}", body)
            if answer.status == 200:
                self.accepted[answer.json()["outbound_id"]] = text
                return
            if answer.status != 409:
                break
            _, one = await self._reading.get(f"/v1/conversations/{one['id']}")
        self.refused[answer.status] += 1

    async def _command(self, conversation: str, key: str, body: dict[str, Any]) -> Answer:
        """The router's answer; while it is being started again, the same command with the same key."""
        url = self._stack.url("router", f"/v1/conversations/{conversation}/messages")
        deadline = time.monotonic() + 120
        while True:
            try:
                headers = {"idempotency-key": key}
                return await self._http.service("POST", url, casa.TENANT, body, credential=self._key, headers=headers, tries=3)
            except ServiceAway:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def settled(self, within_s: float) -> Counter[str]:
        """Wait until the send journal knows the fate of each. How many are in which state."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + within_s
        while (waiting := self.accepted.keys() - states.keys()) and time.monotonic() < deadline:
            for outbound in waiting:
                url = self._stack.url("outbound", f"/v1/sends/{outbound}")
                answer = await self._http.service("GET", url, casa.TENANT, credential=self._key, tries=5)
                if answer.status == 200 and answer.json()["state"] in SETTLED:
                    states[outbound] = answer.json()["state"]
            await asyncio.sleep(0.3)
        return Counter(states.get(outbound, "waiting") for outbound in self.accepted)

    def read_by_customers(self, simulator: Simulator, visitors: Iterable[Visitor]) -> Counter[str]:
        """How often each of our texts reached a customer, as platforms, mail servers and visitors' browsers took it."""
        taken = [str(one.body) for one in simulator.sends.taken if one.platform != "email"]
        taken += [_plain(mail) for mail in simulator.mailbox.mails]
        taken += [str(frame) for visitor in visitors for frame in visitor.received if frame.get("type") == "message"]
        return Counter({text: sum(text in one for one in taken) for text in self.accepted.values()})


def _plain(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    return str(body.get_content()) if body else ""
