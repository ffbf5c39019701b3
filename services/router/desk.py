"""Who gets a conversation, as pure decisions: candidates and their order, offers and their end, and why.

Capacity is kept by tokens on the agents' documents (`agents.py`); here only what was read is weighed, and every decision says
what it was: by hand, by rule or automatic, which language, how loaded. By hand beats a rule, a rule beats the automatic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import Author
from services.router.conversations import unfinished
from services.router.hours import ALWAYS, Hours, deadline
from services.router.outputs import Change, Emit
from services.router.state import Assignment, Conversation

How = Literal["auto", "rule", "manual"]
RANK: tuple[How, ...] = ("auto", "rule", "manual")


@dataclass(frozen=True, slots=True)
class Queue:
    """How a queue works. An agent gets an offer that stands for `offer_s`; with 0 the conversation is theirs at once. After
    `overflow_s` agents of the queue `overflow` are asked too. `weights` say by channel, else by `public` and `private`, how
    much of an agent's capacity a conversation takes."""

    name: str
    title: str = ""
    offer_s: int = 0
    pause_s: int = 30
    sticky_s: int = 120
    overflow: str | None = None
    overflow_s: int = 600
    answer_s: int | None = None
    resolve_s: int | None = None
    hours: Hours = ALWAYS
    skills: tuple[str, ...] = ()
    weights: Mapping[str, int] = field(default_factory=lambda: {"public": 1, "email": 1, "private": 2})


@dataclass(frozen=True, slots=True)
class Token:
    """A reservation on an agent's document: `reservation` names the conversation, its version and the agent."""

    reservation: str
    weight: int
    at: datetime
    forced: bool = False

    @property
    def conversation(self) -> str:
        return parsed(self.reservation)[0]


@dataclass(frozen=True, slots=True)
class Agent:
    """A person or a bot who answers. `load` is the sum of the tokens' weights. `free_since` orders those who are free: it is
    when they last got or gave back work, or came. No languages or skills named: all languages, no special skill."""

    id: str
    tenant: str
    name: str = ""
    initials: str = ""
    languages: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    capacity: int = 0
    on: bool = False
    load: int = 0
    tokens: tuple[Token, ...] = ()
    free_since: datetime | None = None


def reservation(conversation: str, version: int, agent: str) -> str:
    return f"{conversation}@{version}@{agent}"


def parsed(name: str) -> tuple[str, int, str]:
    """(conversation, version, agent) of a reservation."""
    conversation, version, agent = name.split("@", 2)
    return conversation, int(version), agent


def weight(c: Conversation, queue: Queue) -> int:
    """What the heaviest of its legs takes; it is fixed when it is assigned."""
    return max((queue.weights.get(one.channel, queue.weights.get(one.visibility, 1)) for one in c.held), default=1)


# -- the automatic decision -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Give:
    """Ask these agents, best first; each with why."""

    to: tuple[tuple[str, str], ...]
    weight: int
    expires_s: int


@dataclass(frozen=True, slots=True)
class Write:
    """The conversation changes, nobody gets it yet: a pause or a new round begins."""

    change: Change


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody can be asked now."""

    reason: Literal["nobody", "full", "sticky", "pause"]


def decided(c: Conversation, queue: Queue, agents: Sequence[Agent], now: datetime) -> Give | Write | Wait:
    """What the assigner does with a conversation that waits."""
    able = _able(c, queue, agents, now)
    free = [one for one in able if one.on and one.load + weight(c, queue) <= one.capacity]
    if not free:
        return Wait("full" if any(one.on for one in able) else "nobody")
    asked = [one for one in free if one.id not in c.excluded]
    if not asked:
        return _round(c, queue, now)
    if c.sticky and _waits_for_sticky(c, queue, able, asked, now):
        return Wait("sticky")
    order = sorted(asked, key=lambda one: (one.id != c.sticky, one.load > 0, one.free_since or now, one.id))
    return Give(tuple((one.id, _why(c, queue, one, len(asked))) for one in order), weight(c, queue), queue.offer_s)


def anybody_free(queue: Queue, agents: Sequence[Agent]) -> bool:
    """Whether there is room for the lightest conversation of the queue. If not, `decided` says Wait to every one of them."""
    least = min((1, *queue.weights.values()))
    return any(one.on and one.load + least <= one.capacity for one in agents)


def _able(c: Conversation, queue: Queue, agents: Sequence[Agent], now: datetime) -> list[Agent]:
    """Those of the queue, or of the one it flows over to once it has waited too long, who have the skills; and of them those
    who speak the language, if anybody does."""
    overflow = queue.overflow if c.since and now - c.since >= timedelta(seconds=queue.overflow_s) else None
    names, wanted = {queue.name, overflow}, {*queue.skills, *c.skills}
    skilled = [one for one in agents if names & set(one.queues) and wanted <= set(one.skills)]
    return [one for one in skilled if _speaks(one, c.language)] or skilled


def _speaks(agent: Agent, language: str | None) -> bool:
    return language is None or not agent.languages or language.split("-")[0] in {one.split("-")[0] for one in agent.languages}


def _waits_for_sticky(c: Conversation, queue: Queue, able: Sequence[Agent], asked: Sequence[Agent], now: datetime) -> bool:
    """The agent of before is here but busy: a moment's patience, then anybody."""
    mine = next((one for one in able if one.id == c.sticky and one.on), None)
    patient = c.since is not None and now - c.since < timedelta(seconds=queue.sticky_s)
    return mine is not None and mine not in asked and mine.id not in c.excluded and patient


