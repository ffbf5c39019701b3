"""Faust's streams and their guard, on Apache Kafka."""

from __future__ import annotations

import pytest

from tests.integration.test_router_streams import *  # noqa: F403  # the same tests, with this folder's broker

pytestmark = pytest.mark.docker
