"""Where the timeline is put together: projector, feed, doors."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.common import metrics, run, topics, web
from services.common.auth import Auth, Keyring
from services.common.errors import Away
from services.common.http import Http
from services.common.kafka import Consumer, DeadLetters, Publisher, View
from services.common.media import FileMediaStore, MediaLinks
from services.common.mongo import Mongo
from services.common.vault import vault
from services.timeline import api, files, streams
from services.timeline.access import Access
from services.timeline.console import pages
from services.timeline.console.backends import Backends
from services.timeline.console.session import Sessions
from services.timeline.consumer import STAGE, TOPICS, Projector
from services.timeline.live import Feed
from services.timeline.presence import typing_into
from services.timeline.reader import Reader
from services.timeline.settings import PORT, TimelineSettings
from services.timeline.stores import TimelineStore

TITLE = "Hilo timeline"
ABOUT = "The history of every customer across channels, and what happens next as a stream."


def build(settings: TimelineSettings) -> run.Process:
    mongo, publisher = Mongo(settings, retried=False), Publisher(settings)
    seal = vault(settings)
    keyring = Keyring(mongo, seal)
    access = Access(Auth(keyring, settings))
    store = TimelineStore(mongo, settings.timeline_generation, settings.journal_days)
    reader = Reader(mongo, read_limit_ms=settings.read_limit_ms)
    feed = Feed(
        mongo,
        reader,
        interval_s=settings.feed_interval_s,
        buffer_bytes=settings.stream_buffer_bytes,
        journal_days=settings.journal_days,
    )
    projector = Projector(store, DeadLetters(publisher, STAGE), settings.group)
    consumer = Consumer(settings, settings.group, TOPICS, projector.handle)
    typing = View(settings, topics.LIVE, typing_into(feed), newest_only=True)
    media = FileMediaStore(settings.media_dir)

    readiness = web.Readiness()
    readiness.checks["store"] = lambda: feed.ready or f"{feed.away} is away"
    app = web.build(TITLE, STAGE, readiness, description=ABOUT)
    app.include_router(api.routes(reader, feed, keyring, access))
    app.include_router(streams.routes(feed, access, settings))
    app.include_router(files.routes(media, MediaLinks(settings, settings.timeline_url), access))

    http = Http(settings)
    sessions = Sessions(keyring, seal)
    backends = Backends(http, settings)
    access.session = sessions.principal
    app.router.routes.extend(
        pages.routes(reader, feed, sessions, backends, demo_key=settings.demo_key, heartbeat_s=settings.heartbeat_s)
    )

    async def count_dead() -> None:
        """Keeps the gauge of dead letters that wait for a decision."""
        while True:
            with suppress(Away):  # the feed says so in readiness
                metrics.DEAD_OPEN.set(await store.open_dead())
            await asyncio.sleep(10)

    parts: list[run.Part] = [mongo, publisher, http, store, media, feed, typing]
    loops: list[run.Loop] = [feed.run, typing.run, count_dead]
    if settings.timeline_project:
        readiness.checks["consumer"] = lambda: consumer.ready or f"{consumer.away or 'partitions'} missing"
        parts.append(consumer)
        loops.append(consumer.run)
    return run.Process(
        name=STAGE,
        settings=settings,
        readiness=readiness,
        parts=parts,
        loops=loops,
        app=app,
        port=settings.port or PORT,
    )
