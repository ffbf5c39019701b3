"""The mail door: SMTP in. A mail is answered 250 once it is kept whole in the media store and on the log with all its facts;
what cannot be taken now is answered 4xx, so that the sending server keeps it and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiosmtpd.smtp import Envelope

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
from services.ingest.smtp_session import LATER, TOO_BIG, MailSession


@dataclass(eq=False)
class MailDoor:
    """A part of the ingest process: listens, and hands every mail to the intake."""

    settings: IngestSettings
    accounts: Accounts
    intake: Intake
    store: MediaStore
    workers: MailWorkers
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _sessions: set[MailSession] = field(default_factory=set)
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
            partial(MailSession, self, loop, tls), self.settings.smtp_host, self.settings.smtp_port
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

    def admit(self, session: MailSession, peer: str) -> bool:
        """Whether there is room for one more connection, and one more from there."""
        if len(self._sessions) >= self.settings.smtp_connections or self._peers[peer] >= self.settings.smtp_connections_each:
            metrics.INPUTS.labels("email", "mail", "overload").inc()
            return False
        self._sessions.add(session)
        self._peers[peer] += 1
        return True

    def leave(self, session: MailSession, peer: str) -> None:
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
