"""What happens around `Send`: planning one message into what the leg can carry, and reading the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from services.common.events import Part
from services.ingest.contract.account import Account
from services.ingest.contract.capabilities import Can
from services.ingest.contract.channel import Channel
from services.ingest.contract.facts import text
from services.ingest.contract.sending import Failed, Outgoing, Request, Response, Result, Retry, Sent, Unknown


class NotPossible(Exception):
    """The leg cannot do this; nothing was sent."""


def plan(channel: Channel[Any], leg: str, parts: tuple[Part, ...]) -> list[Part]:
    """The parts as the leg can carry them: long texts split, captions that do not fit sent as text, buttons and links
    written out where there are none, the rest refused."""
    return [piece for part in parts for piece in _pieces(channel, leg, part)]


def _pieces(channel: Channel[Any], leg: str, part: Part) -> Iterator[Part]:
    can = channel.can(leg, part.kind)
    if can is None:
        words = written_out(part)
        if words is None or channel.can(leg, "text") is None:
            able = ", ".join(c.kind for c in channel.legs[leg].sends) or "nothing"
            raise NotPossible(f"{channel.name}: leg '{leg}' cannot send {part.kind}; it sends {able}.")
        yield from _pieces(channel, leg, text(words))
    elif part.kind == "text":
        yield from (replace(part, text=piece) for piece in split(part.text or "", can))
    elif part.kind == "buttons":
        yield from _buttons(channel, leg, part, can)
    else:
        _check_file(channel, leg, part, can)
        fits = fit(part.text or "", replace(can, size=can.caption)) == len(part.text or "")
        yield part if fits else replace(part, text=None)
        if not fits:
            yield from _pieces(channel, leg, text(part.text or ""))


def _buttons(channel: Channel[Any], leg: str, part: Part, can: Can) -> Iterator[Part]:
    """The last piece of the text carries the buttons; more of them than the leg has are written out."""
    if can.choices and len(part.data) > can.choices:
        yield from _pieces(channel, leg, text(written_out(part) or ""))
        return
    *before, last = list(split(part.text or "", can)) or [""]
    yield from map(text, before)
    yield replace(part, text=last)


def _check_file(channel: Channel[Any], leg: str, part: Part, can: Can) -> None:
    too_big = can.mb and part.size and part.size > can.mb * 1_000_000
    if too_big or (can.types and part.media_type not in can.types):
        raise NotPossible(
            f"{channel.name}: leg '{leg}' takes {part.kind} up to {can.mb} MB of {', '.join(can.types) or 'any type'}."
        )


def written_out(part: Part) -> str | None:
    """Buttons and links as plain text, for legs that have none; None for what text cannot say."""
    match part.kind:
        case "buttons":
            return "\n".join(filter(None, (part.text, *(f"- {title}" for title in part.data.values()))))
        case "link":
            return "\n".join(filter(None, (part.text, part.ref)))
    return None


def split(value: str, limit: Can) -> Iterator[str]:
    """Pieces within the limit, cut at a line or word where one is in the last half, never inside a character."""
    while value:
        end = max(1, fit(value, limit))
        if end < len(value):
            cut = max(value.rfind("\n", end // 2, end), value.rfind(" ", end // 2, end))
            end = cut if cut > 0 else end
        if piece := value[:end].rstrip():
            yield piece
        value = value[end:].lstrip()


def fit(value: str, can: Can) -> int:
    """How many characters of `value` fit."""
    if can.size is None:
        return len(value)
    if can.unit == "chars":
        return min(len(value), can.size)
    used = 0
    for index, char in enumerate(value):
        used += len(char.encode()) if can.unit == "bytes" else 1 + (ord(char) > 0xFFFF)
        if used > can.size:
            return index
    return len(value)


def request_for(channel: Channel[Any], account: Account, out: Outgoing) -> Request:
    """The request, after the checks that no channel has to write."""
    leg = channel.legs[out.leg]
    if channel.send is None or out.action not in channel.send.requests:
        raise NotPossible(f"{channel.name}: no '{out.action}' in Send.requests.")
    if leg.replies_only and not (out.thread or out.opens):
        raise NotPossible(f"{channel.name}: leg '{out.leg}' only replies.")
    return channel.send.requests[out.action](account, out)


def read(channel: Channel[Any], out: Outgoing, request: Request, response: Response | None) -> Result:
    """The result of one attempt. `None` is a lost answer: a timeout or reset after the request had left."""
    send = channel.send
    if send is None:
        raise NotPossible(f"{channel.name}: does not send.")
    if response is None:
        return Retry("no answer") if request.idempotent else Unknown("no answer")
    if send.ok(response):
        found = send.sent_id(out, response) if callable(send.sent_id) else response.get(send.sent_id)
        usable = isinstance(found, str | int) and found != ""
        return Sent(str(found)) if usable else Unknown("accepted, but the answer names no id")
    code = response.get(send.error_code) if send.error_code else None
    code = code if isinstance(code, str | int) else None
    listed = send.answers.get(code, send.answers.get(response.status))
    if isinstance(listed, Retry):
        return Retry(listed.reason, send.wait(response) or listed.seconds)
    return listed or _by_status(send.wait(response), request, response.status, f"{response.status} {code or ''}".strip())


def _by_status(wait: float | None, request: Request, status: int, named: str) -> Result:
    if status == 429:
        return Retry(named, wait)
    if status in (401, 403):
        return Failed(named, then="fix_account")
    if status >= 500:
        return Retry(named, wait) if request.idempotent else Unknown(named)
    return Failed(named)


def media_link(channel: Channel[Any], account: Account, response: Response) -> str | None:
    """Where the file itself is, once `Media.fetch` was answered; None where that answer is the file already, or says nothing."""
    link = channel.media.link if channel.media else None
    if link is None:
        return None
    found = link(account, response) if callable(link) else response.get(link)
    return found if isinstance(found, str) and found else None
