"""Commands of the desk: take, assign, accept, reject, release, transfer. Read, judge, reserve where it gives, compare and set.

Done once per idempotency key, as every command. Who comes too late gets 409 with what is there now; an offer or an agent's
work is named by its reservation, so an old holder is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from services.common.auth import Principal
from services.common.errors import Problem, not_found
from services.common.events import Author
from services.router import desk
from services.router.agents import AgentStore, Desk
from services.router.commands import (
    REMEMBERED,
    TRIES,
    Commands,
    Decision,
    Request,
    _current,
    judged,
    lost,
    remembered,
)
from services.router.conversations import unfinished
from services.router.desk import Agent, How, Queue
from services.router.outputs import Change
from services.router.state import Assignment, Command, Conversation


@dataclass(frozen=True, slots=True)
class Asker:
    """Who gives the command. `manual`: a person; else a rule or a bot, which never takes work from anybody."""

    by: Author
    agent: str | None
    manual: bool
    chief: bool

    @property
    def how(self) -> How:
        return "manual" if self.manual else "rule"


def asker(principal: Principal) -> Asker:
    chief = principal.may("admin")
    if principal.agent:
        return Asker(Author("agent", principal.agent, principal.name or None), principal.agent, manual=True, chief=chief)
    kind = Author("system" if principal.service else "rule", principal.key_id, principal.name or None)
    return Asker(kind, None, manual=chief and not principal.service, chief=chief)


class DeskCommands:
    def __init__(self, commands: Commands, over: Desk, agents: AgentStore) -> None:
        self._commands, self._desk, self._agents = commands, over, agents

    # -- giving

    async def take(self, request: Request, who: Asker, *, force: bool = False) -> dict[str, Any]:
        """The agent makes it theirs. What another is working on is taken only with `force`."""
        mine = _own(who)
        c = await self._commands.read(request.tenant, request.conversation)
        if c.assignment and c.assignment.agent == mine and c.assignment.state == "offered" and c.state == "open":
            return await self.accept(request, who, c.assignment.reservation)
        return await self.assign(request, who, mine, force=force)

    async def assign(self, request: Request, who: Asker, agent: str, *, force: bool = False) -> dict[str, Any]:
        """Give it to this agent. `force`: also beyond their capacity or while away, and from somebody who works on it."""
        for _ in range(TRIES):
            c = await self._commands.read(request.tenant, request.conversation)
            if (done := remembered(c, request.key)) is not None:
                return done
            _may_give(c, request, who, agent, force=force)
            to = await self._agents.agent(request.tenant, agent)
            if to is None:
                raise not_found("agent")
            if (result := await self._give(c, request, who, to, force=force)) is not None:
                return result
            found = await self._commands.read(request.tenant, request.conversation)
            if (done := remembered(found, request.key)) is not None:
                return done  # it was written, only the answer was lost
            if found.v == c.v:
                raise _no_room(c, await self._agents.agent(request.tenant, agent) or to)
            if request.version is not None:
                raise lost(found)
        raise Problem(503, "busy", "Others change this conversation all the time; try again.", retry_after=1)

    async def _give(self, c: Conversation, request: Request, who: Asker, to: Agent, *, force: bool) -> dict[str, Any] | None:
        if c.assignment and c.assignment.agent == to.id and c.assignment.state == "active":
            return {"version": c.v, "assignee": _assignee(c.assignment)}
        queue = await self._agents.queue(c.tenant, c.queue) or Queue(c.queue)
        why = f"by={who.how} load={to.load}/{to.capacity}" + (" forced" if force else "")
        expected = Assignment(to.id, desk.reservation(c.id, c.v, to.id), "active", None, why)
        result = {"version": c.v + 1, "assignee": _assignee(expected)}
        after = await self._desk.give(
            c,
            to.id,
            why,
            weight=desk.weight(c, queue),
            by=who.by,
            forced=force and not (to.on and to.load + desk.weight(c, queue) <= to.capacity),
            more=lambda change: self._remembering(change, request.key, result),
        )
        return result if after else None

    # -- answering an offer, giving back

    async def accept(self, request: Request, who: Asker, reservation: str) -> dict[str, Any]:
        def decide(c: Conversation) -> Decision:
            mine = _held(c, who, reservation)
            now = self._desk.conversations.now()
            if mine.state == "offered":
                if mine.expires and mine.expires <= now:
                    raise Problem(409, "offer_over", "This offer has run out.", current=_current(c))
                change = desk.accepted(c, now, who.by)
                assert change.after.assignment
                return change, {"assignee": _assignee(change.after.assignment)}
            return Change(c), {"assignee": _assignee(mine)}

        return await self._commands.carry_out(request, decide)

    async def reject(self, request: Request, who: Asker, reservation: str, why: str) -> dict[str, Any]:
        def decide(c: Conversation) -> Decision:
            mine = _held(c, who, reservation)
            if mine.state != "offered":
                raise Problem(409, "not_offered", "It is yours already; release it instead.", current=_current(c))
            change = desk.released(c, why or "rejected", self._desk.conversations.now(), who.by, exclude=True)
            return change, {"assignee": None}

        return await self._freeing(request, decide)

    async def release(self, request: Request, who: Asker, reservation: str | None, why: str) -> dict[str, Any]:
        """Back to the queue; the agent who gave it back is not asked again in this round."""

        def decide(c: Conversation) -> Decision:
            if c.assignment is None and c.state == "open":
                return Change(c), {"assignee": None}
            _held(c, who, reservation)
            change = desk.released(c, why or "released", self._desk.conversations.now(), who.by, exclude=True)
            return change, {"assignee": None}

        return await self._freeing(request, decide)

    async def to_queue(self, request: Request, who: Asker, queue: str, why: str) -> dict[str, Any]:
        """Another queue works on it from now on."""
        if await self._agents.queue(request.tenant, queue) is None:
            raise not_found("queue")

        def decide(c: Conversation) -> Decision:
            _open(c)
            if c.assignment:
                _held(c, who, None)
            change = desk.released(c, why or "transferred", self._desk.conversations.now(), who.by, queue=queue)
            return change, {"assignee": None, "queue": queue}

        return await self._freeing(request, decide)

    async def _freeing(self, request: Request, decide: Any) -> dict[str, Any]:
        answer = await self._commands.carry_out(request, decide)
        c = await self._commands.read(request.tenant, request.conversation)
        self._desk.kick(c.tenant, c.queue)
        return answer

    def _remembering(self, change: Change, key: str, result: dict[str, Any]) -> Change:
        commands = (*change.after.commands, Command(key, result))[-REMEMBERED:]
        after = replace(change.after, commands=commands)
        return Change(unfinished(after, self._desk.conversations.now()), change.outputs)


def _own(who: Asker) -> str:
    if who.agent is None:
        raise Problem(403, "agent_missing", "This needs a key that belongs to an agent.")
    return who.agent


def _open(c: Conversation) -> None:
    if c.state != "open":
        raise Problem(409, "closed", "The conversation is closed; open it again first.", current=_current(c))


def _may_give(c: Conversation, request: Request, who: Asker, agent: str, *, force: bool) -> None:
    """Raises Problem: 403 for a force that is not theirs to use, 409 for what somebody else has."""
    judged(c, request)
    _open(c)
    if force and not (who.chief or who.agent == agent):
        raise Problem(403, "force_refused", "Only an administrator forces work on somebody else.")
    mine = c.assignment is not None and c.assignment.agent in (agent, who.agent)
    if mine or (force and who.manual):
        return
    if not desk.may_replace(c, who.how) or (c.assignment and c.assignment.state == "active" and not who.chief):
        raise Problem(409, "taken", "Somebody else has it.", current=_current(c))


def _held(c: Conversation, who: Asker, reservation: str | None) -> Assignment:
    """The assignment, if it is the asker's (or an administrator asks) and still the one that was named."""
    mine = c.assignment
    if c.state != "open" or mine is None or (reservation is not None and mine.reservation != reservation):
        raise Problem(409, "not_held", "This is not theirs any more.", current=_current(c))
    if mine.agent != who.agent and not who.chief:
        raise Problem(409, "taken", "Somebody else has it.", current=_current(c))
    return mine


def _no_room(c: Conversation, agent: Agent) -> Problem:
    code, text = ("no_room", "The agent has no room for it.") if agent.on else ("agent_away", "The agent is away.")
    return Problem(409, code, text, current=_current(c), load=agent.load, capacity=agent.capacity)


def _assignee(a: Assignment) -> dict[str, Any]:
    expires = a.expires.isoformat() if a.expires else None
    return {"agent": a.agent, "reservation": a.reservation, "state": a.state, "expires_at": expires, "why": a.why}
