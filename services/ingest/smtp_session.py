"""One SMTP connection. aiosmtpd speaks the protocol; how many there may be and how the mail itself is read is ours, because
its own reader keeps a line without end in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.common import metrics
from services.common.errors import Away
from services.common.logs import log
from services.ingest.accounts import Connected
from services.ingest.settings import IngestSettings

LINE = 64 * 1024
SMALL = 1024 * 1024
RECIPIENTS = 100
# A session may do much, but not for ever: a relay that has more mails connects again.
CALLS = {"MAIL": 500, "RCPT": 5000, "DATA": 500, "RSET": 1000, "*": 50}

LATER = "451 4.3.0 Not now; please try again"
TOO_BIG = "552 5.3.4 Message too big"


class _TooBig(Exception):
    """The mail is larger than the door takes; its end has been read."""


class _Endless(Exception):
    """The mail is so much larger that we do not wait for its end."""


class Door(Protocol):
    """What a session asks of the door it belongs to."""

    settings: IngestSettings

    def admit(self, session: MailSession, peer: str) -> bool:
        """Whether there is room for one more connection, and one more from there."""

    def leave(self, session: MailSession, peer: str) -> None: ...

    def room(self) -> AbstractAsyncContextManager[None]:
        """Room for one large mail; raises TimeoutError."""

    async def find(self, address: str) -> Connected | None:
        """Whose address it is. Raises Away when that cannot be told now."""

    async def take(self, peer: str, envelope: Envelope, body: bytes) -> str:
        """The answer to a mail."""


@dataclass(frozen=True, slots=True)
class _Hooks:
    """What aiosmtpd asks of us, under its names."""

    door: Door

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Nobody signs in here, so AUTH is not offered."""
        session.host_name = hostname
        return [one for one in responses if "AUTH" not in one]

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        try:
            found = await self.door.find(address)
        except Away:
            return LATER
        if found is None:
            metrics.INPUTS.labels("email", "mail", "unknown_account").inc()
            return "550 5.1.1 There is no such mailbox here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        log().error("mail_session_failed", exc_type=type(error).__name__, exc_info=error)
        return LATER


class MailSession(SMTP):
    """One connection: aiosmtpd's, but for how many there may be and how the mail is read."""

    line_length_limit = LINE

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> None:
        settings = door.settings
        super().__init__(
            _Hooks(door),
            data_size_limit=settings.smtp_max_bytes,
            enable_SMTPUTF8=True,
            hostname=settings.smtp_hostname,
            ident="Hilo",
            tls_context=tls,
            timeout=settings.smtp_timeout_s,
            auth_exclude_mechanism=["LOGIN", "PLAIN"],
            command_call_limit=CALLS,
            loop=loop,
        )
        self._door, self._peer = door, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._original_transport is None:  # else it is the same connection, now under TLS
            self._peer = str((transport.get_extra_info("peername") or ("",))[0])
            if not self._door.admit(self, self._peer):
                assert isinstance(transport, asyncio.Transport)
                transport.write(b"421 4.3.2 Too many connections; please try again\r\n")
                transport.close()
                self._refused = True
                return
        super().connection_made(transport)

    _refused = False

    def connection_lost(self, error: Exception | None) -> None:
        if not self._refused:
            self._door.leave(self, self._peer)
            super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._refused else super().eof_received()

    def hang_up(self, answer: str) -> None:
        if isinstance(self.transport, asyncio.Transport):
            with contextlib.suppress(AttributeError):  # a TLS transport has no methods any more once its connection is lost
                self.transport.write(answer.encode() + b"\r\n")
                self.transport.close()

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  # the name that aiosmtpd calls
        if await self.check_helo_needed():
            return
        envelope = self.envelope
        if envelope is None or not envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT first")
            return
        if arg:
            await self.push("501 5.5.4 DATA takes no argument")
            return
        await self.push("354 End with a line that holds only a dot")
        answer = await self._answer(envelope)
        self.envelope = self._create_envelope()
        if self.transport is not None:
            await self.push(answer)

    async def _answer(self, envelope: Envelope) -> str:
        try:
            async with contextlib.AsyncExitStack() as stack:
                enter = partial(stack.enter_async_context, self._door.room())
                body = await read_mail(self._reader, self._door.settings.smtp_max_bytes, enter)
                return await self._door.take(self._peer, envelope, body)
        except _TooBig:
            metrics.INPUTS.labels("email", "mail", "too_large").inc()
            return TOO_BIG
        except (_Endless, TimeoutError) as error:
            metrics.INPUTS.labels("email", "mail", "too_large" if isinstance(error, _Endless) else "overload").inc()
            self.hang_up(TOO_BIG if isinstance(error, _Endless) else LATER)
            return LATER


async def read_mail(reader: asyncio.StreamReader, limit: int, grows: Callable[[], Awaitable[Any]]) -> bytes:
    """The mail up to the line with only a dot, without the dots that stood for escaped ones. Only CR LF ends a line here: a
    server that takes a bare LF for one can be made to see a second mail (SMTP smuggling). `grows` is awaited once when the
    mail turns out to be large. Raises _TooBig or _Endless."""
    mail, size, at_start, grown = bytearray(), 0, True, False
    while True:
        line, whole = await _line(reader)
        if at_start and line == b".\r\n":
            break
        size += len(line)
        if size > limit:
            mail.clear()
            if size > 2 * limit + SMALL:
                raise _Endless
        else:
            if size > SMALL and not grown:
                grown = True
                await grows()
            mail += line[1:] if at_start and line.startswith(b".") else line
        at_start = whole
    if size > limit:
        raise _TooBig
    return bytes(mail)


async def _line(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """A line with its end, or as much of a long one as fits, and whether it is the line's end."""
    try:
        return await reader.readuntil(b"\r\n"), True
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed), False
