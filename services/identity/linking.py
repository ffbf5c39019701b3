"""How evidence gets into the graph while others do the same: plan one step from what was read, try it, read again when
somebody was faster.

Components are joined by sealing all roots but the one with the largest key, so that no order of events makes a cycle. What a
sealed node held is absorbed by the root above it; whoever meets a sealed node that is not absorbed does that first, the
nearest to the root before those behind it, and the root's version becomes the larger of both plus one: so the version of an
identifier only rises, whichever root it comes to. All steps are planned here, without I/O, and tried by linker.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from services.identity.component import Component, Edge, Member
from services.identity.evidence import Carried
from services.identity.nodes import Entry, Node, Swap
from services.identity.resolve import Cause, settled, shared
from services.identity.rules import Rules


class Cycle(RuntimeError):
    """Nodes that point at each other. The fixed order rules it out; to walk on would never end."""


@dataclass(frozen=True)
class View:
    """What was read: for each wanted identifier the node to start from, and every node from there to its root."""

    nodes: Mapping[str, Node]
    starts: Mapping[str, str]

    def path(self, key: str) -> list[Node]:
        """From the start to the root; empty where there is no such identifier yet."""
        found: list[Node] = []
        at: str | None = self.starts[key]
        while at is not None and at in self.nodes:
            if len(found) > len(self.nodes):
                raise Cycle(key)
            found.append(self.nodes[at])
            at = self.nodes[at].redirect
        return found

    @cached_property
    def roots(self) -> Mapping[str, Node]:
        """The root of each wanted identifier that there is."""
        return {key: path[-1] for key in self.starts if (path := self.path(key))}

    def root(self, key: str) -> Node | None:
        return self.roots.get(key)

    @property
    def at_rest(self) -> bool:
        """Whether nobody has left anything half done in it."""
        return not any(node.unfinished or node.outbox for node in self.nodes.values())

    def after(self, nodes: Iterable[Node]) -> View:
        return replace(self, nodes={**self.nodes, **{node.key: node for node in nodes}})


@dataclass(frozen=True, slots=True)
class Insert:
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Swaps:
    swaps: tuple[Swap, ...]


Step = Insert | Swaps


@dataclass(frozen=True, slots=True)
class Hand:
    """Who plans, when, by which rules, and whether entries that others left in an outbox are to be published again."""

    worker: str
    now: int
    rules: Rules
    adopts: bool = True


@dataclass(slots=True)
class Lesson:
    """What a batch tells of one identifier."""

    tenant: str
    member: Member
    edges: list[Edge] = field(default_factory=list)
    at: int = 0
    actor: str = ""


def plan(batch: Sequence[Carried], view: View, hand: Hand) -> Step | None:
    """The next step, or None when the graph knows all of it and nothing in view is unfinished."""
    batch = [one for one in batch if not known(one, view)]
    if not batch and view.at_rest:
        return None
    lessons = lessons_of(batch)
    links = [e for c in batch for e in c.edges if _links(e, c.members)]
    if fresh := {key: lesson for key, lesson in lessons.items() if not view.path(key)}:
        return _insert(fresh, links, hand)
    if marks := tuple(Swap(node, _emptied(node)) for node, root in _unfinished(view) if node.key in root.component.members):
        return Swaps(marks)
    roots = _roots(view)
    if absorbing := _nearest(view):
        return Swaps(tuple(_updated(view.nodes[key], nodes, roots[key], lessons, hand) for key, nodes in absorbing.items()))
    if seals := _seals(links, view, hand.rules):
        return Swaps(seals)
    updates = (_updated(view.nodes[key], (), keys, lessons, hand) for key, keys in roots.items())
    swaps = tuple(swap for swap in updates if swap.after is not swap.before)
    return Swaps(swaps) if swaps else None


def known(one: Carried, view: View) -> bool:
    """Whether the graph surely holds all of it: the case of nearly every event."""
    for key, member in one.members.items():
        root = view.root(key)
        if root is None or not root.component.knows(key, member):
            return False
    return all(_held(edge, one, view) for edge in one.edges)


def _held(edge: Edge, one: Carried, view: View) -> bool:
    """By whomever it is told to; what links them has been done too where they have one root."""
    roots = [_at(view, end) for end in _told(edge, one)]
    if _links(edge, one.members) and roots[0] is not roots[-1]:
        return False
    return all(root.component.holds(edge) for root in roots)


def _told(edge: Edge, one: Carried) -> Iterable[str]:
    """A strong edge is told to both of its ends, so that each knows all of its neighbours even where they are not linked; a
    weak one to the identifier that spoke."""
    return (end for end in (edge.ends if edge.strong else (one.anchor,)) if end in one.members)


def lessons_of(batch: Sequence[Carried]) -> dict[str, Lesson]:
    """By identifier."""
    found: dict[str, Lesson] = {}
    for one in batch:
        for key, member in one.members.items():
            lesson = found.setdefault(key, Lesson(one.tenant, member))
            lesson.member = lesson.member.merged(member)
            lesson.at = max(lesson.at, one.at)
            lesson.actor = lesson.actor or one.actor
        for edge in one.edges:
            for end in _told(edge, one):
                found[end].edges.append(edge)
    return found


def _links(edge: Edge, members: Mapping[str, Member]) -> bool:
    return edge.joins and all(end in members and not members[end].stop for end in edge.ends)


# -- the steps ------------------------------------------------------------------------------------------------------------


def _insert(fresh: Mapping[str, Lesson], links: Iterable[Edge], hand: Hand) -> Insert:
    """An identifier that stands alone begins with its customer; one that is about to be linked begins without, so that
    nobody is told of a customer who lives for a millisecond."""
    linked = {end for edge in links for end in edge.ends}
    return Insert(tuple(_fresh(key, lesson, linked, hand) for key, lesson in fresh.items()))


def _fresh(key: str, lesson: Lesson, linked: Collection[str], hand: Hand) -> Node:
    node = Node(key, lesson.tenant, 0, component=Component({key: lesson.member}))
    if key in linked:
        return replace(node, v=1)
    return _updated(node, (), [key], {key: lesson}, hand).after


def _emptied(node: Node) -> Node:
    return replace(node, v=node.v + 1, absorbed=True, component=Component(), outbox=())


def _unfinished(view: View) -> list[tuple[Node, Node]]:
    """Sealed nodes that are not marked as absorbed, each with its root."""
    found: dict[str, tuple[Node, Node]] = {}
    for key in view.starts:
        path = view.path(key)
        found.update((node.key, (node, path[-1])) for node in path if node.unfinished)
    return list(found.values())


def _nearest(view: View) -> dict[str, list[Node]]:
    """By root, the unfinished nodes with nothing unfinished between them and it. To pass over one on the way would give its
    identifiers a smaller version than they had."""
    found: dict[str, dict[str, Node]] = defaultdict(dict)
    for key in view.starts:
        path = view.path(key)
        near = next((node for node in reversed(path) if node.unfinished), None)
        if near:
            found[path[-1].key][near.key] = near
    return {root: list(nodes.values()) for root, nodes in found.items()}


def _roots(view: View) -> dict[str, list[str]]:
    """The identifiers in view, by root."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, root in view.roots.items():
        found[root.key].append(key)
    return found


