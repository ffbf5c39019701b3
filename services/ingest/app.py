"""Wiring of the ingest process: the only place where its objects are made and passed to each other."""

from __future__ import annotations

from functools import partial

from services.common.auth import Keyring
from services.common.http import Http
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.vault import vault
from services.common.web import Readiness
from services.common.web import build as build_app
from services.ingest.accounts import Accounts
from services.ingest.contract import Registry
from services.ingest.directory import Directory, announce, find_channels
from services.ingest.fetching import Fetches
from services.ingest.intake import Intake
from services.ingest.settings import PORT, IngestSettings
from services.ingest.webhooks import Webhooks

DESCRIPTION = "Where things come in: webhooks, journey events, accounts and dead letters."


def build(settings: IngestSettings, registry: Registry | None = None) -> Process:
    """`registry` is for tests; the installation's own channels otherwise."""
    registry = registry or find_channels(settings)
    readiness = Readiness()
    seal, mongo, publisher, http = vault(settings), Mongo(settings), Publisher(settings), Http(settings)
    keyring = Keyring(mongo, seal)
    announcing = partial(announce, publisher)
    accounts = Accounts(mongo, seal, keyring, registry, announcing, refresh_s=settings.accounts_refresh_s)
    directory = Directory(publisher, registry, accounts.known)
    fetches = Fetches(mongo, seal, http, accounts)
    intake = Intake(publisher, fetches.keep)
    webhooks = Webhooks(settings, registry, accounts, intake)

    app = build_app("Hilo ingest", "ingest", readiness, description=DESCRIPTION)
    app.router.routes.extend(webhooks.routes())
    readiness.checks["broker"] = lambda: "away" if publisher.away else None
    readiness.checks["store"] = lambda: "away" if accounts.away else None
    return Process(
        name="ingest",
        settings=settings,
        readiness=readiness,
        parts=(mongo, publisher, http, accounts, directory, fetches, intake),
        loops=(accounts.run, partial(fetches.run, intake)),
        app=app,
        port=settings.port or PORT,
    )
