"""What a tenant says about its own data: kept by the command in a real MongoDB, and obeyed by the router within seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.cli import app
from services.common.auth import Keyring
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.tenants import MOST_FORMS, NumberForm, PublicRules, Tenants
from services.common.vault import DEMO_KEY, Vault
from tests.integration.test_router_commands import comment, head_of, leg_of
from tests.routing import Router, running
from tests.waiting import until

Hilo = Callable[..., Any]


@pytest.fixture
def hilo(mongo_settings: CommonSettings) -> Hilo:
    """The command, as somebody types it."""
    env = {
        "HILO_ENV": "test",
        "HILO_MONGO": mongo_settings.mongo.get_secret_value(),
        "HILO_MONGO_PREFIX": mongo_settings.mongo_prefix,
    }

    async def run(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=env)

    return run


@pytest.fixture
async def acme(mongo: Mongo) -> Tenants:
    await Keyring(mongo, Vault(DEMO_KEY)).create_tenant("acme")
    return Tenants(mongo)


def rows(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_forms_and_contacts_are_added_listed_and_removed(hilo: Hilo, acme: Tenants) -> None:
    for words in (
        ("pattern", "add", "acme", "HV-######"),
        ("pattern", "add", "acme", "CL????###", "--kind", "identifier"),
        ("pattern", "add", "acme", "HV-######"),
        ("contact", "add", "acme", " +34 900 123 456 "),
        ("contact", "add", "acme", "+34 900 123 456"),
    ):
        assert (await hilo("tenant", *words)).exit_code == 0

    assert rows(await hilo("tenant", "pattern", "list", "acme")) == [
        {"form": "HV-######", "kind": "order"},
        {"form": "CL????###", "kind": "identifier"},
    ]
    assert rows(await hilo("tenant", "contact", "list", "acme")) == [{"contact": "+34 900 123 456"}]

    assert (await hilo("tenant", "pattern", "remove", "acme", "CL????###")).exit_code == 0
    assert (await hilo("tenant", "contact", "remove", "acme", "+34 900 123 456")).exit_code == 0
    assert await acme.rules("acme") == PublicRules((NumberForm("HV-######"),))
    assert await acme.all_rules() == {"acme": PublicRules((NumberForm("HV-######"),))}


async def test_a_form_is_of_one_kind_the_last_that_was_said(acme: Tenants) -> None:
    await acme.add_form("acme", NumberForm("HV-######"))
    await acme.add_form("acme", NumberForm("HV-######", "identifier"))

    assert (await acme.rules("acme")).forms == (NumberForm("HV-######", "identifier"),)


async def test_adding_from_many_sides_at_once_loses_nothing_and_keeps_the_bound(acme: Tenants) -> None:
    async def add(number: int) -> bool:
        try:
            await acme.add_form("acme", NumberForm(f"X{number:02}-####"))
        except ValueError:
            return False
        return True

    done = await asyncio.gather(*(add(number) for number in range(MOST_FORMS + 6)))

    assert done.count(True) == MOST_FORMS
    assert len((await acme.rules("acme")).forms) == MOST_FORMS


@pytest.mark.parametrize(
    "words",
    [
        ("pattern", "add", "acme", "##"),
        ("pattern", "add", "acme", "(#+)+###"),
        ("pattern", "add", "acme", "HV-######", "--kind", "secret"),
        ("pattern", "add", "nobody", "HV-######"),
        ("pattern", "list", "nobody"),
        ("pattern", "remove", "nobody", "HV-######"),
        ("contact", "add", "acme", "x@y"),
        ("contact", "add", "acme", "hola@casa.example\n900"),
        ("contact", "add", "nobody", "hola@casa.example"),
        ("contact", "list", "nobody"),
    ],
)
async def test_what_cannot_be_is_wrong_use_and_changes_nothing(hilo: Hilo, acme: Tenants, words: tuple[str, ...]) -> None:
    result = await hilo("tenant", *words)

    assert result.exit_code == 2, result.output
    assert await acme.all_rules() == {}


async def test_removing_what_is_not_there_is_said(hilo: Hilo, acme: Tenants) -> None:
    assert (await hilo("tenant", "pattern", "remove", "acme", "HV-######")).exit_code == 1
    assert (await hilo("tenant", "contact", "remove", "acme", "hola@casa.example")).exit_code == 1


# -- the router -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def refused(
    router: Router, conversation: str, key: str, verb: str, field: str, text: str
) -> list[tuple[str, str]] | None:
    """(kind, piece) of what was found; None if it went."""
    head = await head_of(router, conversation)
    said = {"leg": leg_of(head, "instagram"), "text": text} if verb == "messages" else {field: [{"text": text}]}
    where = {"targets": ["whatsapp/main"]} if verb == "handoff/invite" else {}
    answer = await router.command(conversation, verb, key, version=head["version"], **said, **where)
    if answer.status_code == 422:
        assert answer.json()["code"] == "private_data"
        found = answer.json()["found"]
        assert all(text[one["start"] : one["end"]] == one["text"] for one in found)
        return [(one["kind"], one["text"]) for one in found]
    assert answer.status_code == 200, answer.text
    return None


async def test_a_number_of_the_tenants_form_is_refused_at_every_public_door(router: Router, hilo: Hilo) -> None:
    conversation, _ = await comment(router)
    assert await refused(router, conversation, "k0", "messages", "", "It is HV-123456, sorry.") is None
    assert (await hilo("tenant", "pattern", "add", "acme", "HV-######")).exit_code == 0

    async def learned() -> bool:
        known: PublicRules = await Tenants(router.mongo).rules("acme")
        attempt = f"k{len(await router.outbound())}"
        return bool(known.forms) and bool(await refused(router, conversation, attempt, "messages", "", "It is HV 12 34 56."))

    await until(learned, every_s=0.2, what="the router knows the form")
    sent = len(await router.outbound())
    wanted = [("order", "hv-123456")]
    assert await refused(router, conversation, "a", "messages", "", "It is hv-123456 and on its way") == wanted
    assert await refused(router, conversation, "b", "handoff/invite", "public", "About hv-123456: {link}") == wanted
    assert await refused(router, conversation, "c", "handoff/close", "parts", "Done with hv-123456.") == wanted
    assert len(await router.outbound()) == sent


async def test_the_tenants_own_contact_data_may_be_said(router: Router, hilo: Hilo) -> None:
    conversation, _ = await comment(router)
    text = "Write to hola@casa.example."
    assert await refused(router, conversation, "k0", "messages", "", text) == [("email", "hola@casa.example")]
    assert (await hilo("tenant", "contact", "add", "acme", "hola@casa.example")).exit_code == 0

    async def allowed() -> bool:
        return await refused(router, conversation, "k1", "messages", "", text) is None

    await until(allowed, every_s=0.2, what="the router knows the contact")
    assert await refused(router, conversation, "k2", "messages", "", "or to xhola@casa.example") is not None
