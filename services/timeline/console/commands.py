"""What an agent does: each form becomes one command to the owner of the state, and its answer a sentence in its place.

With `x-part` (the page's own script) an answer is the fragment that says what went wrong, or nothing; without it, a whole page.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.common.errors import Away
from services.common.http import Answer
from services.common.identifiers import pending_entry_id
from services.timeline.console.pages import Console, Trouble, page
from services.timeline.console.render import Words, render, utcnow
from services.timeline.console.session import Signed


class Commands:
    def __init__(self, console: Console) -> None:
        self._console, self._backends = console, console.backends

    def routes(self) -> list[BaseRoute]:
        command = self._console.commanding
        return [
            Route("/c/{id}/send", command(self.send), methods=["POST"]),
            Route("/c/{id}/stop", command(self.simple("stop", "outbound_id")), methods=["POST"]),
            Route("/c/{id}/take", command(self.simple("take")), methods=["POST"]),
            Route("/c/{id}/resolve", command(self.simple("close", "version")), methods=["POST"]),
            Route("/c/{id}/reopen", command(self.simple("reopen", "version")), methods=["POST"]),
            Route("/c/{id}/invite", command(self.invite), methods=["POST"]),
            Route("/c/{id}/close-public", command(self.close_public), methods=["POST"]),
            Route("/operations/dead/{id}", command(self.dead), methods=["POST"]),
        ]

    async def send(self, request: Request, signed: Signed) -> Response:
        """An answer or a note. A public one is asked about once more before it goes."""
        form = await request.form()
        text, leg = _text(form, "text"), _text(form, "leg")
        key = _text(form, "key") or str(uuid.uuid4())
        if not text:
            return await self._console.show(request, signed, leg=leg)
        path = f"/v1/conversations/{request.path_params['id']}"
        if leg == "note":
            return await self._command(request, signed, f"{path}/notes", {"text": text}, key, "composer", text, leg)
        if _is_public(leg) and not _text(form, "sure"):
            return await self._console.show(request, signed, draft=text, leg=leg, ask=True)
        body = {"leg": leg, "text": text, **_seen(form)}
        return await self._command(request, signed, f"{path}/messages", body, key, "composer", text, leg)

    async def invite(self, request: Request, signed: Signed) -> Response:
        """Private first; the public reply follows if the platform accepted it."""
        form = await request.form()
        body = {
            "private_text": _text(form, "private_text"),
            "public_text": _text(form, "public_text"),
            **_number(form, "version"),
        }
        path = f"/v1/conversations/{request.path_params['id']}/handoff/invite"
        return await self._command(request, signed, path, body, _text(form, "key"), "invite", "", None)

    async def close_public(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        body = {"parts": _parts(form, "text"), **_seen(form)}
        path = f"/v1/conversations/{request.path_params['id']}/handoff/close"
        return await self._command(request, signed, path, body, _text(form, "key"), "close", "", None)

    def simple(self, verb: str, *fields: str) -> Any:
        """A command that needs nothing but its button."""

        async def run(request: Request, signed: Signed) -> Response:
            form = await request.form()
            body: dict[str, Any] = {}
            for name in fields:
                body |= _number(form, name) if name == "version" else {name: _text(form, name)}
            path = f"/v1/conversations/{request.path_params['id']}/{verb}"
            return await self._command(request, signed, path, body, str(uuid.uuid4()), "composer", "", None)

        return run

    async def _command(
        self,
        request: Request,
        signed: Signed,
        path: str,
        body: Mapping[str, Any],
        key: str,
        at: str,
        text: str,
        leg: str | None,
    ) -> Response:
        try:
            answer = await self._backends.router(signed, "POST", path, body, key=key)
        except Away:
            return await self._trouble(request, signed, Trouble("away", at), text, leg)
        if answer.status < 300:
            return self._done(request, signed, answer)
        return await self._trouble(request, signed, trouble(answer, at), text, leg)

    def _done(self, request: Request, signed: Signed, answer: Answer) -> Response:
        if "x-part" in request.headers:
            found = answer.json() or {}
            sent = found.get("outbound_id")
            entry = {"x-entry": pending_entry_id(signed.principal.tenant, sent)} if sent else {}
            return Response(status_code=204, headers=entry)
        view = request.query_params.get("view", "queue")
        return RedirectResponse(f"/c/{request.path_params['id']}?view={view}", 303)

    async def _trouble(self, request: Request, signed: Signed, found: Trouble, text: str, leg: str | None) -> Response:
        if "x-part" not in request.headers:
            return await self._console.show(request, signed, trouble=found, draft=text, leg=leg)
        words = Words(signed, {}, utcnow())
        status = {"refused": 422, "conflict": 409, "away": 503}.get(found.kind, 400)
        return page(render("_trouble.html", signed.lang, signed.theme, {**words.globals(), "trouble": found}), status)

    async def dead(self, request: Request, signed: Signed) -> Response:
        """Try, replay or discard a dead letter."""
        form = await request.form()
        words = Words(signed, {}, utcnow())
        mended, doing = _text(form, "slice"), _text(form, "do")
        path = f"/v1/dead/{request.path_params['id']}"
        if doing == "discard":
            verb = "discard"
            body: dict[str, Any] = {"why": _text(form, "why")}
        else:
            verb, body = "replay", {"dry_run": doing != "replay", **({"slice": mended} if mended else {})}
        try:
            answer = await self._backends.ingest(signed, "POST", f"{path}/{verb}", body)
        except Away:
            outcome: dict[str, Any] = {"fine": False, "text": words.t("away"), "detail": ""}
        else:
            outcome = dead_outcome(answer, doing, words)
        return await self._console.show_dead(request, signed, outcome=outcome, mended=mended or None)


def trouble(answer: Answer, at: str) -> Trouble:
    """A refusal in the console's words: private data, somebody was faster, not possible."""
    found = answer.json()
    said: dict[str, Any] = found if isinstance(found, dict) else {}
    if answer.status == 422 and said.get("found"):
        return Trouble("refused", at, found=tuple(said["found"]))
    if answer.status == 409 and isinstance(current := said.get("current"), dict):
        return Trouble("conflict", at, detail=str(said.get("code", "")), version=int(current.get("version", 0)))
    return Trouble("not_allowed", at, detail=str(said.get("detail") or said.get("code") or answer.status))