def _seals(links: Iterable[Edge], view: View, rules: Rules) -> tuple[Swap, ...]:
    """Seal all roots of what is to be linked but one. What is shared links nothing, and neither does an edge that would make
    a component too large: its evidence is kept at both ends, and their events go on being resolved."""
    open_links = [(e, a, b) for e in links if (a := _at(view, e.a)) is not (b := _at(view, e.b)) and _heard(e, a, b)]
    if not open_links:
        return ()
    roots = {root.key: root for _, *both in open_links for root in both}
    many = shared(
        [*(e for root in roots.values() for e in root.component.edges.values()), *(e for e, _, _ in open_links)], rules
    )
    groups = {key: [root] for key, root in roots.items()}
    for edge, a, b in sorted(open_links, key=lambda link: (link[0].first_seen, link[0].id)):
        one, other = groups[a.key], groups[b.key]
        if one is not other and not many & set(edge.ends) and _fits([*one, *other], rules):
            one.extend(other)
            groups.update((root.key, one) for root in other)
    return tuple(
        Swap(root, replace(root, v=root.v + 1, redirect=winner(group)))
        for group in {id(group): [root.key for root in group] for group in groups.values()}.values()
        for root in map(roots.__getitem__, group)
        if root.key != winner(group)
    )


def _at(view: View, key: str) -> Node:
    root = view.root(key)
    assert root
    return root


