"""The API of dead letters: list, look at, mend and replay, discard."""

# No postponed annotations: FastAPI reads those of the routes below, whose types are made inside functions.

import base64
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from services.common.auth import Auth, Principal
from services.ingest.api import Body, author, tenant_of
from services.ingest.contract import Outcome
from services.ingest.dead import DeadIndex, DeadState, Letter, Mended, Mender


class Decision(BaseModel):
    decision: Literal["replayed", "discarded"]
    by: dict[str, Any]
    why: str
    at: datetime


class DeadShown(BaseModel):
    """Where it was, why it was set aside, and what was decided."""

    id: str
    channel: str
    account: str
    topic: str
    path: str
    kind: str
    reason: str
    stage: str
    bug: bool
    at: datetime
    state: DeadState = "open"
    decision: Decision | None = None


class DeadPage(BaseModel):
    dead: list[DeadShown]
    next: str | None = Field(description="Give it as `after` for the next page")


class DeadWhole(DeadShown):
    """With what was set aside: `slice` where it is JSON, `text` where it is text, and always the bytes in base64."""

    mendable: bool = Field(description="Whether a mended slice may be given to replay")
    partition: int
    offset: int
    headers: dict[str, str]
    slice: Any = None
    text: str | None = None
    body: str


class Replay(Body):
    """`slice` is the mended item (or, where the whole input was unreadable, its whole body); absent: as it was."""

    slice: Any = None
    kind: str | None = Field(None, description="The item's kind, where its own was wrong")
    dry_run: bool = False


class Discard(Body):
    why: str = Field(min_length=1, max_length=1000)


class Produced(BaseModel):
    id: str
    type: str
    key: str
    data: dict[str, Any]


class Replayed(BaseModel):
    """What was put on the log, or with `dry_run` would be."""

    id: str
    state: DeadState
    dry_run: bool
    origin: str
    events: list[Produced]
    republished: str | None = Field(description="The topic, where the record went back unchanged")
    quarantined: list[dict[str, str]]


def _letter(letter: Letter) -> DeadWhole:
    data, body = letter.data, letter.body
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = None
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    return DeadWhole(
        id=letter.id,
        channel=letter.channel,
        account=letter.account,
        **data.model_dump(include={"topic", "path", "kind", "reason", "stage", "bug", "at", "partition", "offset", "headers"}),
        state=letter.state,
        decision=Decision(**letter.decision) if letter.decision else None,
        mendable=letter.slice is not None,
        slice=parsed,
        text=text,
        body=base64.b64encode(body).decode(),
    )


def _replayed(letter: Letter, done: Mended, *, dry_run: bool) -> Replayed:
    events = done.outcome.events if done.outcome else []
    return Replayed(
        id=letter.id,
        state=letter.state,
        dry_run=dry_run,
        origin=done.origin,
        events=[Produced(id=e.id, type=e.data.type, key=e.key, data=e.data.model_dump(mode="json")) for e in events],
        republished=letter.data.topic if done.outcome is None else None,
        quarantined=_quarantined(done.outcome) if done.outcome else [],
    )


def _quarantined(outcome: Outcome) -> list[dict[str, str]]:
    return [{"path": one.path, "kind": one.kind, "reason": one.reason} for one in outcome.quarantined]


def dead_router(auth: Auth, index: DeadIndex, mender: Mender) -> APIRouter:
    router = APIRouter(prefix="/v1/dead", tags=["dead letters"])
    Reader = Annotated[Principal, Depends(auth.requires("read", "write"))]  # noqa: N806  # a type
    Writer = Annotated[Principal, Depends(auth.requires("write"))]  # noqa: N806

    @router.get("")
    async def list_dead(
        who: Reader,
        state: DeadState | None = None,
        channel: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        after: str | None = None,
    ) -> DeadPage:
        """The newest first."""
        found, following = await index.list(_tenant(who), state=state, channel=channel, limit=limit, after=after)
        return DeadPage(dead=[DeadShown(id=one["_id"], **_plain(one)) for one in found], next=following)

    @router.get("/{dead_id}")
    async def get_dead(who: Reader, dead_id: str) -> DeadWhole:
        """One dead letter with its bytes."""
        return _letter(await index.letter(_tenant(who), dead_id))

    @router.post("/{dead_id}/replay")
    async def replay_dead(who: Writer, dead_id: str, body: Replay) -> Replayed:
        """Run a mended item again, or republish a record unchanged. Doing it twice is harmless."""
        letter, done = await mender.replay(
            _tenant(who), dead_id, author(who), mended=body.slice, kind=body.kind, dry_run=body.dry_run
        )
        return _replayed(letter, done, dry_run=body.dry_run)

    @router.post("/{dead_id}/discard")
    async def discard_dead(who: Writer, dead_id: str, body: Discard) -> DeadWhole:
        """Decide that nothing is to come of it."""
        return _letter(await mender.discard(_tenant(who), dead_id, author(who), body.why))

    return router


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in DeadShown.model_fields}


def _tenant(who: Principal) -> str:
    """A record that could not even say whose it is belongs to no tenant: only our own services, for the operator, see it."""
    return "" if who.service and not who.tenant else tenant_of(who)
