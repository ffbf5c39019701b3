"""Capacity is a token on the agent's document, the assignment a reference on the conversation's: the token comes first and
goes last. `r = conversation@version@agent` names the one compare-and-set that could set it, so a token whose conversation is
past that version without it is dead for ever. No clock and no lease is needed to be safe; a crash leaves at most a token too
many, which the collector finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from services.common.events import Author
from services.router import desk
from services.router.desk import Agent, Queue, Token, parsed
from services.router.outputs import Change
from services.router.protocol import Conversations
from services.router.state import Conversation

FENCE_AFTER = timedelta(seconds=30)  # a set that took longer than that is prevented rather than waited for
Kick = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """What an administrator says of an agent."""

    id: str
    name: str = ""
    initials: str = ""
    languages: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    capacity: int = 0


class AgentStore(Protocol):
    """Agents and queues. Every method is one atomic step."""

    async def agent(self, tenant: str, agent: str) -> Agent | None: ...

    async def agents(self, tenant: str) -> list[Agent]: ...

    async def members(self, tenant: str, queues: Collection[str]) -> list[Agent]:
        """Agents of at least one of these queues."""
        ...

    async def put(self, tenant: str, profile: Profile) -> Agent:
        """Presence and tokens stay as they are."""
        ...

    async def present(self, tenant: str, agent: str, *, on: bool, now: datetime) -> Agent | None: ...

    async def reserve(self, tenant: str, agent: str, token: Token, now: datetime) -> bool:
        """One conditional update: present and room for the weight, or forced with weight 0. A token that is there already is
        a success and is not counted twice."""
        ...

    async def remove(self, tenant: str, agent: str, reservation: str, now: datetime) -> Agent | None:
        """Take the token off and its weight out of the load. None if it was not there."""
        ...

    async def burdened(self) -> list[Agent]:
        """Those with a token, of all tenants."""
        ...

    async def queue(self, tenant: str, name: str) -> Queue | None: ...

    async def queues(self, tenant: str) -> list[Queue]: ...

    async def put_queue(self, tenant: str, queue: Queue) -> None: ...


class Desk:
    """Carries out the assignment protocol over both stores. Every method may be stopped at any point and done again."""

    def __init__(self, conversations: Conversations, agents: AgentStore, kick: Kick) -> None:
        self.conversations, self.agents, self._kick = conversations, agents, kick

    def kick(self, tenant: str, queue: str) -> None:
        """Somebody may have to look at this queue. May be lost: a tick repairs."""
        self._kick(tenant, queue)

    # -- reserve, set

    async def give(
        self,
        c: Conversation,
        agent: str,
        why: str,
        *,
        weight: int,
        state: Literal["offered", "active"] = "active",
        expires: datetime | None = None,
        by: Author | None = None,
        forced: bool = False,
        more: Callable[[Change], Change] = lambda change: change,
    ) -> Conversation | None:
        """Reserve on the agent, then set on the conversation at exactly the version that was read, then release what it
        replaced. None: no room, or somebody was faster; the conversation as read is no more or may not be."""
        now = self.conversations.now()
        name = desk.reservation(c.id, c.v, agent)
        token = Token(name, 0 if forced else weight, now, forced)
        if not await self.agents.reserve(c.tenant, agent, token, now):
            return None
        change = more(desk.given(c, agent, why, now, state=state, expires=expires, by=by))
        after = await self.conversations.change(c, change)
        if after is None:
            await self.release(name)
            return None
        await self.conversations.publish((after,))
        if c.assignment:
            await self.release(c.assignment.reservation)
        return after

    async def drop(self, c: Conversation, change: Change) -> Conversation | None:
        """A change that ends the assignment: the reference goes first, then the token. None: somebody was faster."""
        after = await self.conversations.change(c, change)
        if after is None:
            return None
        await self.conversations.publish((after,))
        if c.assignment and (after.assignment is None or after.assignment.reservation != c.assignment.reservation):
            await self.release(c.assignment.reservation)
        if after.state == "open" and after.assignment is None:
            self.kick(after.tenant, after.queue)
        return after

    # -- release

    async def dead(self, reservation: str, *, fence: bool) -> bool:
        """Whether the token may go: no conversation holds it and none can ever get it. With `fence`, the one set that still
        could is prevented by a change that only raises the version."""
        conversation, version, _ = parsed(reservation)
        while (c := await self.conversations.find(conversation)) is not None:
            if c.state == "joined":
                if not c.absorbed_into:
                    await self.conversations.absorb(c)
                assert c.into
                conversation, version = c.into, -1  # to the survivor: an heir can be absorbed past a sealed ancestor
                continue
            if c.assignment and c.assignment.reservation == reservation:
                return False
            if c.v > version:
                return True
            if not fence:
                return False
            if await self.conversations.change(c, Change(c)):
                return True
        return True

    async def release(self, reservation: str, *, fence: bool = True) -> None:
        """Give the token back if it is dead. A token that a survivor took over stays."""
        conversation, _, agent = parsed(reservation)
        c = await self.conversations.find(conversation)
        if c is not None and await self.dead(reservation, fence=fence):
            await self._remove(c.tenant, agent, reservation)

    async def _remove(self, tenant: str, agent: str, reservation: str) -> None:
        after = await self.agents.remove(tenant, agent, reservation, self.conversations.now())
        for queue in after.queues if after and after.on else ():
            self.kick(tenant, queue)

    # -- collector, presence

    async def collect(self) -> None:
        """Every token is asked whether it is still needed; whoever is away loses their work to the queue. Any process may
        do it at any time."""
        for agent in await self.agents.burdened():
            if agent.on:
                await self.collect_one(agent)
            else:
                await self.requeue(agent)

    async def collect_one(self, agent: Agent) -> None:
        old = self.conversations.now() - FENCE_AFTER
        for token in agent.tokens:
            if await self.dead(token.reservation, fence=token.at <= old):
                await self._remove(agent.tenant, agent.id, token.reservation)

    async def present(self, tenant: str, agent: str, *, on: bool) -> Agent | None:
        """Away first, then their work goes back to the queues; a crash between is repaired by the collector."""
        found = await self.agents.present(tenant, agent, on=on, now=self.conversations.now())
        if found and not on:
            await self.requeue(found)
        for queue in found.queues if found and on else ():
            self.kick(tenant, queue)
        return found

    async def requeue(self, agent: Agent) -> None:
        for token in agent.tokens:
            await self._requeue(agent, token)

    async def _requeue(self, agent: Agent, token: Token) -> None:
        conversation = token.conversation
        while (c := await self.conversations.find(conversation)) is not None:
            if c.state == "joined":
                if not c.absorbed_into:
                    await self.conversations.absorb(c)
                assert c.into
                conversation = c.into
                continue
            if c.assignment is None or c.assignment.reservation != token.reservation:
                break
            if await self.drop(c, desk.released(c, "agent_away", self.conversations.now())):
                return
        if await self.dead(token.reservation, fence=True):
            await self._remove(agent.tenant, agent.id, token.reservation)
