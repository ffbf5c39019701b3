"""One call by any transport of the contract: the only place that reaches a provider for the outbound worker."""

from __future__ import annotations

import json
from typing import Any

from services.common import metrics
from services.common.errors import Away
from services.common.http import AnswerLost, Http, TooLarge
from services.ingest.chat_out import ChatOut
from services.ingest.contract import Outgoing, Request, Response
from services.ingest.outbound.sends import Sending
from services.ingest.outbound.smtp import Mailer


class Caller:
    """Raises NotSent where nothing left, AnswerLost where nobody knows; anything else is an answer."""

    def __init__(self, http: Http, mailer: Mailer, chat: ChatOut) -> None:
        self._http, self._mailer, self._chat = http, mailer, chat

    async def call(self, channel: str, request: Request) -> Response:
        with metrics.SEND_SECONDS.labels(channel).time():
            if request.transport == "smtp":
                return await self._mailer.send(request)
            return await self._over_http(request)

    async def message(self, s: Sending, out: Outgoing, request: Request) -> Response:
        if request.transport == "session":
            with metrics.SEND_SECONDS.labels(s.channel).time():
                return await self._insert(s, out, request)
        return await self.call(s.channel, request)

    async def _over_http(self, request: Request) -> Response:
        if request.transport != "http":
            raise ValueError(f"nothing is sent by {request.transport}")
        try:
            answer = await self._http.provider(request.method, request.url, request.headers, request.body)
        except TooLarge as error:
            raise AnswerLost("an answer too large to read") from error
        return Response(answer.status, answer.body, answer.headers)

    async def _insert(self, s: Sending, out: Outgoing, request: Request) -> Response:
        """Web chat: what stands in the numbered list counts as sent; the same piece has the same number for ever."""
        party = s.request.party.key if s.request.party else ""
        try:
            n = await self._chat.append(s.tenant, s.account, out.thread, out.id, _frame(request), party=party)
        except Away as error:
            raise AnswerLost("store") from error
        return Response(200, json.dumps({"n": n}).encode())


def _frame(request: Request) -> dict[str, Any]:
    frame = json.loads(request.body)
    if not isinstance(frame, dict):
        raise TypeError("a session's frame is a JSON object")
    return frame
