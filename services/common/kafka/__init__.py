"""Kafka: a publisher whose return means acknowledged, the one consumer loop with its error policy, and reading topics."""

from services.common.kafka.batching import Place
from services.common.kafka.clients import be_patient, connection
from services.common.kafka.consuming import UNHURRIED_S, Consumer
from services.common.kafka.creating import create_topics
from services.common.kafka.dead_letters import DeadLetters, read
from services.common.kafka.publishing import Publisher
from services.common.kafka.reading import View, read_all, read_at

__all__ = [
    "UNHURRIED_S",
    "Consumer",
    "DeadLetters",
    "Place",
    "Publisher",
    "View",
    "be_patient",
    "connection",
    "create_topics",
    "read",
    "read_all",
    "read_at",
]
