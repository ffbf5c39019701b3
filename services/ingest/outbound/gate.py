"""The router's gate: asked right before every provider call but typing. Anything but allow means that nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.errors import ServiceAway
from services.common.http import Answer, Http
from services.common.logs import log

HOLD_S = 5.0
LONGEST_HOLD_S = 300.0


@dataclass(frozen=True, slots=True)
class Allow:
    """Good for `valid_s` after it was asked for, on the asker's clock: what changes in between is not noticed."""

    asked_at: datetime

    def stale(self, now: datetime, valid_s: float) -> bool:
        return not self.asked_at <= now <= self.asked_at + timedelta(seconds=valid_s)


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; ask again after `seconds`. `away`: the router could not be asked at all."""

    reason: str
    seconds: float = HOLD_S
    away: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Never."""

    reason: str


Verdict = Allow | Hold | Refuse


class Gate:
    def __init__(self, http: Http, router_url: str) -> None:
        self._http, self._url = http, router_url.rstrip("/") + "/v1/gate"

    async def ask(self, tenant: str, outbound_id: str, now: datetime) -> Verdict:
        """Never raises for what the router says or does not say: no answer is a hold."""
        try:
            answer = await self._http.service("POST", self._url, tenant, {"outbound_id": outbound_id})
        except ServiceAway:
            return Hold("the router does not answer", away=True)
        verdict = judged(answer, now)
        if isinstance(verdict, Hold) and verdict.away:
            log().warning("gate_unusable", outbound_id=outbound_id, status=answer.status)
        return verdict


def judged(answer: Answer, now: datetime) -> Verdict:
    """Allowed only by a 200 that says `allow: true`, refused only by one that says `final: true`; whatever is not a clear
    answer is a hold, as if the router were away."""
    said = answer.json()
    if answer.status != 200 or not isinstance(said, dict) or not isinstance(said.get("allow"), bool):
        return Hold(f"the gate answered {answer.status}", away=True)
    if said["allow"]:
        return Allow(now)
    reason, seconds = str(said.get("reason") or "held by the gate"), said.get("retry_after_s")
    if said.get("final") is True:
        return Refuse(reason)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0:
        return Hold(reason, min(float(seconds), LONGEST_HOLD_S))
    return Hold(reason)
