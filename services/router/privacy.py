"""What must not be said in public: phone numbers, addresses, bank and card numbers, and whatever is known of this customer.

Pure, and linear in the text. The same check stands before people, bots and templates, and there is no override; so it must
not fire on what an answer is made of: prices, times, dates, sizes, names of products.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from itertools import accumulate
from urllib.parse import unquote

import phonenumbers

from services.common.events import Part
from services.common.tenants import NumberForm
from services.router.reading import Reading, read, spoken, squeeze, squeezed
from services.router.shapes import USUAL, Hit, Kind, ibans, shapes

RANK: tuple[Kind, ...] = ("invitation", "order", "identifier", "email", "iban", "card", "phone", "address")

SENTENCE = re.compile(r"[.!?…:;,]\s*$")
HOME = "ES"  # where a national phone number is read


@dataclass(frozen=True, slots=True)
class Known:
    """A value known of this customer. Names and the handle that everybody sees in the public thread do not belong here."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Found:
    """`text[start:end]` of what was checked is private; `text` is that piece."""

    kind: Kind
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class FoundIn:
    """Found in a message: in which part, counted from 0, and in which of its fields (`text`, `name`, `data.title` ...)."""

    part: int
    field: str
    found: Found


def find(
    text: str,
    known: Sequence[Known] = (),
    own: Sequence[str] = (),
    forms: Sequence[NumberForm] = (),
) -> list[Found]:
    """What may not go out in public, in order of place. `own` is the tenant's own contact data, which may."""
    plain = read(text)
    spelled = spoken(plain)
    readings = [plain] if spelled.text == plain.text else [plain, spelled]
    hits: set[Hit] = set()
    excused: list[tuple[int, int]] = []
    for reading in readings:
        close = squeezed(reading)
        excused.extend(_own(text, close, own))
        hits.update((*close.original(a, b), kind) for a, b, kind in _values(text, reading, close, known))
        hits.update((*close.original(a, b), kind) for a, b, kind in _forms(text, reading, close, forms))
        hits.update((*close.original(a, b), "iban") for a, b in ibans(close.text))
        hits.update((*reading.original(a, b), kind) for a, b, kind in shapes(reading.text))
    allowed = Cover(excused)
    return _distinct(text, [hit for hit in hits if not allowed.holds(hit[0], hit[1])])


def find_in_parts(
    parts: Sequence[Part],
    known: Sequence[Known] = (),
    own: Sequence[str] = (),
    forms: Sequence[NumberForm] = (),
) -> list[FoundIn]:
    """Every text that leaves with a message: captions, link texts and addresses, buttons, file names, template values.
    A value that is cut into several of them is found too, and shown where it begins."""
    fields = [(number, name, value) for number, part in enumerate(parts) for name, value in fields_of(part)]
    seen = [FoundIn(n, name, found) for n, name, value in fields for found in find(value, known, own, forms)]
    for number, name, value in fields:
        if not any(s.part == number and s.field == name for s in seen):
            hidden = [f for plain in _shown(value) for f in find(plain, known, own, forms)]
            seen.extend(FoundIn(number, name, Found(f.kind, 0, len(value), value)) for f in hidden[:1])
    return seen + _across(fields, seen, known, own, forms)


def _shown(value: str) -> set[str]:
    """What a browser makes of it, if that is something else: escapes of addresses and of HTML."""
    return ({unquote(value)} if "%" in value else set()) | ({unescape(value)} if "&" in value else set()) - {value}


def fields_of(part: Part) -> Iterator[tuple[str, str]]:
    named = [("text", part.text), ("name", part.name), *((f"data.{k}", v) for k, v in part.data.items())]
    if part.kind == "link":
        named.append(("ref", part.ref))
    yield from ((name, value) for name, value in named if value)


def _across(
    fields: Sequence[tuple[int, str, str]],
    seen: Sequence[FoundIn],
    known: Sequence[Known],
    own: Sequence[str],
    forms: Sequence[NumberForm],
) -> list[FoundIn]:
    """What no single field holds, read with and without a break between them, and shown where it begins. By its shape alone
    it counts only where the fields are texts that go on: the sizes on five buttons are no phone number."""
    found: dict[tuple[int, str], FoundIn] = {}
    for between in ("\n", "") if len(fields) > 1 else ():
        starts = list(accumulate((len(value) + len(between) for _, _, value in fields), initial=0))
        places = {(number, name): start for (number, name, _), start in zip(fields, starts, strict=False)}
        alone = [(places[one.part, one.field] + one.found.start, places[one.part, one.field] + one.found.end) for one in seen]
        for one in find(between.join(value for _, _, value in fields), known, own, forms):
            first, last = bisect_right(starts, one.start) - 1, bisect_right(starts, one.end - 1) - 1
            (number, name, value), start = fields[first], one.start - starts[first]
            if first == last or start >= len(value) or any(a < one.end and one.start < b for a, b in alone):
                continue
            if _go_on(fields[first : last + 1]) or _gives_away(one.text, known):
                found.setdefault((number, name), FoundIn(number, name, Found(one.kind, start, len(value), value[start:])))
    return list(found.values())


def _go_on(fields: Sequence[tuple[int, str, str]]) -> bool:
    return all(name == "text" for _, name, _ in fields) and not SENTENCE.search(fields[0][2])


def _gives_away(text: str, known: Sequence[Known]) -> bool:
    close = squeeze(text)
    return any(needle in close for one in known for needle in _needles(one.kind, one.value))


