"""What a timeline shows beside entries: conversations, identities, channels, accounts, dead letters. Pure but for `write`."""

from __future__ import annotations

from collections.abc import Iterable

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
from services.timeline.facets import Row, Value
from services.timeline.order import id_bytes, milliseconds, order_key, sequence
from services.timeline.stores import TimelineStore, Update

LARGEST_BODY = 1024 * 1024
BESIDE = frozenset((IdentityMapped, DeadLettered, DeadDecided, ChannelDeclared, AccountDescribed, AccountHealth))


async def write(store: TimelineStore, tenant: str, placed: Iterable[tuple[int, Event[Data]]]) -> None:
    """Write what these events change beside entries and conversations. An erased identifier's entries are erased at once."""
    found = [(at, event) for at, event in placed if type(event.data) in BESIDE]
    data = [event.data for _, event in found]
    mapped = [one for one in data if isinstance(one, IdentityMapped)]
    await store.identities(tenant, by_name((one.identifier, belongs(one)) for one in mapped))
    for one in mapped:
        if one.erased:
            await store.erase(tenant, one.identifier, one.version)
    await store.dead([letter(tenant, one) for one in data if isinstance(one, DeadLettered | DeadDecided)])
    await store.channels([channel(at, one.data) for at, one in found if isinstance(one.data, ChannelDeclared)])
    await store.accounts([update for at, one in found if (update := account(at, one)) is not None])


def by_name(rows: Iterable[tuple[str, Row]]) -> dict[str, Row]:
    """One row for each name."""
    found: dict[str, Row] = {}
    for name, row in rows:
        known = found.get(name)
        found[name] = known.merged(row) if known else row
    return found


def belongs(data: IdentityMapped) -> Row:
    """The larger version wins. The customers that it ever belonged to are kept in a set."""
    highest: dict[str, Value] = {"m": {"v": data.version, "c": data.customer_id}}
    if data.erased:
        highest["er"] = data.version
    belonged = dict.fromkeys(one for one in (data.customer_id, data.previous) if one)
    return Row(highest, {"was": tuple(belonged)} if belonged else {})


def conversations(events: Iterable[Data], spoken: Iterable[tuple[str, bytes, bytes]]) -> dict[str, Row]:
    """What these events say of conversations, and what of (conversation, key, entry) was said last."""
    heads = [(one.conversation_id, state(one)) for one in events if isinstance(one, ConversationEvent)]
    return by_name([*heads, *((name, Row({"last": {"v": key, "e": entry}, "act": key})) for name, key, entry in spoken)])


def state(event: ConversationEvent) -> Row:
    """The newest head is all there is to know. Queues and agents are kept in a set: whoever had it hears where it went."""
    head = event.head
    agent = head.assignee.agent if head.assignee else None
    newest: dict[str, object] = {
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
    agents = dict.fromkeys((*([agent] if agent else ()), *head.participants))
    return Row({"h": newest, "act": opened}, {"qs": (head.queue,), "as": tuple(agents)})


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
