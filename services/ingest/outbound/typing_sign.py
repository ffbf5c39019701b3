"""The typing sign: no gate, no journal, no order, no second try. What is late or too much is left out."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from services.common import metrics
from services.common.cloudevents import Event
from services.common.errors import Away
from services.common.events import Data, Part, SendRequested
from services.common.http import AnswerLost, NotSent
from services.common.identifiers import piece_id
from services.common.logs import log
from services.ingest.accounts import AccountBroken, Accounts
from services.ingest.contract import Outgoing
from services.ingest.outbound.call import Caller
from services.ingest.outbound.prepare import Ready, ready

# What somebody types now is of no interest in ten seconds, and not worth waiting for when much is going on.
LATE = timedelta(seconds=10)
AT_ONCE = 32


class Typing:
    def __init__(self, accounts: Accounts, caller: Caller) -> None:
        self._accounts, self._caller = accounts, caller
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def show(self, event: Event[Data], request: SendRequested, written_at: datetime, now: datetime) -> None:
        """Must not block."""
        if now - written_at > LATE or len(self._under_way) >= AT_ONCE:
            metrics.SENDS.labels(event.channel, "typing late").inc()
            return
        task = asyncio.create_task(self._show(event, request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _show(self, event: Event[Data], request: SendRequested) -> None:
        out = Outgoing(piece_id(request.outbound_id, 1), request.leg, request.thread, Part("text"), "typing")
        try:
            account = await self._accounts.get(event.channel, event.account)
            if account is None or account.tenant != event.tenant or not account.active:
                return
            prepared = ready(account, out)
            if isinstance(prepared, Ready) and prepared.request.transport == "http":
                answer = await self._caller.call(event.channel, prepared.request)
                metrics.SENDS.labels(event.channel, "typing" if answer.status < 300 else "typing refused").inc()
        except (Away, AccountBroken, NotSent, AnswerLost) as error:
            log().info("typing_left_out", outbound_id=request.outbound_id, reason=type(error).__name__)
