"""The supervisor of the demo, the end-to-end tests and the load tool: who dies is started again, and works again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.embedded import CannotStart, EmbeddedMongod, free_port, is_free
from deploy.local.stack import Stack, free_ports
from tests.waiting import until

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    one = Stack(tmp_path, free_ports())
    one.start()
    yield one
    one.stop()


async def test_a_service_that_was_killed_is_started_again_and_gets_its_partitions_also_of_the_embedded_broker(
    stack: Stack,
) -> None:
    await asyncio.to_thread(stack.start_services, 90, ["outbound"])  # the one with the most groups
    outbound = stack.services["outbound"]
    outbound.kill()
    await until(lambda: outbound.restarts == 1)

    await asyncio.to_thread(stack.wait_ready, "outbound", 60)

    assert outbound.log.read_text().count('"partitions_assigned"') == 2 * 3


async def test_a_service_that_dies_while_it_starts_is_started_again(stack: Stack) -> None:
    starting = asyncio.create_task(asyncio.to_thread(stack.start_services, 90, ["identity"]))
    await until(lambda: "identity" in stack.services and stack.services["identity"].process)
    stack.services["identity"].kill()
    await starting

    assert stack.services["identity"].restarts == 1


async def test_wrong_settings_are_told_at_once_and_not_tried_again(stack: Stack) -> None:
    stack._env["HILO_KAFKA_BATCH"] = "many"

    with pytest.raises(CannotStart, match="identity ended with 78"):
        await asyncio.to_thread(stack.start_services, 60, ["identity"])


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux says which ports it gives to outgoing connections")
def test_ports_are_free_and_not_among_those_of_outgoing_connections() -> None:
    first, _, last = RANGE.read_text().partition("\t")
    for _ in range(20):
        ports = set(free_ports().of.values())
        assert not ports & set(range(int(first), int(last) + 1))
        assert all(map(is_free, ports))


def test_a_port_from_which_somebody_is_connected_is_not_free() -> None:
    """A server could not have it, although nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        port = free_port()
        client.bind(("127.0.0.1", port))
        client.connect(server.getsockname())

        assert not is_free(port)


def test_a_server_of_somebody_else_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        mongod = EmbeddedMongod(tmp_path, other.getsockname()[1])

        with pytest.raises(CannotStart, match="mongod did not start"):
            mongod.start()