def _heard(edge: Edge, a: Node, b: Node) -> bool:
    """Evidence from before an erasure links nothing, and a value that never links does not by another's mouth."""
    ends = (a.component.members[edge.a], b.component.members[edge.b])
    return all(edge.first_seen > member.erased and not member.stop for member in ends)


def _fits(roots: Sequence[Node], rules: Rules) -> bool:
    members = sum(len(root.component.members) for root in roots)
    edges = sum(len(root.component.edges) for root in roots)
    return members <= rules.component_size and edges <= rules.component_edges


def winner(keys: Collection[str]) -> str:
    """Who stays a root. Keys are keyed hashes, so their order is a random one that everybody agrees on."""
    return max(keys)


def _updated(root: Node, absorbing: Sequence[Node], keys: Iterable[str], lessons: Mapping[str, Lesson], hand: Hand) -> Swap:
    """The root with what sealed nodes held, with what the batch tells of its identifiers, and with the customers that follow;
    itself when nothing of it is new."""
    component, outbox = root.component, _outboxes(root, absorbing)
    for node in absorbing:
        component = component.united(node.component)
    told = {key: lessons[key] for key in keys if key in lessons and key in component.members}
    members = {key: lesson.member for key, lesson in told.items()}
    learned = component.learned(members, (e for lesson in told.values() for e in lesson.edges), hand.rules.suggestions)
    waiting = _left(outbox, hand.worker) if hand.adopts else []
    if learned is component and not absorbing and not waiting and not (told and _unassigned(component)):
        return Swap(root, root)
    change = Cause(
        version=raised([root.v, *(node.v for node in absorbing)]),
        at=max((lesson.at for lesson in told.values()), default=hand.now),
        actor=next((lesson.actor for lesson in told.values() if lesson.actor), ""),
    )
    final, changes = settled(component, learned, root.tenant, change, hand.rules)
    moved = [key for key, one in final.assigned.items() if one.version == change.version]
    entry = Entry(
        id=f"{hand.worker}.{root.key}.{change.version}",
        worker=hand.worker,
        written=hand.now,
        keys=tuple(sorted({*moved, *(key for left in waiting for key in left.keys)})),
        changes=tuple(dict.fromkeys((*(one for left in waiting for one in left.changes), *changes))),
        stands_for=tuple(left.id for left in waiting),
    )
    if entry.keys or entry.changes:
        outbox = (*outbox, entry)
    return Swap(root, replace(root, v=change.version, component=final, outbox=outbox))


def raised(versions: Collection[int]) -> int:
    """Larger than every version that an identifier of any of them was given."""
    return max(versions) + 1


def _outboxes(root: Node, absorbed: Iterable[Node]) -> tuple[Entry, ...]:
    return (*root.outbox, *(entry for node in absorbed for entry in node.outbox))


def _left(outbox: Iterable[Entry], worker: str) -> list[Entry]:
    """Entries of others for which none of ours stands: their writer may be dead, and what they say is not yet out."""
    entries = list(outbox)
    stood_for = {name for e in entries if e.worker == worker for name in e.stands_for}
    return [e for e in entries if e.worker != worker and e.id not in stood_for]


def _unassigned(component: Component) -> bool:
    return any(member.alive and key not in component.assigned for key, member in component.members.items())
