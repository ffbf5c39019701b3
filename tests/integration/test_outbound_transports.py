"""Mails to a server that really listens, and the web chat's numbered list: each way a sending can end, once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from deploy.local.embedded import free_port
from services.common.events import Part
from services.common.http import AnswerLost, NotSent
from services.common.kafka import Publisher
from services.common.media import FileMediaStore, upload_ref
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.chat_out import ChatOut
from services.ingest.contract import Request
from services.ingest.outbound.smtp import Mailer
from tests.outbound_world import World, piece, world
from tests.waiting import until

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100
TO = "añá@example.org"


class MailServer:
    """Answers mails as told, else takes them. `lost` hangs up when it has read the whole mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], Message]] = []
        self.answers: deque[str] = deque()
        self.recipients: deque[str] = deque()
        self.logins: list[tuple[bytes, bytes]] = []
        self.port = free_port()
        self._controller: Controller | None = None

    def start(self) -> None:
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, authenticator=self._login, auth_require_tls=False, enable_SMTPUTF8=True
        )
        self._controller.start()

    def stop(self) -> None:
        if self._controller:
            self._controller.stop()
            self._controller = None

    def _login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        right = data.password == b"right"
        return AuthResult(success=right, handled=right)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.recipients:
            return self.recipients.popleft()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.mail_from or "", envelope.rcpt_tos, message_from_bytes(envelope.content)))
        told = self.answers.popleft() if self.answers else "250 OK"
        if told == "lost":
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return told


@pytest.fixture
def server() -> Iterator[MailServer]:
    one = MailServer()
    one.start()
    yield one
    one.stop()


@pytest.fixture
async def w(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher, tmp_path: Path, server: MailServer
) -> AsyncIterator[World]:
    one = world(settings, mongo, publisher, tmp_path, ())
    one.channels.add("email", lambda: EMAIL)
    one.channels.add("webchat", lambda: WEBCHAT)
    one.fields = {
        "email": {"address": "help@shop.example", "name": "Shop", "smtp_url": f"smtp://127.0.0.1:{server.port}"},
        "webchat": {
            "site": "shop.example",
            "page": "https://shop.example/help",
            "origins": ["https://shop.example"],
            "identity_secret": "0123456789abcdef0123456789abcdef",
        },
    }
    await one.begin()
    yield one
    await one.end()


def mail(w: World, name: str, *texts: str, thread: str = TO) -> Any:
    context = {"to": thread, "subject": "¿Dónde?", "references": "<q1@example.org>"}
    return w.request(name, *texts, thread=thread, channel="email", leg="mail", context=context)


async def test_a_mail_is_taken_once_and_bears_the_piece_s_id(w: World, server: MailServer) -> None:
    await w.worker()
    await w.ask(mail(w, "m1", "¡Hola, Añá!"), mail(w, "m1", "¡Hola, Añá!"))
    (sent,) = await w.heard("m1", "sent")
    ((sender, to, text),) = server.mails

    assert (sender, to) == ("help@shop.example", [TO])
    assert text["Message-ID"] == f"<{piece('m1')}@shop.example>"
    assert text["In-Reply-To"] == "<q1@example.org>"
    assert sent.provider_id


async def test_a_busy_mail_server_is_tried_again_and_a_final_no_is_final(w: World, server: MailServer) -> None:
    await w.worker()
    server.answers.append("451 try later")
    await w.ask(mail(w, "m1", "hi"))
    await w.state("m1", "retrying")
    server.recipients.append("550 no such mailbox")
    await w.ask(mail(w, "m2", "hi", thread="nobody@example.org"))
    (failed,) = await w.heard("m2", "failed")
    w.clock.forward(20)
    await w.state("m1", "sent")

    assert (failed.reason, failed.then) == ("no such mailbox", "other_leg")
    assert len(server.mails) == 2


