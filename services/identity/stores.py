"""Where the graph and the values stand: in MongoDB, and in memory for tests. One contract suite runs over both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.common.identifiers import customer_id
from services.common.mongo import ASCENDING, Document, IndexModel, InsertOne, Mongo, UpdateOne, bulk, reaching
from services.identity.component import Assigned, Component, Edge, Member
from services.identity.nodes import Entry, Node, Swap, Taken
from services.identity.recent import Recent
from services.identity.resolve import Cause, Change

DATABASE = "identity"
NODES = 10_000


class MemoryGraph:
    """Each node is changed atomically, as in MongoDB."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    async def read(self, keys: Collection[str]) -> dict[str, Node]:
        return {key: self.nodes[key] for key in keys if key in self.nodes}

    async def insert(self, nodes: Sequence[Node]) -> bool:
        news = [node for node in nodes if node.key not in self.nodes]
        self.nodes.update((node.key, node) for node in news)
        return len(news) == len(nodes)

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        done = [self._swapped(swap) for swap in swaps]
        return all(done)

    def _swapped(self, swap: Swap) -> bool:
        now, was, after = self.nodes[swap.after.key], swap.before, swap.after
        if (now.tenant, now.v, now.redirect, now.absorbed) != (was.tenant, was.v, was.redirect, was.absorbed):
            return False
        added = tuple(entry for entry in after.outbox if entry not in was.outbox)
        self.nodes[now.key] = replace(after, outbox=() if after.absorbed else (*now.outbox, *added))
        return True

    async def take(self, taken: Sequence[Taken]) -> bool:
        done = [self._taken(one) for one in taken]
        return all(done)

    def _taken(self, one: Taken) -> bool:
        node = self.nodes[one.key]
        if (node.tenant, node.v) != (one.tenant, one.v):
            return False
        self.nodes[one.key] = replace(node, outbox=tuple(e for e in node.outbox if e.id not in one.entries))
        return True

    async def born(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        names = {customer_id(node.tenant, node.key): node for node in self.nodes.values()}
        return {c: names[c].key for c in customers if c in names and names[c].tenant == tenant}

    async def waiting(self, written_before: int, limit: int) -> list[str]:
        old = [(e.written, n.key) for n in self.nodes.values() for e in n.outbox if e.written < written_before]
        return list(dict.fromkeys(key for _, key in sorted(old)))[:limit]


class MongoGraph:
    """One document per identifier. Keys are base64url and edge ids hexadecimal, so both can stand in field paths."""

    def __init__(self, mongo: Mongo) -> None:
        self._nodes = mongo.database(DATABASE)["nodes"]
        self._seen: Recent[str, Node] = Recent(NODES)

    async def start(self) -> None:
        async with reaching():
            await self._nodes.create_indexes(
                [
                    IndexModel([("tenant", ASCENDING), ("name", ASCENDING)], name="name"),
                    IndexModel([("outbox.written", ASCENDING)], name="waiting", sparse=True),
                ]
            )

    async def stop(self) -> None: ...

    async def read(self, keys: Collection[str]) -> dict[str, Node]:
        """By `_id` alone: a key is made with its tenant's own key, and the linker refuses a node of another tenant."""
        async with reaching():
            found = await self._nodes.find({"_id": {"$in": list(keys)}}).to_list(None)
        return {document["_id"]: self._node(document) for document in found}

    def _node(self, document: Document) -> Node:
        """Its version tells whether it is what was read last, so that it need not be built again."""
        node = self._seen.get(document["_id"])
        if node is None or node.v != document["v"] or node.outbox or document["outbox"]:
            node = node_of(document)
            self._seen.put(node.key, node)
        return node

    async def insert(self, nodes: Sequence[Node]) -> bool:
        done = await bulk(self._nodes, [InsertOne(document_of(node)) for node in nodes])
        return not done.duplicates

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        done = await bulk(self._nodes, [UpdateOne(_still(swap.before), update_of(swap)) for swap in swaps])
        return done.matched == len(swaps)

    async def take(self, taken: Sequence[Taken]) -> bool:
        operations = [
            UpdateOne(
                {"_id": one.key, "tenant": one.tenant, "v": one.v}, {"$pull": {"outbox": {"id": {"$in": list(one.entries)}}}}
            )
            for one in taken
        ]
        return (await bulk(self._nodes, operations)).matched == len(operations)

    async def born(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        query = {"tenant": tenant, "name": {"$in": list(customers)}}
        async with reaching():
            found = await self._nodes.find(query, {"name": 1}).to_list(None)
        return {document["name"]: document["_id"] for document in found}

    async def waiting(self, written_before: int, limit: int) -> list[str]:
        async with reaching():
            query = {"outbox.written": {"$lt": written_before}}
            found = await self._nodes.find(query, {"_id": 1}).sort("outbox.written", 1).to_list(limit)
        return [document["_id"] for document in found]


def _still(node: Node) -> Document:
    return {"_id": node.key, "tenant": node.tenant, "v": node.v, "redirect": node.redirect, "absorbed": node.absorbed}


# -- documents --------------------------------------------------------------------------------------------------------------

FIELDS = ("members", "edges", "assigned")


def document_of(node: Node) -> Document:
    return {
        **_still(node),
        "name": customer_id(node.tenant, node.key),
        **{name: {key: _plain(one) for key, one in getattr(node.component, name).items()} for name in FIELDS},
        "outbox": [_entry(entry) for entry in node.outbox],
    }


def update_of(swap: Swap) -> Document:
    """Only what differs, so that a large component is not written again for every change."""
    was, after = swap.before, swap.after
    put: Document = {"v": after.v, "redirect": after.redirect, "absorbed": after.absorbed}
    if after.absorbed:
        return {"$set": {**put, **{name: {} for name in FIELDS}, "outbox": []}}
    gone: Document = {}
    for name in FIELDS:
        old: Mapping[str, Any] = getattr(was.component, name)
        new: Mapping[str, Any] = getattr(after.component, name)
        put |= {f"{name}.{key}": _plain(one) for key, one in new.items() if old.get(key) != one}
        gone |= {f"{name}.{key}": "" for key in old.keys() - new.keys()}
    added = [_entry(entry) for entry in after.outbox if entry not in was.outbox]
    return {
        "$set": put,
        **({"$unset": gone} if gone else {}),
        **({"$push": {"outbox": {"$each": added}}} if added else {}),
    }


def node_of(document: Document) -> Node:
    return Node(
        key=document["_id"],
        tenant=document["tenant"],
        v=document["v"],
        redirect=document["redirect"],
        absorbed=document["absorbed"],
        component=Component(
            {key: _member_of(one) for key, one in document["members"].items()},
            {key: _edge_of(one) for key, one in document["edges"].items()},
            {key: Assigned(one["customer"], one["version"], one["previous"]) for key, one in document["assigned"].items()},
        ),
        outbox=tuple(_entry_of(one) for one in document["outbox"]),
    )


def _plain(one: Member | Edge | Assigned) -> Document:
    match one:
        case Member(scheme, scope, first_seen, proof, stop, erased, named):
            found: Document = {"scheme": scheme, "scope": scope, "first": first_seen, "proof": proof}
            return found | {name: v for name, v in (("stop", stop), ("erased", erased), ("named", named)) if v}
        case Assigned(customer, version, previous):
            return {"customer": customer, "version": version, "previous": previous}
        case Edge():
            return _edge(one)


def _member_of(d: Document) -> Member:
    return Member(d["scheme"], d["scope"], d["first"], d["proof"], d.get("stop", ""), d.get("erased", 0), d.get("named", False))


def _edge(edge: Edge) -> Document:
    return {
        "a": edge.a,
        "b": edge.b,
        "rule": edge.rule,
        "source": edge.source,
        "strength": edge.strength,
        "first": edge.first_seen,
        "last": edge.last_seen,
        "events": [list(one) for one in edge.events],
        "kinds": [list(kind) for kind in edge.kinds],
        **({"actor": edge.actor, "why": edge.why} if edge.actor or edge.why else {}),
    }


def _edge_of(d: Document) -> Edge:
    (a_scheme, a_scope), (b_scheme, b_scope) = d["kinds"]
    return Edge(
        a=d["a"],
        b=d["b"],
        rule=d["rule"],
        source=d["source"],
        strength=d["strength"],
        first_seen=d["first"],
        last_seen=d["last"],
        events=tuple((at, event) for at, event in d["events"]),
        kinds=((a_scheme, a_scope), (b_scheme, b_scope)),
        actor=d.get("actor", ""),
        why=d.get("why", ""),
    )


def _entry(entry: Entry) -> Document:
    return {
        "id": entry.id,
        "worker": entry.worker,
        "written": entry.written,
        "keys": list(entry.keys),
        "stands_for": list(entry.stands_for),
        "changes": [_change(change) for change in entry.changes],
    }


def _entry_of(d: Document) -> Entry:
    changes = tuple(_change_of(one) for one in d["changes"])
    return Entry(d["id"], d["worker"], d["written"], tuple(d["keys"]), changes, tuple(d["stands_for"]))


def _change(change: Change) -> Document:
    return {
        "kind": change.kind,
        "customer": change.customer_id,
        "others": list(change.others),
        "identifiers": list(change.identifiers),
        "version": change.cause.version,
        "at": change.cause.at,
        "actor": change.cause.actor,
        "evidence": [_edge(edge) for edge in change.evidence],
    }


def _change_of(d: Document) -> Change:
    return Change(
        kind=d["kind"],
        customer_id=d["customer"],
        others=tuple(d["others"]),
        identifiers=tuple(d["identifiers"]),
        cause=Cause(d["version"], d["at"], d["actor"]),
        evidence=tuple(_edge_of(one) for one in d["evidence"]),
    )
