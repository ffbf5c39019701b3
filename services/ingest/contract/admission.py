"""What a webhook's request gets, before anything in it is read: handshake, then signature, then the reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.ingest.contract.account import Account
from services.ingest.contract.channel import Channel
from services.ingest.contract.doors import Reply, Webhook
from services.ingest.contract.inputs import Raw, Refused, Unreadable


@dataclass(frozen=True)
class Verdict:
    """The reply, and whether the raw input goes on the log first."""

    reply: Reply
    keep: bool


def admit(channel: Channel[Any], account: Account, raw: Raw) -> Verdict:
    """The one webhook route without its HTTP framework. `keep` inputs are answered only once they are on the log."""
    door = channel.door(raw.door)
    if not isinstance(door, Webhook):
        return Verdict(Reply(404), keep=False)
    try:
        if door.handshake and (answer := door.handshake(account, raw)):
            return Verdict(answer, keep=False)
        door.scheme.check(account, raw)
    except Refused as error:
        return Verdict(Reply(401, str(error).encode()), keep=False)
    try:
        return Verdict(door.reply(account, raw), keep=True)
    except Unreadable:
        return Verdict(Reply(), keep=True)  # kept and quarantined; asking again would not make it readable
