"""What a decision says to the rest of the world: state events with gapless numbers, and other records, in one outbox.

A decider returns a `Change`: the new state and what is to be told. `committed` gives the numbers and makes the records, so
that state and outbox go out in the one compare-and-set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.common.cloudevents import Event, Record, encode
from services.common.events import BY_TYPE, Author, ConversationEvent, Data
from services.common.identifiers import derived_event_id
from services.common.topics import CONVERSATION_EVENTS, Topic
from services.router.state import Conversation, OutboxItem, head


@dataclass(frozen=True, slots=True)
class Emit:
    """A state event to come: its type as people say it (`conversation.opened`), who and why, and its own fields."""

    name: str
    by: Author | None = None
    why: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tell:
    """Another record that must leave with this change: a proof for hilo.events, a send for hilo.outbound."""

    topic: Topic
    event: Event[Data]


Output = Emit | Tell


@dataclass(frozen=True, slots=True)
class Change:
    """A decision: the conversation as it shall be (numbers and version as they were), and what to tell, in order."""

    after: Conversation
    outputs: tuple[Output, ...] = ()

    def plus(self, after: Conversation, *outputs: Output) -> Change:
        return Change(after, (*self.outputs, *outputs))


def committed(change: Change, now: datetime) -> Conversation:
    """What the compare-and-set writes: one version more, and the outputs in the outbox under their numbers."""
    after, outputs = change.after, change.outputs
    if not outputs:
        return after.but(v=after.v + 1)
    states = sum(isinstance(one, Emit) for one in outputs)
    c = after.but(v=after.v + 1, seq=after.seq + states, last_n=after.last_n + len(outputs))
    items: list[OutboxItem] = []
    seq = after.seq
    told = head(c)
    for n, output in enumerate(outputs, after.last_n + 1):
        if isinstance(output, Tell):
            items.append(OutboxItem(n, None, encode(output.topic.name, output.event)))
        else:
            seq += 1
            items.append(OutboxItem(n, seq, _state_record(c, output, seq, told.model_copy(update={"seq": seq}), now)))
    return c.but(out=(*after.out, *items))


def _state_record(c: Conversation, emit: Emit, seq: int, told: Any, now: datetime) -> Record:
    name = f"hilo.{emit.name}.v1"
    data = BY_TYPE[name](
        type=name,
        conversation_id=c.id,
        seq=seq,
        anchor=c.anchor,
        at=now,
        by=emit.by,
        why=emit.why,
        head=told,
        **emit.more,
    )
    assert isinstance(data, ConversationEvent)
    event = Event(id=derived_event_id(c.id, emit.name, seq), tenant=c.tenant, key=c.id, time=now, data=data)
    return encode(CONVERSATION_EVENTS.name, event)