def dead_outcome(answer: Answer, doing: str, words: Words) -> dict[str, Any]:
    found = answer.json()
    said: dict[str, Any] = found if isinstance(found, dict) else {}
    if answer.status >= 300:
        return {"fine": False, "text": words.t("dead_still", reason=said.get("detail", answer.status)), "detail": ""}
    if doing == "discard":
        return {"fine": True, "text": words.t("dead_gone"), "detail": ""}
    events = said.get("events", [])
    still = said.get("quarantined") or []
    if still:
        reason = "; ".join(str(one.get("reason", one)) if isinstance(one, dict) else str(one) for one in still)
        return {"fine": False, "text": words.t("dead_still", reason=reason), "detail": ""}
    key = "dead_done" if doing == "replay" else "dead_would"
    detail = "\n".join(str(one.get("type", one)) if isinstance(one, dict) else str(one) for one in events)
    return {"fine": True, "text": words.t(key, n=len(events)), "detail": detail}


def _text(form: FormData, name: str) -> str:
    return str(form.get(name, "")).strip()


def _number(form: FormData, name: str) -> dict[str, int]:
    value = _text(form, name)
    return {name: int(value)} if value.isdigit() else {}


def _seen(form: FormData) -> dict[str, Any]:
    """What the agent saw: the version named by an answer to a conflict, else the last message on the screen."""
    return _number(form, "version") or ({"saw": _text(form, "saw")} if _text(form, "saw") else {})


def _parts(form: FormData, name: str) -> list[dict[str, str]]:
    return [{"kind": "text", "text": _text(form, name)}] if _text(form, name) else []


def _is_public(leg: str) -> bool:
    """A leg's key says its visibility; the router decides again, with the same key."""
    return "/public:" in leg
