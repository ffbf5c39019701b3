"""An account as it is kept, what an operator may wish of it, and how the two become the account after it: no I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import ValidationError

from services.common.errors import Problem
from services.common.mongo import Document
from services.ingest.contract import Account, Secret

State = Literal["active", "paused", "removed"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An account as it is kept, as it may be shown: of its secrets only how many values each has."""

    tenant: str
    channel: str
    id: str
    title: str = ""
    queue: str = "default"
    language: str | None = None
    state: State = "active"
    hours: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, int] = field(default_factory=dict)
    version: int = 0
    created_at: datetime | None = None
    changed_at: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.channel}/{self.id}"

    @property
    def place(self) -> str:
        """What the sealed secrets are bound to."""
        return f"account/{self.tenant}/{self.channel}/{self.id}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of an account; None leaves a thing as it is. `fields` are the channel's own, secrets included;
    a field that is not named keeps its value, so a secret need not be sent again."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    queue: str | None = None
    language: str | None = None
    state: State | None = None
    hours: Mapping[str, Any] | None = None


Secrets = Mapping[str, tuple[str, ...]]


def secret_fields(model: type[Account]) -> frozenset[str]:
    """The fields of a channel's account that are secrets, also where they may be absent."""
    return frozenset(
        name for name, info in model.model_fields.items() if info.annotation is Secret or Secret in get_args(info.annotation)
    )


def wished(model: type[Account], stored: Stored, secrets: Secrets, wish: Wish) -> tuple[Stored, dict[str, tuple[str, ...]]]:
    """The account and its secrets as they will be kept. Raises Problem 422, which names fields and never their values."""
    hidden = secret_fields(model)
    given = {name: value for name, value in wish.fields.items() if value is not None}
    gone = {name for name, value in wish.fields.items() if value is None}
    fields = {name: value for name, value in {**stored.config, **secrets, **given}.items() if name not in gone}
    account = validated(model, stored.tenant, stored.id, fields)
    kept = {
        name: _kept(secrets.get(name, ()), value.all())
        for name in hidden & account.model_fields_set
        if isinstance(value := getattr(account, name), Secret)
    }
    config = account.model_dump(mode="json", exclude={"tenant", "id", *hidden}, exclude_unset=True)
    changed = {n: v for n in ("title", "queue", "language", "state", "hours") if (v := getattr(wish, n)) is not None}
    counts = {name: len(values) for name, values in sorted(kept.items())}
    return replace(stored, config=config, secrets=counts, **changed), kept


def _kept(before: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """Sending the current value of a secret again does not end its rotation."""
    return before if given == before[:1] else given


def validated(model: type[Account], tenant: str, id: str, fields: Mapping[str, Any]) -> Account:
    try:
        return model.model_validate({**fields, "tenant": tenant, "id": id})
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
        why = [{"at": ".".join(map(str, one["loc"])), "why": one["msg"]} for one in found]
        raise Problem(422, "account_invalid", "The account's fields do not have the expected form.", fields=why) from None


def rotated(secrets: Secrets, name: str, add: str | None, *, retire: bool) -> dict[str, tuple[str, ...]]:
    """The secrets with a new value of `name` in front, which signs and sends from now on; with `retire`, only the value in
    front stays valid."""
    before = secrets.get(name, ())
    values = (add, *(one for one in before if one != add)) if add else before
    if not values:
        raise Problem(422, "secret_absent", f"The secret {name} has no value that could be retired.")
    return {**secrets, name: values[:1] if retire else values}


def to_document(stored: Stored, sealed: bytes) -> Document:
    return {
        "tenant": stored.tenant,
        "channel": stored.channel,
        "account": stored.id,
        "title": stored.title,
        "queue": stored.queue,
        "language": stored.language,
        "state": stored.state,
        "hours": dict(stored.hours),
        "config": dict(stored.config),
        "secrets": dict(stored.secrets),
        "sealed": sealed,
        "created_at": stored.created_at,
    }


def from_document(document: Document) -> Stored:
    names = ("tenant", "channel", "title", "queue", "language", "state", "hours", "config", "secrets", "version", "created_at")
    known: dict[str, Any] = {name: document[name] for name in names}
    return Stored(id=document["account"], **known, changed_at=document.get("changed_at"))
