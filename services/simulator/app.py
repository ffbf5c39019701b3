"""The stand-ins behind one port: each platform's host is the first part of the path, as HILO_PROVIDER_ORIGINS maps it.

A control door orders what a platform does next, for the story, the tests and people who try a channel:
POST /control/<platform>/receive, POST /control/faults, POST /control/mess, GET /control/sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.common.http import Http
from services.simulator.accounts import Accounts
from services.simulator.courier import Courier, Mess
from services.simulator.mail import Mailbox
from services.simulator.meta import Instagram, WhatsApp
from services.simulator.sends import Sends
from services.simulator.telegram import Telegram

HOSTS = ("graph.facebook.com", "graph.instagram.com", "api.telegram.org", "lookaside.fbsbx.com")


def origins(port: int) -> Mapping[str, str]:
    """What HILO_PROVIDER_ORIGINS must say so that sends come here."""
    return {f"https://{host}": f"http://127.0.0.1:{port}/{host}" for host in HOSTS}


class Simulator:
    """All platforms over one set of accounts."""

    def __init__(self, accounts: Accounts, http: Http, *, mail_port: int, mess: Mess = Mess()) -> None:
        self.accounts, self.http = accounts, http
        self.courier, self.sends = Courier(http, mess), Sends()
        self.whatsapp = WhatsApp(accounts.whatsapp, self.courier, self.sends)
        self.instagram = Instagram(accounts.instagram, self.courier, self.sends)
        self.telegram = Telegram(accounts.telegram, self.courier, self.sends)
        self.mailbox = Mailbox(self.sends, mail_port)
        self.app = Starlette(
            routes=[
                *self.whatsapp.routes(),
                *self.instagram.routes(),
                *self.telegram.routes(),
                Route("/control/sends", self._sends, methods=["GET"]),
                Route("/control/faults", self._faults, methods=["POST"]),
                Route("/control/{platform}/receive", self._receive, methods=["POST"]),
                Route("/healthz", self._health, methods=["GET"]),
            ]
        )

    async def start(self) -> None:
        await self.mailbox.start()

    async def stop(self) -> None:
        await self.mailbox.stop()

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"platforms": ["whatsapp", "instagram", "telegram", "email", "webchat"]})

    async def _sends(self, request: Request) -> Response:
        taken = [
            {"platform": t.platform, "account": t.account, "to": t.to, "id": t.id, "reference": t.reference, "body": t.body}
            for t in self.sends.taken
        ]
        return JSONResponse({"sends": taken, "above_one": self.sends.above_one(), "calls": self.sends.calls})

    async def _faults(self, request: Request) -> Response:
        body = await request.json()
        self.sends.order(body["platform"], body["fault"], int(body.get("times", 1)))
        return JSONResponse({"ordered": body})

    async def _receive(self, request: Request) -> Response:
        body = await request.json()
        found = self._received(request.path_params["platform"], body)
        return JSONResponse({"id": found}) if found else JSONResponse({"error": "unknown platform or account"}, 404)

    def _received(self, platform: str, body: dict[str, Any]) -> str | None:
        """Make the platform deliver what `body` describes; the provider's id of it."""
        accounts: tuple[Any, ...] = getattr(self.accounts, platform, ())
        account = next((one for one in accounts if one.id == body.get("account", one.id)), None)
        if account is None:
            return None
        text = body.get("text", "")
        match platform:
            case "whatsapp":
                content = body.get("content") or {"type": "text", "text": {"body": text}}
                return self.whatsapp.receive(
                    account, body.get("name", ""), content, phone=body.get("phone"), user_id=body.get("user_id")
                )
            case "instagram" if body.get("kind") == "comment":
                return self.instagram.comment(account, body["from"], body.get("name", ""), text, parent=body.get("parent"))
            case "instagram":
                return self.instagram.direct(account, body["from"], body.get("content") or {"text": text})
            case "telegram":
                content = body.get("content") or {"text": text}
                return self.telegram.receive(account, int(body["from"]), body.get("name", ""), content)
        return None
