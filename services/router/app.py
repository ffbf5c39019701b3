"""The router, wired: the only place where its objects are made."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta

from services.common import metrics, topics, vault, web
from services.common.auth import Auth, Keyring
from services.common.kafka import Consumer, DeadLetters, Publisher, View
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.tenants import Tenants
from services.common.vault import DEMO_KEY
from services.router import api, desk, desk_api, timers
from services.router.agent_store import MongoAgentStore
from services.router.agents import Desk
from services.router.assigner import Assigner, Kicks, Owner
from services.router.books import QueueBook, RuleBook
from services.router.codes import Keys
from services.router.commands import Commands
from services.router.consumer import GROUP, CustomerEvents, Erasures, MapRecords
from services.router.conversation_store import MongoConversationStore
from services.router.desk_commands import DeskCommands
from services.router.directory import Directory, QueueTimes
from services.router.gate import Gate
from services.router.handoffs import Handoffs
from services.router.invitations import Invitations
from services.router.inviting import Links
from services.router.leaks import PrivateInvitations
from services.router.outputs import Change
from services.router.people import Parties, People
from services.router.poller import Poller
from services.router.protocol import Conversations, NoDesk
from services.router.settings import PORT, RouterSettings
from services.router.state import OutboxItem
from services.router.streams import Handle, Streams
from services.router.timers import Clock
from services.router.together import Together
from services.router.wishes import Wishes


class KafkaOutbox:
    """Outboxes to their topics: each in its order, acknowledged; those that are sent in the same moment travel together."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._sending = Together(self._send_each)

    async def send(self, conversation: str, items: Sequence[OutboxItem]) -> None:
        await self._sending(items)

    async def _send_each(self, boxes: Sequence[Sequence[OutboxItem]]) -> Sequence[None]:
        await self._publisher.publish([item.record for items in boxes for item in items])
        for item in (item for items in boxes for item in items if item.s is not None):
            metrics.CONVERSATIONS.labels(item.record.attributes.get("type", "")).inc()
        return [None] * len(boxes)


def offer_keys(settings: RouterSettings) -> Keys:
    """Invitations are signed with a key of their own, made from the master key."""
    master = base64.b64decode(settings.master_key.get_secret_value()) if settings.master_key else DEMO_KEY
    return Keys(0, {0: hmac.digest(master, b"hilo handoff invitations", hashlib.sha256)})


def desk_clock() -> Clock:
    def fire(change: Change, now: object) -> Change:
        fired = desk.fired(change.after, now)  # type: ignore[arg-type]
        return change.plus(fired.after, *fired.outputs) if fired else change

    return Clock(desk.due, fire)


def build(settings: RouterSettings) -> Process:
    sealing = vault.vault(settings)
    mongo, publisher, readiness = Mongo(settings, retried=False), Publisher(settings), web.Readiness()
    keyring = Keyring(mongo, sealing)
    store, agents = MongoConversationStore(mongo), MongoAgentStore(mongo)
    book = QueueBook(agents, keyring).usual(QueueTimes(answer_s=settings.answer_within_s))
    directory = Directory(book.of)
    rules = RuleBook(Tenants(mongo))
    people, parties = People(mongo, sealing), Parties(sealing)
    wishes = Wishes(lambda c, leg: parties.open(c.tenant, leg.party, leg.who), settings.stop_s)
    links = Links(offer_keys(settings), f"{settings.public_url.rstrip('/')}/go/")

    clocks = [timers.SLA, desk_clock()]
    conversations = Conversations(store, KafkaOutbox(publisher), NoDesk(), timers.armed(clocks), directory.opening)
    kicks = Kicks(publisher)
    conversations.desk = over = Desk(conversations, agents, kicks)
    owner = Owner(store, Assigner(store, agents, over), over)
    handoffs = Handoffs(conversations, directory, wishes, links)
    # Invitations end before silence is judged.
    clocks += [handoffs.clock(), timers.inactivity(timedelta(hours=settings.close_after_h), wishes.closed)]

    dead = DeadLetters(publisher, GROUP)
    events = CustomerEvents(conversations, directory, people, parties, handoffs, publisher, dead)
    handlers: dict[topics.Topic, Handle] = {
        topics.CUSTOMER_EVENTS: events,
        topics.IDENTITY_MAP: MapRecords(conversations, dead),
        topics.IDENTITY_CHANGES: Erasures(conversations, people, dead),
    }
    streams = Streams(settings, GROUP, handlers, dead, fast=settings.fast_streams, buffer=settings.stream_buffer)
    kicked = Consumer(settings, "router.desk", [topics.DESK_KICKS], owner.handle)
    channels = View(settings, topics.CHANNELS, directory.apply)
    poller = Poller(conversations, timers.fired(clocks), every_s=settings.poll_s)

    app = web.build("Hilo router", "router", readiness, description="Conversations, handoff, desk, and the send gate.")
    commands = Commands(conversations, directory, people, parties, wishes, PrivateInvitations(store, links.keys), rules.of)
    auth = Auth(keyring, settings)
    api.add_routes(app, commands, Invitations(commands, links), Gate(conversations, people), auth)
    app.include_router(desk_api.routes(DeskCommands(commands, over, agents), over, agents, auth))
    readiness.checks = {
        "streams": lambda: streams.ready or streams.away or "no partitions yet",
        "broker": lambda: "away" if publisher.away else None,
        "store": lambda: "away" if mongo.away else None,
    }
    return Process(
        "router",
        settings,
        readiness,
        parts=(mongo, publisher, store, agents, book, rules, channels, poller, kicked, streams),
        loops=(channels.run, streams.run, poller.run, kicked.run, kicks.run, owner.run, book.follow, rules.follow),
        app=app,
        port=settings.port or PORT,
    )
