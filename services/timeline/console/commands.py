"""What an agent does: each form becomes one command to the owner of the state, and its answer a sentence in its place.

With `x-part` (the page's own script) an answer is the fragment that says what went wrong, or nothing; without it, a whole
page with what was typed. A command's key stands in its form, so that the same press is done once, however often it is sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.common.errors import Away
from services.common.http import Answer
from services.common.identifiers import pending_entry_id
from services.timeline.console import reasons
from services.timeline.console.answers import page, wants_part
from services.timeline.console.backends import Backends
from services.timeline.console.cases import STATUS, Cases, Trouble, Written
from services.timeline.console.entrance import Entrance
from services.timeline.console.places import begun, is_public
from services.timeline.console.render import Words, render, utcnow
from services.timeline.console.session import Signed
from services.timeline.console.texts import text


class Commands:
    def __init__(self, cases: Cases, backends: Backends) -> None:
        self._cases, self._backends = cases, backends

    def routes(self, door: Entrance) -> list[BaseRoute]:
        forms = {
            "send": self.send,
            "stop": self.stop,
            "take": self.take,
            "resolve": self.resolve,
            "reopen": self.reopen,
            "invite": self.invite,
            "approve": self.approve,
            "ask-code": self.ask_code,
            "close-public": self.close_public,
        }
        found: list[BaseRoute] = [
            Route(f"/c/{{id}}/{verb}", door.commanding(form), methods=["POST"]) for verb, form in forms.items()
        ]
        return [*found, Route("/presence", door.commanding(self.presence), methods=["POST"])]

    # -- what is written

    async def send(self, request: Request, signed: Signed) -> Response:
        """An answer or a note. What somebody will read in public, or elsewhere than the button said, is asked about once
        more before it goes."""
        form = await request.form()
        written, leg = Written(said(form, "text"), said(form, "leg")), said(form, "leg")
        if (doing := said(form, "do")) in ("to-private", "cut"):
            return await self._cases.show(request, signed, written=_mended(form, written, private=doing == "to-private"))
        if not written.text:
            return await self._cases.show(request, signed, written=written)
        if leg == "note":
            return await self._give(request, signed, "notes", {"text": written.text}, form, written=written)
        elsewhere = said(form, "shown") not in ("", leg)
        if (is_public(leg) or elsewhere) and not said(form, "sure"):
            return await self._cases.show(request, signed, written=replace(written, ask=True))
        body: dict[str, Any] = {"text": written.text, **_seen(form)}
        if (new := begun(leg)) is not None:
            where = {"channel": new.channel, "account": new.account, "leg": new.leg, "identifier": new.identifier}
            answer = await self._ask(request, signed, "legs", where, f"{said(form, 'key')}-leg")
            if not isinstance(answer, Answer) or answer.status >= 300:
                return await self._answered(request, signed, answer, "composer", written)
            leg = str(answer.json()["leg"])
        return await self._give(request, signed, "messages", {**body, "leg": leg}, form, written=written)

    # -- the handoff

    async def invite(self, request: Request, signed: Signed) -> Response:
        """Private first, where the platform has a message for that; the public reply follows if it was accepted."""
        form = await request.form()
        body = {
            "private": _parts(form, "private_text"),
            "public": _parts(form, "public_text"),
            "targets": [str(one) for one in form.getlist("target")],
            **_seen(form),
        }
        return await self._give(request, signed, "handoff/invite", body, form, at="invite")

    async def approve(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        return await self._give(request, signed, "handoff/approve", _seen(form), form, at="panel")

    async def ask_code(self, request: Request, signed: Signed) -> Response:
        """A code on a leg of which nobody knows yet whose it is: who brings it back from their own is the same person."""
        form = await request.form()
        body = {"leg": said(form, "leg"), "parts": _parts(form, "text"), **_seen(form)}
        return await self._give(request, signed, "offers", body, form, at="ask-code")

    async def close_public(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        body = {"parts": _parts(form, "text"), **_seen(form)}
        return await self._give(request, signed, "handoff/close", body, form, at="close-public")

    # -- the desk

    async def take(self, request: Request, signed: Signed) -> Response:
        return await self._give(request, signed, "take", {}, await request.form(), at="bar")

    async def resolve(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        return await self._give(request, signed, "close", _seen(form), form, at="bar")

    async def reopen(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        return await self._give(request, signed, "reopen", _seen(form), form, at="bar")

    async def stop(self, request: Request, signed: Signed) -> Response:
        form = await request.form()
        return await self._give(request, signed, "stop", {"outbound_id": said(form, "outbound_id")}, form, at="bar")

    async def presence(self, request: Request, signed: Signed) -> Response:
        """Come or go. Who goes gives their work back to the queues."""
        form = await request.form()
        if agent := signed.principal.agent:
            await self._backends.router(signed, "POST", f"/v1/agents/{agent}/presence", {"on": said(form, "on") == "1"})
            self._backends.forget_agents(signed)
        return Response(status_code=204) if wants_part(request) else RedirectResponse("/inbox", 303)

    # -- what they have in common

    async def _give(
        self,
        request: Request,
        signed: Signed,
        verb: str,
        body: Mapping[str, Any],
        form: FormData,
        *,
        at: str = "composer",
        written: Written | None = None,
    ) -> Response:
        answer = await self._ask(request, signed, verb, body, said(form, "key"))
        typed = {f"{at}.{name}": str(value) for name, value in form.items() if name.endswith("text")}
        return await self._answered(request, signed, answer, at, written or Written(forms=typed))

    async def _ask(self, request: Request, signed: Signed, verb: str, body: Mapping[str, Any], key: str) -> Answer | None:
        """The router's answer; None while it is away."""
        path = f"/v1/conversations/{request.path_params['id']}/{verb}"
        try:
            return await self._backends.router(signed, "POST", path, body, key=key or str(uuid.uuid4()))
        except Away:
            return None

    async def _answered(self, request: Request, signed: Signed, answer: Answer | None, at: str, written: Written) -> Response:
        if answer is not None and answer.status < 300:
            return self._done(request, signed, answer)
        found = trouble(answer, at, text(signed.lang)) if answer is not None else Trouble("away", at)
        if found.kind == "conflict":
            newest = await self._cases.reader.conversation(signed.principal.tenant, request.path_params["id"])
            found = replace(found, theirs=newest.last if newest else None)
        if not wants_part(request):
            return await self._cases.show(request, signed, found, written)
        agents = await self._backends.agents(signed)
        values = {**Words(signed, agents, utcnow()).globals(), "trouble": found, "draft": written.text}
        status = STATUS.get(found.kind, 400)
        now = {"x-version": str(found.version)} if found.version else {}
        return page(render("_trouble.html", signed.lang, signed.theme, values), status, **now)

    def _done(self, request: Request, signed: Signed, answer: Answer) -> Response:
        if wants_part(request):
            found = answer.json() or {}
            sent = found.get("outbound_id")
            entry = {"x-entry": pending_entry_id(signed.principal.tenant, sent)} if sent else {}
            return Response(status_code=204, headers=entry)
        view = request.query_params.get("view", "queue")
        return RedirectResponse(f"/c/{request.path_params['id']}?view={view}", 303)


