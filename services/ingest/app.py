"""Wiring of the ingest process: the only place where its objects are made and passed to each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from services.common import topics
from services.common.auth import Auth, Keyring
from services.common.http import Http
from services.common.kafka import Consumer, Publisher
from services.common.media import FileMediaStore
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.vault import vault
from services.common.web import Front, Readiness
from services.common.web import build as build_app
from services.ingest.accounts import Accounts, Connected
from services.ingest.api import accounts_router, channels_router
from services.ingest.chat import Chat
from services.ingest.chat_out import ChatOut
from services.ingest.chat_pages import ChatPages
from services.ingest.chat_socket import Parts
from services.ingest.contract import Outcome, Raw, Registry
from services.ingest.dead import GROUP, DeadIndex, Mender
from services.ingest.dead_api import dead_router
from services.ingest.directory import Directory, announce, find_channels
from services.ingest.fetching import Fetches
from services.ingest.go import Go
from services.ingest.intake import Intake, read
from services.ingest.journey import Journey
from services.ingest.journey_api import journey_router
from services.ingest.mail_worker import Bounds, MailWorkers
from services.ingest.settings import PORT, IngestSettings
from services.ingest.smtp import MailDoor
from services.ingest.webhooks import PREFIX, Webhooks

DESCRIPTION = "Where things come in: webhooks, mail, web chat, handoff links, journey events, accounts and dead letters."


def build(settings: IngestSettings, registry: Registry | None = None) -> Process:
    """`registry` is for tests; the installation's own channels otherwise."""
    registry = registry or find_channels(settings)
    readiness = Readiness()
    seal, mongo, publisher, http = vault(settings), Mongo(settings), Publisher(settings), Http(settings)
    keyring = Keyring(mongo, seal)
    auth = Auth(keyring, settings)
    announcing = partial(announce, publisher)
    accounts = Accounts(mongo, seal, keyring, registry, announcing, refresh_s=settings.accounts_refresh_s)
    directory = Directory(publisher, registry, accounts.known)
    fetches = Fetches(mongo, seal, http, accounts)
    intake = Intake(publisher, fetches.keep)
    webhooks = Webhooks(settings, registry, accounts, intake)
    journey = Journey(settings, accounts, intake)
    index = DeadIndex(settings, mongo, publisher)
    letters = Consumer(settings, GROUP, [topics.DEAD], index.handle)
    store = FileMediaStore(settings.media_dir)
    chat = Chat(accounts, Parts(settings, intake, ChatOut(mongo), publisher, store))
    pages, go = ChatPages(settings, accounts, store), Go(settings, http, intake)
    bounds = Bounds(settings.smtp_parse_cpu_s, settings.smtp_parse_memory_mb * 1024 * 1024)
    workers = MailWorkers(settings.smtp_workers, bounds, settings.channels_dir)
    mail = MailDoor(settings, accounts, intake, store, workers)
    mender = Mender(index, accounts, intake, publisher, partial(reading, mail))

    app = build_app("Hilo ingest", "ingest", readiness, description=DESCRIPTION)
    app.router.routes[:0] = [*chat.routes(), *pages.routes(), *go.routes()]
    app.include_router(channels_router(auth, registry))
    app.include_router(accounts_router(auth, accounts, registry, settings, http))
    app.include_router(dead_router(auth, index, mender))
    app.include_router(journey_router(auth, journey, settings))
    # Only the broker: while the store is away, the accounts that are known are served, so traffic must go on coming here.
    readiness.checks["broker"] = lambda: "away" if publisher.away else None
    return Process(
        name="ingest",
        settings=settings,
        readiness=readiness,
        parts=(mongo, publisher, http, accounts, directory, fetches, intake, index, letters, chat, workers, mail),
        loops=(accounts.run, partial(fetches.run, intake), letters.run, chat.run),
        app=Front(PREFIX, webhooks, app, readiness),
        port=settings.port or PORT,
    )


async def reading(mail: MailDoor, accounts: Sequence[Connected], raw: Raw) -> Outcome:
    """An input read again, as its door read it."""
    return await mail.read(accounts[0], raw) if raw.door == "mail" else read(accounts, raw)
