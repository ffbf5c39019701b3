"""Pigeon SMS (invented): a JSON webhook with an HMAC, and one call to send."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Facts,
    Failed,
    Hmac,
    Leg,
    Moment,
    Outgoing,
    Payload,
    Rate,
    Receipt,
    Received,
    Request,
    Retry,
    Secret,
    Send,
    Sender,
    Webhook,
    bearer,
    each,
    post,
    tel,
    text,
)


class Pigeon(Account):
    number: str = Field(description="The number you rent, as +49...: Pigeon console > Numbers")
    api_key: Secret = Field(description="Pigeon console > API > Key")
    signing_key: Secret = Field(description="Pigeon console > Webhooks > Signing key")


class Message(Payload):
    id: str
    sender: str = Field(alias="from")
    text: str
    sent_at: Moment


class Report(Payload):
    id: str
    state: Literal["delivered", "failed"]
    at: Moment


def received(account: Pigeon, m: Message) -> Facts:
    yield Received(id=m.id, at=m.sent_at, sender=Sender(tel(m.sender)), parts=(text(m.text),))


def reported(account: Pigeon, r: Report) -> Facts:
    yield Receipt(id=r.id, at=r.at, state=r.state)


def message(account: Pigeon, out: Outgoing) -> Request:
    body = {"from": account.number, "to": out.thread, "text": out.part.text, "reference": out.id}
    return post("https://api.pigeon.example/v1/messages", body, auth=bearer(account.api_key), idempotent=True)


CHANNEL = Channel(
    name="pigeon",
    title="Pigeon SMS",
    docs="https://docs.pigeon.example",
    account=Pigeon,
    legs={"sms": Leg("private", sends=(Can("text", 1600),), rates=(Rate(10),))},
    doors=(Webhook(Hmac("x-pigeon-signature", secret="signing_key")),),
    unpack=each("events[]", kind="type"),
    kinds={"message": received, "report": reported},
    send=Send(
        {"message": message},
        sent_id="id",
        error_code="error.code",
        answers={"opted_out": Failed("opted out", then="stop_contact"), "busy": Retry("busy", 5)},
    ),
    contact=lambda account: (account.number,),
)
