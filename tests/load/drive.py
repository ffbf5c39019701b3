"""Sends the plan through the public doors, as the platforms do, and notes what was answered 200 and when."""

from __future__ import annotations

import asyncio
import contextlib
import email.policy
import smtplib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

import aiohttp
import orjson

from services.simulator import mail, wire
from services.simulator.accounts import Accounts
from services.simulator.visitor import Visitor
from tests.load.plan import Message, Person, bare, sendings
from tests.load.posting import Away, Posting, request


@dataclass
class Sent:
    """`promised`: provider ids answered 200, by person. `began` and `seen`: when an id was first sent, and pushed to us.
    `written`: where an id stands in its sender's own order, in seconds for what carries the sender's time, else counted."""

    promised: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    written: dict[str, int] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    delivered: int = 0
    retries: int = 0

    def latencies_ms(self) -> list[float]:
        return [(self.seen[one] - at) * 1000 for one, at in self.began.items() if one in self.seen]


@dataclass(frozen=True, slots=True)
class Webhook:
    """Written and signed before the clock starts. `ids` are those of its messages."""

    messages: Sequence[Message]
    ids: Sequence[str]
    url: str
    request: bytes


class _Mailing:
    """One SMTP connection, opened when it is needed."""

    def __init__(self) -> None:
        self._smtp: smtplib.SMTP | None = None

    def handed_over(self, server: str, sender: str, to: str, content: bytes) -> bool:
        try:
            if self._smtp is None:
                host, _, port = server.partition(":")
                self._smtp = smtplib.SMTP(host, int(port), timeout=30)
            self._smtp.sendmail(sender, [to], content)
            return True
        except (smtplib.SMTPException, OSError):
            if self._smtp:
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    self._smtp.close()
            self._smtp = None
            return False

    def quit(self) -> None:
        if self._smtp:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self._smtp.quit()


