"""The journey API's route."""

# No postponed annotations: FastAPI reads those of the route below, whose types are made inside a function.

from datetime import UTC, datetime
from typing import Any, get_args

from fastapi import APIRouter, Request
from pydantic import BaseModel

from services.common.auth import Auth
from services.ingest import rawlog
from services.ingest.api import tenant_of
from services.ingest.contract.facts import StepType
from services.ingest.journey import Journey, Told
from services.ingest.patience import Patience
from services.ingest.settings import IngestSettings
from services.ingest.webhooks import Turned, read_body


class Aside(BaseModel):
    path: str
    kind: str
    reason: str
    dead_id: str


class JourneyTaken(BaseModel):
    """items = normalized + quarantined + ignored. An event that is quarantined is kept and can be mended; do not send the
    batch again for it."""

    items: int
    normalized: int
    event_ids: list[str]
    quarantined: list[Aside]
    ignored: list[rawlog.Passed]


STEP: dict[str, Any] = {
    "type": "object",
    "required": ["id", "type", "identities"],
    "properties": {
        "id": {"type": "string", "description": "Yours: the same id again is the same event"},
        "type": {"type": "string", "enum": list(get_args(StepType))},
        "at": {"type": "string", "format": "date-time"},
        "identities": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["scheme", "value"],
                "properties": {name: {"type": "string"} for name in ("scheme", "value", "scope")},
            },
        },
        "title": {"type": "string"},
        "url": {"type": "string", "format": "uri"},
        "data": {"type": "object"},
    },
}
BATCH: dict[str, Any] = {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": STEP}}}
BODY = {"required": True, "content": {"application/json": {"schema": {"oneOf": [BATCH, STEP]}}}}


def journey_router(auth: Auth, journey: Journey, settings: IngestSettings) -> APIRouter:
    router, patience = APIRouter(tags=["journey"]), Patience(settings.webhook_body_s)

    @router.post("/v1/journey", openapi_extra={"requestBody": BODY})
    async def post_journey(request: Request, account: str | None = None) -> JourneyTaken:
        """Tell up to 500 steps of customers' journeys. The same batch again is the same events. The caller has a key with the
        scope `ingest`, or signs after Standard Webhooks and names the account."""
        headers = request.headers
        tenant = None
        if "authorization" in headers or "webhook-signature" not in headers:
            tenant = tenant_of(await auth.requires("ingest")(request))
        try:
            body = await read_body(request.receive, request.headers, settings.webhook_max_bytes, patience)
        except Turned as turned:
            raise turned.problem from turned
        taken = await journey.take(Told(body, headers, datetime.now(UTC), tenant, account))
        verdict = rawlog.verdict(taken.outcome)
        pairs = zip(verdict.quarantined, taken.dead_ids, strict=True)
        return JourneyTaken(
            items=verdict.items,
            normalized=verdict.normalized,
            event_ids=list(verdict.event_ids),
            quarantined=[Aside(path=one.path, kind=one.kind, reason=one.reason, dead_id=dead) for one, dead in pairs],
            ignored=list(verdict.ignored),
        )

    return router
