"""The media worker, put together: the only place where its objects are made."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

from services.common import topics
from services.common.auth import Keyring
from services.common.http import Http
from services.common.kafka import UNHURRIED_S, Consumer, DeadLetters, Publisher
from services.common.media import FileMediaStore
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.vault import vault
from services.common.web import Readiness
from services.common.web import build as web
from services.ingest.accounts import Accounts
from services.ingest.contract import Registry
from services.ingest.directory import find_channels
from services.ingest.media.fetch import Fetcher
from services.ingest.media.jobs import Patience
from services.ingest.media.journal import MediaJournal
from services.ingest.media.settings import PORT, MediaSettings
from services.ingest.media.worker import ERASURE_GROUP, GROUP, TYPES, Erasure, Intake, MediaWorker


def now() -> datetime:
    return datetime.now(UTC)


def build(settings: MediaSettings, *, channels: Registry | None = None, clock: Callable[[], datetime] = now) -> Process:
    """`channels` and `clock` are others in tests only."""
    mongo, publisher = Mongo(settings), Publisher(settings)
    http = Http(settings, timeout_s=settings.media_fetch_s)
    keyring = Keyring(mongo, vault(settings))
    registry = channels or find_channels(settings)
    accounts = Accounts(mongo, vault(settings), keyring, registry, refresh_s=settings.accounts_refresh_s)
    store, journal = FileMediaStore(settings.media_dir), MediaJournal(mongo)
    worker = MediaWorker(
        journal,
        Fetcher(http, accounts, store, max_mb=settings.media_max_mb),
        store,
        publisher,
        Patience(give_up_s=settings.media_give_up_s),
        clock,
        random.random,
        at_once=settings.media_at_once,
        poll_s=settings.media_poll_s,
        lease_s=2 * settings.media_fetch_s + 60,
        keep_mail_s=settings.media_keep_mail_days * 24 * 3600,
    )
    taking = Intake(journal, worker.wake, clock)
    erasing = Erasure(journal, store, DeadLetters(publisher, "media"))
    events = Consumer(settings, GROUP, [topics.EVENTS], taking.handle, types=TYPES, pace_s=UNHURRIED_S)
    changes = Consumer(settings, ERASURE_GROUP, [topics.IDENTITY_CHANGES], erasing.handle)

    readiness = Readiness()
    readiness.checks |= {
        "broker": lambda: "does not acknowledge" if publisher.away else None,
        "store": lambda: f"{worker.away} is away" if worker.away else None,
        "events": lambda: f"{events.away} is away" if events.away else None,
    }
    return Process(
        name="media",
        settings=settings,
        readiness=readiness,
        parts=(mongo, publisher, http, store, accounts, journal, worker, events, changes),
        loops=(accounts.run, worker.run, events.run, changes.run),
        app=web("Hilo media", "media", readiness, docs=False),
        port=settings.port or PORT,
    )
