"""What the state events of conversations do to the timeline: queued answers, notes, assignments, handoff steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.cloudevents import Event
from services.common.events import (
    ConversationAssigned,
    ConversationChanged,
    ConversationEvent,
    HandoffChanged,
    Head,
    MessageAppended,
    MessageQueued,
    NoteAdded,
    Part,
    SendStopped,
    short,
)
from services.common.identifiers import event_entry_id, pending_entry_id, piece_entry_id, piece_id
from services.timeline.entries import OVER, QUEUED, Projected, author, content, original
from services.timeline.facets import Change, Value
from services.timeline.order import id_bytes, microseconds, milliseconds, order_key, sequence, version

# Changes that a reader of the history wants to see; the others only change the head.
TOLD = frozenset(
    (
        "hilo.conversation.opened.v1",
        "hilo.conversation.reopened.v1",
        "hilo.conversation.closed.v1",
        "hilo.conversation.joined.v1",
        "hilo.conversation.queued.v1",
        "hilo.conversation.breached.v1",
        "hilo.leg.proven.v1",
    )
)
PUBLIC_OVER = frozenset(("public_closed", "author_deleted"))


@dataclass(frozen=True, slots=True)
class Stated:
    """A state event with what all its facets need."""

    event: Event[ConversationEvent]
    id: bytes
    ms: int
    number: int

    @classmethod
    def of(cls, event: Event[ConversationEvent]) -> Stated:
        data = event.data
        return cls(event, id_bytes(event.id), milliseconds(data.at), sequence(data.at, data.seq % 4096))

    def version(self, rank: int) -> bytes:
        return version(rank, self.ms, self.number, self.id)

    def entry(self, kind: str, direction: str = "none", **more: object) -> Mapping[str, object]:
        data = self.event.data
        found: dict[str, object] = {
            "v": self.version(QUEUED),
            "i": data.anchor,
            "kd": kind,
            "dr": direction,
            "ms": self.ms,
            "pt": True,
            "rcv": microseconds(data.at),
            "ev": self.id,
            **more,
        }
        if kind != "message":
            found["rare"] = True
        return {name: value for name, value in found.items() if value is not None and value != ""}

    def shared(self) -> dict[str, Value]:
        """Facets of every entry of a conversation."""
        data = self.event.data
        found: dict[str, Value] = {"cv": {"v": self.version(1), "id": data.conversation_id}}
        if data.by:
            found["au"] = author(self.version(1), data.by)
        return found


def project(event: Event[ConversationEvent]) -> Projected:
    """What a state event does to entries; its head is kept beside them (stores.py)."""
    stated = Stated.of(event)
    match event.data:
        case MessageQueued() as queued:
            return _queued(stated, queued)
        case SendStopped() as stopped:
            entry = id_bytes(pending_entry_id(event.tenant, stopped.outbound_id))
            facet = {"v": version(OVER, 0, stated.number, stated.id), "id": stopped.outbound_id, "state": "stopped"}
            return Projected((Change(entry, {"out": {**facet, "reason": stopped.why}}),), (entry,))
        case NoteAdded() as note:
            return _own(stated, "note", {}, text=note.text)
        case ConversationAssigned() as given:
            return _own(stated, "assignment", {"agent": given.agent})
        case HandoffChanged() as step:
            reason = step.head.handoff.reason if step.head.handoff else ""
            return _own(stated, "handoff", {"state": step.state, "offer": step.offer, "reason": reason})
        case ConversationChanged() as changed if changed.type in TOLD:
            return _own(stated, "conversation", {"other": changed.other, "queue": changed.head.queue})
    return Projected()


def appended(event: Event[MessageAppended]) -> Projected:
    """A message belongs to a conversation. `after` orders two decisions about the same message."""
    data = event.data
    v = version(2, milliseconds(event.time), data.after, id_bytes(event.id))
    entry = id_bytes(data.entry_id)
    return Projected((Change(entry, {"cv": {"v": v, "id": data.conversation_id}}),), (entry,))


def _queued(stated: Stated, queued: MessageQueued) -> Projected:
    """The answer is on the timeline at once. A receipt that knows only the first piece finds it until it has a name."""
    tenant = stated.event.tenant
    entry = id_bytes(pending_entry_id(tenant, queued.outbound_id))
    party = queued.party.key if queued.party else queued.anchor
    base = stated.entry(
        "message",
        "out",
        i=party or queued.anchor,
        ch=queued.channel,
        ac=queued.account,
        vs=queued.visibility,
        rt=queued.reply_to,
        lg=next((leg.leg for leg in queued.head.legs if leg.key == queued.leg), None),
    )
    words = content(stated.version(QUEUED), queued.parts)
    out: dict[str, object] = {"v": version(0, 0, stated.number, stated.id), "id": queued.outbound_id, "state": "queued"}
    if queued.not_before:
        out["next"] = milliseconds(queued.not_before)
    highest: dict[str, Value] = {"b": base, "c": words, "out": out, **stated.shared()}
    key = order_key(stated.ms, stated.number, entry)
    first = Change(entry, highest, {"k": key, "c0": original(words)}, bind=True)
    piece = id_bytes(piece_entry_id(tenant, piece_id(queued.outbound_id, 1)))
    waits = Change(piece, {"pend": {"v": stated.version(0), "id": entry}}, bind=True)
    return Projected((first, waits), (entry,))


def _own(stated: Stated, kind: str, data: Mapping[str, object], *, text: str | None = None) -> Projected:
    event = stated.event
    entry = id_bytes(event_entry_id(event.tenant, event.id))
    facts: dict[str, object] = {"v": stated.version(1), "state": short(event.data.type).rpartition(".")[2]}
    facts |= {name: value for name, value in (*data.items(), ("why", event.data.why)) if value}
    highest: dict[str, Value] = {"b": stated.entry(kind), f"x.{kind}": facts, **stated.shared()}
    lowest: dict[str, Value] = {"k": order_key(stated.ms, stated.number, entry)}
    if text is not None:
        words = content(stated.version(QUEUED), (Part("text", text),))
        highest["c"], lowest["c0"] = words, original(words)
    return Projected((Change(entry, highest, lowest),), (entry,))


def in_public(head: Head) -> bool:
    """Whether something of this conversation is in public and still waits there."""
    over = head.handoff is not None and head.handoff.state in PUBLIC_OVER
    return any(leg.visibility == "public" and leg.held for leg in head.legs) and not over


def due_ms(head: Head) -> int | None:
    """The next deadline of the case, whether passed or not."""
    times = [at for at in (head.sla.answer_by, head.sla.resolve_by) if at]
    return milliseconds(min(times)) if times and head.state == "open" else None
