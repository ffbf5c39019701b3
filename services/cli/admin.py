"""Topics, tenants and keys, and the one-shot `setup` that a new installation runs: safe to run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from services.cli.output import note, show
from services.common import topics
from services.common.auth import SCOPES, Keyring
from services.common.kafka import create_topics
from services.common.mongo import Mongo, initiate_replica_set
from services.common.settings import CommonSettings
from services.common.vault import vault

Json = Annotated[bool, typer.Option("--json", help="JSON lines, as in a pipe.")]

topics_app = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
tenant_app = typer.Typer(help="Who uses this installation.", no_args_is_help=True)
key_app = typer.Typer(help="API keys of people and programs.", no_args_is_help=True)


@asynccontextmanager
async def keyring(settings: CommonSettings) -> AsyncIterator[Keyring]:
    mongo = Mongo(settings)
    try:
        await mongo.start()
        yield Keyring(mongo, vault(settings))
    finally:
        await mongo.stop()


@contextmanager
def _of(tenant: str) -> Iterator[None]:
    """Says of an unknown tenant that it is unknown."""
    try:
        yield
    except KeyError as error:
        raise typer.BadParameter(f"there is no tenant {tenant}") from error


@topics_app.command("create")
def topics_create() -> None:
    """Create what is missing of the table of topics; what exists is kept."""
    settings = CommonSettings()
    created = asyncio.run(create_topics(settings))
    for name in created:
        print(name)
    note(f"{len(created)} created, {len(topics.TOPICS) - len(created)} were there")


@topics_app.command("list")
def topics_list(*, as_json: Json = False) -> None:
    """The table: key, partitions, retention, who writes and reads."""
    rows = [
        {
            "topic": t.name,
            "partitions": t.partitions,
            "kept": "compacted" if t.retention_ms is None else f"{t.retention_ms // 1000} s",
            "key": t.key,
            "written_by": t.written_by,
            "read_by": t.read_by,
        }
        for t in topics.TOPICS
    ]
    show(rows, ["topic", "partitions", "kept", "key", "written_by", "read_by"], as_json=as_json)


@tenant_app.command("create")
def tenant_create(name: str) -> None:
    """Create a tenant and print its first admin key, once."""

    async def create() -> str | None:
        async with keyring(CommonSettings()) as ring:
            return await ring.create_tenant(name)

    key = asyncio.run(create())
    if key is None:
        note(f"{name} exists already; its first key was shown when it was made. Another one: hilo key create {name} NAME")
        raise typer.Exit(1)
    note("The first admin key. It is shown this once:")
    print(key)


@tenant_app.command("list")
def tenant_list(*, as_json: Json = False) -> None:
    """All tenants."""

    async def find() -> list[str]:
        async with keyring(CommonSettings()) as ring:
            return await ring.tenants()

    show([{"tenant": name} for name in asyncio.run(find())], ["tenant"], as_json=as_json)


@key_app.command("create")
def key_create(
    tenant: str,
    name: str,
    *,
    scope: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SCOPES)}; may be repeated.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent who signs in with it.")] = None,
    days: Annotated[int | None, typer.Option(help="Valid for so many days.")] = None,
) -> None:
    """Create a key and print it, once."""

    async def create() -> str:
        async with keyring(CommonSettings()) as ring:
            await ring.tenant_key(tenant)
            expires = datetime.now(UTC) + timedelta(days=days) if days else None
            return await ring.create_key(tenant, name, frozenset(scope or ["read"]), agent=agent, expires=expires)

    with _of(tenant):
        print(asyncio.run(create()))


@key_app.command("list")
def key_list(tenant: str, *, as_json: Json = False) -> None:
    """The keys of a tenant, by the beginning of their digest; the keys themselves are nowhere kept."""

    async def find() -> list[dict[str, object]]:
        async with keyring(CommonSettings()) as ring:
            await ring.tenant_key(tenant)
            return [{**found, "id": found["_id"][:12]} for found in await ring.keys(tenant)]

    columns = ["id", "name", "scopes", "agent", "at", "expires"]
    with _of(tenant):
        show([{name: row.get(name) for name in columns} for row in asyncio.run(find())], columns, as_json=as_json)


@key_app.command("revoke")
def key_revoke(tenant: str, key_id: Annotated[str, typer.Argument(help="As `hilo key list` shows it.")]) -> None:
    """Revoke a key; it stops working within seconds."""
    if len(key_id) < 12:
        raise typer.BadParameter("give the whole id, as `hilo key list` shows it: a part could be another key's")

    async def revoke() -> bool:
        async with keyring(CommonSettings()) as ring:
            return await ring.revoke(tenant, key_id)

    if not asyncio.run(revoke()):
        note(f"{tenant} has no key {key_id}")
        raise typer.Exit(1)


def setup(
    *,
    mongo_member: Annotated[str | None, typer.Option(help="host:port of a single mongod to make a replica set of.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Create this tenant and print its first key.")] = None,
) -> None:
    """Prepare a new installation: replica set, topics, a first tenant. Safe to run again."""
    settings = CommonSettings()

    async def prepare() -> str | None:
        if mongo_member:
            await initiate_replica_set(settings, mongo_member)
        await create_topics(settings)
        if tenant is None:
            return None
        async with keyring(settings) as ring:
            return await ring.create_tenant(tenant)

    key = asyncio.run(prepare())
    note("ready: replica set, topics" + (f", tenant {tenant}" if tenant else ""))
    if key:
        note("The first admin key. It is shown this once:")
        print(key)
