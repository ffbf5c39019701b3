"""Whether a mail is small enough inside to be parsed: counted over its bytes, in one pass, before any parser sees it.

The standard library's parser takes time that grows with the square of what a hostile mail is made of: 200,000 empty parts in
1.2 MB hold it for 25 s, 8,000 addresses for 2 s. Here every quantity that it stumbles over is counted first. Where this reads
a structure differently from the parser, it counts too much rather than too little; what slips through meets the limits of
the worker that parses (`mail_worker`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What the parser takes for a line of a header: a name and a colon, a continuation, or an mbox separator.
_HEADER = re.compile(rb"[!-9;-~]*:|[ \t]|From ")
_BOUNDARY = re.compile(rb'\bboundary\s*=\s*(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)
_QUOTED = re.compile(rb'"[^"]*"')
# Ways of writing a border that hide it from the expression above (RFC 2231, RFC 2047, comments): no mail program does.
_HIDDEN = re.compile(rb"boundary\s*\*|[(\\]|=\?", re.IGNORECASE)
_ADDRESSES = re.compile(rb"(?:resent-)?(?:from|to|cc|bcc|sender|reply-to)|return-path", re.IGNORECASE)
_INNER_TYPE = re.compile(rb"\ncontent-type:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a mail may hold. The defaults are far above what people and their programs send."""

    parts: int = 200
    depth: int = 20
    header_bytes: int = 64 * 1024
    header_lines: int = 2000
    all_header_bytes: int = 512 * 1024
    addresses: int = 500
    dashed_lines: int = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    parts: int
    depth: int


class TooMuch(Exception):
    """The mail is over a limit; the text names which, in words that can be shown."""


DEFAULT = Limits()


def measure(mail: bytes, limits: Limits = DEFAULT) -> Measured:
    """How many parts the mail has and how deep they are nested. Raises TooMuch. The time is linear in the mail's size,
    whatever is in it."""
    scan = _Scan(mail.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), limits)
    place = scan.entity(0)
    for _ in range(limits.dashed_lines):
        dashes = scan.next_dashes(place)
        if dashes is None:
            scan.count_blocks(len(scan.text))
            return Measured(scan.parts, scan.deepest)
        place = scan.border(dashes)
    raise TooMuch(f"more than {limits.dashed_lines} lines that look like the border of a part")


@dataclass(slots=True)
class _Scan:
    """Where the pass stands. `open` has an entry for each multipart or message that is open: how its borders begin; a
    message has no border (None) and ends with the multipart around it."""

    text: bytes
    limits: Limits
    open: list[bytes | None] = field(default_factory=list)
    parts: int = 0
    deepest: int = 0
    header_bytes: int = 0
    digest: bool = False
    blocks_from: int | None = None
    behind_border: int = -1

    def next_dashes(self, place: int) -> int | None:
        """Where the next line that begins with dashes begins, from the beginning of a line on."""
        if not any(self.open):
            return None
        if self.text.startswith(b"--", place):
            return place
        found = self.text.find(b"\n--", place)
        return None if found < 0 else found + 1

    def border(self, place: int) -> int:
        """Read a line with dashes, and the part behind it if it is a border; where to go on."""
        end = self._end(place)
        behind = min(end + 1, len(self.text))
        level, last = self._level(place, end)
        if level is None:
            return behind
        # The parser skips borders that follow a border, even a last one.
        last = last and place != self.behind_border
        if not last:
            self.behind_border = behind
        self.count_blocks(place)
        del self.open[level + (not last) :]
        return behind if last else self.entity(behind)

    def _end(self, place: int) -> int:
        found = self.text.find(b"\n", place)
        return len(self.text) if found < 0 else found

    def _level(self, place: int, end: int) -> tuple[int | None, bool]:
        """Which of the open multiparts this line is a border of, outermost first as the parser does; whether it is its
        last."""
        for level, begins in enumerate(self.open):
            if begins and self.text.startswith(begins, place):
                rest = self.text[place + len(begins) : min(end, place + len(begins) + 1000)].rstrip(b" \t")
                if rest in (b"", b"--"):
                    return level, rest == b"--"
        return None, False

    def entity(self, place: int) -> int:
        """Read the headers that begin here and, where they announce a message, the headers of that; where the body
        begins that follows."""
        expect_message = self.digest
        while True:
            self.parts += 1
            self._within_limits()
            lines, place = self._headers(place)
            kind = b" ".join(line for line in lines if line[:13].lower() == b"content-type:")
            lowered = kind.lower()
            if b"delivery-status" in lowered:
                self.blocks_from = place
                self._descend(None)
            if b"multipart" in lowered or b"=?" in lowered.partition(b";")[0]:
                self.digest = self.digest or b"digest" in lowered
                self._descend(*_borders(kind))
            if not (b"message" in lowered or (expect_message and not kind)) or b"delivery-status" in lowered:
                return place
            self._descend(None)
            expect_message = False

    def _descend(self, *borders: bytes | None) -> None:
        self.open.extend(borders)
        self.deepest = max(self.deepest, len(self.open))
        self._within_limits()

    def count_blocks(self, end: int) -> None:
        """A delivery report is read as one part for each block of lines in it. A block with parts of its own is nothing
        that a mail server writes."""
        if self.blocks_from is not None:
            start, self.blocks_from = max(0, self.blocks_from - 1), None
            self.parts += 2 * self.text.count(b"\n\n", start, end) + 1  # twice: empty lines may follow each other
            self._within_limits()
            if _INNER_TYPE.search(self.text, start, end):
                raise TooMuch("a delivery report with parts inside")

    def _within_limits(self) -> None:
        if self.parts > self.limits.parts:
            raise TooMuch(f"more than {self.limits.parts} MIME parts")
        if len(self.open) > self.limits.depth:
            raise TooMuch(f"parts within parts, more than {self.limits.depth} deep")

    def _headers(self, place: int) -> tuple[list[bytes], int]:
        """The unfolded fields of the header block that begins here, and where the body begins."""
        start, fields = place, list[list[bytes]]()
        for _ in range(self.limits.header_lines):
            end = self._end(place)
            if end - start > self.limits.header_bytes:
                raise TooMuch(f"a header of more than {self.limits.header_bytes} bytes")
            line = self.text[place:end]
            if not _HEADER.match(line) or (self._level(place, end)[0] is not None and line.startswith(b"--")):
                self._count(fields, place - start)
                return [b" ".join(one) for one in fields], min(end + 1, len(self.text)) if not line else place
            if line[:1] in b" \t" and fields:
                fields[-1].append(line)
            else:
                fields.append([line])
            place = min(end + 1, len(self.text))
        raise TooMuch(f"a header of more than {self.limits.header_lines} lines")

    def _count(self, fields: list[list[bytes]], size: int) -> None:
        self.header_bytes += size
        if self.header_bytes > self.limits.all_header_bytes:
            raise TooMuch(f"headers of more than {self.limits.all_header_bytes} bytes in all parts")
        named = [line for one in fields if _ADDRESSES.fullmatch(one[0].partition(b":")[0]) for line in one]
        if sum(line.count(b",") + line.count(b";") for line in named) >= self.limits.addresses:
            raise TooMuch(f"more than {self.limits.addresses} addresses")


def _borders(kind: bytes) -> list[bytes]:
    """How the borders of this multipart begin; none where it has no border, and so no parts."""
    if _HIDDEN.search(_QUOTED.sub(b'""', kind)) or b"\\" in kind:
        raise TooMuch("a border of parts that is written so that nothing but a parser could read it")
    return [b"--" + (quoted or plain).rstrip() for quoted, plain in _BOUNDARY.findall(kind)]
