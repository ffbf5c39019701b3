"""Everything that names something: identifiers of people and their keys, and every deterministic id.

An id is a function of what it names, so that a replay, a second delivery and a second process give the same one. Parts of
an id are joined by NUL, which no part contains, so two different lists of parts never give the same text.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
import uuid
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, NewType

import phonenumbers
from email_validator import EmailNotValidError, validate_email

NAMESPACE = uuid.UUID("0d3b7c3e-5a0b-5d0a-9c55-1f6a5d2b9a71")
_NAMESPACE = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # of RFC 9562: its first two bits are 10

IdentifierKey = NewType("IdentifierKey", str)
Strength = Literal["verified", "asserted", "claimed", "inferred"]
Proof = Literal["none", "claimed", "channel", "account"]
Visibility = Literal["public", "private"]

PROOFS: tuple[Proof, ...] = ("none", "claimed", "channel", "account")


class NotAnIdentifier(ValueError):
    """The value cannot be an identifier of its scheme; the text says what was expected, never the value."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """Points to a person within a scope; `scope` is empty only where the provider's ids are global. `key` is the keyed
    hash that stands for it wherever the value must not be; the core fills it in, a channel never does."""

    scheme: str
    value: str
    scope: str = ""
    key: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sender is also this identifier, says the source with this strength."""

    identifier: Identifier
    strength: Strength
    rule: str


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote, as the channel names them. `proof` is how far the channel vouches for `id` itself."""

    id: Identifier
    name: str | None = None
    also: tuple[Evidence, ...] = ()
    proof: Proof = "channel"


# -- normal forms -----------------------------------------------------------------------------------------------------


def normalized(identifier: Identifier, region: str | None = None) -> Identifier:
    """The identifier in the form that is compared. Raises NotAnIdentifier. `region` reads national phone numbers; without
    one only international numbers are accepted, since guessing a country joins strangers."""
    return replace(identifier, value=_normal(identifier, region))


def _normal(identifier: Identifier, region: str | None) -> str:
    match identifier.scheme:
        case "tel":
            value = _phone(identifier.value, region)
        case "email":
            value = _email(identifier.value)
        case _:
            value = unicodedata.normalize("NFC", identifier.value.strip())
    if not value or len(value) > 512 or "\0" in value:
        raise NotAnIdentifier(f"a {identifier.scheme} identifier needs 1 to 512 characters and no NUL")
    return value


@lru_cache(maxsize=65536)
def _phone(value: str, region: str | None) -> str:
    """E.164, with `;ext=` where there is an extension: dropping it would make everybody behind a switchboard one person.

    Mexico writes mobile numbers without the 1 after 52 since 2019, while WhatsApp still reports it (identity page, 5).
    """
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException as error:
        raise NotAnIdentifier("not a phone number with its country, as +491511234567") from error
    if number.country_code == 52 and re.fullmatch(r"1\d{10}", str(number.national_number)):
        number = phonenumbers.parse(f"+52{str(number.national_number)[1:]}", None)
    if not phonenumbers.is_possible_number(number):
        raise NotAnIdentifier("not a possible phone number of its country")
    text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{text};ext={number.extension}" if number.extension else text


@lru_cache(maxsize=65536)
def _email(value: str) -> str:
    """Local part folded, domain as A-labels; dots and +tags are dropped only where the provider does (consumer Gmail)."""
    try:
        address = validate_email(value.strip(), check_deliverability=False, allow_smtputf8=True)
    except EmailNotValidError as error:
        raise NotAnIdentifier("not an email address") from error
    local = unicodedata.normalize("NFKC", address.local_part).casefold()
    domain = (address.ascii_domain or address.domain).lower()
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.partition("+")[0].replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


def identifier_key(tenant_key: bytes, identifier: Identifier) -> IdentifierKey:
    """The 22 characters that stand for a normalized identifier: base64url of the first 128 bits of
    HMAC-SHA256(tenant key, scheme NUL scope NUL value). Equal identifiers have equal keys, within a tenant only."""
    text = f"{identifier.scheme}\x00{identifier.scope}\x00{identifier.value}"
    digest = hmac.digest(tenant_key, text.encode(), "sha256")[:16]
    return IdentifierKey(base64.urlsafe_b64encode(digest).decode().rstrip("="))


def keyed(tenant_key: bytes, identifier: Identifier, region: str | None = None) -> Identifier:
    """The identifier normalized, with its key. Raises NotAnIdentifier."""
    return _keyed(tenant_key, identifier.scheme, identifier.value, identifier.scope, region)


@lru_cache(maxsize=65536)
def _keyed(tenant_key: bytes, scheme: str, value: str, scope: str, region: str | None) -> Identifier:
    plain = normalized(Identifier(scheme, value, scope), region)
    return replace(plain, key=identifier_key(tenant_key, plain))


# -- ids --------------------------------------------------------------------------------------------------------------


def _named(*parts: str | int) -> str:
    """uuid5, written out: the standard library's own spends most of its time on parsing and formatting."""
    digest = _NAMESPACE.copy()
    digest.update("\0".join(map(str, parts)).encode())
    name = digest.hexdigest()
    return f"{name[:8]}-{name[8:12]}-5{name[13:16]}-{_VARIANT[name[16]]}{name[17:20]}-{name[20:32]}"


