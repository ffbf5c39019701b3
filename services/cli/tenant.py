"""What a tenant says about its own data: forms of its numbers, which nobody may say in public, and contact data, which
everybody may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import typer

from services.cli.output import note, show
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.tenants import NumberForm, NumberKind, Tenants

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="JSON lines, as in a pipe.")]
Form = Annotated[str, typer.Argument(help="# is a digit, ? a letter: 'HV-######'.")]

pattern_app = typer.Typer(help="Forms of the tenant's own numbers: private, refused in public.", no_args_is_help=True)
contact_app = typer.Typer(help="The tenant's own contact data: may be said in public.", no_args_is_help=True)
WITHIN = "it counts within seconds"


@asynccontextmanager
async def _tenants() -> AsyncIterator[Tenants]:
    mongo = Mongo(CommonSettings())
    try:
        await mongo.start()
        yield Tenants(mongo)
    finally:
        await mongo.stop()


def _run(tenant: str, work: Coroutine[Any, Any, T]) -> T:
    """What it came to. Unknown tenants and unusable values are wrong use."""
    try:
        return asyncio.run(work)
    except KeyError as error:
        raise typer.BadParameter(f"there is no tenant {tenant}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@pattern_app.command("add")
def pattern_add(
    tenant: str, form: Form, *, kind: Annotated[NumberKind, typer.Option(help="What such a number is.")] = "order"
) -> None:
    """Refuse numbers of this form in public: `hilo tenant pattern add casa-lumbre 'HV-######'`."""

    async def add() -> None:
        wanted = NumberForm(form, kind)
        async with _tenants() as tenants:
            await tenants.add_form(tenant, wanted)

    _run(tenant, add())
    note(f"{form}: {WITHIN}")


@pattern_app.command("list")
def pattern_list(tenant: str, *, as_json: Json = False) -> None:
    """The forms of a tenant."""

    async def find() -> list[dict[str, str]]:
        async with _tenants() as tenants:
            return [{"form": one.form, "kind": one.kind} for one in (await tenants.rules(tenant)).forms]

    show(_run(tenant, find()), ["form", "kind"], as_json=as_json)


@pattern_app.command("remove")
def pattern_remove(tenant: str, form: Form) -> None:
    """Allow numbers of this form again, where nothing else forbids them. Exit 1 if there is no such form."""

    async def remove() -> bool:
        async with _tenants() as tenants:
            return await tenants.remove_form(tenant, form)

    _ended(done=_run(tenant, remove()), what=form)


@contact_app.command("add")
def contact_add(tenant: str, value: str) -> None:
    """Allow this in public: a number, an address. What accounts name as their contact is allowed without."""

    async def add() -> None:
        async with _tenants() as tenants:
            await tenants.add_contact(tenant, value)

    _run(tenant, add())
    note(f"{value.strip()}: {WITHIN}")


@contact_app.command("list")
def contact_list(tenant: str, *, as_json: Json = False) -> None:
    """The contact data of a tenant."""

    async def find() -> list[dict[str, str]]:
        async with _tenants() as tenants:
            return [{"contact": one} for one in (await tenants.rules(tenant)).contacts]

    show(_run(tenant, find()), ["contact"], as_json=as_json)


@contact_app.command("remove")
def contact_remove(tenant: str, value: str) -> None:
    """No longer allow it. Exit 1 if it was not there."""

    async def remove() -> bool:
        async with _tenants() as tenants:
            return await tenants.remove_contact(tenant, value)

    _ended(done=_run(tenant, remove()), what=value)


def _ended(*, done: bool, what: str) -> None:
    if not done:
        note(f"there is no {what}")
        raise typer.Exit(1)
    note(f"{what}: {WITHIN}")
