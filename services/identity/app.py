"""Identity, wired: the only place where its objects are made."""

from __future__ import annotations

import time
import uuid

from services.common import topics, vault, web
from services.common.auth import Auth, Keyring
from services.common.kafka import Consumer, DeadLetters, Publisher
from services.common.mongo import Mongo
from services.common.run import Process
from services.identity.announce import Announcer
from services.identity.api import add_routes
from services.identity.consumer import GROUP, Passing
from services.identity.desk import Desk
from services.identity.linker import Linker
from services.identity.profiles import MongoValues, Profiles
from services.identity.rules import read_rules
from services.identity.settings import IdentitySettings
from services.identity.stores import MongoGraph

PORT = 8102


def build(settings: IdentitySettings) -> Process:
    rules = read_rules(settings.identity_rules)
    sealing = vault.vault(settings)
    mongo, publisher, readiness = Mongo(settings, retried=False), Publisher(settings), web.Readiness()
    keyring = Keyring(mongo, sealing)
    graph, profiles = MongoGraph(mongo), Profiles(MongoValues(mongo), sealing)
    linker = Linker(graph, rules, uuid.uuid4().hex, now)
    announcer = Announcer(graph, linker, publisher, profiles, now)
    passing = Passing(linker, announcer, profiles, publisher, DeadLetters(publisher, GROUP), rules)
    consumer = Consumer(settings, GROUP, [topics.EVENTS], passing.handle)
    app = web.build("Hilo identity", "identity", readiness, description="Events to one customer.")
    add_routes(app, Desk(graph, linker, announcer, profiles, rules, now), Auth(keyring, settings), keyring)
    readiness.checks = {
        "consumer": lambda: consumer.ready or "no partitions yet",
        "broker": lambda: "away" if publisher.away else None,
        "store": lambda: "away" if mongo.away else None,
    }
    return Process(
        "identity",
        settings,
        readiness,
        parts=(mongo, publisher, graph, announcer, consumer),
        loops=(consumer.run, announcer.run),
        app=app,
        port=settings.port or PORT,
    )


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
