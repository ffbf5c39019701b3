"""Mail as customers and their providers do it: written and sent with the standard library, received by a real SMTP server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import smtplib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

from aiosmtpd.controller import Controller

from services.simulator.accounts import MailAccount
from services.simulator.sends import Sends


def written(
    account: MailAccount,
    sender: str,
    name: str,
    subject: str,
    text: str,
    *,
    answers: str | None = None,
    message_id: str | None = None,
    attachments: Sequence[tuple[str, str, bytes]] = (),
) -> EmailMessage:
    """A mail as a customer's program writes it. `answers` is the Message-ID it replies to."""
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"] = f"{name} <{sender}>"
    mail["To"] = account.address
    mail["Subject"] = subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = message_id or make_msgid(domain=sender.rpartition("@")[2])
    if answers:
        mail["In-Reply-To"] = mail["References"] = answers
    mail.set_content(text)
    for file, media_type, content in attachments:
        main, _, sub = media_type.partition("/")
        mail.add_attachment(content, maintype=main, subtype=sub, filename=file)
    return mail


def deliver(account: MailAccount, mail: EmailMessage, *, dmarc: bool = True) -> None:
    """Hand the mail to the door, as the company's own mail server would after checking it. Raises smtplib's errors."""
    host, _, port = account.smtp.partition(":")
    if dmarc:
        domain = str(mail["From"]).rpartition("@")[2].rstrip(">")
        mail["Authentication-Results"] = f"mx.hilo.test; dmarc=pass header.from={domain}"
    with smtplib.SMTP(host, int(port), timeout=30) as smtp:
        smtp.send_message(mail)


class Mailbox:
    """The customers' mail servers: takes what Hilo sends and notes each Message-ID."""

    def __init__(self, sends: Sends, port: int) -> None:
        self._sends, self.port = sends, port
        self.mails: list[EmailMessage] = []
        self._controller: Any = None

    async def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        await asyncio.to_thread(self._controller.start)

    async def stop(self) -> None:
        if self._controller:
            await asyncio.to_thread(self._controller.stop)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd calls it so
        match self._sends.fault("email"):
            case "rate_limit":
                return "450 4.2.1 Try again later"
            case "rejected":
                return "550 5.1.1 No such user"
            case "error_500":
                return "451 4.3.0 Local error"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        reference = re.sub(r"[<>]", "", str(mail["Message-ID"] or ""))
        to = envelope.rcpt_tos[0]
        self._sends.take(
            "email", envelope.mail_from, to, reference, reference.partition("@")[0], {"subject": str(mail["Subject"])}
        )
        return "250 2.0.0 Ok"
