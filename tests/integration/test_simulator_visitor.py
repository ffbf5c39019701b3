"""The visitor of the simulator keeps the protocol of the chat's socket, as the widget does."""

from __future__ import annotations

import json

from websockets.asyncio.server import ServerConnection, serve

from services.simulator.accounts import ChatAccount
from services.simulator.visitor import Visitor
from tests.waiting import until


async def test_what_the_door_could_not_take_is_said_again_until_it_is_accepted() -> None:
    """`retry` comes while the broker is away; the socket stays open, so nobody else would say it again."""
    said: list[str] = []

    async def door(socket: ServerConnection) -> None:
        async for text in socket:
            said.append(json.loads(text)["id"])
            await socket.send(json.dumps({"type": "retry" if len(said) < 3 else "accepted", "id": said[-1]}))

    async with serve(door, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        visitor = Visitor(ChatAccount(id="shop", socket=f"ws://127.0.0.1:{port}/", origin="http://shop.example"))
        await visitor.open()
        await visitor.say("Hola", message_id="m1")
        await until(lambda: "m1" in visitor.accepted)
        await visitor.close()

    assert said == ["m1"] * 3
