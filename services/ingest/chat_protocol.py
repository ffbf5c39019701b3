"""What web chat and its widget say to each other, as values: the visit, the resume token, and the frames.

The widget sends `message`, `edit`, `choice` and `delete` (with an `id` of its own, the same for every try), `typing`, `ack` and
`read` (with the number of the last message received or seen) and `pong`. We send `welcome`, `accepted`, `retry` and `refused`
(with that `id`), `message`, `edit`, `delete` and `typing` (numbered, from chat_out), `ping`, and close with one of the codes
below.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from services.ingest.chat_out import Said, Thread
from services.ingest.contract import Secret

PROTOCOL = "hilo.chat.1"
# 128 bits take 22 characters of base64url: a secret that nobody can guess.
VISITOR = re.compile(r"[A-Za-z0-9_-]{22,128}")
RESUME_FOR = timedelta(days=400)
TYPING_FOR = timedelta(seconds=10)

TOO_BIG, RESTART, LATER = 1009, 1012, 1013
UNSUPPORTED = 1003
NOT_YOURS, NOT_SIGNED, SILENT, TOO_SLOW = 4401, 4403, 4408, 4409

ReceiptState = Literal["delivered", "read"]


@dataclass(frozen=True, slots=True)
class Visit:
    """What a socket asks for; `visitor` is the browser's own secret. Secrets come as subprotocols, where browsers can put them and logs do not show them, or in the
    query for programs."""

    visitor: str
    after: int = 0
    resume: str = ""
    token: str = ""
    ref: str = ""


def visit(query: Mapping[str, str], subprotocols: list[str]) -> Visit | None:
    """None for what no widget of ours asks."""
    offered = dict(one.partition(".")[::2] for one in subprotocols if one != PROTOCOL)
    secret = {name: query.get(name) or offered.get(name, "") for name in ("visitor", "resume", "token")}
    after, ref = query.get("after") or "0", query.get("ref", "")
    if not VISITOR.fullmatch(secret["visitor"]) or not re.fullmatch(r"[0-9]{1,15}", after) or len(ref) > 256:
        return None
    return Visit(secret["visitor"], int(after), secret["resume"], secret["token"], ref)


# -- the resume token -----------------------------------------------------------------------------------------------------


def resume_token(secret: Secret, thread: Thread, now: datetime) -> str:
    """What proves that a visitor is the one who came first to this thread."""
    issued = str(int(now.timestamp()))
    return f"{issued}.{_signature(secret.reveal(), thread, issued)}"


def resumes(secret: Secret, thread: Thread, token: str, now: datetime) -> bool:
    issued, _, signature = token.partition(".")
    if not issued.isdecimal() or len(issued) > 12 or int(issued) + RESUME_FOR.total_seconds() < now.timestamp():
        return False
    given = signature.encode()
    return any(hmac.compare_digest(_signature(key, thread, issued).encode(), given) for key in secret.all())


def _signature(key: str, thread: Thread, issued: str) -> str:
    digest = hmac.digest(key.encode(), f"hilo chat resume\0{thread.name}\0{issued}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# -- frames from the widget -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ForChannel:
    """Something the channel reads, and that waits for our answer under this id."""

    id: str
    file: str | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class TypingNow:
    pass


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything up to `n` has come, or has been read."""

    n: int
    state: ReceiptState


@dataclass(frozen=True, slots=True)
class Pong:
    pass


@dataclass(frozen=True, slots=True)
class Junk:
    reason: str
    id: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")
    ref: str
    media_type: str


class _Frame(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: str
    id: str | None = None
    n: int | None = None
    file: _File | None = None


def frame(body: bytes) -> ForChannel | TypingNow | Seen | Pong | Junk:
    """What a frame of the widget is. Whether a message is well formed inside is the channel's to say."""
    try:
        found = _Frame.model_validate_json(body)
    except ValidationError:
        return Junk("a frame is a JSON object with a type")
    match found.type:
        case "message" | "edit" | "choice" | "delete" if found.id and len(found.id) <= 64:
            file = found.file
            return ForChannel(found.id, file.ref if file else None, file.media_type if file else None)
        case "message" | "edit" | "choice" | "delete":
            return Junk("a message has an id of 1 to 64 characters")
        case "typing":
            return TypingNow()
        case "ack" | "read" if found.n is not None and found.n > 0:
            return Seen(found.n, "delivered" if found.type == "ack" else "read")
        case "pong":
            return Pong()
    return Junk("a frame of a type that is not known here", found.id)


# -- frames that we make --------------------------------------------------------------------------------------------------


def receipt(said: Said, state: ReceiptState) -> bytes:
    """The widget's word for our messages up to this one, as the channel reads it: it names the message and not its number."""
    return orjson.dumps({"type": state, "id": said.piece})


START = orjson.dumps({"type": "start"})  # what the channel reads when a visitor comes by a link of ours


def welcome(thread: Thread, resume: str, last: int, title: str, language: str | None, now: datetime) -> dict[str, Any]:
    return {
        "type": "welcome",
        "thread": thread.thread,
        "resume": resume,
        "last": last,
        "title": title,
        "language": language,
        "now": now.isoformat(),
    }


def numbered(said: Said, now: datetime) -> dict[str, Any] | None:
    """A message of ours for the widget; None for typing that is over."""
    if said.frame.get("type") == "typing" and said.at < now - TYPING_FOR:
        return None
    return {**said.frame, "n": said.n, "at": said.at.isoformat()}


def is_message(said: Said) -> bool:
    return said.frame.get("type") == "message"