async def test_silence_after_the_text_was_handed_over_makes_a_mail_unknown(w: World, server: MailServer) -> None:
    await w.worker()
    server.answers.append("lost")
    await w.ask(mail(w, "m1", "hi"))
    await w.state("m1", "unknown")
    w.clock.forward(31)
    await w.ask(mail(w, "m2", "next"))
    await w.state("m2", "sent")

    assert [one[2]["Message-ID"] for one in server.mails] == [f"<{piece(n)}@shop.example>" for n in ("m1", "m2")]


async def test_a_mail_server_that_is_away_got_nothing_so_the_mail_is_tried_again(w: World, server: MailServer) -> None:
    server.stop()
    await w.worker()
    await w.ask(mail(w, "m1", "hi"))
    await w.state("m1", "retrying")
    server.start()
    w.clock.forward(20)
    await w.state("m1", "sent")

    assert len(server.mails) == 1


def request(url: str, to: str = "a@example.org") -> Request:
    return Request("MAIL", url, {"mail-from": "us@example.org", "rcpt-to": to}, b"Subject: x\r\n\r\nhi\r\n", transport="smtp")


async def test_a_password_never_goes_over_an_open_line_in_production(server: MailServer) -> None:
    url = f"smtp://ana:right@127.0.0.1:{server.port}"
    with pytest.raises(NotSent):
        await Mailer(timeout_s=5).send(request(url))

    assert server.logins == []

    answer = await Mailer(clear_passwords=True, timeout_s=5).send(request(url))
    refused = await Mailer(clear_passwords=True, timeout_s=5).send(request(url.replace("right", "wrong")))

    assert (answer.status, refused.status) == (250, 535)


async def test_each_way_a_mail_can_end_has_its_answer(server: MailServer) -> None:
    mailer, url = Mailer(timeout_s=5), f"smtp://127.0.0.1:{server.port}"
    server.answers.extend(["554 spam", "lost"])

    assert (await mailer.send(request(url))).status == 554
    with pytest.raises(AnswerLost):
        await mailer.send(request(url))
    with pytest.raises(NotSent):
        await mailer.send(request(f"smtp://127.0.0.1:{free_port()}"))


async def test_a_chat_answer_stands_once_in_the_numbered_list_and_counts_as_sent(w: World) -> None:
    await w.worker()
    stored = await FileMediaStore(w.settings.media_dir).put("acme", PNG)
    picture = Part("image", text="look", ref=upload_ref(stored.sha256), name="a.png")
    more: dict[str, Any] = {"thread": "visitor-1", "channel": "webchat", "leg": "chat"}
    events = [w.request("m1", "first", **more), w.request("m2", parts=(picture,), **more)]
    await w.ask(*events, *events)
    (sent,) = await w.heard("m1", "sent")
    await w.state("m2", "sent")
    said = await ChatOut(w.mongo).after("acme", "main", "visitor-1", 0)

    assert [(one.n, one.piece) for one in said] == [(1, piece("m1")), (2, piece("m2"))]
    assert (said[0].frame["text"], sent.provider_id) == ("first", piece("m1"))
    assert said[1].frame["ref"].startswith(f"https://media.hilo.example/media/acme/{stored.sha256}?")


async def test_a_crash_after_a_chat_answer_was_listed_lists_it_no_second_time(w: World) -> None:
    crashed: list[str] = []

    def crash(step: str) -> None:
        if step == "called" and not crashed:
            crashed.append(step)
            raise asyncio.CancelledError

    await w.worker(crash)
    await w.ask(w.request("m1", "first", thread="visitor-1", channel="webchat", leg="chat"))

    async def listed() -> bool:
        return bool(await ChatOut(w.mongo).after("acme", "main", "visitor-1", 0)) and bool(crashed)

    await until(listed)
    w.clock.forward(61)
    await w.state("m1", "sent")

    assert len(await ChatOut(w.mongo).after("acme", "main", "visitor-1", 0)) == 1