class Driver:
    """Some HTTP and SMTP connections, a socket a visitor: who is slow on one door holds up no other. Webhooks are
    sent again until they are answered 2xx.

    `progress` goes from 0 to 1. What comes after `LAST` waits for `go_on`, so that faults fall into the run and not behind it.
    """

    LAST = 0.9

    def __init__(self, accounts: Accounts, *, duplicates: float, reorder: float, rate: float) -> None:
        self._accounts, self._duplicates, self._reorder, self._rate = accounts, duplicates, reorder, rate
        self.sent = Sent()
        self.progress = 0.0
        self.go_on = asyncio.Event()
        self._webhooks, self._chats, self._mails = asyncio.Semaphore(48), asyncio.Semaphore(32), asyncio.Semaphore(4)
        self._mailing = [_Mailing() for _ in range(4)]
        self.visitors: dict[Person, Visitor] = {}

    def ordered(self, batches: Sequence[Sequence[Message]]) -> list[Webhook | Message]:
        """What to send, in the order in which the network brings it: some of it late, some twice."""
        return sendings([self._prepared(batch) for batch in batches], duplicates=self._duplicates, reorder=self._reorder)

    async def run(self, ordered: Sequence[Webhook | Message]) -> None:
        """Send all of it; returns when each was answered 2xx."""
        async with Posting() as self._posting, asyncio.TaskGroup() as tasks:
            began, number = time.perf_counter(), 0
            for place, one in enumerate(ordered):
                self.progress = place / len(ordered)
                if self.progress >= self.LAST:
                    await self.go_on.wait()
                if isinstance(one, Webhook):
                    await self._webhooks.acquire()
                    tasks.create_task(self._by_webhook(one))
                    number += len(one.ids)
                else:
                    tasks.create_task(self._by_mail(one) if one.person.channel == "email" else self._by_chat(one))
                    number += 1
                if self._rate and (ahead := number / self._rate - (time.perf_counter() - began)) > 0:
                    await asyncio.sleep(ahead)
        self.progress = 1.0

    async def warm(self, ordered: Sequence[Webhook | Message], within_s: float = 120) -> None:
        """Send these, wait until each was pushed, and forget when they were sent: what first contacts and a cold start cost
        is in no figure. They are accounted for like all others."""
        self.go_on.set()
        await self.run(ordered)
        async with asyncio.timeout(within_s):
            while self.sent.began.keys() - self.sent.seen.keys():
                await asyncio.sleep(0.1)
        self.sent.began.clear()
        self.go_on.clear()
        self.progress = 0.0

    async def close(self) -> None:
        for one in self._mailing:
            one.quit()
        for visitor in self.visitors.values():
            await visitor.close()

    # -- webhooks

    def _prepared(self, batch: Sequence[Message]) -> Webhook | Message:
        if batch[0].person.channel in ("email", "webchat"):
            return batch[0]
        url, headers, body = self._request(batch)
        return Webhook(batch, [self.provider_id(message) for message in batch], url, request(url, headers, body))

    async def _by_webhook(self, one: Webhook) -> None:  # its slot was taken before
        try:
            self._begin(one.ids)
            wait = 0.1
            while not await self._posted(one):
                self.sent.retries += 1
                await asyncio.sleep(wait)
                wait = min(wait * 2, 3)
            self._promise(one.messages, one.ids)
        finally:
            self._webhooks.release()

    async def _posted(self, one: Webhook) -> bool:
        try:
            return 200 <= await self._posting.status(one.url, one.request) < 300
        except Away:
            return False

    def _request(self, batch: Sequence[Message]) -> tuple[str, Mapping[str, str], bytes]:
        first = batch[0]
        match first.person.channel:
            case "whatsapp":
                account = self._accounts.whatsapp[0]
                contacts = [wire.whatsapp_contact(f"Persona {p.number}", p.phone, p.user_id) for p in {m.person for m in batch}]
                messages = [
                    wire.whatsapp_message(
                        self.provider_id(m), m.at, m.person.phone, m.person.user_id, {"type": "text", "text": {"body": m.text}}
                    )
                    for m in batch
                ]
                value = wire.whatsapp_value(account.phone_number_id, contacts, messages=messages)
                body = wire.as_meta_writes(wire.whatsapp_body([value]))
                return account.webhook, wire.meta_headers(body, account.app_secret), body
            case "instagram":
                ig = self._accounts.instagram[0]
                content = {"mid": self.provider_id(first), "text": first.text}
                direct = wire.instagram_direct(f"ig{first.person.number}", ig.ig_id, first.at * 1000, message=content)
                body = wire.as_meta_writes(wire.instagram_body(ig.ig_id, first.at, messaging=[direct]))
                return ig.webhook, wire.meta_headers(body, ig.app_secret), body
            case _:
                bot = self._accounts.telegram[0]
                user = 50_000 + first.person.number
                message = wire.telegram_message(
                    first.place + 1, first.at, user, f"Persona {first.person.number}", {"text": first.text}
                )
                body = wire.telegram_body(100_000 + first.number, "message", message)
                return bot.webhook, wire.telegram_headers(bot.webhook_secret), body

    def provider_id(self, message: Message) -> str:
        match message.person.channel:
            case "whatsapp":
                return f"wamid.load.{message.number}"
            case "instagram":
                return f"mid.load.{message.number}"
            case "telegram":
                return f"{50_000 + message.person.number}:{message.place + 1}"
            case "email":
                return f"<load.{message.number}@load.example>"
            case "webchat":
                return f"load-{message.number}"

    # -- mail and chat

    async def _by_mail(self, message: Message) -> None:
        account = self._accounts.email[0]
        identifier = self.provider_id(message)
        written = mail.written(
            account, message.person.address, f"Persona {message.person.number}", "Pedido", message.text, message_id=identifier
        )
        del written["Date"]
        written["Date"] = formatdate(message.at)
        written["Authentication-Results"] = "mx.hilo.test; dmarc=pass header.from=load.example"
        content = written.as_bytes(policy=email.policy.SMTP)
        async with self._mails:
            self._begin([identifier])
            mailing = self._mailing.pop()
            try:
                while not await asyncio.to_thread(
                    mailing.handed_over, account.smtp, message.person.address, account.address, content
                ):
                    self.sent.retries += 1
                    await asyncio.sleep(0.3)
            finally:
                self._mailing.append(mailing)
        self._promise([message], [identifier])

    async def _by_chat(self, message: Message) -> None:
        identifier = self.provider_id(message)
        async with self._chats:
            visitor = self.visitors.get(message.person)
            if visitor is None:
                visitor = self.visitors[message.person] = Visitor(self._accounts.webchat[0], visitor=message.person.visitor)
                await visitor.open()
            self._begin([identifier])
            self.sent.written.setdefault(identifier, len(self.sent.written))  # chat has no clock of its own: as it was said
            visitor.accepted.discard(identifier)
            await visitor.say(message.text, message_id=identifier)
            async with asyncio.timeout(300):
                while identifier not in visitor.accepted:
                    await asyncio.sleep(0.02)
        self._promise([message], [identifier])

    # -- the ledger of the client

    def _begin(self, ids: Sequence[str]) -> None:
        now = time.perf_counter()
        for one in ids:
            self.sent.began.setdefault(one, now)

    def _promise(self, batch: Sequence[Message], ids: Sequence[str]) -> None:
        for message, one in zip(batch, ids, strict=True):
            self.sent.written.setdefault(one, message.at)
            self.sent.promised[message.person.number].add(one)
            self.sent.delivered += 1


async def listen(url: str, key: str, sent: Sent, opened: asyncio.Event) -> None:
    """Read the live stream of the whole tenant until cancelled, resuming after every break, and note when each provider id was
    pushed first. `opened` is set once the stream is there."""
    last = ""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=40)
    while True:
        headers = {"authorization": f"Bearer {key}", **({"last-event-id": last} if last else {})}
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=headers) as response:
                if response.status == 200:
                    opened.set()
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    now = time.perf_counter()
                    for line in lines:
                        if line.startswith(b"id: "):
                            last = line[4:].decode()
                        elif line.startswith(b"data: ") and b'"provider_id"' in line:
                            entry = orjson.loads(line[6:])
                            if found := entry.get("provider_id"):
                                sent.seen.setdefault(bare(entry["channel"], found), now)
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(0.3)
