"""Wiring of the ingest process: the only place where its objects are made and passed to each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from services.common import topics
from services.common.auth import Auth, Keyring
from services.common.http import Http
from services.common.kafka import Consumer, Publisher
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.vault import vault
from services.common.web import Readiness
from services.common.web import build as build_app
from services.ingest.accounts import Accounts, Connected
from services.ingest.api import accounts_router, channels_router
from services.ingest.contract import Outcome, Raw, Registry
from services.ingest.dead import GROUP, DeadIndex, Mender
from services.ingest.dead_api import dead_router
from services.ingest.directory import Directory, announce, find_channels
from services.ingest.fetching import Fetches
from services.ingest.intake import Intake, read
from services.ingest.journey import Journey
from services.ingest.journey_api import journey_router
from services.ingest.settings import PORT, IngestSettings
from services.ingest.webhooks import Webhooks

DESCRIPTION = "Where things come in: webhooks, journey events, accounts and dead letters."


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
    mender = Mender(index, accounts, intake, publisher, reading)

    app = build_app("Hilo ingest", "ingest", readiness, description=DESCRIPTION)
    app.router.routes.extend(webhooks.routes())
    app.include_router(channels_router(auth, registry))
    app.include_router(accounts_router(auth, accounts, registry, settings))
    app.include_router(dead_router(auth, index, mender))
    app.include_router(journey_router(auth, journey, settings))
    # Only the broker: while the store is away, the accounts that are known are served, so traffic must go on coming here.
    readiness.checks["broker"] = lambda: "away" if publisher.away else None
    return Process(
        name="ingest",
        settings=settings,
        readiness=readiness,
        parts=(mongo, publisher, http, accounts, directory, fetches, intake, index, letters),
        loops=(accounts.run, partial(fetches.run, intake), letters.run),
        app=app,
        port=settings.port or PORT,
    )


async def reading(accounts: Sequence[Connected], raw: Raw) -> Outcome:
    """An input read again, as its door read it."""
    return read(accounts, raw)
