"""Where an entry stands, which version of a facet wins, and the cursors that point between entries. Pure.

BSON compares binaries by length first, so an order key is always 30 bytes and a version always 31.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOWHERE = bytes(30)  # below every key of a list: retired and erased entries stand here
ABOVE = b"\xff" * 30
TOP = b"\xff" * 31
BOTTOM = bytes(31)
MS_LIMIT = 2**48 - 1
PLACES = 4096
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
EDITED_RANK = 0x40  # of a content version: what was edited beats what was said first


class NotACursor(ValueError):
    """The text is no cursor of ours."""


def microseconds(at: datetime) -> int:
    """Exact, unlike `timestamp()`, whose float has no room for microseconds and the place beside them. A time without zone
    is UTC, as everywhere on the wire."""
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def milliseconds(at: datetime) -> int:
    return min(max(microseconds(at) // 1000, 0), MS_LIMIT)


def moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def sequence(received_at: datetime, place: int) -> int:
    """The order of what the provider stamps alike: when ingest first got it, then its place in that input."""
    return max(microseconds(received_at), 0) * PLACES + min(max(place, 0), PLACES - 1)


def id_bytes(text: str) -> bytes:
    """An id as 16 bytes. Ids of Hilo are UUIDs; any other text is hashed, so that a foreign event id is no error."""
    if UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))  # the standard library's own takes three times as long
    return hashlib.sha256(text.encode()).digest()[:16]


def id_text(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def order_key(ms: int, number: int, entry: bytes) -> bytes:
    """Time, then sequence, then entry id."""
    return ms.to_bytes(6, "big") + _eight(number) + entry


def version(rank: int, ms: int, number: int, event: bytes) -> bytes:
    """A facet's version: the higher rank wins, then the later event. Equal versions come from the same event."""
    return bytes((rank,)) + ms.to_bytes(6, "big") + _eight(number) + event


def _eight(number: int) -> bytes:
    return min(max(number, 0), 2**64 - 1).to_bytes(8, "big")


def time_of(key: bytes) -> int:
    return int.from_bytes(key[:6], "big")


def cursor(key: bytes) -> str:
    """42 characters, valid under any filter, in both directions and in every generation of the projection."""
    return base64.urlsafe_b64encode(b"\x01" + bytes(key)).decode().rstrip("=")


def key_of(text: str) -> bytes:
    """Raises NotACursor."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotACursor("not a cursor") from error
    if len(text) != 42 or len(raw) != 31 or raw[0] != 1:
        raise NotACursor("not a cursor")
    return raw[1:]
