"""What a timeline shows beside entries: conversations, identities, channels, accounts, dead letters. Pure but for `write`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.common.cloudevents import Event
from services.common.events import (
    AccountDescribed,
    AccountHealth,
    ChannelDeclared,
    ConversationEvent,
    Data,
    DeadDecided,
    DeadLettered,
    IdentityMapped,
    short,
)
from services.timeline.cases import due_ms, in_public
from services.timeline.order import id_bytes, milliseconds, order_key, sequence
from services.timeline.stores import TimelineStore

LARGEST_BODY = 1024 * 1024
Update = tuple[Mapping[str, Any], Mapping[str, Any]]


async def write(store: TimelineStore, tenant: str, placed: Sequence[tuple[int, Event[Data]]]) -> None:
    """Write what these events change beside entries. An erased identifier's entries are erased at once."""
    data = [event.data for _, event in placed]
    mapped = [one for one in data if isinstance(one, IdentityMapped)]
    if mapped:
        await store.map_identities(
            tenant, [(one.identifier, one.version, one.customer_id, one.previous, one.erased) for one in mapped]
        )
    for one in mapped:
        if one.erased:
            await store.erase(tenant, one.identifier, one.version)
    await store.conversations(tenant, [state(one) for one in data if isinstance(one, ConversationEvent)])
    await store.dead([letter(tenant, one) for one in data if isinstance(one, DeadLettered | DeadDecided)])
    await store.channels([channel(at, one.data) for at, one in placed if isinstance(one.data, ChannelDeclared)])
    await store.accounts([update for at, one in placed if (update := account(at, one)) is not None])


def state(event: ConversationEvent) -> tuple[str, Mapping[str, Any]]:
    """The newest head is all there is to know. Queues and agents are kept in a set: whoever had it hears where it went."""
    head = event.head
    agent = head.assignee.agent if head.assignee else None
    newest: dict[str, Any] = {
        "v": event.seq,
        "at": milliseconds(event.at),
        "type": short(event.type),
        "why": event.why,
        "anchor": event.anchor,
        "state": head.state,
        "queue": head.queue,
        "agent": agent,
        "customer": head.customer_id,
        "pub": in_public(head) and head.state == "open",
        "head": head.model_dump(mode="json", exclude_defaults=True),
    }
    if (due := due_ms(head)) is not None:
        newest["due"] = due
    opened = order_key(milliseconds(head.opened_at), sequence(head.opened_at, 0), id_bytes(event.conversation_id))
    agents = list(dict.fromkeys((*([agent] if agent else ()), *head.participants)))
    return event.conversation_id, {
        "$max": {"h": newest, "act": opened},
        "$addToSet": {"qs": head.queue, "as": {"$each": agents}},
    }


def latest(spoken: Iterable[tuple[str, bytes, bytes]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Of (conversation, key, entry): what was said last, and when something last happened."""
    best: dict[str, tuple[bytes, bytes]] = {}
    for conversation, key, entry in spoken:
        best[conversation] = max(best.get(conversation, (key, entry)), (key, entry))
    return [(name, {"$max": {"last": {"v": key, "e": entry}, "act": key}}) for name, (key, entry) in best.items()]


def letter(tenant: str, data: DeadLettered | DeadDecided) -> Update:
    """A dead letter, or a decision about one; they may come in either order."""
    query = {"_id": data.dead_id}
    if isinstance(data, DeadDecided):
        decision = {
            "v": milliseconds(data.at),
            "decision": data.decision,
            "by": data.by.name or data.by.id or data.by.kind,
            "why": data.why,
            "at": data.at,
        }
        return query, {"$max": {"dec": decision}, "$setOnInsert": {"tn": tenant}}
    found = {"v": milliseconds(data.at), **data.model_dump(exclude={"type", "dead_id", "at", "body"}, exclude_defaults=True)}
    found["headers"] = [[name, value] for name, value in sorted(data.headers.items())]
    if len(data.body) <= LARGEST_BODY:
        found["body"] = data.body
    return query, {"$max": {"l": found}, "$min": {"at": data.at}, "$setOnInsert": {"tn": tenant}}


def channel(position: int, data: ChannelDeclared) -> Update:
    """The later record wins: positions rise along a partition, and in a topic that was made again."""
    return {"_id": data.name}, {"$max": {"d": {"v": position, "json": data.model_dump_json()}}}


def account(position: int, event: Event[Data]) -> Update | None:
    """What is known of an account: how ingest describes it, and its health as its own events tell."""
    match event.data:
        case AccountDescribed() as data:
            query = {"_id": f"{data.tenant}/{data.channel}/{data.account}", "tn": data.tenant}
            return query, {"$max": {"d": {"v": position, "json": data.model_dump_json()}}}
        case AccountHealth() as data:
            query = {"_id": f"{event.tenant}/{event.channel}/{event.account}", "tn": event.tenant}
            health = {"v": milliseconds(data.received_at), "state": data.state, "reason": data.reason}
            return query, {"$max": {"health": health}}
    return None


def journaled(data: Data) -> Mapping[str, Any]:
    """What the live feed must know of an event beyond its entries."""
    match data:
        case ConversationEvent():
            return {"cv": data.conversation_id}
        case IdentityMapped():
            return {"i": data.identifier, "to": data.customer_id, "was": data.previous, "ver": data.version}
    return {}
