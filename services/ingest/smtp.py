"""The mail door: SMTP in. A mail is answered 250 once it is kept whole in the media store and on the log with all its facts;
what cannot be taken now is answered 4xx, so that the sending server keeps it and tries again.

aiosmtpd speaks the protocol; reading the mail itself is ours, because its reader holds a line without end in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.common import metrics
from services.common.errors import Away, Poison
from services.common.logs import log
from services.common.media import MediaStore
from services.ingest.accounts import Accounts, Connected
from services.ingest.contract import Mail, Outcome, Raw
from services.ingest.intake import Intake, aside
from services.ingest.mail_envelope import authentication, recipient, trusted
from services.ingest.mail_worker import Job, MailWorkers
from services.ingest.mime import TooMuch
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


@dataclass(eq=False)
class MailDoor:
    """A part of the ingest process: listens, and hands every mail to the intake."""

    settings: IngestSettings
    accounts: Accounts
    intake: Intake
    store: MediaStore
    workers: MailWorkers
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _sessions: set[_Session] = field(default_factory=set)
    _peers: Counter[str] = field(default_factory=Counter)
    _taking: set[asyncio.Task[str]] = field(default_factory=set)
    _large: asyncio.Semaphore = field(init=False)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self._large = asyncio.Semaphore(self.settings.smtp_large_at_once)

    @property
    def port(self) -> int:
        assert self._server
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        tls = _tls(self.settings)
        self._server = await loop.create_server(
            partial(_Session, self, loop, tls), self.settings.smtp_host, self.settings.smtp_port
        )
        log().info("mail_door_open", port=self.port)

    async def stop(self) -> None:
        """Take no new mail, finish those whose end has been read, then hang up."""
        if self._server:
            self._server.close()
        if self._taking:
            await asyncio.wait(self._taking, timeout=self.settings.drain_s / 2)
        for session in list(self._sessions):
            session.hang_up("421 4.3.2 Closing; please try again")
        if self._server:
            await self._server.wait_closed()

    # -- connections

    def admit(self, session: _Session, peer: str) -> bool:
        """Whether there is room for one more connection, and one more from there."""
        if len(self._sessions) >= self.settings.smtp_connections or self._peers[peer] >= self.settings.smtp_connections_each:
            metrics.INPUTS.labels("email", "mail", "overload").inc()
            return False
        self._sessions.add(session)
        self._peers[peer] += 1
        return True

    def leave(self, session: _Session, peer: str) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
            self._peers[peer] -= 1
            self._peers += Counter()  # drops those at zero

    @contextlib.asynccontextmanager
    async def room(self) -> Any:
        """Room for one large mail; raises TimeoutError."""
        async with asyncio.timeout(self.settings.smtp_timeout_s / 4):
            await self._large.acquire()
        try:
            yield
        finally:
            self._large.release()

    # -- taking

    async def find(self, address: str) -> Connected | None:
        """An account that another process has just connected is looked up before somebody is told that it does not exist.
        Raises Away when that cannot be told now: the store is away, or the address may be that of a broken account."""
        if found := recipient(address, self.accounts.all()):
            return found
        await self.accounts.refresh()
        if (found := recipient(address, self.accounts.all())) is None and self.accounts.broken("email"):
            raise Away("a mail account")
        return found

    async def take(self, peer: str, envelope: Envelope, body: bytes) -> str:
        """The answer. What was read to its end is taken to the end, even if the sender hangs up meanwhile."""
        task = asyncio.create_task(self._take(peer, envelope, body))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return await asyncio.shield(task)

    async def _take(self, peer: str, envelope: Envelope, body: bytes) -> str:
        """The answer, once every account that the mail is for has it on the log."""
        try:
            recipients = await self._recipients(envelope.rcpt_tos)
            if recipients is None:
                return LATER
            for account, addresses in recipients.values():
                if len(body) > _max_bytes(account):
                    return TOO_BIG
                await self._take_for(account, self._raw(peer, envelope, addresses, body))
        except Away as error:
            log().warning("away", part=error.part, door="mail")
            metrics.INPUTS.labels("email", "mail", "away").inc()
            return LATER
        except Poison:
            return TOO_BIG
        return "250 2.0.0 Taken"

    async def _recipients(self, addresses: Sequence[str]) -> dict[tuple[str, str], tuple[Connected, list[str]]] | None:
        """The accounts that these addresses belong to; None if one was disconnected since it was promised."""
        found: dict[tuple[str, str], tuple[Connected, list[str]]] = {}
        for address in addresses:
            account = await self.find(address)
            if account is None:
                return None
            found.setdefault((account.channel.name, account.id), (account, []))[1].append(address)
        return found

    def _raw(self, peer: str, envelope: Envelope, addresses: Sequence[str], body: bytes) -> Raw:
        headers = {"mail-from": envelope.mail_from or "<>", "rcpt-to": ", ".join(addresses), "peer": peer}
        own = self.settings.smtp_trusted_auth
        if own and trusted(peer, self.settings.smtp_trusted_peers):
            headers["auth-results"] = authentication(body, own)
        return Raw(body, headers, method="MAIL", received_at=self.now(), door="mail")

    async def _take_for(self, account: Connected, raw: Raw) -> None:
        await self.store.put(account.tenant, raw.body, area="mail")
        await self.intake.take([account], raw, outcome=await self.read(account, raw))

    async def read(self, account: Connected, raw: Raw) -> Outcome:
        """What is in a mail, for the door and for replays. Raises Away."""
        job = Job(account.channel.name, account.account, account.stored, raw, account.tenant_key)
        try:
            return await self.workers.read(job)
        except TooMuch as error:
            return aside(raw, f"mime-limit: {error}", "mail")


def _max_bytes(account: Connected) -> int:
    return next(door.max_bytes for door in account.channel.doors if isinstance(door, Mail))


def _tls(settings: IngestSettings) -> ssl.SSLContext | None:
    if not settings.smtp_tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.smtp_tls_cert, settings.smtp_tls_key)
    return context


@dataclass(frozen=True, slots=True)
class _Hooks:
    """What aiosmtpd asks of us, under its names."""

    door: MailDoor

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


class _Session(SMTP):
    """One connection: aiosmtpd's, but for how many there may be and how the mail is read."""

    line_length_limit = LINE

    def __init__(self, door: MailDoor, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> None:
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
