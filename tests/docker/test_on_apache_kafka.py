"""The publisher, the consumer loop and the views, on Apache Kafka."""

from __future__ import annotations

import pytest

from tests.integration.test_kafka import *  # noqa: F403  # the same tests, with this folder's broker

pytestmark = pytest.mark.docker
