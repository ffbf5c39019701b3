"""What a mail says, as JSON: the slice that an operator can read and mend. Attachments stay in the raw mail.

RFC 5322, RFC 2045, RFC 3464 (bounces), RFC 3834 (automatic answers), RFC 8601 (Authentication-Results).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

from services.ingest.channels.email.html import text_of
from services.ingest.contract import JSON, Raw, Unreadable
from services.ingest.mime import TooMuch, measure

MAX_TEXT = 100_000
MAX_REFERENCES = 30
_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^<>\s]{1,250}>)", re.IGNORECASE | re.MULTILINE)
_IDS = re.compile(r"<[^<>\s]{1,250}>")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part that holds something; its headers are read once, since each reading parses them again."""

    part: Message
    media_type: str
    name: str | None
    attached: bool

    @property
    def is_text(self) -> bool:
        return self.media_type in ("text/plain", "text/html") and not self.attached and not self.name

    @property
    def is_file(self) -> bool:
        return not self.is_text and self.media_type not in ("message/delivery-status", "text/rfc822-headers")


def parsed(body: bytes) -> Message:
    """Raises Unreadable for a mail that would hold the parser up."""
    try:
        measure(body)
    except TooMuch as error:
        raise Unreadable(str(error)) from error
    try:
        return BytesParser().parsebytes(body)
    except Exception as error:  # the standard library's parser lets nearly anything escape on malformed headers
        raise Unreadable(f"not a readable mail: {type(error).__name__}") from error


def slice_of(raw: Raw) -> dict[str, JSON]:
    """Raises Unreadable."""
    mime = parsed(raw.body)
    try:
        parts = list(leaves(mime))
        told = {**_envelope(mime, raw), **_content(raw.body, parts), "bounce": _bounce(parts)}
        return {name: _whole(value) for name, value in told.items()}
    except Exception as error:  # the same parser reads some headers only now
        raise Unreadable(f"not a readable mail: {type(error).__name__}") from error


def leaves(part: Message) -> Iterator[Leaf]:
    """The parts that hold something, in order. An attached mail is one of them, and is not looked into."""
    media_type, inner = part.get_content_type(), part.get_payload()
    if media_type.startswith("multipart/") and isinstance(inner, list):
        for one in inner:
            if isinstance(one, Message):
                yield from leaves(one)
    else:
        yield Leaf(part, media_type, _words(part.get_filename() or "") or None, part.get_content_disposition() == "attachment")


def header(mime: Message, name: str) -> str:
    """The first header of this name as it was written, unfolded; raw UTF-8 in it is read as such (RFC 6532)."""
    written = next((str(value) for key, value in mime.raw_items() if key.lower() == name), "")
    return _unfolded(written)


def _unfolded(written: str) -> str:
    return " ".join(written.encode(errors="surrogateescape").decode(errors="replace").split())


def _words(written: str) -> str:
    """With the encoded words in it read (RFC 2047); what cannot be read stays as it was."""
    if "=?" not in written:
        return written
    try:
        return str(make_header(decode_header(written)))
    except (ValueError, LookupError):
        return written


def _envelope(mime: Message, raw: Raw) -> dict[str, JSON]:
    authors = _authors(mime)
    name, address = authors[0] if authors else ("", "")
    references = _IDS.findall(header(mime, "references"))
    answered = _IDS.findall(header(mime, "in-reply-to"))
    named = _IDS.findall(header(mime, "message-id"))
    return {
        "message_id": named[0] if named else f"<{hashlib.sha256(raw.body).hexdigest()}@none>",
        "date": _date(mime),
        "sender": address,
        "name": name or None,
        "to": raw.headers.get("rcpt-to", ""),
        "subject": _words(header(mime, "subject"))[:500],
        "references": _shortened([*references, *(one for one in answered[:1] if one not in references)]),
        "answers": answered[0] if answered else (references[-1] if references else None),
        "automatic": _automatic(mime, raw),
        "authenticated": len(authors) == 1 and bool(re.search(r"\bdmarc=pass\b", raw.headers.get("auth-results", ""))),
    }


