"""The channel contract: one frozen `Channel` value made of data and pure functions. No channel does I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, cast, get_type_hints

from pydantic import BaseModel

from services.common.events import PartKind
from services.ingest.contract.account import A
from services.ingest.contract.capabilities import Can, Handoff, Leg
from services.ingest.contract.doors import Door
from services.ingest.contract.facts import Facts
from services.ingest.contract.inputs import Item, Payload, Raw
from services.ingest.contract.sending import Check, Media, Renew, Request, Send

Handler = Callable[[A, Any], Facts]


class Misdeclared(Exception):
    """The declaration contradicts itself. The text names the channel, the place and what to write instead."""


def no_contact(account: Any) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Channel(Generic[A]):
    """Everything Hilo knows of a kind of platform. Doors, unpack, kinds and send are the four things to write.

    `unpack` is structure only: an Item for every element, known or not; it must not read `received_at` and may raise
    Unreadable only. `kinds` is the meaning of one item, from its arguments alone: a ValueError quarantines the item, and so
    does anything else, as a bug that alarms. `ignores` says of a kind why it is of no use. `address` is the account field
    that `Item.to` names. `invite` is where a handoff link leads on an account, given the code: a text with `{code}`, or a
    function of account and code; None where a person cannot be led there. `contact` is the account's own public data,
    which a public answer may name. `setup` subscribes our webhook URL. Only the values of the fields in `shown` may stand
    in logs."""

    name: str
    title: str
    docs: str
    account: type[A]
    legs: Mapping[str, Leg]
    doors: tuple[Door[A], ...]
    unpack: Callable[[Raw], Iterable[Item]]
    kinds: Mapping[str, Handler[A]]
    ignores: Mapping[str, str] = field(default_factory=dict)
    send: Send[A] | None = None
    media: Media[A] | None = None
    health: Check[A] | None = None
    renew: Renew[A] | None = None
    setup: Callable[[A, str], Request] | None = None
    address: str | None = None
    handoffs: tuple[Handoff, ...] = ()
    invite: str | Callable[[A, str], str] | None = None
    contact: Callable[[A], tuple[str, ...]] = no_contact
    shown: Collection[str] = ("type", "kind", "event", "timestamp")

    def __post_init__(self) -> None:
        for kind, handler in self.kinds.items():
            model_of(self.name, kind, handler)
        for handoff in self.handoffs:
            if self.legs[handoff.public].visibility != "public" or self.legs[handoff.private].visibility != "private":
                raise Misdeclared(f"{self.name}: a handoff goes from a public leg to a private one, not {handoff}.")
        if self.address and self.address not in self.account.model_fields:
            raise Misdeclared(
                f"{self.name}: address='{self.address}' is not a field of {self.account.__name__}; "
                f"it has {', '.join(sorted(self.account.model_fields))}."
            )
        if self.renew and self.renew.into not in self.account.model_fields:
            raise Misdeclared(f"{self.name}: renew.into='{self.renew.into}' is not a field of {self.account.__name__}.")
        if both := self.kinds.keys() & self.ignores.keys():
            raise Misdeclared(f"{self.name}: {', '.join(sorted(both))} stand in both `kinds` and `ignores`; keep one.")
        if len({door.name for door in self.doors}) < len(self.doors):
            raise Misdeclared(f"{self.name}: two doors share a name; it stands in the URL, give each its own name=.")

    def can(self, leg: str, kind: PartKind) -> Can | None:
        return next((can for can in self.legs[leg].sends if can.kind == kind), None)

    def door(self, name: str) -> Door[A]:
        """The door of this name; KeyError if there is none."""
        for door in self.doors:
            if door.name == name:
                return door
        raise KeyError(name)

    def invitation(self, account: A, code: str) -> str | None:
        """Where a handoff link with this code leads on this account."""
        if callable(self.invite):
            return self.invite(account, code)
        return self.invite and self.invite.replace("{code}", code)


@cache
def model_of(channel: str, kind: str, handler: Callable[..., Any]) -> type[BaseModel]:
    """The payload model of a handler: the annotation of its second parameter."""
    hints = {name: hint for name, hint in get_type_hints(handler).items() if name != "return"}
    models = [hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, Payload)]
    if len(models) != 1:
        raise Misdeclared(
            f"{channel}: kinds['{kind}'] is {handler.__name__}(...): annotate its second parameter with the Payload "
            f"model of that kind, e.g. `def {handler.__name__}(account: MyAccount, message: Message) -> Facts`."
        )
    return cast(type[BaseModel], models[0])
