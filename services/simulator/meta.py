"""WhatsApp and Instagram as they look from outside: messages come in as signed webhooks, sends go to the Graph API."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.simulator import wire
from services.simulator.accounts import InstagramAccount, WhatsAppAccount
from services.simulator.courier import Courier, Delivery
from services.simulator.sends import Sends

# Error codes as documented: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes
ERRORS: dict[str, tuple[int, int, str]] = {
    "rate_limit": (400, 130429, "Rate limit hit"),
    "window_closed": (400, 131047, "Re-engagement message"),
    "token_expired": (401, 190, "Error validating access token"),
    "rejected": (400, 131026, "Message undeliverable"),
    "error_500": (500, 131000, "Something went wrong"),
}


def refusal(kind: str) -> Response:
    status, code, title = ERRORS[kind]
    return JSONResponse({"error": {"code": code, "message": title, "type": "OAuthException"}}, status)


async def lost() -> Response:
    """Taken, but the answer never arrives: the connection is held beyond any timeout of the caller."""
    await asyncio.sleep(60)
    return Response(status_code=504)


def bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


class WhatsApp:
    """The Cloud API of the given numbers."""

    def __init__(self, accounts: tuple[WhatsAppAccount, ...], courier: Courier, sends: Sends) -> None:
        self.accounts = {account.phone_number_id: account for account in accounts}
        self._courier, self._sends, self._ids = courier, sends, itertools.count(1)
        self._media: dict[str, tuple[str, bytes]] = {}
        self.receipts: tuple[str, ...] = ("sent", "delivered", "read")

    def media(self, media_type: str, content: bytes) -> str:
        """A file that a customer sent; its id stands in the message and the bytes are fetched by it."""
        identifier = f"media-{next(self._ids)}"
        self._media[identifier] = (media_type, content)
        return identifier

    def receive(
        self,
        account: WhatsAppAccount,
        name: str,
        content: dict[str, Any],
        *,
        phone: str | None = None,
        user_id: str | None = None,
        message_id: str | None = None,
        at: float | None = None,
    ) -> str:
        """A customer writes. The id of the message."""
        found = message_id or f"wamid.sim.{time.time_ns():x}.{next(self._ids)}"
        self._sends.wrote("whatsapp", user_id or f"+{phone}")
        if phone:
            self._sends.wrote("whatsapp", f"+{phone}")
        message = wire.whatsapp_message(found, int(at or time.time()), phone, user_id, content)
        value = wire.whatsapp_value(account.phone_number_id, [wire.whatsapp_contact(name, phone, user_id)], messages=[message])
        self.post(account, wire.whatsapp_body([value]))
        return found

    def post(self, account: WhatsAppAccount, document: wire.Body, items: int = 1) -> None:
        body = wire.as_meta_writes(document)
        self._courier.send(Delivery(account.webhook, wire.meta_headers(body, account.app_secret), body, items))

    # what Hilo calls

    def routes(self) -> list[Route]:
        base = "/graph.facebook.com/{version}"
        return [
            Route(base + "/{number}/messages", self.send, methods=["POST"]),
            Route(base + "/{number}/media", self.upload, methods=["POST"]),
            Route(base + "/{number}/subscribed_apps", self.subscribe, methods=["POST", "GET"]),
            Route(base + "/{identifier}", self.look, methods=["GET"]),
            Route("/lookaside.fbsbx.com/{identifier}", self.download, methods=["GET"]),
        ]

    async def send(self, request: Request) -> Response:
        account = self.accounts.get(request.path_params["number"])
        body = await request.json()
        if account is None or bearer(request) != account.access_token:
            return refusal("token_expired")
        if body.get("status") == "read":  # a read receipt, perhaps with a typing indicator: no message
            return JSONResponse({"success": True})
        fault = self._sends.fault("whatsapp")
        to = body.get("to") or body.get("recipient") or ""
        if fault and fault != "lost_answer":
            return refusal(fault)
        if body["type"] not in ("template", "reaction") and not self._sends.window_open("whatsapp", to):
            return refusal("window_closed")
        identifier = f"wamid.out.{time.time_ns():x}.{next(self._ids)}"
        self._sends.take("whatsapp", account.id, to, identifier, body.get("biz_opaque_callback_data"), body)
        self._report(account, identifier, to, body.get("biz_opaque_callback_data"))
        if fault == "lost_answer":
            return await lost()
        return JSONResponse({"messaging_product": "whatsapp", "contacts": [{"input": to}], "messages": [{"id": identifier}]})

    def _report(self, account: WhatsAppAccount, identifier: str, to: str, reference: str | None) -> None:
        now = int(time.time())
        for step, state in enumerate(self.receipts):
            status = wire.whatsapp_status(identifier, state, now + step, to, reference)
            self.post(account, wire.whatsapp_body([wire.whatsapp_value(account.phone_number_id, statuses=[status])]))

    async def upload(self, request: Request) -> Response:
        return JSONResponse({"id": self.media(request.headers.get("content-type", ""), await request.body())})

    async def subscribe(self, request: Request) -> Response:
        return JSONResponse({"success": True})

    async def look(self, request: Request) -> Response:
        identifier = request.path_params["identifier"]
        if identifier in self.accounts:
            return JSONResponse({"id": identifier, "quality_rating": "GREEN", "status": "CONNECTED"})
        if bearer(request) not in {account.access_token for account in self.accounts.values()}:
            return refusal("token_expired")
        if identifier not in self._media:
            return JSONResponse({"error": {"code": 100, "message": "Unsupported get request"}}, 400)
        media_type, content = self._media[identifier]
        url = f"https://lookaside.fbsbx.com/{identifier}"
        return JSONResponse({"id": identifier, "url": url, "mime_type": media_type, "file_size": len(content)})

    async def download(self, request: Request) -> Response:
        if bearer(request) not in {account.access_token for account in self.accounts.values()}:
            return Response(status_code=401)
        media_type, content = self._media[request.path_params["identifier"]]
        return Response(content, media_type=media_type)


class Instagram:
    """Comments under posts, and direct messages, of the given professional accounts."""

    def __init__(self, accounts: tuple[InstagramAccount, ...], courier: Courier, sends: Sends) -> None:
        self.accounts = {account.ig_id: account for account in accounts}
        self._courier, self._sends, self._ids = courier, sends, itertools.count(1)
        self._authors: dict[str, tuple[InstagramAccount, str]] = {}
        self._privately: set[str] = set()
        self.echoes = True

    def comment(
        self,
        account: InstagramAccount,
        author: str,
        username: str,
        text: str,
        *,
        comment_id: str | None = None,
        parent: str | None = None,
    ) -> str:
        """Somebody comments in public. The id of the comment."""
        found = comment_id or f"179{time.time_ns()}{next(self._ids)}"
        self._authors[found] = (account, author)
        change = wire.instagram_comment(found, author, username, text, "media-1", parent)
        self.post(account, wire.instagram_body(account.ig_id, int(time.time()), changes=[change]))
        return found

    def direct(self, account: InstagramAccount, sender: str, content: dict[str, Any], *, mid: str | None = None) -> str:
        """Somebody writes a direct message. `content` has `text`, `attachments` and so on."""
        found = mid or f"mid.sim.{time.time_ns():x}.{next(self._ids)}"
        self._sends.wrote("instagram", sender)
        message = wire.instagram_direct(sender, account.ig_id, int(time.time() * 1000), message={"mid": found, **content})
        self.post(account, wire.instagram_body(account.ig_id, int(time.time()), messaging=[message]))
        return found

    def read(self, account: InstagramAccount, sender: str, mid: str) -> None:
        seen = wire.instagram_direct(sender, account.ig_id, int(time.time() * 1000), read={"mid": mid})
        self.post(account, wire.instagram_body(account.ig_id, int(time.time()), messaging=[seen]))

    def post(self, account: InstagramAccount, document: wire.Body, items: int = 1) -> None:
        body = wire.as_meta_writes(document)
        self._courier.send(Delivery(account.webhook, wire.meta_headers(body, account.app_secret), body, items))

    # what Hilo calls

    def routes(self) -> list[Route]:
        base = "/graph.instagram.com/{version}"
        return [
            Route(base + "/{identifier}/replies", self.reply, methods=["POST"]),
            Route(base + "/{identifier}/messages", self.send, methods=["POST"]),
            Route(base + "/{identifier}/subscribed_apps", self.subscribe, methods=["POST", "GET"]),
            Route(base + "/{identifier}", self.look, methods=["GET"]),
        ]

    async def reply(self, request: Request) -> Response:
        """A public reply under a comment; it comes back as a comment of our own, as in life."""
        comment = request.path_params["identifier"]
        account, _ = self._authors.get(comment, (None, ""))
        text = (await _content(request)).get("message", "")
        if account is None or bearer(request) != account.access_token:
            return refusal("token_expired")
        fault = self._sends.fault("instagram")
        if fault and fault != "lost_answer":
            return refusal(fault)
        identifier = f"178{time.time_ns()}{next(self._ids)}"
        self._sends.take("instagram", account.id, comment, identifier, None, {"message": text, "under": comment})
        if self.echoes:
            change = wire.instagram_comment(identifier, account.ig_id, account.id, text, "media-1", comment)
            self.post(account, wire.instagram_body(account.ig_id, int(time.time()), changes=[change]))
        if fault == "lost_answer":
            return await lost()
        return JSONResponse({"id": identifier})

    async def send(self, request: Request) -> Response:
        """A direct message, or the one private reply to a comment."""
        account = self.accounts.get(request.path_params["identifier"])
        body = await request.json()
        if account is None or bearer(request) != account.access_token:
            return refusal("token_expired")
        if "sender_action" in body:
            return JSONResponse({"recipient_id": body["recipient"].get("id", "")})
        fault = self._sends.fault("instagram")
        if fault and fault != "lost_answer":
            return refusal(fault)
        recipient, comment = body["recipient"].get("id"), body["recipient"].get("comment_id")
        if comment is not None:
            if comment in self._privately or comment not in self._authors:
                return JSONResponse({"error": {"code": 10900, "message": "Already replied to this comment"}}, 400)
            self._privately.add(comment)
            recipient = self._authors[comment][1]
        elif not self._sends.window_open("instagram", recipient):
            return JSONResponse({"error": {"code": 10, "message": "Outside of allowed window"}}, 400)
        identifier = f"mid.out.{time.time_ns():x}.{next(self._ids)}"
        self._sends.take("instagram", account.id, recipient, identifier, None, body)
        if self.echoes:
            message = {"mid": identifier, "is_echo": True, **body["message"]}
            echo = wire.instagram_direct(account.ig_id, recipient, int(time.time() * 1000), message=message)
            self.post(account, wire.instagram_body(account.ig_id, int(time.time()), messaging=[echo]))
        if fault == "lost_answer":
            return await lost()
        return JSONResponse({"recipient_id": recipient, "message_id": identifier})

    async def subscribe(self, request: Request) -> Response:
        return JSONResponse({"success": True})

    async def look(self, request: Request) -> Response:
        return JSONResponse({"user_id": request.path_params["identifier"], "username": "casalumbre"})


async def _content(request: Request) -> dict[str, Any]:
    """Parameters of a Graph call, which may stand in the query, a form or a JSON body."""
    if "json" in request.headers.get("content-type", ""):
        return {**request.query_params, **await request.json()}
    return {**request.query_params, **{name: str(value) for name, value in (await request.form()).items()}}