def _authors(mime: Message) -> list[tuple[str, str]]:
    """Name and address of each in From:, before names are decoded: an address in a name must not pass for one. With more
    than one of them nobody can say which one was authenticated."""
    written = [_unfolded(str(value)) for key, value in mime.raw_items() if key.lower() == "from"]
    return [(_words(name).strip(), address.strip()) for name, address in getaddresses(written) if address]


def _shortened(references: list[str]) -> list[str]:
    """The first mail of the thread and the newest ones (RFC 5322 3.6.4 lets the middle be cut)."""
    return references if len(references) <= MAX_REFERENCES else [references[0], *references[1 - MAX_REFERENCES :]]


def _date(mime: Message) -> str | None:
    try:
        date = parsedate_to_datetime(header(mime, "date"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _automatic(mime: Message, raw: Raw) -> str | None:
    """Why nobody wrote this: to answer it would start two machines talking. A list may carry what people write."""
    if header(mime, "auto-submitted").split(";")[0].strip().lower() not in ("", "no"):
        return "an automatic answer"
    if header(mime, "precedence").strip().lower() in ("bulk", "junk", "auto_reply"):
        return "mass mail"
    if header(mime, "x-autoreply") or header(mime, "x-autorespond"):
        return "an automatic answer"
    if raw.headers.get("mail-from") == "<>":
        return "a mail without a return address"
    return None


def _content(body: bytes, parts: list[Leaf]) -> dict[str, JSON]:
    plain = [decoded(leaf.part) for leaf in parts if leaf.media_type == "text/plain" and leaf.is_text]
    written = plain or [text_of(decoded(leaf.part)) for leaf in parts if leaf.is_text]
    digest = hashlib.sha256(body).hexdigest()
    return {
        "text": "\n".join(one.strip() for one in written if one.strip())[:MAX_TEXT],
        "attachments": [_attachment(leaf, f"{digest}/{n}") for n, leaf in enumerate(parts) if leaf.is_file],
    }


def decoded(part: Message) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    try:
        return content.decode(part.get_content_charset() or "utf-8", errors="replace").replace("\r\n", "\n")
    except LookupError:
        return content.decode("utf-8", errors="replace").replace("\r\n", "\n")


def content_of(part: Message) -> bytes:
    """The bytes of an attachment; of an attached mail, the mail."""
    content = part.get_payload(decode=True)
    if isinstance(content, bytes):
        return content
    inner = part.get_payload()
    return b"".join(one.as_bytes() for one in inner if isinstance(one, Message)) if isinstance(inner, list) else b""


def _attachment(leaf: Leaf, ref: str) -> dict[str, JSON]:
    return {"name": leaf.name, "media_type": leaf.media_type, "size": len(content_of(leaf.part)), "ref": ref}


def _bounce(parts: list[Leaf]) -> dict[str, JSON] | None:
    """The report of a mail server about a mail of ours (RFC 3464): the first recipient that it tells of."""
    report = next((leaf.part for leaf in parts if leaf.media_type == "message/delivery-status"), None)
    if report is None:
        return None
    blocks: Any = report.get_payload()
    told = next((one for one in blocks if isinstance(one, Message) and one["action"]), None)
    if told is None:
        return {"action": "unreadable", "original": _original(parts)}
    return {
        "action": header(told, "action").strip().lower(),
        "status": header(told, "status").strip()[:20],
        "recipient": header(told, "final-recipient").rpartition(";")[2].strip()[:320],
        "diagnostic": " ".join(header(told, "diagnostic-code").rpartition(";")[2].split())[:300],
        "original": _original(parts),
    }


def _original(parts: list[Leaf]) -> str | None:
    """The Message-ID of the mail that the report is about, from the copy or the headers that came with it."""
    for leaf in parts:
        if leaf.media_type in ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers"):
            found = _MESSAGE_ID.search(content_of(leaf.part))
            if found:
                return found[1].decode(errors="replace")
    return None


def _whole(value: JSON) -> JSON:
    """Bytes that were no text stand as halves of surrogate pairs; no UTF-8 could carry them further."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return {key: _whole(one) for key, one in value.items()} if isinstance(value, dict) else value
