"""Creating the topics of the table."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from services.common import topics
from services.common.errors import BrokerAway
from services.common.kafka.clients import connection, stopped
from services.common.settings import CommonSettings


async def create_topics(settings: CommonSettings, wanted: Sequence[topics.Topic] = topics.TOPICS) -> list[str]:
    """Create what is missing; what exists is kept. Returns the names created. Raises BrokerAway."""
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        new = [
            NewTopic(settings.topic(t.name), t.partitions, settings.kafka_replication, topic_configs=t.config) for t in wanted
        ]
        existing = set(await admin.list_topics())
        missing = [topic for topic in new if topic.name not in existing]
        answer = await admin.create_topics(missing) if missing else None
        for name, code, *why in answer.topic_errors if answer else ():
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise BrokerAway(f"{name} cannot be created: {error.__name__} {' '.join(map(str, why))}")
        return [topic.name for topic in missing]
    except KafkaError as error:
        raise BrokerAway(type(error).__name__) from error
    finally:
        await stopped(admin)
