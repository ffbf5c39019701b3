"""What evidence an event carries: which identifiers it shows, and which of them it says are one person.

A name is never evidence. What a sender whose own id is only claimed says of itself is claimed at most, whoever repeats it:
a forged From: must not drag a verified phone number along.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import phonenumbers
from disposable_email_domains import blocklist

from services.common.cloudevents import Event
from services.common.errors import Poison
from services.common.events import Data, Fact
from services.common.identifiers import Identifier, Proof, Sender, Strength
from services.identity.component import RANK, Edge, Member, edge
from services.identity.rules import Rules

KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As far as an identifier itself is proven by what somebody else says of it.
PROVEN: dict[Strength, Proof] = {"verified": "channel", "asserted": "channel", "claimed": "claimed", "inferred": "none"}
NO_PERSON = (
    phonenumbers.PhoneNumberType.TOLL_FREE,
    phonenumbers.PhoneNumberType.PREMIUM_RATE,
    phonenumbers.PhoneNumberType.SHARED_COST,
    phonenumbers.PhoneNumberType.UAN,
    phonenumbers.PhoneNumberType.VOICEMAIL,
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a channel says of an identifier: its value, and perhaps a name. Kept sealed, apart from the graph."""

    key: str
    identifier: Identifier
    name: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What one event, or one command, carries. `party` is the identifier whose customer the event belongs to; `anchor` the
    one that speaks: what is only claimed is kept with it."""

    tenant: str
    at: int
    event_id: str = ""
    party: str | None = None
    anchor: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    profiles: tuple[Profile, ...] = ()
    actor: str = ""


def carried(event: Event[Data], rules: Rules) -> Carried:
    """Raises Poison where an identifier has no usable key."""
    data = event.data
    if not isinstance(data, Fact):
        return Carried(event.tenant, micros(event.time), event.id)
    at = micros(data.received_at)
    sender = speaking(data)
    if sender is None:
        return _shown(event, at, data.party, rules)
    source = f"{event.channel}/{event.account}"
    members = {_key(sender.id): _member(sender.id, at, sender.proof, rules)}
    profiles = [Profile(sender.id.key, sender.id, sender.name, at)]
    edges: list[Edge] = []
    for also in sender.also:
        if _key(also.identifier) == sender.id.key:
            continue
        strength = at_most(also.strength, sender.proof)
        kept = edge(_ends(sender.id, also.identifier), also.rule, source, strength, at, event.id)
        edges.append(kept)
        profiles.append(Profile(also.identifier.key, also.identifier, None, at))
        if kept.strong and not stop(also.identifier, rules):
            members[also.identifier.key] = _member(also.identifier, at, PROVEN[strength], rules)
    party = data.party.key if data.party else None
    return Carried(event.tenant, at, event.id, party, sender.id.key, members, tuple(edges), tuple(profiles))


def speaking(data: Fact) -> Sender | None:
    """The sender, where it is the customer's side: what we or a stranger say is no evidence about the party."""
    sender: Sender | None = getattr(data, "sender", None)
    return sender if sender and (data.party is None or data.party.key == sender.id.key) else None


def _shown(event: Event[Data], at: int, party: Identifier | None, rules: Rules) -> Carried:
    """An event that shows its party and says nothing about it: a receipt, or a message of ours."""
    if party is None:
        return Carried(event.tenant, at, event.id)
    key = _key(party)
    members = {key: _member(party, at, "none", rules)}
    return Carried(event.tenant, at, event.id, key, key, members, (), (Profile(key, party, None, at),))


def at_most(strength: Strength, proof: Proof) -> Strength:
    """What a sender says is worth no more than the proof of the sender."""
    return min(strength, "claimed", key=RANK.__getitem__) if proof in ("none", "claimed") else strength


def micros(at: datetime) -> int:
    """Whole microseconds since 1970: the unit of every time in the graph."""
    delta = at - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)


def _key(identifier: Identifier) -> str:
    """A key stands in field paths of the store, so its form is checked where it enters."""
    if not KEY.fullmatch(identifier.key):
        raise Poison(f"an identifier has no usable key: {identifier.scheme}")
    return identifier.key


def _ends(*identifiers: Identifier) -> dict[str, tuple[str, str]]:
    return {one.key: (one.scheme, one.scope) for one in identifiers}


def _member(identifier: Identifier, at: int, proof: Proof, rules: Rules) -> Member:
    return Member(identifier.scheme, identifier.scope, at, proof, stop(identifier, rules))


# -- values that never link -----------------------------------------------------------------------------------------------


def stop(identifier: Identifier, rules: Rules) -> str:
    """Why this value never links two people; empty where it may."""
    return _stop(identifier.scheme, identifier.value, rules.blocked, rules.roles)


@lru_cache(maxsize=65536)
def _stop(scheme: str, value: str, blocked: Collection[str], roles: Collection[str]) -> str:
    plain = value.strip().casefold()
    if plain in blocked:
        return "blocked"
    if "*" in plain or "•" in plain:
        return "masked"
    match scheme:
        case "tel":
            return _stop_tel(plain)
        case "email":
            return _stop_email(plain, roles)
    return ""


def _stop_tel(value: str) -> str:
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return "unreadable" if value else ""
    if len(set(str(number.national_number))) == 1:
        return "blocked"
    return "service" if phonenumbers.number_type(number) in NO_PERSON else ""


def _stop_email(value: str, roles: Collection[str]) -> str:
    local, _, domain = value.rpartition("@")
    if local.partition("+")[0] in roles:
        return "role"
    parts = domain.split(".")
    return "disposable" if any(".".join(parts[n:]) in blocklist for n in range(len(parts) - 1)) else ""
