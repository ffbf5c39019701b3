"""The conversation as MongoDB keeps it: one document, written by whoever wins the compare-and-set on `v`; `out` alone is also
shortened without it. Every message is read from such a document and written to it, so these are plain tables and loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.common.cloudevents import Record
from services.common.events import Author, Part
from services.router.hours import ALWAYS, Hours
from services.router.state import (
    Assignment,
    Command,
    Conversation,
    Handoff,
    LegRecord,
    Moved,
    Offer,
    OutboxItem,
    Seen,
    Send,
    Sla,
)

Document = dict[str, Any]


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    """Other people's names may hold what MongoDB reads as a path."""
    return [[name, value] for name, value in values.items()]


# -- legs

# attribute: name in the document. Beside these stand `moved`, `context` and `seen`, which takes two names.
LEG: Mapping[str, str] = {
    "key": "k",
    "party": "i",
    "channel": "ch",
    "account": "ac",
    "who": "who",
    "leg": "lg",
    "thread": "th",
    "visibility": "vis",
    "name": "name",
    "n": "n",
    "version": "iv",
    "via": "via",
    "proof": "proof",
    "epoch": "epoch",
    "wait": "wait",
    "last": "last",
    "sent": "sent",
    "window": "win",
    "context_at": "ctx_at",
    "last_id": "pid",
    "last_entry": "entry",
}


def _told(attribute: str, value: Any) -> Document:
    """One attribute of a leg under its names."""
    match attribute:
        case "seen":
            return {"seen": value.packed, "floor": value.floor}
        case "moved":
            return {"mv": value and {"to": value.to, "at": value.at, "cust": value.customer}}
        case "context":
            return {"ctx": _pairs(value)}
    return {LEG[attribute]: value}


def _leg_document(leg: LegRecord) -> Document:
    document: Document = {}
    for attribute, value in leg.__dict__.items():
        document |= _told(attribute, value)
    return document


def _leg(d: Document) -> LegRecord:
    fields = {attribute: d[name] for attribute, name in LEG.items()}
    moved = d["mv"]
    fields["moved"] = moved and Moved(moved["to"], moved["at"], moved["cust"])
    fields["seen"] = Seen(d["seen"], d["floor"])
    fields["context"] = dict(d["ctx"])
    return LegRecord.made(fields)


def _leg_changes(place: int, before: LegRecord, after: LegRecord) -> Document:
    """What differs, by its path: MongoDB then leaves the index on identifiers alone."""
    changed: Document = {}
    old = before.__dict__
    for attribute, value in after.__dict__.items():
        if value is not old[attribute] and value != old[attribute]:
            for name, kept in _told(attribute, value).items():
                changed[f"legs.{place}.{name}"] = kept
    return changed


# -- what else a conversation holds


def _part_document(part: Part) -> Document:
    return {
        "kind": part.kind,
        "text": part.text,
        "ref": part.ref,
        "media_type": part.media_type,
        "name": part.name,
        "size": part.size,
        "data": _pairs(part.data),
    }


def _part(d: Document) -> Part:
    return Part(**{**d, "data": dict(d["data"])})


def _handoff_document(h: Handoff | None) -> Document | None:
    if h is None:
        return None
    return {
        "st": h.state,
        "since": h.since,
        "pub": h.public_leg,
        "item": h.item,
        "entry": h.entry,
        "priv": h.private_leg,
        "by": h.deadline,
        "why": h.reason,
        "waits": h.waits_for,
        "as": h.waits_as,
        "say": [_part_document(one) for one in h.say],
        "then": [_part_document(one) for one in h.then],
        "ways": list(h.ways),
        "used": list(h.used),
        "author": h.author and {"kind": h.author.kind, "id": h.author.id, "name": h.author.name},
    }


def _handoff(d: Document | None) -> Handoff | None:
    if d is None:
        return None
    return Handoff(
        state=d["st"],
        since=d["since"],
        public_leg=d["pub"],
        item=d["item"],
        entry=d["entry"],
        private_leg=d["priv"],
        deadline=d["by"],
        reason=d["why"],
        waits_for=d["waits"],
        waits_as=d["as"],
        say=tuple(_part(one) for one in d["say"]),
        then=tuple(_part(one) for one in d["then"]),
        ways=tuple(d["ways"]),
        used=tuple(d["used"]),
        author=d["author"] and Author(**d["author"]),
    )


def _assignment_document(a: Assignment | None) -> Document | None:
    return None if a is None else {"a": a.agent, "r": a.reservation, "st": a.state, "exp": a.expires, "why": a.why}


def _assignment(d: Document | None) -> Assignment | None:
    return None if d is None else Assignment(d["a"], d["r"], d["st"], d["exp"], d["why"])


def _offer_document(o: Offer) -> Document:
    return {
        "id": o.id,
        "h": o.token,
        "c": o.code,
        "st": o.state,
        "given": o.given,
        "on": o.on,
        "exp": o.expires,
        "leg": o.leg,
        "input": o.input,
        "proof": o.proof,
        "to": list(o.targets),
    }


