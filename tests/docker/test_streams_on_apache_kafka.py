"""Faust behind our guard, on Apache Kafka."""

from __future__ import annotations

import pytest

from services.common.kafka import Publisher, create_topics
from services.common.settings import CommonSettings
from tests.integration.test_router_streams import *  # noqa: F403  # the same tests, with this folder's broker
from tests.integration.test_router_streams import COUNT, Seen, made, records
from tests.waiting import until

pytestmark = pytest.mark.docker


async def test_who_joined_while_the_broker_did_not_know_the_topics_gets_their_partitions_soon_after_it_does(
    settings: CommonSettings,
) -> None:
    """As after a broker's restart: who leads the group then assigns nothing, and must look again soon."""
    publisher, seen = Publisher(settings), Seen()
    one = made(settings, publisher, seen)
    await one.start()
    try:
        assert not one.ready
        await create_topics(settings)
        await publisher.start()
        await publisher.publish(records())
        await until(lambda: len(seen.values) == COUNT, within_s=40)
    finally:
        await one.stop()
        await publisher.stop()
