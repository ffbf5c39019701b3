"""The outbound worker, put together: the only place where its objects are made."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime

from services.common import topics
from services.common.auth import Auth, Keyring
from services.common.http import Http
from services.common.kafka import UNHURRIED_S, Consumer, DeadLetters, Publisher
from services.common.media import FileMediaStore, MediaLinks
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.vault import vault
from services.common.web import Readiness
from services.common.web import build as web
from services.ingest.accounts import Accounts
from services.ingest.chat_out import ChatOut
from services.ingest.contract import Registry
from services.ingest.directory import find_channels
from services.ingest.outbound import erasure, intake, receipts
from services.ingest.outbound.announce import Announcer
from services.ingest.outbound.api import routes
from services.ingest.outbound.call import Caller
from services.ingest.outbound.files import Files
from services.ingest.outbound.gate import Gate
from services.ingest.outbound.health import Health
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.rates import Rates
from services.ingest.outbound.scheduler import Scheduler
from services.ingest.outbound.settings import PORT, OutboundSettings
from services.ingest.outbound.smtp import Mailer
from services.ingest.outbound.typing_sign import Typing
from services.ingest.outbound.worker import Outside, Parts, Worker


def now() -> datetime:
    return datetime.now(UTC)


OUTSIDE = Outside(clock=now, dice=random.random, token=lambda: uuid.uuid4().hex)


def build(settings: OutboundSettings, *, outside: Outside = OUTSIDE, channels: Registry | None = None) -> Process:
    """`outside` is another one in fault tests, `channels` in tests of channels that are not installed."""
    mongo, publisher = Mongo(settings), Publisher(settings)
    http = Http(settings, timeout_s=settings.outbound_call_s)
    keyring = Keyring(mongo, vault(settings))
    accounts = Accounts(
        mongo, vault(settings), keyring, channels or find_channels(settings), refresh_s=settings.accounts_refresh_s
    )
    chat, store, journal = ChatOut(mongo), FileMediaStore(settings.media_dir), Journal(mongo)
    caller = Caller(http, Mailer(clear_passwords=settings.env != "production"), chat)
    health = Health(mongo, publisher, journal, caller, probe_s=settings.outbound_probe_s)
    links = MediaLinks(settings, settings.media_url or settings.timeline_url)
    parts = Parts(
        journal,
        accounts,
        Gate(http, settings.router_url),
        caller,
        Files(store, links, link_s=settings.media_link_s, person_link_s=settings.media_person_link_s),
        health,
        Announcer(publisher, journal),
        Rates(settings.outbound_workers),
    )
    worker = Worker(parts, settings.policy, outside, gate_valid_s=settings.outbound_gate_valid_s)
    scheduler = Scheduler(parts, worker, at_once=settings.outbound_at_once, poll_s=settings.outbound_poll_s)
    typing = Typing(accounts, caller)

    dead = DeadLetters(publisher, "outbound")
    taking = intake.Intake(journal, dead, typing, settings.policy, scheduler.wake, outside.clock)
    seeing = receipts.Receipts(journal, worker)
    erasing = erasure.Erasure(journal, dead, settings.policy, outside.clock)
    requests = Consumer(settings, intake.GROUP, [topics.OUTBOUND], taking.handle)
    events = Consumer(settings, receipts.GROUP, [topics.EVENTS], seeing.handle, types=receipts.TYPES, pace_s=UNHURRIED_S)
    changes = Consumer(settings, erasure.GROUP, [topics.IDENTITY_CHANGES], erasing.handle)

    readiness = Readiness()
    readiness.checks |= {
        "broker": lambda: "does not acknowledge" if publisher.away else None,
        "store": lambda: f"{scheduler.away} is away" if scheduler.away else None,
        "outbound": lambda: f"{requests.away} is away" if requests.away else None,
    }
    app = web("Hilo outbound", "outbound", readiness, description="What became of the messages that we send.")
    app.include_router(routes(journal, Auth(keyring, settings)))
    return Process(
        name="outbound",
        settings=settings,
        readiness=readiness,
        parts=(
            mongo,
            publisher,
            http,
            store,
            _Prepared(chat),
            accounts,
            journal,
            health,
            typing,
            scheduler,
            requests,
            events,
            changes,
        ),
        loops=(accounts.run, scheduler.run, requests.run, events.run, changes.run),
        app=app,
        port=settings.port or PORT,
    )


class _Prepared:
    """The chat's list, as a part: it has nothing to stop."""

    def __init__(self, chat: ChatOut) -> None:
        self._chat = chat

    async def start(self) -> None:
        await self._chat.prepare()

    async def stop(self) -> None:
        pass