def _offer(d: Document) -> Offer:
    return Offer(
        d["id"], d["h"], d["c"], d["st"], d["given"], d["on"], d["exp"], d["leg"], d["input"], d["proof"], tuple(d["to"])
    )


def _send_document(s: Send) -> Document:
    return {
        "id": s.id,
        "leg": s.leg,
        "vis": s.visibility,
        "need": s.need,
        "epoch": s.epoch,
        "at": s.at,
        "nb": s.not_before,
        "st": s.state,
        "wait": s.wait,
        "win": s.windowed,
    }


def _send(d: Document) -> Send:
    return Send(d["id"], d["leg"], d["vis"], d["need"], d["epoch"], d["at"], d["nb"], d["st"], d["wait"], d["win"])


def _sla_document(s: Sla) -> Document:
    hours = s.hours.kept() if s.hours.week else None
    return {"answer_s": s.answer_s, "by": s.resolve_by, "told": s.answer_breached, "over": s.resolve_breached, "hours": hours}


def _sla(d: Document) -> Sla:
    hours = Hours.of(d["hours"]) if d["hours"] else ALWAYS
    return Sla(d["answer_s"], d["by"], d["told"], d["over"], hours)


def out_document(item: OutboxItem) -> Document:
    r = item.record
    return {"n": item.n, "s": item.s, "topic": r.topic, "key": r.key, "value": r.value, "h": [[k, v] for k, v in r.headers]}


def _out(d: Document) -> OutboxItem:
    return OutboxItem(d["n"], d["s"], Record(d["topic"], d["key"], d["value"], [(k, v) for k, v in d["h"]]))


# -- the whole

# attribute: name in the document. `_id`, `v` and `out` are the store's own business.
PLAIN: Mapping[str, str] = {
    "tenant": "tenant",
    "home": "home",
    "opened": "opened",
    "group": "group",
    "state": "st",
    "queue": "queue",
    "priority": "priority",
    "language": "lang",
    "customer": "cust",
    "check": "chk",
    "due": "due",
    "last": "last",
    "into": "into",
    "absorbed_into": "ab",
    "since": "since",
    "pause_until": "pause",
    "sticky": "sticky",
    "seq": "seq",
    "last_n": "n",
}


def _each(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [one(value) for value in values]


def _tuple_of(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: tuple([one(value) for value in values]) if values else ()


# attribute: (name in the document, to it, from it)
CONVERTED: Mapping[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "legs": ("legs", _each(_leg_document), _tuple_of(_leg)),
    "sla": ("sla", _sla_document, _sla),
    "absorbed": ("absorbed", list, tuple),
    "assignment": ("asg", _assignment_document, _assignment),
    "excluded": ("excl", list, tuple),
    "participants": ("parts", list, tuple),
    "skills": ("skills", list, tuple),
    "handoff": ("handoff", _handoff_document, _handoff),
    "offers": ("offers", _each(_offer_document), _tuple_of(_offer)),
    "sends": ("sends", _each(_send_document), _tuple_of(_send)),
    "commands": ("cmds", _each(lambda c: {"key": c.key, "result": dict(c.result)}), _tuple_of(lambda d: Command(**d))),
}


def to_document(conversation: Conversation) -> Document:
    fields = conversation.__dict__
    document: Document = {"_id": conversation.id, "v": conversation.v}
    document |= {name: fields[attribute] for attribute, name in PLAIN.items()}
    document |= {name: to(fields[attribute]) for attribute, (name, to, _) in CONVERTED.items()}
    document["out"] = [out_document(item) for item in conversation.out]
    return document


def from_document(document: Document) -> Conversation:
    fields = {attribute: document[name] for attribute, name in PLAIN.items()}
    for attribute, (name, _, back) in CONVERTED.items():
        fields[attribute] = back(document[name])
    fields["id"], fields["v"] = document["_id"], document["v"]
    fields["out"] = tuple([_out(one) for one in document["out"]])
    return Conversation.made(fields)


def changes(before: Conversation, after: Conversation) -> Document:
    """What a compare-and-set writes: the fields that differ, but for `v` and `out`; of a leg that was there, its fields."""
    changed: Document = {}
    old = before.__dict__
    for attribute, value in after.__dict__.items():
        if value is old[attribute]:
            continue
        if attribute == "legs":
            changed |= _legs_changes(old["legs"], value)
        elif name := PLAIN.get(attribute):
            if value != old[attribute]:
                changed[name] = value
        elif attribute in CONVERTED and value != old[attribute]:
            name, to, _ = CONVERTED[attribute]
            changed[name] = to(value)
    return changed


def _legs_changes(before: tuple[LegRecord, ...], after: tuple[LegRecord, ...]) -> Document:
    """Places never change, so that a path with a place in it names one leg."""
    changed: Document = {}
    for place, leg in enumerate(after):
        if place >= len(before):
            changed[f"legs.{place}"] = _leg_document(leg)
        elif before[place] is not leg:
            changed |= _leg_changes(place, before[place], leg)
    return changed


def added_out(before: Conversation, after: Conversation) -> tuple[OutboxItem, ...]:
    """The outbox items that `after` has more than `before`."""
    return tuple(item for item in after.out if item.n > before.last_n)
