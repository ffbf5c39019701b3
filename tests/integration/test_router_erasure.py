"""After an erasure the router knows no name, no value and no order of the person; the case itself stays, without them."""

from __future__ import annotations

import json

from bson import json_util

from services.common import topics as t
from services.common.cloudevents import Event, encode
from services.common.events import CustomerChanged, JourneyStep
from services.common.identifiers import Sender
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.integration.test_router import appended
from tests.routing import NOW, fact, running, said, who
from tests.waiting import until


async def test_an_erased_customer_leaves_no_name_value_or_order_behind(
    settings: CommonSettings, publisher: Publisher, mongo: Mongo
) -> None:
    async with running(settings, publisher, mongo) as router:
        order = JourneyStep(
            type="hilo.order.placed.v1",
            provider_id="o1",
            party=who("ana"),
            received_at=NOW,
            sender=Sender(who("ana")),
            data={"order": "HV-123456"},
        )
        await router.tell(said("ana", 0), fact(order, "ana", unique="order"))
        (conversation,) = (await appended(router, 1)).values()
        people = mongo.database("router")["people"]

        async def noted() -> bool:
            found = await people.find_one({"_id": who("ana").key})
            return bool(found and found["facts"])

        await until(noted, every_s=0.1)
        erased = CustomerChanged(
            type="hilo.customer.erased.v1", customer_id="cust-ana", identifiers=(who("ana").key,), version=9, at=NOW
        )
        await publisher.publish([encode(t.IDENTITY_CHANGES.name, Event("erase", "acme", "cust-ana", NOW, erased))])

        async def gone() -> bool:
            return await people.find_one({"_id": who("ana").key}) is None

        await until(gone, every_s=0.1)
        document = await mongo.database("router")["convs"].find_one({"_id": conversation})

        async def blank() -> bool:
            found = await mongo.database("router")["convs"].find_one({"_id": conversation})
            return bool(found and found["legs"][0]["who"] == b"")

        await until(blank, every_s=0.1)
        document = await mongo.database("router")["convs"].find_one({"_id": conversation})
        assert document
        text = json.dumps(document, default=json_util.default)
        assert "Ana" not in text
        assert document["legs"][0]["name"] is None
        assert document["legs"][0]["ctx"] == []
        assert document["st"] == "open"
