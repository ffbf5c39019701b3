"""What is checked and built before any call: pure. What cannot be sent at all is found here, as a Failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.common.events import Part
from services.ingest.accounts import Connected
from services.ingest.contract import Channel, Failed, NotPossible, Outgoing, Request, plan, request_for
from services.ingest.outbound.decide import planned
from services.ingest.outbound.sends import Piece, Sending
from services.ingest.outbound.smtp import server


def cut(s: Sending, channel: Channel[Any], parts: tuple[Part, ...]) -> Sending | Failed:
    """The message in pieces that its leg can carry."""
    if (wrong := _misplaced(s, channel)) is not None:
        return wrong
    if s.request.action not in ("message", "template", "edit"):
        return planned(s, parts[:1] or (Part("text"),))
    try:
        pieces = plan(channel, s.request.leg, parts)
    except NotPossible as error:
        return Failed(str(error), then="other_leg")
    if not pieces:
        return Failed("there is nothing in it to send")
    if len(pieces) > 1 and s.request.action == "edit":
        return Failed("the new text is too long for one message", then="other_leg")
    if len(pieces) > 1 and s.request.opens:
        return Failed("the platform takes one private reply only, and this is too long for one message", then="other_leg")
    return planned(s, pieces)


def _misplaced(s: Sending, channel: Channel[Any]) -> Failed | None:
    """The visibility that was decided must be the one the leg has: nothing private is ever said in public."""
    leg = channel.legs.get(s.request.leg)
    if leg is None:
        return Failed(f"{channel.name} has no leg '{s.request.leg}'", then="other_leg")
    if leg.visibility != s.request.visibility:
        return Failed(f"this {s.request.visibility} message would be {leg.visibility} on '{s.request.leg}'", then="other_leg")
    return None


def outgoing(s: Sending, piece: Piece, part: Part, now: datetime) -> Outgoing:
    """A leg on which nobody has written yet has no thread: then it is the person, as for whoever writes first."""
    request = s.request
    return Outgoing(
        id=piece.id,
        leg=request.leg,
        thread=request.thread or (request.party.value if request.party else ""),
        part=part,
        action=request.action,
        reply_to=request.reply_to,
        target=request.target,
        context=request.context,
        age=now - request.context_at if request.context_at else None,
        opens=request.opens,
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """A call that may be made once the gate says so."""

    out: Outgoing
    request: Request


def ready(connected: Connected, out: Outgoing) -> Ready | Failed:
    """The channel's request for it. A channel that raises has a bug: this message fails with it, the others go on."""
    try:
        request = request_for(connected.channel, connected.account, out)
        if request.transport == "smtp":
            server(request.url)
        elif request.transport not in ("http", "session"):
            raise ValueError(f"messages are not sent by {request.transport}")
    except NotPossible as error:
        return Failed(str(error), then="other_leg")
    except Exception as error:
        return Failed(f"bug: {connected.channel.name} cannot build the request: {type(error).__name__}", then="other_leg")
    return Ready(out, request)
