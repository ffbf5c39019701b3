"""docs/channels.md and the README's channel matrix, from the declarations and their fixtures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from services.cli.docs.markdown import GENERATED, anchor, code, page, table
from services.common.events import IdentityAsserted, Said
from services.common.identifiers import PROOFS, Sender
from services.ingest import channels
from services.ingest.channels import BUILT_IN
from services.ingest.contract import (
    BasicAuth,
    Can,
    Channel,
    Door,
    Ed25519,
    Fetched,
    Hmac,
    Leg,
    Mail,
    Poll,
    Posted,
    Rate,
    Session,
    Stream,
    Token,
    Unsigned,
    Webhook,
    form,
    matrix_row,
)
from services.ingest.contract.kit import load, receives

FOLDER = Path(channels.__file__).parent
Any_ = Channel[Any]
INTRODUCTION = """
What each channel carries, and what an operator fills in to connect one. What a channel *receives* is counted from the fixtures
that it is tested with, what it *sends* is its declaration; nothing here is a plan.

*Proof* is how far a channel vouches for who writes: `none` < `claimed` < `channel` < `account`. *Window*: so long after the
person wrote we may write freely. Limits are the provider's and are kept by splitting, waiting and refusing before a call.
Accounts are connected with `hilo account add`, in the console's settings or by `PUT /v1/accounts/{channel}/{account}`; a value
`name=@file` is read from a file, so that a secret stands in no shell history. [Add a channel](adding-a-channel.md) of your own."""


def fixtures(channel: Any_) -> Path:
    return FOLDER / channel.name / "fixtures"


@cache
def _row(name: str) -> dict[str, Any]:
    channel = next(one for one in BUILT_IN if one.name == name)
    return matrix_row(channel, receives(channel, fixtures(channel)))


def text() -> str:
    return page("# Channels", GENERATED, INTRODUCTION, matrix(""), limits(), *(part(channel) for channel in BUILT_IN))


def matrix(where: str) -> str:
    """One row a channel; `where` is the address of docs/channels.md from the page that the table stands on."""
    head = ("channel", "receives", "sends", "in public", "in private", "window", "proof")
    rows = [
        (
            f"[{channel.title}]({where}#{anchor(channel.title)})",
            _received(_row(channel.name)["receives"]),
            ", ".join(channel.send.requests) if channel.send else "",
            _legs(channel, "public"),
            _legs(channel, "private"),
            ", ".join(sorted({_time(leg.window.length) for leg in channel.legs.values() if leg.window})),
            ", ".join(proofs(channel)),
        )
        for channel in BUILT_IN
    ]
    return table(head, rows)


def limits() -> str:
    """What a provider takes at most, by channel, and where the provider says so."""
    rows = [
        (
            f"[{channel.title}](#{anchor(channel.title)})",
            ", ".join(_each(can for leg in channel.legs.values() for can in leg.sends if can.kind == "text")),
            ", ".join(dict.fromkeys(_rate(rate) for leg in channel.legs.values() for rate in leg.rates)),
            ", ".join(
                f"{h.public} to {h.private}" + (f" within {_time(h.within)}" if h.within else "") for h in channel.handoffs
            ),
            _documents(channel),
        )
        for channel in BUILT_IN
    ]
    return table(("channel", "a text", "rate", "private reply", "provider's documents"), rows)


def _each(texts: Iterable[Can]) -> list[str]:
    return list(dict.fromkeys(_size(can) or "any length" for can in texts))


def part(channel: Any_) -> str:
    """Everything about one channel, under a heading of its own."""
    row = _row(channel.name)
    return page(
        f"## {channel.title}",
        f"Provider's documents: {_documents(channel)}.",
        "\n".join(f"- {line}" for door in channel.doors for line in _door(channel, door)),
        table(("leg", "visibility", "sends", "window", "rate", "we may write first"), _leg_rows(channel))
        if channel.legs
        else "",
        "\n".join(f"- {line}" for line in _facts(channel, row)),
        "### Connect " + channel.title,
        table(("field", "needed", "default", "meaning"), _form_rows(channel)),
        f"```sh\n{command(channel)}\n```",
    ).rstrip("\n")


def _documents(channel: Any_) -> str:
    own = channel.docs.startswith("docs/")
    return "none, it is Hilo's own" if own else f"<{channel.docs}>"


# -- the matrix ---------------------------------------------------------------------------------------------------------


def _received(kinds: Iterable[str]) -> str:
    """`message.received` and `message.edited` as `message: received, edited`."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        noun, _, verb = kind.partition(".")
        found.setdefault(noun, []).append(verb)
    return "; ".join(f"{noun} {', '.join(verbs)}" for noun, verbs in found.items())


def _legs(channel: Any_, visibility: str) -> str:
    return ", ".join(name for name, leg in channel.legs.items() if leg.visibility == visibility)


def _senders(channel: Any_) -> list[Sender]:
    subject = load(channel, fixtures(channel))
    outcomes = [subject.normalized(fixture.raw) for fixture in subject.fixtures]
    events = [event.data for outcome in outcomes for event in outcome.events]
    senders = [
        getattr(data, "sender", None) for data in events if isinstance(data, Said | IdentityAsserted) or not channel.legs
    ]
    return [sender for sender in senders if isinstance(sender, Sender)]


def proofs(channel: Any_) -> list[str]:
    """How far the fixtures show senders vouched for, weakest first."""
    return sorted({sender.proof for sender in _senders(channel)}, key=PROOFS.index)


# -- a channel's part ---------------------------------------------------------------------------------------------------


