"""Dead letters: what was accepted and not understood. Read, mend a copy, try it, replay it, or discard it with a reason."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from services.common.errors import Away
from services.common.events import short
from services.common.http import Answer
from services.timeline.console import reasons
from services.timeline.console.answers import page
from services.timeline.console.backends import Backends
from services.timeline.console.cases import missing
from services.timeline.console.commands import said
from services.timeline.console.entrance import Entrance
from services.timeline.console.inbox import Lists, cursor_of
from services.timeline.console.render import render
from services.timeline.console.session import Signed
from services.timeline.console.texts import text
from services.timeline.reader import Reader
from services.timeline.views import DeadView

PAGE = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try, a replay or a discard, in words; `detail` names the facts."""

    fine: bool
    text: str
    detail: str = ""


class Dead:
    def __init__(self, reader: Reader, backends: Backends, lists: Lists) -> None:
        self._reader, self._backends, self._lists = reader, backends, lists

    def routes(self, door: Entrance) -> list[BaseRoute]:
        return [
            Route("/operations/dead", door.signed(self.letters), methods=["GET"]),
            Route("/operations/dead/{id}", door.signed(self.letters), methods=["GET"]),
            Route("/operations/dead/{id}", door.commanding(self.decide), methods=["POST"]),
        ]

    async def letters(self, request: Request, signed: Signed) -> Response:
        return await self._show(request, signed)

    async def decide(self, request: Request, signed: Signed) -> Response:
        """Try, replay or discard."""
        form, t = await request.form(), text(signed.lang)
        doing, mended, why = said(form, "do"), said(form, "slice"), said(form, "why")
        path = f"/v1/dead/{request.path_params['id']}"
        if doing == "discard" and not why:
            return await self._show(request, signed, Outcome(fine=False, text=t("dead_needs_why")), mended)
        try:
            body: dict[str, Any] = (
                {"why": why} if doing == "discard" else {"dry_run": doing != "replay", **_slice(form, mended)}
            )
        except orjson.JSONDecodeError as error:
            return await self._show(request, signed, Outcome(fine=False, text=t("dead_no_json", why=str(error))), mended)
        try:
            verb = "discard" if doing == "discard" else "replay"
            outcome = outcome_of(await self._backends.ingest(signed, "POST", f"{path}/{verb}", body), doing, t)
        except Away:
            outcome = Outcome(fine=False, text=t("dead_away"))
        return await self._show(request, signed, outcome, mended)

    async def _show(self, request: Request, signed: Signed, outcome: Outcome | None = None, mended: str = "") -> Response:
        tenant, wanted = signed.principal.tenant, request.path_params.get("id")
        values = await self._lists.rail(request, signed)
        before = cursor_of(request.query_params.get("from"))
        letters = await self._reader.dead_letters(tenant, "all" if wanted else "open", before=before, limit=PAGE)
        letter = await self._reader.dead_letter(tenant, wanted) if wanted else None
        if wanted and letter is None:
            return missing(signed)
        original = readable(letter) if letter else ""
        decided = outcome is not None and outcome.fine and letter is not None and letter.state != "open"
        values |= {
            "letters": letters.items,
            "more": letters.older,
            "letter": letter,
            "open": letter is not None and letter.state == "open" and not decided,
            "original": original,
            "mended": mended or original,
            "mendable": await self._mendable(signed, wanted) if letter else False,
            "is_text": letter is not None and not _is_json(letter),
            "outcome": outcome,
        }
        return page(render("dead.html", signed.lang, signed.theme, values))

    async def _mendable(self, signed: Signed, dead_id: str | None) -> bool:
        """Ingest knows which letters are items of an input; while it is away nothing can be mended."""
        try:
            found = await self._backends.letter(signed, dead_id) if dead_id else None
        except Away:
            return False
        return bool(found and found.get("mendable"))


def outcome_of(answer: Answer, doing: str, t: reasons.Text) -> Outcome:
    """What ingest answered, in words. Pure."""
    found = answer.json()
    told: dict[str, Any] = found if isinstance(found, dict) else {}
    if answer.status >= 300:
        return Outcome(fine=False, text=reasons.refusal(told, answer.status, t), detail=_detail(told))
    if doing == "discard":
        return Outcome(fine=True, text=t("dead_gone"))
    events = told.get("events", [])
    kinds = "\n".join(f"{short(one['type'])}  {one['id']}" for one in events)
    if told.get("republished"):
        done = "dead_republished" if doing == "replay" else "dead_would_republish"
        return Outcome(fine=True, text=t(done, topic=told["republished"]))
    return Outcome(fine=True, text=t("dead_done" if doing == "replay" else "dead_would", n=len(events)), detail=kinds)


def _detail(told: Mapping[str, Any]) -> str:
    """What the service says beside its code, where our sentence does not hold it."""
    return str(told.get("detail") or "") if told.get("code") in ("still_unreadable", "produces_nothing") else ""


def _slice(form: Any, mended: str) -> dict[str, Any]:
    """The mended copy: JSON as such, where the original was no JSON its text. Raises JSONDecodeError."""
    if not mended:
        return {}
    return {"slice": mended if said(form, "as") == "text" else orjson.loads(mended)}


def _content(letter: DeadView) -> bytes:
    return base64.b64decode(letter.body or "")


def _is_json(letter: DeadView) -> bool:
    try:
        orjson.loads(_content(letter))
    except orjson.JSONDecodeError:
        return False
    return True


def readable(letter: DeadView) -> str:
    """The original bytes as a person can mend them: JSON laid out, else the text, else what is left of it."""
    content = _content(letter)
    try:
        return orjson.dumps(orjson.loads(content), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return content.decode(errors="replace")
