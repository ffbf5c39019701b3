"""HTTP of the desk: commands on assignments, agents and their presence, queues. The core's app includes these routes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Header, Path
from pydantic import BaseModel, ConfigDict, Field

from services.common.auth import Auth, Principal
from services.common.errors import Problem, not_found
from services.router.agents import AgentStore, Desk, Profile
from services.router.commands import Request
from services.router.desk import Agent, Queue
from services.router.desk_commands import Asker, DeskCommands, asker
from services.router.hours import Hours

NAME = r"^[A-Za-z0-9._@-]{1,64}$"
Name = Annotated[str, Field(pattern=NAME)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
ConversationId = Annotated[str, Path(max_length=64)]


class Body(BaseModel):
    """A command. `version` is the one the agent saw; without it the command is decided on what is there."""

    model_config = ConfigDict(extra="forbid")
    version: int | None = None


class Take(Body):
    force: bool = False


class Assign(Body):
    agent: Name
    force: bool = False


class Answer(Body):
    reservation: str
    why: str = Field("", max_length=200)


class Release(Body):
    reservation: str | None = None
    why: str = Field("", max_length=200)


class Transfer(Body):
    """To an agent or to a queue."""

    agent: Name | None = None
    queue: Name | None = None
    force: bool = False
    why: str = Field("", max_length=200)


class AgentBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field("", max_length=120)
    initials: str = Field("", max_length=4)
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")], ...] = ()
    skills: tuple[Name, ...] = ()
    queues: tuple[Name, ...] = ()
    capacity: int = Field(0, ge=0, le=1000)


class Presence(BaseModel):
    model_config = ConfigDict(extra="forbid")
    on: bool


Minute = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class HoursBody(BaseModel):
    """`week`: seven days, Monday first, each a list of stretches such as ["09:00", "14:00"]; empty: always open."""

    model_config = ConfigDict(extra="forbid")
    zone: str = "UTC"
    week: tuple[tuple[tuple[Minute, Minute], ...], ...] = ()
    holidays: tuple[date, ...] = ()


class QueueBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field("", max_length=120)
    offer_s: int = Field(0, ge=0, le=86_400)
    pause_s: int = Field(30, ge=1, le=3_600)
    sticky_s: int = Field(120, ge=0, le=86_400)
    overflow: Name | None = None
    overflow_s: int = Field(600, ge=0, le=604_800)
    answer_s: int | None = Field(None, ge=1)
    resolve_s: int | None = Field(None, ge=1)
    hours: HoursBody = HoursBody()
    skills: tuple[Name, ...] = ()
    weights: dict[Name, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=lambda: {"public": 1, "email": 1, "private": 2}
    )


def routes(commands: DeskCommands, over: Desk, agents: AgentStore, auth: Auth) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["desk"])
    _command_routes(router, commands, auth.requires("agent"))
    _agent_routes(router, over, agents, auth)
    _queue_routes(router, agents, auth)
    return router


Requires = Callable[..., Any]


def _command_routes(router: APIRouter, commands: DeskCommands, allowed: Requires) -> None:
    may_command = Depends(allowed)

    @router.post("/conversations/{conversation}/take")
    async def take(conversation: ConversationId, body: Take, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Make it mine. 409 `taken` while another agent works on it, `no_room` when I am full; `force` does it anyway."""
        me, request = _request(conversation, body, key, who)
        return await commands.take(request, me, force=body.force)

    @router.post("/conversations/{conversation}/assign")
    async def assign(conversation: ConversationId, body: Assign, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Give it to an agent."""
        me, request = _request(conversation, body, key, who)
        return await commands.assign(request, me, body.agent, force=body.force)

    @router.post("/conversations/{conversation}/accept")
    async def accept(conversation: ConversationId, body: Answer, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Accept the offer with this reservation. 409 `offer_over` when it has run out, `not_held` when it went elsewhere."""
        me, request = _request(conversation, body, key, who)
        return await commands.accept(request, me, body.reservation)

    @router.post("/conversations/{conversation}/reject")
    async def reject(conversation: ConversationId, body: Answer, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Refuse the offer; others are asked."""
        me, request = _request(conversation, body, key, who)
        return await commands.reject(request, me, body.reservation, body.why)

    @router.post("/conversations/{conversation}/release")
    async def release(conversation: ConversationId, body: Release, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Give it back to its queue."""
        me, request = _request(conversation, body, key, who)
        return await commands.release(request, me, body.reservation, body.why)

    @router.post("/conversations/{conversation}/transfer")
    async def transfer(conversation: ConversationId, body: Transfer, key: Key, who: Principal = may_command) -> dict[str, Any]:
        """Hand it to another agent, or to another queue."""
        me, request = _request(conversation, body, key, who)
        if (body.agent is None) == (body.queue is None):
            raise Problem(422, "one_of", "Name an agent or a queue.")
        if body.agent is not None:
            return await commands.assign(request, me, body.agent, force=body.force)
        assert body.queue
        return await commands.to_queue(request, me, body.queue, body.why)


def _request(conversation: str, body: Body, key: str, who: Principal) -> tuple[Asker, Request]:
    me = asker(who)
    return me, Request(who.tenant, conversation, key, me.by, body.version)


def _agent_routes(router: APIRouter, over: Desk, agents: AgentStore, auth: Auth) -> None:
    may_read = Depends(auth.requires("read", "agent"))
    may_govern = Depends(auth.requires("admin"))
    may_appear = Depends(auth.requires("agent", "admin"))

    @router.get("/agents")
    async def list_agents(who: Principal = may_read) -> dict[str, Any]:
        """Who answers: presence, load and room, and the conversations they hold or are offered."""
        return {"agents": [_agent(one) for one in await agents.agents(who.tenant)]}

    @router.put("/agents/{agent}")
    async def put_agent(
        agent: Annotated[str, Path(pattern=NAME)], body: AgentBody, who: Principal = may_govern
    ) -> dict[str, Any]:
        """Create or change an agent. Presence and work stay as they are; more room is used at once."""
        made = await agents.put(who.tenant, Profile(agent, **body.model_dump()))
        for queue in made.queues if made.on else ():
            over.kick(who.tenant, queue)
        return _agent(made)

    @router.post("/agents/{agent}/presence")
    async def presence(
        agent: Annotated[str, Path(pattern=NAME)], body: Presence, who: Principal = may_appear
    ) -> dict[str, Any]:
        """Come or go. Who goes gives their work back to the queues."""
        if who.agent != agent and not who.may("admin"):
            raise Problem(403, "not_you", "Only the agent or an administrator says whether an agent is here.")
        found = await over.present(who.tenant, agent, on=body.on)
        if found is None:
            raise not_found("agent")
        return _agent(await agents.agent(who.tenant, agent) or found)


def _queue_routes(router: APIRouter, agents: AgentStore, auth: Auth) -> None:
    may_read = Depends(auth.requires("read", "agent"))
    may_govern = Depends(auth.requires("admin"))

    @router.get("/queues")
    async def list_queues(who: Principal = may_read) -> dict[str, Any]:
        return {"queues": [_queue(one) for one in await agents.queues(who.tenant)]}

    @router.put("/queues/{queue}")
    async def put_queue(
        queue: Annotated[str, Path(pattern=NAME)], body: QueueBody, who: Principal = may_govern
    ) -> dict[str, Any]:
        """Create or change a queue. Promised times hold for conversations that are opened from now on."""
        made = _read_queue(queue, body)
        await agents.put_queue(who.tenant, made)
        return _queue(made)


# -- forms ------------------------------------------------------------------------------------------------------------


def _agent(agent: Agent) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "initials": agent.initials,
        "languages": agent.languages,
        "skills": agent.skills,
        "queues": agent.queues,
        "capacity": agent.capacity,
        "load": agent.load,
        "on": agent.on,
        "free_since": agent.free_since,
        "conversations": [one.conversation for one in agent.tokens],
    }


def _queue(queue: Queue) -> dict[str, Any]:
    hours = queue.hours
    week = [[[_clock(start), _clock(end)] for start, end in day] for day in hours.week]
    return {
        "name": queue.name,
        "title": queue.title,
        "offer_s": queue.offer_s,
        "pause_s": queue.pause_s,
        "sticky_s": queue.sticky_s,
        "overflow": queue.overflow,
        "overflow_s": queue.overflow_s,
        "answer_s": queue.answer_s,
        "resolve_s": queue.resolve_s,
        "hours": {"zone": hours.zone, "week": week, "holidays": hours.holidays},
        "skills": queue.skills,
        "weights": dict(queue.weights),
    }


def _read_queue(name: str, body: QueueBody) -> Queue:
    try:
        week = tuple(tuple((_minute(start), _minute(end)) for start, end in day) for day in body.hours.week)
        hours = Hours(body.hours.zone, week, body.hours.holidays)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise Problem(422, "hours_invalid", f"These hours cannot be: {error}") from error
    return Queue(name, **{**body.model_dump(exclude={"hours"}), "hours": hours})


def _minute(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