def _door(channel: Any_, door: Door[Any]) -> list[str]:
    match door:
        case Webhook(scheme=scheme, name=name):
            path = f"/webhooks/{channel.name}/{{account}}" + ("" if door == channel.doors[0] else f"/{name}")
            return [f"The provider calls `POST {path}`, {_scheme(scheme)}."]
        case Poll(every=every):
            return [f"Hilo asks the provider every {_time(every)}."]
        case Stream():
            return ["Hilo listens to the provider's stream."]
        case Mail(max_bytes=size):
            return [f"Your mail server hands mails over by SMTP (`HILO_SMTP_PORT`), up to {size / 1e6:.0f} MB each."]
        case Session():
            return [
                "The customer's browser holds a WebSocket open: `/chat/{account}/socket`; page and widget under `/chat/{account}`."
            ]
        case Posted():
            return ["Your systems call `POST /v1/journey`."]
        case Fetched(name=name):
            return [f"Some notifications only name a thing; Hilo asks for it (`{name}`)."]
    raise AssertionError(door)


def _scheme(scheme: Any) -> str:
    match scheme:
        case Hmac(header=header, digest=digest, secret=secret):
            return f"signed with HMAC-{digest.upper()} in `{header}` (`{secret}`)"
        case Token(header=header, secret=secret):
            return f"with the shared secret in `{header}` (`{secret}`)"
        case BasicAuth(secret=secret):
            return f"with a password (`{secret}`)"
        case Ed25519(header=header):
            return f"signed with Ed25519 in `{header}`"
        case Unsigned(reason=reason):
            return f"not signed: {reason}"
    return f"signed ({type(scheme).__name__})"


def _leg_rows(channel: Any_) -> list[tuple[str, ...]]:
    return [
        (
            code(name),
            leg.visibility,
            "; ".join(map(_can, leg.sends)) or "nothing",
            _window(leg),
            ", ".join(map(_rate, leg.rates)),
            "no" if leg.replies_only or not leg.sends else "yes",
        )
        for name, leg in channel.legs.items()
    ]


def _can(can: Can) -> str:
    limits = [
        _size(can),
        f"{can.mb:g} MB" if can.mb else "",
        ", ".join(can.types),
        f"caption {can.caption}" if can.caption else "",
        f"up to {can.choices}" if can.choices else "",
    ]
    told = ", ".join(filter(None, limits))
    return f"{can.kind} ({told})" if told else can.kind


def _size(can: Can) -> str:
    unit = {"chars": "characters", "utf16": "UTF-16 units", "bytes": "bytes"}[can.unit]
    return f"{can.size} {unit}" if can.size else ""


def _window(leg: Leg) -> str:
    if leg.window is None:
        return ""
    more = [
        f"{leg.window.messages} messages" if leg.window.messages else "",
        f"then {leg.window.outside}" if leg.window.outside else "",
    ]
    return ", ".join(filter(None, (_time(leg.window.length), *more)))


def _rate(rate: Rate) -> str:
    often = (("second", 1), ("minute", 60), ("hour", 3600))
    unit, times = next((unit, rate.per_second * s) for unit, s in often if rate.per_second * s >= 1)
    return f"{times:g}/{unit} per {rate.of}"


def _time(length: timedelta) -> str:
    """In the largest unit of which there are at least two, or in hours: 24 h, 7 days."""
    seconds = length.total_seconds()
    unit, size = next(((u, s) for u, s in (("days", 86400), ("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:g} {unit}"


def _facts(channel: Any_, row: dict[str, Any]) -> Iterable[str]:
    yield f"Receives {code(*row['receives'])}."
    if channel.send:
        yield f"Sends {code(*row['actions'])}."
    for handoff in channel.handoffs:
        until = f" within {_time(handoff.within)}" if handoff.within else ""
        once = ", once" if handoff.once else ""
        yield f"The platform's own private reply: from `{handoff.public}` to `{handoff.private}`{until}{once}."
    schemes = sorted({(sender.id.scheme, sender.proof) for sender in _senders(channel)})
    also = sorted({(e.identifier.scheme, e.strength) for sender in _senders(channel) for e in sender.also})
    if schemes:
        yield "Knows a sender as " + ", ".join(f"`{scheme}` (proof {proof})" for scheme, proof in schemes) + "."
    if also:
        yield "May say who the sender also is: " + ", ".join(f"`{scheme}` ({strength})" for scheme, strength in also) + "."
    invitation = channel.invitation(load(channel, fixtures(channel)).accounts[0], "HILO-XXXX-XXXX")
    if invitation:
        yield f"A handoff link leads to, for example, `{invitation}`."
    if channel.ignores:
        yield (
            "Ignores, counted by name: " + ", ".join(f"`{kind}` ({why})" for kind, why in sorted(channel.ignores.items())) + "."
        )


def _form_rows(channel: Any_) -> Iterable[tuple[str, ...]]:
    schema = form(channel)
    for name, field in schema["properties"].items():
        needed = "yes" if name in schema["required"] else ""
        default = field.get("default")
        secret = " (secret)" if is_secret(field) else ""
        shown = "" if default in (None, "", []) else code(default if isinstance(default, str) else json.dumps(default))
        yield code(name) + secret, needed, shown, field["description"]


def is_secret(field: dict[str, Any]) -> bool:
    return any(one.get("format") == "password" for one in (field, *field.get("anyOf", ())))


def command(channel: Any_) -> str:
    """Connects an account, with every needed field."""
    schema = form(channel)
    needed = [
        f"{name}=@{name}.txt" if is_secret(schema["properties"][name]) else f"{name}=..."
        for name in schema["properties"]
        if name in schema["required"]
    ]
    return " \\\n  ".join((f"hilo account add {channel.name} main", *needed))
