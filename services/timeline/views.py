"""Entries and conversations as readers see them: one form for the REST API, the live stream and the console. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from services.common.events import AccountDescribed, ChannelDeclared, Head
from services.common.identifiers import Visibility, entry_id
from services.timeline.order import EDITED_RANK, NOWHERE, cursor, id_text, moment

Status = Literal["queued", "retrying", "unknown", "refused", "stopped", "failed", "sent", "delivered", "read"]
Direction = Literal["in", "out", "none"]
WIRE = orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS


# Entries are most of what is read and pushed: plain dataclasses, which nobody changes once they are made (frozen ones take three
# times as long to make), in a form that orjson writes by itself.
@dataclass
class PartView:
    """`state` is that of our copy of a file: pending until it is stored, then there is a `url`."""

    kind: str
    text: str | None = None
    media_type: str | None = None
    name: str | None = None
    size: int | None = None
    url: str | None = None
    state: Literal["pending", "stored", "failed"] | None = None
    reason: str | None = None
    data: dict[str, str] = field(default_factory=dict)


@dataclass
class SenderView:
    """Who wrote, as the channel names them. `key` is the identifier key; the value is identity's to show."""

    name: str | None = None
    scheme: str = ""
    key: str | None = None
    proof: str = "none"


@dataclass
class AuthorView:
    """Who on our side caused it."""

    kind: str
    id: str = ""
    name: str | None = None


@dataclass
class ReactionView:
    emoji: str
    count: int
    by_us: bool = False


@dataclass
class ReplyView:
    provider_id: str
    entry_id: str


@dataclass
class DeletedView:
    by: str
    at: datetime | None = None


@dataclass
class EntryView:
    """One item of a history. `at` is the time it is ordered by; `k` its cursor; `rev` a hash of everything else, equal for
    equal content, so that a client drops what it has."""

    id: str
    kind: str
    at: datetime
    received_at: datetime | None = None
    provider_at: datetime | None = None
    channel: str = ""
    account: str = ""
    leg: str = ""
    visibility: Visibility | None = None
    direction: Direction = "none"
    party: str | None = None
    sender: SenderView | None = None
    author: AuthorView | None = None
    text: str | None = None
    parts: tuple[PartView, ...] = ()
    status: Status | None = None
    reason: str | None = None
    then: str | None = None
    next_at: datetime | None = None
    statuses: dict[str, datetime] = field(default_factory=dict)
    reactions: tuple[ReactionView, ...] = ()
    edited: bool = False
    original: str | None = None
    deleted: DeletedView | None = None
    unsupported: str | None = None
    reply_to: ReplyView | None = None
    provider_id: str | None = None
    conversation_id: str | None = None
    outbound_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    k: str = ""
    rev: str = ""

    def wire(self) -> bytes:
        """As JSON; the keys of `statuses` and `data` in an order of their own, so that equal content has equal bytes."""
        return orjson.dumps(self, option=WIRE)


class View(BaseModel):
    """What is read and pushed beside entries."""

    model_config = ConfigDict(frozen=True)

    def wire(self) -> bytes:
        return self.model_dump_json().encode()


class RemovedView(View):
    """An entry that is in no list any more: it got another id, or was erased. `by` are the entries that stand for it."""

    id: str
    by: tuple[str, ...] = ()


class CustomerView(View):
    """An identifier belongs to another customer now; to none when it was erased. A reader of either reads its page again."""

    identifier: str
    customer_id: str | None = None
    previous: str | None = None
    version: int = 0


class TypingView(View):
    """Somebody is writing: the customer's side (`party`), or somebody of ours in a conversation."""

    party: str | None = None
    conversation_id: str | None = None
    name: str | None = None
    visibility: Visibility | None = None
    at: datetime


class ConversationView(View):
    """A conversation with its newest head. `last` is what was said last."""

    id: str
    seq: int
    at: datetime
    type: str
    why: str = ""
    anchor: str = ""
    active_at: datetime
    head: Head
    last: EntryView | None = None
    k: str = ""


class AccountView(View):
    """An account without secrets; `health` is what its own events told last."""

    account: AccountDescribed
    health: str = "ok"
    reason: str = ""


class ChannelView(View):
    channel: ChannelDeclared
    accounts: tuple[AccountView, ...] = ()


