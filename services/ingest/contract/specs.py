"""What a channel's YAML file may hold. Unknown fields are errors: a typing mistake must not become a setting that does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.common.events import Action, PartKind
from services.common.identifiers import Visibility
from services.ingest.contract.facts import ReceivedType
from services.ingest.contract.sending import Then


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FieldSpec(Spec):
    help: str
    secret: bool = False


class CanSpec(Spec):
    size: int | None = None
    unit: Literal["chars", "utf16", "bytes"] = "chars"
    mb: float | None = None
    types: tuple[str, ...] = ()
    caption: int = 0


class LegSpec(Spec):
    visibility: Visibility
    sends: Mapping[PartKind, CanSpec | None] = {}
    per_second: float | None = None


class HmacSpec(Spec):
    hmac: Literal["sha1", "sha256", "sha512"]
    header: str
    secret: str
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    over: str = "{body}"  # also {url} and {stamp}
    stamp: str | None = None


class TokenSpec(Spec):
    token: str
    secret: str


class WebhookSpec(Spec):
    verify: HmacSpec | TokenSpec
    body: Literal["json", "form"] = "json"
    reply: str = ""
    reply_type: str = "text/plain"


class MapSpec(Spec):
    at: str = Field(alias="from")
    map: Mapping[str, str]


class SenderSpec(Spec):
    scheme: str
    value: str
    scope: str = ""
    name: str | None = None


class MediaSpec(Spec):
    each: str
    ref: str
    type: str | None = None


class ReceivedSpec(Spec):
    fact: Literal["received"]
    type: ReceivedType = "message.received"
    leg: str = ""
    id: str
    at: str | None = None
    sender: SenderSpec
    thread: str | None = None
    text: str | None = None
    media: MediaSpec | None = None
    reply_to: str | None = None


class ReceiptSpec(Spec):
    fact: Literal["receipt"]
    id: str
    at: str | None = None
    state: MapSpec
    correlation: str | None = None


class RequestSpec(Spec):
    post: str
    headers: Mapping[str, str] = {}
    json_body: Any = Field(None, alias="json")
    form: Mapping[str, str] | None = None
    idempotent: bool = False


class AnswerSpec(Spec):
    retry: float | None = None
    failed: str | None = None
    then: Then = "nothing"


class SendSpec(Spec):
    requests: Mapping[Action, RequestSpec]
    sent_id: str
    error_code: str = ""
    answers: Mapping[str, AnswerSpec] = {}


class ChannelSpec(Spec):
    channel: str
    title: str
    docs: str
    account: Mapping[str, FieldSpec]
    legs: Mapping[str, LegSpec]
    webhook: WebhookSpec
    items: str = ""
    kind: str
    kinds: Mapping[str, Annotated[ReceivedSpec | ReceiptSpec, Field(discriminator="fact")]]
    ignores: Mapping[str, str] = {}
    send: SendSpec | None = None
    shown: tuple[str, ...] = ("type", "id", "status")
