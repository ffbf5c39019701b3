"""Identity's doors: who is this, what do we know of a customer and why, and what agents may say about it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from services.common.auth import Auth, Keyring, Principal
from services.common.errors import Problem, not_found
from services.common.identifiers import Identifier, NotAnIdentifier, Proof, Strength, derived_event_id, keyed
from services.identity.component import APART, SAME, Edge
from services.identity.desk import Command, Customer, Desk, Rule
from services.identity.evidence import moment
from services.identity.explain import Obstacle, weakest
from services.identity.profiles import Plain

Reference = Annotated[str, Query(min_length=1, max_length=64, description="A customer id or an identifier key")]
IdempotencyKey = Annotated[str | None, Header(max_length=200, description="The same command twice is one command")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class IdentifyBody(_Body):
    scheme: str = Field(min_length=1, max_length=40)
    value: str = Field(min_length=1, max_length=512)
    scope: str = Field("", max_length=200)
    region: str | None = Field(None, pattern="^[A-Z]{2}$", description="Reads national phone numbers, as DE or BR")


class JudgeBody(_Body):
    a: str = Field(min_length=1, max_length=64, description="A customer id or an identifier key")
    b: str = Field(min_length=1, max_length=64, description="A customer id or an identifier key")
    why: str = Field(min_length=1, max_length=500)


class EraseBody(_Body):
    customer_id: str = Field(min_length=1, max_length=64)


class Identified(BaseModel):
    key: str
    customer_id: str | None
    version: int | None


class EvidenceOut(BaseModel):
    a: str
    b: str
    rule: str
    source: str
    strength: Strength
    first_seen: datetime
    last_seen: datetime
    event_ids: list[str]
    actor: str | None = None
    why: str | None = None


class IdentifierOut(BaseModel):
    """`value` and `name` are masked for keys that may only read."""

    key: str
    scheme: str
    scope: str
    value: str | None
    name: str | None
    proof: Proof
    first_seen: datetime
    shared: bool = False
    never_links: str | None = None


class CustomerOut(BaseModel):
    customer_id: str
    version: int
    identifiers: list[IdentifierOut]
    evidence: list[EvidenceOut]
    suggestions: list[EvidenceOut]
    merged_from: list[str]


class WhyOut(BaseModel):
    """`weakest` is the place in `path` of the link that holds least."""

    same: bool
    path: list[EvidenceOut]
    weakest: int | None


class ObstacleOut(BaseModel):
    guard: str
    about: str
    evidence: EvidenceOut | None


class WhyNotOut(BaseModel):
    same: bool
    obstacles: list[ObstacleOut]


class VerdictOut(BaseModel):
    same: bool
    customer_a: str | None
    customer_b: str | None
    obstacles: list[ObstacleOut]


class ErasedOut(BaseModel):
    state: Literal["erased"] = "erased"
    identifiers: list[str]


def add_routes(app: FastAPI, desk: Desk, auth: Auth, keyring: Keyring) -> None:
    reader = Depends(auth.requires("read", "identity", "agent"))
    judge = Depends(auth.requires("identity", "agent"))
    owner = Depends(auth.requires("identity"))

    @app.post("/v1/identify", tags=["customers"])
    async def identify(body: IdentifyBody, who: Principal = reader) -> Identified:
        """Which customer an identifier belongs to; null for one that no event has shown."""
        key = await _key(keyring, who.tenant, body)
        found = await desk.assigned(who.tenant, key)
        return Identified(key=key, customer_id=found.customer if found else None, version=found.version if found else None)

    @app.get("/v1/customers/{customer}", tags=["customers"])
    async def customer(customer: str, who: Principal = reader) -> CustomerOut:
        """A customer by its id, by the id of one it took in, or by an identifier key: the answer has the present id."""
        found = await desk.customer(who.tenant, customer)
        return _customer(found, await desk.values(who.tenant, _told(found)), clear=_may_see(who))

    @app.get("/v1/customers/{customer}/export", tags=["customers"])
    async def export(customer: str, who: Principal = owner) -> CustomerOut:
        """All that identity holds about a customer, in clear."""
        found = await desk.customer(who.tenant, customer)
        return _customer(found, await desk.values(who.tenant, _told(found)), clear=True)

    @app.get("/v1/why", tags=["evidence"])
    async def why(a: Reference, b: Reference, who: Principal = reader) -> WhyOut:
        """The evidence that makes two one customer, link by link."""
        path = await desk.why(who.tenant, a, b)
        same = bool(path) or not await desk.why_not(who.tenant, a, b)
        return WhyOut(same=same, path=[_evidence(e) for e in path], weakest=path.index(weakest(path)) if path else None)

    @app.get("/v1/why_not", tags=["evidence"])
    async def why_not(a: Reference, b: Reference, who: Principal = reader) -> WhyNotOut:
        """What keeps two apart: the guard and the evidence it held back, or that there is none."""
        found = await desk.why_not(who.tenant, a, b)
        return WhyNotOut(same=not found, obstacles=[_obstacle(one) for one in found])

    @app.post("/v1/merge", tags=["evidence"])
    async def merge(body: JudgeBody, who: Principal = judge, idempotency_key: IdempotencyKey = None) -> VerdictOut:
        """An agent says that two are one person. Guards hold against agents too: `obstacles` names those that did."""
        return await judged(SAME, body, who, idempotency_key)

    @app.post("/v1/split", tags=["evidence"])
    async def split(body: JudgeBody, who: Principal = judge, idempotency_key: IdempotencyKey = None) -> VerdictOut:
        """An agent says that two identifiers are not one person; no event joins them again, a later merge may."""
        return await judged(APART, body, who, idempotency_key)

    async def judged(rule: Rule, body: JudgeBody, who: Principal, idempotency_key: str | None) -> VerdictOut:
        command = _command(who, idempotency_key, rule, body.a, body.b, why=body.why)
        found = await desk.judge(who.tenant, body.a, body.b, rule, command)
        obstacles = [_obstacle(one) for one in found.obstacles]
        return VerdictOut(same=found.same, customer_a=found.a, customer_b=found.b, obstacles=obstacles)

    @app.post("/v1/erase", tags=["customers"])
    async def erase(body: EraseBody, who: Principal = owner, idempotency_key: IdempotencyKey = None) -> ErasedOut:
        """Forget a customer. Every service hears of it by `hilo.identity.changes` and the map."""
        keys = await desk.erase(who.tenant, body.customer_id, _command(who, idempotency_key, "erase", body.customer_id))
        return ErasedOut(identifiers=keys)


async def _key(keyring: Keyring, tenant: str, body: IdentifyBody) -> str:
    try:
        secret = await keyring.tenant_key(tenant)
    except KeyError as error:
        raise not_found("tenant") from error
    try:
        return keyed(secret, Identifier(body.scheme, body.value, body.scope), body.region).key
    except NotAnIdentifier as error:
        raise Problem(422, "not_an_identifier", str(error)) from error


def _command(who: Principal, idempotency_key: str | None, *named: str, why: str = "") -> Command:
    actor = who.agent or who.name or who.key_id
    unique = idempotency_key or str(uuid.uuid4())
    return Command(derived_event_id(unique, "identity", who.tenant, actor, *named), actor, why)


def _may_see(who: Principal) -> bool:
    return who.may("identity") or who.may("agent")


def _told(found: Customer) -> set[str]:
    """The identifiers of the customer, and those that are only suggested."""
    return {*found.members, *(end for e in found.suggestions for end in e.ends)}


def _customer(found: Customer, values: Mapping[str, Plain], *, clear: bool) -> CustomerOut:
    return CustomerOut(
        customer_id=found.customer_id,
        version=found.version,
        identifiers=[
            IdentifierOut(
                key=key,
                scheme=member.scheme,
                scope=member.scope,
                value=_shown(values[key].value, clear=clear) if key in values else None,
                name=_shown(values[key].name, clear=clear) if key in values else None,
                proof=member.proof,
                first_seen=moment(member.first_seen or 0),
                shared=key in found.shared,
                never_links=member.stop or None,
            )
            for key, member in found.members.items()
        ],
        evidence=[_evidence(e) for e in found.evidence],
        suggestions=[_evidence(e) for e in found.suggestions],
        merged_from=list(found.merged_from),
    )


def _shown(value: str | None, *, clear: bool) -> str | None:
    """Masked: enough to recognise what one knows already, not enough to learn it."""
    if clear or value is None:
        return value
    return f"{value[:2]}…{value[-2:]}" if len(value) >= 8 else "…"


def _evidence(e: Edge) -> EvidenceOut:
    return EvidenceOut(
        a=e.a,
        b=e.b,
        rule=e.rule,
        source=e.source,
        strength=e.strength,
        first_seen=moment(e.first_seen),
        last_seen=moment(e.last_seen),
        event_ids=[event for _, event in e.events],
        actor=e.actor or None,
        why=e.why or None,
    )


def _obstacle(one: Obstacle) -> ObstacleOut:
    return ObstacleOut(guard=one.guard, about=one.about, evidence=_evidence(one.edge) if one.edge else None)