class DeadView(View):
    """A dead letter. `body` (base64) and `headers` only where one letter is asked for."""

    dead_id: str
    at: datetime | None = None
    topic: str = ""
    partition: int = 0
    offset: int = -1
    path: str = ""
    kind: str = ""
    reason: str = ""
    stage: str = ""
    bug: bool = False
    state: Literal["open", "replayed", "discarded"] = "open"
    decided_by: str | None = None
    decided_why: str | None = None
    decided_at: datetime | None = None
    headers: dict[str, str] | None = None
    body: str | None = None

    @property
    def where(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}{' ' + self.path if self.path else ''}"


# -- entries ------------------------------------------------------------------------------------------------------------

Document = Mapping[str, Any]
STATES = ("sent", "delivered", "read", "failed")


def entry_view(document: Document, receipts: Document | None = None) -> EntryView:
    """The entry as it stands. `receipts` are the marks of its leg: what was delivered or read up to a time."""
    base: Document = document.get("b", {})
    deleted = _deleted(document)
    states = _states(document, receipts)
    content: Document = document.get("c", {})
    first: Document = document.get("c0", {})
    parts = () if deleted else tuple(_parts(content, document.get("md", {})))
    edited = not deleted and bytes(content.get("v", b"\0"))[0] >= EDITED_RANK
    key = bytes(document.get("k", NOWHERE))
    shown = EntryView(
        id=id_text(document["_id"]),
        kind=base.get("kd", "message"),
        at=moment(int.from_bytes(key[:6], "big")) if key != NOWHERE else moment(base.get("ms", 0)),
        received_at=moment(base["rcv"] // 1000) if "rcv" in base else None,
        provider_at=moment(base["ms"]) if base.get("pt") else None,
        channel=base.get("ch", ""),
        account=base.get("ac", ""),
        leg=base.get("lg", ""),
        visibility=base.get("vs"),
        direction=base.get("dr", "none"),
        party=_one(base.get("i")),
        sender=_sender(base.get("by")),
        author=_author(document.get("au")),
        text=_text(parts),
        parts=parts,
        statuses={name: moment(ms) for name, ms in states.items()},
        **_status(document, base, states),
        reactions=() if deleted or "rx" not in document else tuple(_reactions(document["rx"])),
        edited=edited,
        original=_text(tuple(_parts(first, {}))) if edited and first.get("v") != content.get("v") else None,
        deleted=deleted,
        unsupported=next((part.name or "" for part in parts if part.kind == "unsupported"), None),
        reply_to=_reply(document, base),
        provider_id=base.get("pid"),
        conversation_id=document.get("cv", {}).get("id"),
        outbound_id=document.get("out", {}).get("id"),
        data={} if deleted else _data(document),
        k=cursor(key),
    )
    shown.rev = hashlib.blake2b(shown.wire(), digest_size=8).hexdigest()
    return shown


def _one(whose: Any) -> str | None:
    found: str | None = whose[0] if isinstance(whose, list) else whose
    return found


def _states(document: Document, receipts: Document | None) -> dict[str, int]:
    """When it was sent, delivered, read, failed; a mark of the leg counts for what was written up to it."""
    found = {name: int(ms) for name, ms in document.get("st", {}).items() if name in STATES}
    base = document.get("b", {})
    if receipts and base.get("dr") == "out":
        for name in ("delivered", "read"):
            if name not in found and base.get("ms", 0) <= receipts.get(name, -1):
                found[name] = int(receipts[name])
    return found


def _status(document: Document, base: Document, states: Mapping[str, int]) -> dict[str, Any]:
    """Of our messages only. What the provider says it did is stronger than what we tried."""
    if base.get("dr") != "out" or base.get("kd") != "message":
        return {}
    out: Document = document.get("out", {})
    in_pieces = any(piece["n"] > 1 for piece in document.get("gone", {}).values())
    told = None if in_pieces else next((name for name in ("read", "delivered", "failed", "sent") if name in states), None)
    if told in ("read", "delivered") or (told == "sent" and out.get("state") not in ("failed", "refused", "stopped")):
        return {"status": told}
    if told == "failed":
        error: Document = document.get("err", {})
        return {"status": "failed", "reason": error.get("code") or None, "then": _then(error)}
    state = out.get("state", "sent")
    next_at = moment(out["next"]) if "next" in out else None
    return {"status": state, "reason": out.get("reason") or None, "then": _then(out), "next_at": next_at}


def _then(facet: Document) -> str | None:
    found = facet.get("then")
    return None if found in (None, "nothing") else str(found)


def _parts(content: Document, stored: Document) -> Iterable[PartView]:
    for number, part in enumerate(content.get("parts", ())):
        yield PartView(
            kind=part["k"],
            text=part.get("tx"),
            name=part.get("nm"),
            data=dict(part.get("dt", ())),
            **_media(part, stored.get(str(number), {})),
        )


def _media(part: Document, stored: Document) -> dict[str, Any]:
    """Our copy: stored by the media worker, or uploaded on our own side."""
    own = {"media_type": part.get("mt"), "size": part.get("sz")}
    if sha := stored.get("sha") or part.get("sha"):
        media_type = stored.get("mt") or part.get("mt")
        return {
            "media_type": media_type,
            "size": stored.get("sz") or part.get("sz"),
            "url": f"/v1/media/{sha}",
            "state": "stored",
        }
    if "why" in stored:
        return {**own, "state": "failed", "reason": stored["why"]}
    return {**own, "state": "pending"} if part.get("rf") else own


def _text(parts: tuple[PartView, ...]) -> str | None:
    return "\n".join(part.text for part in parts if part.text) or None


def _sender(by: Document | None) -> SenderView | None:
    if by is None:
        return None
    return SenderView(name=by.get("n"), scheme=by.get("s", ""), key=by.get("i"), proof=by.get("p", "none"))


def _author(by: Document | None) -> AuthorView | None:
    return AuthorView(kind=by["kd"], id=by.get("id", ""), name=by.get("n")) if by else None


def _reactions(found: Document) -> Iterable[ReactionView]:
    """Counted by emoji, the most frequent first; equal counts in a fixed order."""
    counts: dict[str, list[bool]] = {}
    for one in found.values():
        if one.get("e"):
            counts.setdefault(one["e"], []).append(bool(one.get("us")))
    ordered = sorted(counts.items(), key=lambda item: (-len(item[1]), item[0]))
    return [ReactionView(emoji=emoji, count=len(who), by_us=any(who)) for emoji, who in ordered]


def _deleted(document: Document) -> DeletedView | None:
    found = document.get("del")
    return DeletedView(by=found["by"], at=moment(found["ms"]) if "ms" in found else None) if found else None


def _reply(document: Document, base: Document) -> ReplyView | None:
    if "rt" not in base:
        return None
    name = entry_id(document["tn"], base.get("ch", ""), base.get("ac", ""), base["rt"])
    return ReplyView(provider_id=base["rt"], entry_id=name)


def _data(document: Document) -> dict[str, Any]:
    """What an entry holds that is no message; of a call, the latest of its facts."""
    found: dict[str, Any] = {}
    facets = sorted(document.get("x", {}).items(), key=lambda item: bytes(item[1]["v"]))
    for name, facet in facets:
        found |= dict(facet.get("dt", ()))
        found |= {key: value for key, value in facet.items() if key not in ("v", "dt", "ms") and value not in (None, "")}
        if name in ("started", "ended", "recorded"):
            found |= {"state": name, f"{name}_at": moment(facet["ms"]).isoformat()}
    if pieces := document.get("gone"):
        found |= {"pieces": max(piece["n"] for piece in pieces.values()), "sent": len(pieces)}
    return found


def removed_view(document: Document) -> RemovedView:
    stand_ins = [id_text(piece["to"]) for _, piece in sorted(document.get("gone", {}).items())]
    return RemovedView(id=id_text(document["_id"]), by=tuple(stand_ins))


def conversation_view(document: Document, last: EntryView | None) -> ConversationView:
    newest = document["h"]
    key = bytes(document["act"])
    return ConversationView(
        id=document["_id"],
        seq=newest["v"],
        at=moment(newest["at"]),
        type=newest["type"],
        why=newest["why"],
        anchor=newest["anchor"],
        active_at=moment(int.from_bytes(key[:6], "big")),
        head=Head.model_validate(newest["head"]),
        last=last,
        k=cursor(key),
    )


def dead_view(document: Document, *, whole: bool = False) -> DeadView:
    letter, decided = document.get("l", {}), document.get("dec", {})
    names = ("topic", "partition", "offset", "path", "kind", "reason", "stage", "bug")
    return DeadView(
        dead_id=document["_id"],
        at=document.get("at"),
        **{name: letter[name] for name in names if name in letter},
        state=decided.get("decision", "open"),
        decided_by=decided.get("by"),
        decided_why=decided.get("why"),
        decided_at=decided.get("at"),
        headers=dict(letter.get("headers", ())) if whole else None,
        body=letter.get("body") if whole else None,
    )
