"""What the stand-ins know of the accounts they serve: the same secrets as the ingest service has, typed in twice as in life."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Account(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str
    webhook: str = ""


class WhatsAppAccount(_Account):
    phone_number_id: str
    access_token: str
    app_secret: str


class InstagramAccount(_Account):
    ig_id: str
    access_token: str
    app_secret: str


class TelegramAccount(_Account):
    bot: str
    token: str
    webhook_secret: str


class MailAccount(_Account):
    address: str
    smtp: str  # host:port of the ingest's SMTP door


class ChatAccount(_Account):
    socket: str  # ws://host:port/chat/<account>/socket
    origin: str


class ShopAccount(_Account):
    """The shop's own systems, which report steps of the journey: signed, or with a key."""

    secret: str
    key: str | None = None


class Accounts(BaseModel):
    """One of each is enough for the story; several share a door in the tests."""

    model_config = ConfigDict(frozen=True)
    whatsapp: tuple[WhatsAppAccount, ...] = ()
    instagram: tuple[InstagramAccount, ...] = ()
    telegram: tuple[TelegramAccount, ...] = ()
    email: tuple[MailAccount, ...] = ()
    webchat: tuple[ChatAccount, ...] = ()
    journey: tuple[ShopAccount, ...] = ()
