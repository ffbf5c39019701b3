"""The one table of topics: name, partitions, retention. Created by `hilo topics create`; nothing relies on auto-creation."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 24 * 3600 * 1000
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """`partitions` is a number to start with: records are keyed, so a topic grows only while it is quiet."""

    name: str
    partitions: int
    retention_ms: int | None = None  # None: compacted
    key: str = ""
    written_by: str = ""
    read_by: str = ""
    max_bytes: int | None = None  # None: the broker's own limit, 1 MB unless it was changed

    @property
    def config(self) -> dict[str, str]:
        size = {} if self.max_bytes is None else {"max.message.bytes": str(self.max_bytes)}
        if self.retention_ms is None:
            return {"cleanup.policy": "compact", **size}
        return {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms), **size}


# Events and customer events have the same partition count: identity passes a record on to the partition it came from.
# hilo.raw takes a mail of 25 MB as it came, hilo.dead the same in base64, and events a text as long as a webhook's body.
RAW = Topic("hilo.raw", 4, 7 * DAY, "tenant/channel/account", "ingest", "replay, ledger check, archive", 28 * MB)
EVENTS = Topic("hilo.events", 4, 30 * DAY, "party, else message id", "ingest, router (proofs)", "identity, subscribers", 4 * MB)
IDENTITY_MAP = Topic("hilo.identity.map", 4, None, "identifier key", "identity", "router, timeline, subscribers")
IDENTITY_CHANGES = Topic("hilo.identity.changes", 1, 30 * DAY, "customer id", "identity", "every service, subscribers")
CUSTOMER_EVENTS = Topic(
    "hilo.customer.events", 4, 30 * DAY, "same as hilo.events", "identity", "router, timeline, subscribers", 4 * MB
)
CONVERSATION_EVENTS = Topic("hilo.conversation.events", 4, 30 * DAY, "conversation id", "router", "timeline, subscribers")
OUTBOUND = Topic("hilo.outbound", 4, 30 * DAY, "leg key", "router", "outbound worker")
DESK_KICKS = Topic("hilo.desk.kicks", 2, 3600 * 1000, "queue", "router", "router")
CHANNELS = Topic("hilo.channels", 1, None, "channel, or tenant/channel/account", "ingest", "router, timeline, subscribers")
LIVE = Topic("hilo.live", 2, 60 * 1000, "conversation or party", "ingest, router", "timeline's feed")
DEAD = Topic("hilo.dead", 1, 30 * DAY, "as the original", "all", "dead-letter tools, timeline", 40 * MB)

TOPICS = (
    RAW,
    EVENTS,
    IDENTITY_MAP,
    IDENTITY_CHANGES,
    CUSTOMER_EVENTS,
    CONVERSATION_EVENTS,
    OUTBOUND,
    DESK_KICKS,
    CHANNELS,
    LIVE,
    DEAD,
)