def event_id(tenant: str, channel: str, account: str, provider_id: str, kind: str, revision: str = "") -> str:
    """The same webhook twice is the same event: nothing here depends on when or how it came."""
    return _named("event", tenant, channel, account, provider_id, kind, revision)


def input_id(tenant: str, channel: str, account: str, door: str, received_at: str, digest: str) -> str:
    """One arrival of an input: the same bytes that come again later are another input, whose facts have the same ids."""
    return _named("input", tenant, channel, account, door, received_at, digest)


def derived_event_id(input_id: str, kind: str, *more: str | int) -> str:
    """The id of an output, from the id of the input that caused it."""
    return _named("derived", input_id, kind, *more)


def entry_id(tenant: str, channel: str, account: str, provider_id: str) -> str:
    """A message, call or post on the timeline; its echo, edits, receipts and reactions find it by the same four words."""
    return _named("entry", tenant, channel, account, provider_id)


def pending_entry_id(tenant: str, outbound_id: str) -> str:
    """Our own message before the provider has named it."""
    return _named("entry", tenant, "out", outbound_id)


def piece_entry_id(tenant: str, piece: str) -> str:
    """Where receipts wait that name a message by our piece id, until the piece is known by the provider's."""
    return _named("entry", tenant, "piece", piece)


def event_entry_id(tenant: str, event: str) -> str:
    """An entry that is no message: an assignment, a handoff step, a note, a call, a step of the journey."""
    return _named("entry", tenant, "event", event)


def outbound_id(conversation: str, idempotency_key: str) -> str:
    return _named("outbound", conversation, idempotency_key)


def piece_id(outbound: str, number: int) -> str:
    """One of the pieces in which a message leaves; what the provider gets as our reference. `number` counts from 1."""
    return _named("piece", outbound, number)


def dead_id(topic: str, partition: int, offset: int, path: str = "") -> str:
    return _named("dead", topic, partition, offset, path)


def customer_id(tenant: str, earliest: str) -> str:
    """A customer is named after its earliest identifier, so replays give the same id and an unmerge gives it back."""
    return _named("customer", tenant, earliest)


def conversation_id(leg: str, number: int) -> str:
    """The conversation that the `number`th move of a leg opens."""
    return _named("conversation", leg, number)


def leg_key(tenant: str, channel: str, account: str, party: str, visibility: Visibility, thread: str = "") -> str:
    """A thread with one person on one account, in public or in private: a leg never changes its visibility. In private
    there is one thread a person; in public the thread (a post, a top-level comment) belongs to the key."""
    place = f"public:{thread}" if visibility == "public" else "private"
    return f"{tenant}/{channel}/{account}/{party}/{place}"
