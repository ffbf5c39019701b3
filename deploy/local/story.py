"""Sixty seconds of Casa Lumbre: a complaint leaves the street without losing its thread. Only through public doors: signed
webhooks, SMTP, the chat's socket, the journey API, and the router's commands with an agent's key."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from deploy.local import casa
from deploy.local.stack import Stack
from services.common.http import Answer, Http
from services.simulator import mail, wire
from services.simulator.app import Simulator
from services.simulator.shop import Shop
from services.simulator.visitor import Visitor

Tell = Callable[[float, str, str, str, str], None]
MARTA_IG, MARTA_PHONE, MARTA_USER = "5712830094", "34612407782", "ES.1502576394655843"
MARTA_MAIL = "marta.ruiz@correo.example"
COMPLAINT = "Segundo hervidor Alba que se me rompe en un mes 😡 Y en la web nadie contesta. @casalumbre ¿hola?"
# What a camera writes at the beginning of an MP4 file, and enough after it to have a size.
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(2000)


@dataclass
class Missed(Exception):
    """A step that was not seen in time."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"{clock(self.at)} {self.what}"


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass
class Story:
    """Played step by step on a clock of its own; `faster` shortens the pauses, never the checks."""

    stack: Stack
    http: Http
    simulator: Simulator
    tell: Tell
    faster: float = 1.0
    patience_s: float = 30.0
    seen: int = 0
    refused: int = 0
    missed: list[Missed] = field(default_factory=list)
    conversation: str = ""
    _began: float = 0.0
    _waited: float = 0.0

    async def play(self) -> None:
        """The whole story. What is not seen in time is in `missed`; the story goes on."""
        self._began = time.monotonic()
        self.run = secrets.token_hex(3)
        self.visitor = Visitor(self.simulator.accounts.webchat[0])
        others = asyncio.create_task(self._others())
        for at, what, step in self._steps():
            await self._until(at)
            await self._step(at, what, step)
        await others

    def _steps(self) -> list[tuple[float, str, Callable[[], Awaitable[tuple[str, str, str, str]]]]]:
        return [
            (0, "web journey", self._before),
            (5, "instagram complaint", self._complains),
            (12, "composer refused", self._is_refused),
            (18, "instagram private reply", self._invites),
            (19, "instagram public reply", self._answers_in_public),
            (28, "handoff claimed", self._link_is_opened),
            (34, "whatsapp proven", self._comes_over),
            (40, "whatsapp video", self._sends_a_video),
            (48, "email", self._mails),
            (55, "instagram closed in public", self._closes),
        ]

    async def _step(self, at: float, what: str, step: Callable[[], Awaitable[tuple[str, str, str, str]]]) -> None:
        try:
            async with asyncio.timeout(self.patience_s):
                where, how, who, text = await step()
        except TimeoutError:
            self.missed.append(Missed(at, f"{what}: not on the timeline after {self.patience_s:.0f} s"))
            self.tell(at, *what.partition(" ")[::2], "", "not seen")
            return
        if how != "refused":
            self.seen += 1
        self.tell(at, where, how, who, text)

    async def _until(self, at: float) -> None:
        left = at / self.faster - (time.monotonic() - self._began)
        await asyncio.sleep(max(0.0, left))

    # -- the steps

    async def _before(self) -> tuple[str, str, str, str]:
        """She looked at a help page and left a cart; weeks ago she had ordered, and the shop signs whose order it was."""
        me = {"scheme": "webchat", "value": visitor_id(self.visitor.visitor), "scope": casa.SITE}
        her = [me, {"scheme": "email", "value": MARTA_MAIL}, {"scheme": "tel", "value": f"+{MARTA_PHONE}"}]
        now = datetime.now(UTC).isoformat()

        def step(name: str, kind: str, title: str, identities: list[dict[str, str]], **data: str) -> dict[str, Any]:
            return {"id": f"{name}-{self.run}", "type": kind, "at": now, "identities": identities, "title": title, "data": data}

        await Shop(self.simulator.accounts.journey[0], self.http).report(
            step("order-48213", "order.delivered", "Hervidor Alba 1,7 L", her, order="48213", total="39,90 €"),
            step("faq", "faq.viewed", "No enciende", [me]),
            step("product", "page.viewed", "Alba 1,7 L", [me]),
            step("cart", "cart.abandoned", "Base de hervidor", [me]),
        )
        await self._history(lambda e: e["kind"] == "journey" and e["data"].get("title") == "No enciende")
        return "web", "journey", "", 'help page "No enciende", unfinished cart'

    async def _complains(self) -> tuple[str, str, str, str]:
        account = self.simulator.accounts.instagram[0]
        comment = self.simulator.instagram.comment(account, MARTA_IG, "martaruiz.cocina", COMPLAINT)
        self.comment = comment
        found = await self._find(lambda e: e.get("provider_id") == comment)
        self.conversation = found["conversation_id"]
        return "instagram", "PUBLIC", "Marta", "Segundo hervidor Alba que se me rompe en un mes…"

    async def _is_refused(self) -> tuple[str, str, str, str]:
        leg = await self._leg("instagram", "public")
        text = "Lo sentimos mucho, Marta. ¿Es el pedido 48213, el del 612 40 77 82?"
        answer = await self._command("messages", {"leg": leg["key"], "text": text, **await self._version()})
        found = {one["kind"]: one["text"] for one in answer.json().get("found", ())} if answer.status == 422 else {}
        if found.get("order") == "48213" and "phone" in found:
            self.refused += 1
        else:
            self.missed.append(Missed(12, f"composer refused: the router answered {answer.status} and found {found}"))
        return "composer", "refused", "Inés", "an order number in a public answer"

    async def _invites(self) -> tuple[str, str, str, str]:
        private = "Hola, Marta. Soy Inés, de Casa Lumbre. Para verlo contigo sin contarlo en público, seguimos aquí o en WhatsApp: {link}"
        public = "Sentimos lo del hervidor, Marta. Te acabamos de escribir por privado para arreglarlo hoy. — Inés"
        body = {"private": [part(private)], "public": [part(public)], "targets": ["whatsapp/lumbre"], **await self._version()}
        await self._must("handoff/invite", body)
        sent = await self._find(
            lambda e: e["direction"] == "out" and e["visibility"] == "private" and e["status"] in ("sent", "delivered", "read")
        )
        self.link = re.search(r"https?://\S+/go/\S+", sent["text"] or "")
        return "instagram", "private", "Inés", "Para verlo contigo sin contarlo en público…"

    async def _answers_in_public(self) -> tuple[str, str, str, str]:
        await self._find(
            lambda e: e["direction"] == "out" and e["visibility"] == "public" and e["status"] in ("sent", "delivered", "read")
        )
        return "instagram", "PUBLIC", "Inés", "Te acabamos de escribir por privado…"

    async def _link_is_opened(self) -> tuple[str, str, str, str]:
        """A preview fetches the page first, which must change nothing; then somebody taps it."""
        assert self.link, "the private message carries no link"
        url = self.link[0]
        await self.http.provider("GET", url)
        shown = await self.http.provider("GET", url, {"accept-language": "es"})
        choice = re.search(r'<button name="to" value="([^"]+)"', shown.body.decode())
        assert choice, f"the page has no button: {shown.status} {shown.body.decode()[-400:]} {url}"
        body = f"to={quote(choice[1])}".encode()
        tapped = await self.http.provider("POST", url, {"content-type": "application/x-www-form-urlencoded"}, body)
        self.target = tapped.headers.get("location", "")
        await self._head(lambda head: (head["handoff"] or {}).get("state") == "claimed")
        return "handoff", "claimed", "", "someone opened the link; nothing private is shown"

    async def _comes_over(self) -> tuple[str, str, str, str]:
        """WhatsApp opens with the code written for her; she adds a word and sends it."""
        prefilled = parse_qs(urlsplit(self.target).query).get("text", [""])[0]
        self.whatsapp(f"Hola, vengo de Instagram 🙂 {prefilled}")
        await self._head(lambda head: (head["handoff"] or {}).get("state") in ("proven", "private_active"))
        await self._find(lambda e: e["channel"] == "whatsapp" and e["direction"] == "in")
        return "whatsapp", "private", "Marta", "Hola, vengo de Instagram (proven: the code came back)"

    async def _sends_a_video(self) -> tuple[str, str, str, str]:
        identifier = self.simulator.whatsapp.media("video/mp4", VIDEO)
        file = {"id": identifier, "mime_type": "video/mp4", "caption": "Mirad, ni la luz se enciende"}
        sent = self.whatsapp(content={"type": "video", "video": file})
        await self._find(lambda e: e.get("provider_id") == sent and any(p.get("url") for p in e["parts"]))
        return "whatsapp", "private", "Marta", "video, 14 s"

    async def _mails(self) -> tuple[str, str, str, str]:
        """Inés writes first, to the address that the shop's signed order proved."""
        key = await self._identifier("email", MARTA_MAIL)
        where = {"channel": "email", "account": "hola", "leg": "mail", "identifier": key}
        await self._must("legs", {**where, **await self._version()})
        leg = await self._leg("email", "private")
        text = "Hola, Marta: tu hervidor nuevo va de camino. Sale hoy y llega el jueves, sin coste. Pedido de reposición 48377."
        await self._must("messages", {"leg": leg["key"], "text": text, **await self._version()})
        await self._find(lambda e: e["channel"] == "email" and e["direction"] == "out" and e["status"] in ("sent", "delivered"))
        return "email", "private", "Inés", "Tu hervidor nuevo va de camino"

    async def _closes(self) -> tuple[str, str, str, str]:
        text = "Resuelto con Marta por privado. Gracias por avisarnos."
        await self._must("handoff/close", {"parts": [part(text)], **await self._version()})
        await self._find(
            lambda e: e["visibility"] == "public" and e["direction"] == "out" and e["text"] == text and e["status"] == "sent"
        )
        await self._must("close", await self._version())
        await self._head(lambda head: head["state"] == "closed")
        return "instagram", "PUBLIC", "Inés", text

    def whatsapp(self, text: str = "", content: dict[str, Any] | None = None) -> str:
        account = self.simulator.accounts.whatsapp[0]
        said = content or {"type": "text", "text": {"body": text}}
        return self.simulator.whatsapp.receive(account, "Marta Ruiz", said, phone=MARTA_PHONE, user_id=MARTA_USER)

    # -- everybody else

    async def _others(self) -> None:
        """A shop has more than one customer; and one webhook holds a comment without its author, for the viewer to mend."""
        sim, accounts = self.simulator, self.simulator.accounts
        ig, wa, tg, box = accounts.instagram[0], accounts.whatsapp[0], accounts.telegram[0], accounts.email[0]
        voice = sim.telegram.file("nota.ogg", b"OggS" + bytes(500))

        def telegram(user: int, name: str, **content: Any) -> Callable[[], object]:
            return lambda: sim.telegram.receive(tg, user, name, content)

        def mailed(sender: str, name: str, subject: str, text: str) -> Callable[[], object]:
            return lambda: asyncio.to_thread(mail.deliver, box, mail.written(box, sender, name, subject, text))

        def whatsapp(name: str, phone: str, user: str, text: str) -> Callable[[], object]:
            return lambda: sim.whatsapp.receive(wa, name, {"type": "text", "text": {"body": text}}, phone=phone, user_id=user)

        happenings: list[tuple[float, Callable[[], object]]] = [
            (1, telegram(70011, "Ana Beltrán", voice={"file_id": voice, "mime_type": "audio/ogg", "duration": 21})),
            (2, mailed("jorg@weber.example", "Jörg Weber", "Rechnung 48190", "Could you send it in English, please?")),
            (
                3,
                lambda: sim.instagram.comment(
                    ig, "9910", "tom.archer", "Third email, still no answer. Shame on you @casalumbre"
                ),
            ),
            (6, self._lucia),
            (8, whatsapp("Priya Nair", "447700900123", "GB.88410", "Thanks. I will measure the lid and tell you")),
            (9, telegram(70012, "Noor Osman", text="Can I change the delivery to Saturday?")),
            (14, mailed("hugo@sanz.example", "Hugo Sanz", "Pieza", "Perfecto, quedo a la espera de la pieza")),
            (16, lambda: self._broken(ig)),
            (22, whatsapp("Priya Nair", "447700900123", "GB.88410", "It is 14.2 cm wide")),
            (25, lambda: sim.instagram.direct(ig, "9911", {"text": "¿Seguís teniendo el molinillo verde?"})),
            (31, telegram(70012, "Noor Osman", text="Saturday morning would be best")),
            (44, mailed("jorg@weber.example", "Jörg Weber", "Re: Rechnung 48190", "Vielen Dank!")),
        ]
        for at, happen in happenings:
            await self._until(at)
            result = happen()
            if asyncio.iscoroutine(result):
                await result

    async def _lucia(self) -> None:
        await self.visitor_of_lucia().open()
        await self.lucia.say("¿Tenéis tienda en Valencia?")
        await self.lucia.say("Es para recogerlo hoy")

    def visitor_of_lucia(self) -> Visitor:
        self.lucia = Visitor(self.simulator.accounts.webchat[0])
        return self.lucia

    def _broken(self, account: Any) -> None:
        good = wire.instagram_comment(f"17{time.time_ns()}", "9912", "dana.kovac", "It works now. You are the best!", "m1")
        bad = wire.instagram_comment(f"18{time.time_ns()}", "x", "cafe.norte", "¿Hacéis envíos a Canarias?", "m1")
        del bad["value"]["from"]["id"]
        self.simulator.instagram.post(account, wire.instagram_body(account.ig_id, int(time.time()), changes=[good, bad]), 2)

    # -- what an agent does and sees

    async def _command(self, verb: str, body: dict[str, Any]) -> Answer:
        url = self.stack.url("router", f"/v1/conversations/{self.conversation}/{verb}")
        headers = {"idempotency-key": str(uuid.uuid4())}
        return await self.http.service("POST", url, casa.TENANT, body, credential=casa.AGENT_KEY, headers=headers, tries=3)

    async def _must(self, verb: str, body: dict[str, Any]) -> Any:
        """A command that has to work; one that lost to something that happened meanwhile is given again."""
        while True:
            answer = await self._command(verb, body)
            if answer.status < 300:
                return answer.json()
            if answer.status != 409:
                raise RuntimeError(f"{verb}: {answer.status} {answer.body.decode(errors='replace')[:300]}")
            await asyncio.sleep(0.3)
            body |= await self._version() if "version" in body else {}

    async def _version(self) -> dict[str, int]:
        url = self.stack.url("router", f"/v1/conversations/{self.conversation}")
        answer = await self.http.service("GET", url, casa.TENANT, credential=casa.AGENT_KEY, tries=3)
        found = answer.json()["head"]
        if found["into"]:
            self.conversation = found["into"]
            return await self._version()
        return {"version": found["version"]}

    async def _read(self, path: str) -> Any:
        answer = await self.http.service(
            "GET", self.stack.url("timeline", path), casa.TENANT, credential=casa.AGENT_KEY, tries=3
        )
        return answer.json() if answer.status == 200 else None

    async def _find(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first entry of the conversation (of any, before there is one) that is wanted."""
        while True:
            for entry in await self._entries():
                if wanted(entry) and entry.get("conversation_id"):
                    return entry
            await asyncio.sleep(0.2)

    async def _entries(self) -> list[dict[str, Any]]:
        if self.conversation:
            found = await self._read(f"/v1/conversations/{self.conversation}/entries?limit=200")
            return found["items"] if found else []
        key = f"/v1/lookup?scheme=instagram&value={MARTA_IG}&scope={casa.IG_ID}"
        who = await self._read(key)
        found = await self._read(f"/v1/customers/{who['customer_id']}/timeline?limit=50") if who else None
        return found["items"] if found else []

    async def _history(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until the visitor's history has what is wanted."""
        while True:
            value = visitor_id(self.visitor.visitor)
            who = await self._read(f"/v1/lookup?scheme=webchat&value={value}&scope={casa.SITE}")
            found = await self._read(f"/v1/customers/{who['customer_id']}/timeline") if who else None
            if found and any(map(wanted, found["items"])):
                return
            await asyncio.sleep(0.2)

    async def _head(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            found = await self._read(f"/v1/conversations/{self.conversation}")
            if found and wanted(found["head"]):
                self.conversation = found["id"]
                head: dict[str, Any] = found["head"]
                return head
            await asyncio.sleep(0.2)

    async def _leg(self, channel: str, visibility: str) -> dict[str, Any]:
        def has(head: dict[str, Any]) -> bool:
            return any(one["channel"] == channel and one["visibility"] == visibility for one in head["legs"])

        head = await self._head(has)
        return next(one for one in head["legs"] if one["channel"] == channel and one["visibility"] == visibility)

    async def _identifier(self, scheme: str, value: str) -> str:
        """The key of an identifier that belongs to her by now."""
        head = await self._head(bool)
        while True:
            found = await self._read(f"/v1/lookup?scheme={scheme}&value={quote(value)}")
            head = await self._head(bool)
            if found and found["customer_id"] == head["customer_id"]:
                return str(found["key"])
            await asyncio.sleep(0.2)


def part(text: str) -> dict[str, str]:
    return {"kind": "text", "text": text}


def visitor_id(secret: str) -> str:
    """How web chat names a visitor: the shop's page knows it from the widget."""
    return hashlib.sha256(f"{casa.SITE}\0{secret}".encode()).hexdigest()[:32]
