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
from itertools import accumulate
from urllib.parse import unquote

import phonenumbers

from services.common.events import Part
from services.router.reading import Reading, read, spoken, squeeze, squeezed
from services.router.shapes import USUAL, Hit, Kind, ibans, shapes

RANK: tuple[Kind, ...] = ("order", "identifier", "email", "iban", "card", "phone", "address")

HOME = "ES"  # where a national phone number is read
ORDER_FORM = re.compile(r"[#?\w .\-/]{4,64}")


@dataclass(frozen=True, slots=True)
class Known:
    """A value known of this customer. Names and the handle that everybody sees in the public thread do not belong here."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class TenantPattern:
    """A form of the tenant's own numbers: `#` is a digit, `?` a letter, the rest stands for itself, as `HV-######`.
    Deliberately no regular expression: a form cannot be slow."""

    form: str
    kind: Kind = "order"

    def __post_init__(self) -> None:
        if not ORDER_FORM.fullmatch(self.form) or self.form.count("#") < 3:
            raise ValueError("a form has 4 to 64 of letters, digits, # and ?, and at least three #")


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
    patterns: Sequence[TenantPattern] = (),
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
        hits.update((*close.original(a, b), kind) for a, b, kind in _forms(text, close, patterns))
        hits.update((*close.original(a, b), "iban") for a, b in ibans(close.text))
        hits.update((*reading.original(a, b), kind) for a, b, kind in shapes(reading.text))
    allowed = Cover(excused)
    return _distinct(text, [hit for hit in hits if not allowed.holds(hit[0], hit[1])])


def find_in_parts(
    parts: Sequence[Part],
    known: Sequence[Known] = (),
    own: Sequence[str] = (),
    patterns: Sequence[TenantPattern] = (),
) -> list[FoundIn]:
    """Every text that leaves with a message: captions, link texts and addresses, buttons, file names, template values.
    A value that is cut into several of them is found too, and shown where it begins."""
    fields = [(number, name, value) for number, part in enumerate(parts) for name, value in _fields(part)]
    seen = [FoundIn(n, name, found) for n, name, value in fields for found in find(value, known, own, patterns)]
    for number, name, value in fields:
        if "%" in value and (plain := unquote(value)) != value and not any(s.part == number and s.field == name for s in seen):
            hidden = find(plain, known, own, patterns)
            seen.extend(FoundIn(number, name, Found(f.kind, 0, len(value), value)) for f in hidden[:1])
    return seen + _across(fields, known, own)


def _fields(part: Part) -> Iterator[tuple[str, str]]:
    named = [("text", part.text), ("name", part.name), *((f"data.{k}", v) for k, v in part.data.items())]
    if part.kind == "link":
        named.append(("ref", part.ref))
    yield from ((name, value) for name, value in named if value)


def _across(fields: Sequence[tuple[int, str, str]], known: Sequence[Known], own: Sequence[str]) -> list[FoundIn]:
    """Known values that no single field holds."""
    if len(fields) < 2 or not known:
        return []
    joint = find("\n".join(value for _, _, value in fields), known, own)
    found, start = [], 0
    for number, name, value in fields:
        end = start + len(value)
        for one in joint:
            if start <= one.start < end < one.end:
                found.append(FoundIn(number, name, Found(one.kind, one.start - start, len(value), value[one.start - start :])))
        start = end + 1
    return found


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
    """Whether no letter or digit touches it: then it is a word of its own."""
    return not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum()


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
    return re.compile("".join(r"\d" if c == "#" else "[a-z]" if c == "?" else re.escape(c) for c in wanted))


def _forms(text: str, close: Reading, patterns: Sequence[TenantPattern]) -> Iterator[Hit]:
    for pattern in patterns:
        for found in _form(pattern.form).finditer(close.text):
            start, end = close.original(*found.span())
            if _alone(text, start, end) and not USUAL.fullmatch(text[start:end]):
                yield *found.span(), pattern.kind