def _round(c: Conversation, queue: Queue, now: datetime) -> Write | Wait:
    """All who are free have refused: after a pause they are asked again."""
    if c.pause_until is None:
        until = now + timedelta(seconds=queue.pause_s)
        return Write(Change(replace(c, pause_until=until)))
    if c.pause_until > now:
        return Wait("pause")
    return Write(Change(replace(c, excluded=(), pause_until=None)))


def _why(c: Conversation, queue: Queue, agent: Agent, asked: int) -> str:
    facts = [
        "by=auto",
        "rule=sticky" if agent.id == c.sticky else "rule=longest_free",
        _language(c, agent),
        f"load={agent.load}/{agent.capacity}",
        f"of={asked}",
        "" if queue.name in agent.queues else f"overflow={queue.overflow}",
    ]
    return " ".join(filter(None, facts))


def _language(c: Conversation, agent: Agent) -> str:
    if c.language is None:
        return ""
    return f"language={c.language}" if _speaks(agent, c.language) else f"nobody_speaks={c.language}"


# -- what a step writes -----------------------------------------------------------------------------------------------


def given(
    c: Conversation,
    agent: str,
    why: str,
    now: datetime,
    *,
    state: Literal["offered", "active"] = "active",
    expires: datetime | None = None,
    by: Author | None = None,
) -> Change:
    """The conversation is offered to, or becomes the agent's. The reservation names the version this was decided on."""
    old, mine = c.assignment, Assignment(agent, reservation(c.id, c.v, agent), state, expires, why)
    active = state == "active"
    after = replace(
        c,
        assignment=mine,
        since=None if active else c.since,
        excluded=() if active else c.excluded,
        pause_until=None,
        sticky=agent if active else c.sticky,
        participants=_with(c.participants, old.agent) if old and old.state == "active" else c.participants,
        due=min(filter(None, (c.due, expires)), default=None),
    )
    name = "offered" if not active else "transferred" if old and old.state == "active" else "assigned"
    return Change(unfinished(after, now), (_told(name, mine, why, by),))


def accepted(c: Conversation, now: datetime, by: Author) -> Change:
    """The offer becomes an assignment under the same reservation."""
    assert c.assignment
    mine = replace(c.assignment, state="active", expires=None)
    after = replace(c, assignment=mine, since=None, excluded=(), pause_until=None, sticky=mine.agent)
    return Change(unfinished(after, now), (_told("assigned", mine, mine.why, by),))


def released(
    c: Conversation, why: str, now: datetime, by: Author | None = None, *, exclude: bool = False, queue: str | None = None
) -> Change:
    """Nobody's again, and waiting: from when the offer found it, else from now. `exclude`: this agent is not asked again in
    this round. `queue`: it waits there from now on."""
    old, moves = c.assignment, queue is not None and queue != c.queue
    after = replace(
        c,
        assignment=None,
        since=now if moves else c.since or now,
        queue=queue or c.queue,
        excluded=() if moves else _with(c.excluded, old.agent) if old and exclude else c.excluded,
        pause_until=None if moves else c.pause_until,
        participants=_with(c.participants, old.agent) if old and old.state == "active" else c.participants,
    )
    outputs = (_told("released", old, why, by),) if old else ()
    queued = (Emit("conversation.queued", by, why),) if moves else ()
    return Change(unfinished(after, now), (*outputs, *queued))


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, name)))


def _told(name: str, assignment: Assignment, why: str, by: Author | None) -> Emit:
    return Emit(f"conversation.{name}", by, why, {"agent": assignment.agent, "reservation": assignment.reservation})


# -- clocks -----------------------------------------------------------------------------------------------------------


def fired(c: Conversation, now: datetime) -> Change | None:
    """An offer that nobody answered ends; the agent is not asked again in this round."""
    a = c.assignment
    if c.state == "open" and a and a.state == "offered" and a.expires and a.expires <= now:
        return released(c, "timeout", now, exclude=True)
    return None


def due(c: Conversation) -> datetime | None:
    """When `fired` has something to do next."""
    return c.assignment.expires if c.state == "open" and c.assignment and c.assignment.state == "offered" else None


def answer_by(queue: Queue, waiting_since: datetime) -> datetime | None:
    """By when a customer who waits since then gets an answer, in open hours."""
    return deadline(queue.hours, waiting_since, queue.answer_s) if queue.answer_s is not None else None


def resolve_by(queue: Queue, opened: datetime) -> datetime | None:
    return deadline(queue.hours, opened, queue.resolve_s) if queue.resolve_s is not None else None


# -- who may -------------------------------------------------------------------------------------------------------------


def made_by(assignment: Assignment) -> How:
    """How an assignment came about, as its `why` says."""
    word = assignment.why.partition(" ")[0].removeprefix("by=")
    return "manual" if word == "manual" else "rule" if word == "rule" else "auto"


def may_replace(c: Conversation, how: How) -> bool:
    """An offer may be replaced by what ranks higher, an agent's work by hand alone."""
    if c.assignment is None:
        return True
    if c.assignment.state == "active":
        return how == "manual"
    return how == "manual" or RANK.index(how) > RANK.index(made_by(c.assignment))
