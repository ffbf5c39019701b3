"""Telegram's Bot API from outside: updates come as webhooks with a shared token, methods are called by name."""

from __future__ import annotations

import itertools
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.simulator import wire
from services.simulator.accounts import TelegramAccount
from services.simulator.courier import Courier, Delivery
from services.simulator.meta import lost
from services.simulator.sends import Sends


def error(status: int, text: str, **parameters: int) -> Response:
    more = {"parameters": parameters} if parameters else {}
    return JSONResponse({"ok": False, "error_code": status, "description": text, **more}, status)


class Telegram:
    """The bots. Numbers of messages count per chat, numbers of updates per bot."""

    def __init__(self, accounts: tuple[TelegramAccount, ...], courier: Courier, sends: Sends) -> None:
        self.accounts = {account.token: account for account in accounts}
        self._courier, self._sends = courier, sends
        self._updates, self._numbers = itertools.count(1000), itertools.count(1)
        self._files: dict[str, tuple[str, bytes]] = {}

    def file(self, name: str, content: bytes) -> str:
        identifier = f"file-{next(self._numbers)}"
        self._files[identifier] = (name, content)
        return identifier

    def receive(
        self, account: TelegramAccount, user: int, name: str, content: dict[str, Any], *, at: float | None = None
    ) -> str:
        """A user writes to the bot in private. `content` has `text`, `photo`, `contact` and so on. The id is chat:number."""
        number = next(self._numbers)
        self._sends.wrote("telegram", str(user))
        self.update(account, "message", wire.telegram_message(number, int(at or time.time()), user, name, content))
        return f"{user}:{number}"

    def update(self, account: TelegramAccount, kind: str, content: wire.Body, update_id: int | None = None) -> None:
        body = wire.telegram_body(update_id or next(self._updates), kind, content)
        self._courier.send(Delivery(account.webhook, wire.telegram_headers(account.webhook_secret), body))

    def routes(self) -> list[Route]:
        return [
            Route("/api.telegram.org/bot{token}/{method}", self.call, methods=["GET", "POST"]),
            Route("/api.telegram.org/file/bot{token}/{path:path}", self.download, methods=["GET"]),
        ]

    async def call(self, request: Request) -> Response:
        account = self.accounts.get(request.path_params["token"])
        if account is None:
            return error(401, "Unauthorized")
        method = request.path_params["method"]
        body = {**request.query_params, **(await request.json() if await request.body() else {})}
        if method == "getFile":
            return self._file(body.get("file_id", ""))
        if method in ("setWebhook", "getMe", "sendChatAction", "deleteMessage", "editMessageText", "setMessageReaction"):
            return JSONResponse({"ok": True, "result": {"id": 1, "is_bot": True, "username": account.bot}})
        if not method.startswith("send"):
            return error(404, "Not Found: method not found")
        return await self._send(account, method, body)

    async def _send(self, account: TelegramAccount, method: str, body: dict[str, Any]) -> Response:
        chat = str(body.get("chat_id", ""))
        fault = self._sends.fault("telegram")
        match fault:
            case "rate_limit":
                return error(429, "Too Many Requests: retry after 1", retry_after=1)
            case "error_500":
                return error(500, "Internal Server Error")
            case "rejected" | "window_closed":
                return error(403, "Forbidden: bot was blocked by the user")
            case "token_expired":
                return error(401, "Unauthorized")
        if not self._sends.window_open("telegram", chat, hours=24 * 365):
            return error(403, "Forbidden: bot can't initiate conversation with a user")
        number = next(self._numbers)
        self._sends.take("telegram", account.id, chat, f"{chat}:{number}", None, {**body, "method": method})
        if fault == "lost_answer":
            return await lost()
        result = {"message_id": number, "date": int(time.time()), "chat": {"id": int(chat), "type": "private"}}
        return JSONResponse({"ok": True, "result": {**result, "text": body.get("text", "")}})

    def _file(self, identifier: str) -> Response:
        if identifier not in self._files:
            return error(400, "Bad Request: invalid file_id")
        name, content = self._files[identifier]
        found = {"file_id": identifier, "file_size": len(content), "file_path": f"{identifier}/{name}"}
        return JSONResponse({"ok": True, "result": found})

    async def download(self, request: Request) -> Response:
        identifier = request.path_params["path"].partition("/")[0]
        if request.path_params["token"] not in self.accounts or identifier not in self._files:
            return Response(status_code=404)
        return Response(self._files[identifier][1], media_type="application/octet-stream")
