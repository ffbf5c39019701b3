"""The data API of ingest: channels and accounts. Thin: it turns requests into calls, and values into answers."""

# No postponed annotations: FastAPI reads those of the routes below, whose types are made inside functions.

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from services.common.auth import Auth, Principal
from services.common.errors import Problem, not_found
from services.common.events import Author, ChannelDeclared
from services.common.http import Http
from services.ingest.accounts import Accounts, State, Stored, Wish
from services.ingest.connecting import subscribe, usable, webhook_url
from services.ingest.contract import Channel, Registry, Webhook, declared, how
from services.ingest.settings import IngestSettings


class Body(BaseModel):
    """A request's body: what we do not know is a mistake of the caller's."""

    model_config = ConfigDict(extra="forbid")


def tenant_of(principal: Principal) -> str:
    if not principal.tenant:
        raise Problem(422, "tenant_missing", "Name the tenant in the header hilo-tenant.")
    return principal.tenant


def author(principal: Principal) -> Author:
    if principal.agent:
        return Author("agent", principal.agent, principal.name or None)
    return Author("system", principal.key_id, principal.name or None)


# -- channels ---------------------------------------------------------------------------------------------------------------


class DoorShown(BaseModel):
    name: str
    kind: str


class ChannelShown(ChannelDeclared):
    """The declaration, and what an operator reads when connecting an account. `form` is the JSON Schema of its fields."""

    doors: tuple[DoorShown, ...]
    how: tuple[str, ...]


class BrokenShown(BaseModel):
    name: str
    why: str


class ChannelsShown(BaseModel):
    channels: list[ChannelShown]
    broken: list[BrokenShown] = Field(description="Plug-ins that could not be loaded; their webhooks answer 503")


def _channel(channel: Channel[Any]) -> ChannelShown:
    doors = tuple(DoorShown(name=door.name, kind=type(door).__name__.lower()) for door in channel.doors)
    return ChannelShown(**declared(channel).model_dump(), doors=doors, how=tuple(how(channel)))


def channels_router(auth: Auth, registry: Registry) -> APIRouter:
    router = APIRouter(prefix="/v1/channels", tags=["channels"], dependencies=[Depends(auth.requires("read", "agent"))])

    @router.get("")
    async def list_channels() -> ChannelsShown:
        """Every kind of platform that can be connected, with its setup form."""
        known = [_channel(channel) for _, channel in sorted(registry.channels.items())]
        return ChannelsShown(channels=known, broken=[BrokenShown(name=n, why=w) for n, w in sorted(registry.broken.items())])

    @router.get("/{name}")
    async def get_channel(name: str) -> ChannelShown:
        """One of them."""
        if name not in registry.channels:
            raise not_found("channel")
        return _channel(registry.channels[name])

    return router


# -- accounts ---------------------------------------------------------------------------------------------------------------


class AccountWish(Body):
    """What is named is set, everything else stays. A secret may be a text, or a list of texts that are valid at once."""

    fields: dict[str, Any] = Field({}, description="The channel's own fields, as its form says; null takes one away")
    title: str | None = Field(None, max_length=200)
    queue: str | None = Field(None, max_length=100)
    language: str | None = Field(None, max_length=35)
    state: Literal["active", "paused"] | None = None
    hours: dict[str, Any] | None = None
    version: int | None = Field(None, ge=0, description="The version that was seen; 409 if it is another by now")


class Rotation(Body):
    """A new first value for a secret, the old ones staying valid, or the end of the old ones; both at once replaces it."""

    secret: str
    add: str | None = Field(None, min_length=1, max_length=10_000)
    retire: bool = False
    version: int | None = None


class WebhookShown(BaseModel):
    door: str
    url: str


class AccountShown(BaseModel):
    channel: str
    id: str
    title: str
    queue: str
    language: str | None
    state: State
    hours: dict[str, Any]
    fields: dict[str, Any] = Field(description="Without secrets")
    secrets: dict[str, int] = Field(description="How many values of each secret are valid; the values are never shown")
    webhooks: list[WebhookShown] = Field(description="What to tell the provider")
    version: int
    created_at: datetime | None
    changed_at: datetime | None


class AccountsShown(BaseModel):
    accounts: list[AccountShown]


class Subscribed(BaseModel):
    """The provider has been told where to call us, and took it."""

    url: str
    status: int


def accounts_router(auth: Auth, accounts: Accounts, registry: Registry, settings: IngestSettings, http: Http) -> APIRouter:
    router = APIRouter(prefix="/v1/accounts", tags=["accounts"])
    Reader = Annotated[Principal, Depends(auth.requires("read", "agent"))]  # noqa: N806  # a type
    Admin = Annotated[Principal, Depends(auth.requires("admin"))]  # noqa: N806

    def shown(stored: Stored) -> AccountShown:
        channel = registry.channels.get(stored.channel)
        names = [door.name for door in channel.doors if isinstance(door, Webhook)] if channel else []
        base = webhook_url(settings.public_url, stored.channel, stored.id)
        urls = [WebhookShown(door=name, url=base if place == 0 else f"{base}/{name}") for place, name in enumerate(names)]
        return AccountShown(
            channel=stored.channel,
            id=stored.id,
            title=stored.title,
            queue=stored.queue,
            language=stored.language,
            state=stored.state,
            hours=dict(stored.hours),
            fields=dict(stored.config),
            secrets=dict(stored.secrets),
            webhooks=urls,
            version=stored.version,
            created_at=stored.created_at,
            changed_at=stored.changed_at,
        )

    @router.get("")
    async def list_accounts(who: Reader, channel: str | None = None) -> AccountsShown:
        """The tenant's accounts, also those of a channel that cannot be loaded."""
        return AccountsShown(accounts=[shown(one) for one in await accounts.list(tenant_of(who), channel)])

    @router.get("/{channel}/{account}")
    async def get_account(who: Reader, channel: str, account: str) -> AccountShown:
        """One account."""
        return shown(await accounts.stored(tenant_of(who), channel, account))

    @router.put("/{channel}/{account}")
    async def put_account(who: Admin, channel: str, account: str, body: AccountWish) -> AccountShown:
        """Connect an account, or change it. The id stands in its webhook's address, so it is unique within the channel."""
        wish = Wish(body.fields, body.title, body.queue, body.language, body.state, body.hours)
        return shown(await accounts.put(tenant_of(who), channel, account, wish, body.version))

    @router.post("/{channel}/{account}/rotate")
    async def rotate_secret(who: Admin, channel: str, account: str, body: Rotation) -> AccountShown:
        """Rotate a secret without an input being refused: add the new value, tell the provider, retire the old one."""
        if body.add is None and not body.retire:
            raise Problem(422, "rotation_empty", "Say `add`, `retire` or both.")
        tenant = tenant_of(who)
        return shown(
            await accounts.rotate(tenant, channel, account, body.secret, add=body.add, retire=body.retire, version=body.version)
        )

    @router.delete("/{channel}/{account}")
    async def remove_account(who: Admin, channel: str, account: str, version: int | None = None) -> AccountShown:
        """Disconnect an account: its secrets are destroyed, its id stays taken."""
        return shown(await accounts.remove(tenant_of(who), channel, account, version))

    @router.post("/{channel}/{account}/subscribe")
    async def subscribe_account(who: Admin, channel: str, account: str) -> Subscribed:
        """Tell the provider our webhook's address, where it can be told by a call."""
        await accounts.stored(tenant_of(who), channel, account)
        return Subscribed(**asdict(await subscribe(http, await usable(accounts, channel, account), settings.public_url)))

    return router
