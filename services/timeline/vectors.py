"""Where a live stream stands: how far it has read each lane. This is a stream's event id, and `Last-Event-ID` its way back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.timeline.order import milliseconds, moment

LANE, OFFSET = 2, 5
HEAD = 1 + 4 + 6


class NotAVector(ValueError):
    """The text is no event id of ours."""


@dataclass(frozen=True, slots=True)
class Vector:
    """`offsets` are per lane the offset after the last one read; a lane that is missing was not read at all. `epoch` names
    the database, `at` says when it was true: older than the journal is kept, it is no way back."""

    epoch: bytes
    at: datetime
    offsets: Mapping[int, int] = field(default_factory=dict)

    def text(self) -> str:
        return encoded(prefix(self.epoch, self.at), self.offsets)

    def too_old(self, now: datetime, days: float) -> bool:
        """An hour early, since the journal drops what it holds by its own clock."""
        return now - self.at > timedelta(days=days) - timedelta(hours=1)


def prefix(epoch: bytes, at: datetime) -> bytes:
    return b"\x01" + epoch + milliseconds(at).to_bytes(6, "big")


def encoded(head: bytes, offsets: Mapping[int, int]) -> str:
    return Trail(head, offsets).text()


class Trail:
    """The event id at each step along the lanes: only the offset that moved is written anew."""

    def __init__(self, head: bytes, offsets: Mapping[int, int]) -> None:
        self.offsets = dict(offsets)
        self._head = head
        self._lay_out()

    def _lay_out(self) -> None:
        lanes = sorted(self.offsets)
        self._raw = bytearray(self._head)
        for lane in lanes:
            self._raw += lane.to_bytes(LANE, "big") + self.offsets[lane].to_bytes(OFFSET, "big")
        self._places = {lane: len(self._head) + n * (LANE + OFFSET) + LANE for n, lane in enumerate(lanes)}

    def move(self, lane: int, end: int) -> None:
        self.offsets[lane] = end
        if (place := self._places.get(lane)) is None:
            self._lay_out()
        else:
            self._raw[place : place + OFFSET] = end.to_bytes(OFFSET, "big")

    def text(self) -> str:
        return base64.urlsafe_b64encode(self._raw).decode().rstrip("=")


def vector_of(text: str) -> Vector:
    """Raises NotAVector."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAVector("not an event id") from error
    if len(raw) < HEAD or raw[0] != 1 or (len(raw) - HEAD) % (LANE + OFFSET):
        raise NotAVector("not an event id")
    offsets = {}
    for place in range(HEAD, len(raw), LANE + OFFSET):
        lane = raw[place : place + LANE]
        offsets[int.from_bytes(lane, "big")] = int.from_bytes(raw[place + LANE : place + LANE + OFFSET], "big")
    return Vector(raw[1:5], moment(int.from_bytes(raw[5:11], "big")), offsets)
