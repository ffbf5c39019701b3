"""Every metric, declared once. Labels are bounded: channels, services, outcomes; never ids of people or conversations."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@cache
def child(metric: M, *labels: str) -> M:
    """The metric with these labels, for hot paths: finding it anew costs more than counting. Labels are bounded."""
    return metric.labels(*labels)


INPUTS = Counter("hilo_ingest_inputs_total", "Inputs by any door, by what became of them", ["channel", "door", "outcome"])
ITEMS = Counter("hilo_ingest_items_total", "Items: accepted = normalized + quarantined + ignored", ["channel", "outcome"])
UNKNOWN_KINDS = Counter("hilo_ingest_unknown_kinds_total", "Items of a kind that the channel does not know", ["channel"])
CHANNEL_BUGS = Counter("hilo_ingest_channel_bugs_total", "Items quarantined because the channel itself failed", ["channel"])
ANSWER_SECONDS = Histogram("hilo_ingest_answer_seconds", "Input read to answer sent", ["channel"], buckets=FAST)

CHAT_SOCKETS = Gauge("hilo_chat_sockets", "Open sockets of the web chat")

SENDS = Counter("hilo_outbound_attempts_total", "Provider calls by result", ["channel", "result"])
SEND_SECONDS = Histogram("hilo_outbound_call_seconds", "Duration of provider calls", ["channel"], buckets=FAST)
HELD = Gauge("hilo_outbound_held", "Sends that wait: for their time, the gate, a rate or a retry", ["reason"])
MEDIA = Counter("hilo_media_total", "Media fetched, by result", ["channel", "result"])

CONSUMED = Counter("hilo_consumed_total", "Records handled", ["group", "topic"])
UNKNOWN_TYPES = Counter("hilo_unknown_types_total", "Events of a type that this version does not know", ["group", "type"])
DEAD = Counter("hilo_dead_letters_total", "Records set aside", ["stage"])
DEAD_OPEN = Gauge("hilo_dead_letters_open", "Dead letters that wait for a decision")
BATCH_SECONDS = Histogram(
    "hilo_batch_seconds", "Duration of one batch, effects and acknowledgements included", ["group"], buckets=FAST
)
LAG_RECORDS = Gauge("hilo_lag_records", "Records between the newest and the last handled", ["group", "topic", "partition"])
LAG_SECONDS = Gauge("hilo_lag_seconds", "Age of the record handled last; 0 when nothing waits", ["group", "topic", "partition"])
AWAY = Gauge("hilo_away", "1 while a part that is needed does not answer", ["part"])
EVENT_AGE = Histogram(
    "hilo_event_age_seconds",
    "Receipt by ingest to the end of this stage",
    ["stage"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)

IDENTITY = Counter("hilo_identity_changes_total", "Customers created, merged, split ...", ["change"])
CAS_LOST = Counter("hilo_cas_lost_total", "Compare-and-sets that somebody else won", ["store"])
CONVERSATIONS = Counter("hilo_conversation_events_total", "State events of conversations", ["type"])
GATE = Counter("hilo_gate_total", "Answers of the send gate", ["answer", "reason"])
REFUSED_PUBLIC = Counter("hilo_public_refused_total", "Public answers refused because of private data", ["kind"])
STREAMS = Gauge("hilo_timeline_streams", "Open live streams")
SHED = Counter("hilo_timeline_shed_total", "Live streams closed because the client was too slow")

HTTP_SECONDS = Histogram(
    "hilo_http_seconds", "Duration of API requests", ["service", "method", "route", "status"], buckets=FAST
)