class Cover:
    """Stretches of a text, to be asked whether one of them holds a place."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        self._spans = sorted(spans)
        self._reach = list(accumulate((end for _, end in self._spans), max))

    def holds(self, start: int, end: int) -> bool:
        before = bisect_right(self._spans, (start, sys.maxsize))
        return before > 0 and self._reach[before - 1] >= end


def _distinct(text: str, hits: Sequence[Hit]) -> list[Found]:
    """One finding a place: the larger one, and of equal ones the more telling kind."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda h: (h[0], -h[1], RANK.index(h[2]))):
        if not kept or hit[1] > kept[-1][1]:
            kept.append(hit)
    return [Found(kind, start, end, text[start:end]) for start, end, kind in kept]


# -- values: known ones, the tenant's own, the tenant's forms ---------------------------------------------------------

CONTEXT = re.compile(r"(?:pedido|compra|factura|orden|order|invoice|ref\w{0,10}|n[o.]|num\w{0,6}|#)\W{0,4}$", re.IGNORECASE)
APART = re.compile(r"[.,:;\n]|\W{3}")  # with this inside, a short number is a list, a version or a decimal


@lru_cache(maxsize=4096)
def _needles(kind: Kind, value: str) -> tuple[str, ...]:
    """The squeezed forms that give a value away; of a phone number also the national one."""
    if kind == "phone":
        digits = "".join(c for c in squeeze(value) if c.isdigit())
        try:
            national = str(phonenumbers.parse(value, HOME).national_number)
        except phonenumbers.NumberParseException:
            national = digits
        return tuple({one for one in (digits, national) if len(one) >= 6})
    return tuple(filter(None, (squeeze(value),)))


def _occurrences(close: Reading, needle: str) -> Iterator[tuple[int, int]]:
    at = close.text.find(needle)
    while at >= 0:
        yield at, at + len(needle)
        at = close.text.find(needle, at + 1)


def _alone(text: str, start: int, end: int) -> bool:
    """Whether it is a word or a number of its own: no letter or digit touches a letter, no digit touches a digit."""
    return not _goes_on(text[start], text[start - 1 : start]) and not _goes_on(text[end - 1], text[end : end + 1])


def _goes_on(end: str, beyond: str) -> bool:
    return beyond.isdigit() if end.isdigit() else beyond.isalnum()


def _values(text: str, reading: Reading, close: Reading, known: Sequence[Known]) -> Iterator[Hit]:
    usual: Cover | None = None
    for one in known:
        for needle in _needles(one.kind, one.value):
            strong = len(needle) >= 6 and (one.kind == "email" or any(c.isdigit() for c in needle))
            for a, b in _occurrences(close, needle):
                if not strong:
                    usual = usual or Cover(reading.original(*m.span()) for m in USUAL.finditer(reading.text))
                    if not _told(text, *close.original(a, b), needle, usual):
                        continue
                yield a, b, one.kind


def _told(text: str, start: int, end: int, needle: str, usual: Cover) -> bool:
    """Whether a short number or a mere word stands for the value, and not for a price, a year or part of a sentence."""
    if not _alone(text, start, end) or usual.holds(start, end):
        return False
    if needle.isalpha():
        return len(needle) >= 6 and not any(c.isspace() for c in text[start:end])
    if APART.search(text[start:end]):
        return False
    year = len(needle) == 4 and needle[:2] in ("19", "20")
    if len(needle) <= 3 or year:
        return bool(CONTEXT.search(read(text[max(0, start - 24) : start]).text))
    return True


def _own(text: str, close: Reading, own: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the tenant's own data stands, whole: part of a longer number or address excuses nothing."""
    for value in own:
        phone = sum(c.isdigit() for c in value) >= 6 and not any(c.isalpha() for c in value)
        for needle in _needles("phone" if phone else "identifier", value):
            if len(needle) < 6:
                continue
            for a, b in _occurrences(close, needle):
                start, end = close.original(a, b)
                if phone:
                    start = _prefix(text, start)
                if _whole(text, start, end):
                    yield start, end


def _prefix(text: str, start: int) -> int:
    """Where the country's prefix before a national number begins."""
    found = re.search(r"(?:\+|\b00)\s?\d{1,3}[\s().-]{0,3}$", text[max(0, start - 12) : start])
    return max(0, start - 12) + found.start() if found else start


def _whole(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    return not re.search(r"[\w@.+%-]$", before) and not re.match(r"[\w@]|[.+%-]\w", after)


@lru_cache(maxsize=512)
def _form(form: str) -> re.Pattern[str]:
    wanted = (c for c in form.lower() if c in "#?" or c.isalnum())
    one = "".join(r"\d" if c == "#" else "[a-z]" if c == "?" else re.escape(c) for c in wanted)
    return re.compile(f"(?=({one}))")  # looked for everywhere: one that is none may overlap one that is


def _forms(text: str, reading: Reading, close: Reading, forms: Sequence[NumberForm]) -> Iterator[Hit]:
    usual: Cover | None = None
    for one in forms:
        for found in _form(one.form).finditer(close.text):
            start, end = close.original(*found.span(1))
            usual = usual or Cover(reading.original(*m.span()) for m in USUAL.finditer(reading.text))
            ordinary = usual.holds(start, end) and not CONTEXT.search(read(text[max(0, start - 24) : start]).text)
            if _alone(text, start, end) and not ordinary:
                yield *found.span(1), one.kind