def trouble(answer: Answer, at: str, t: reasons.Text) -> Trouble:
    """A refusal in the console's words: private data, somebody was faster, joined to another, not possible."""
    found = answer.json()
    told: dict[str, Any] = found if isinstance(found, dict) else {}
    if answer.status == 422 and told.get("found"):
        return Trouble("refused", at, found=tuple(told["found"]))
    if into := told.get("joined_into"):
        return Trouble("joined", at, joined=str(into))
    current = told.get("current")
    if told.get("code") == "version_lost" and isinstance(current, dict):
        heard = [leg for leg in current.get("legs", ()) if leg.get("held") and leg.get("last_message")]
        newest: dict[str, Any] = max(heard, key=lambda leg: leg.get("last_received_at") or "", default={})
        return Trouble("conflict", at, version=int(current.get("version", 0)), saw=str(newest.get("last_message", "")))
    return Trouble("not_allowed", at, detail=reasons.refusal(told, answer.status, t))


def _mended(form: FormData, written: Written, *, private: bool) -> Written:
    """What was refused in public: moved to the private leg as a draft, or without what must not be said."""
    if private and not said(form, "private"):
        return Written(forms={"invite.private_text": written.text})  # the way there is the invitation
    if private:
        return Written(written.text, said(form, "private"))
    left = written.text
    for found in form.getlist("found"):
        left = left.replace(str(found), "")
    return replace(written, text=" ".join(left.split(" ")).replace("  ", " ").strip())


def said(form: FormData, name: str) -> str:
    return str(form.get(name, "")).strip()


def _seen(form: FormData) -> dict[str, Any]:
    """What the agent saw: the customer's last message, and by the version what colleagues had answered; of a conflict that
    they answer to all the same, what it showed."""
    version, _, saw = said(form, "anyway").partition(" ")
    if not version:
        version, saw = said(form, "version"), said(form, "saw")
    found: dict[str, Any] = {"version": int(version)} if version.isascii() and version.isdigit() and len(version) < 16 else {}
    return {**found, "saw": saw} if 0 < len(saw) <= 64 else found


def _parts(form: FormData, name: str) -> list[dict[str, str]]:
    return [{"kind": "text", "text": said(form, name)}] if said(form, name) else []
