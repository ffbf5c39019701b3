"""How a text is read when somebody may have written it so that a program does not see what a person sees: full-width and
circled digits, accents, invisible characters, `arroba`, `(at)`, numbers spelled out. Every character of a reading knows
where it stood, so that what is found can be shown in the original."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

Spans = list[tuple[int, int]]

FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters by category, yet nothing is drawn
DIGIT_WORDS = {
    **{word: str(n) for n, word in enumerate("cero uno dos tres cuatro cinco seis siete ocho nueve".split())},
    **{word: str(n) for n, word in enumerate("zero one two three four five six seven eight nine".split())},
}
PROVIDERS = "gmail|hotmail|outlook|yahoo|icloud|live|proton|protonmail|gmx|telefonica"
# One or two spelled digits are ordinary words; three in a row are a number that somebody reads out.
# `at` and `dot` are ordinary English words: bare, they count only as a pair, or before a mail provider everybody knows.
SPOKEN = re.compile(
    r"(?P<at>\s{0,3}(?:\barroba\b|[(\[{<]\s?(?:at|arroba|@)\s?[)\]}>])\s{0,3}"
    rf"|(?<=[\w]) at (?=[\w-]{{1,63}} ?(?:dot|\(dot\)|\[dot\]) ?[\w-]|(?:{PROVIDERS})\b)"
    r"|(?<=[\w]) ?@ ?(?=[\w-]{1,63} ?(?:dot\b|punto\b|\(|\[))"
    r"|(?<=[\w]) @ (?=[\w-]))"
    r"|(?P<dot>\s{0,3}(?:\b(?:punto|dot)\b|[(\[{<]\s?(?:punto|dot|\.)\s?[)\]}>])\s{0,3}|(?<=\w) \. ?(?=[a-z]{2,24}\b))"
    rf"|(?P<digits>(?:\b(?:{'|'.join(DIGIT_WORDS)})\b\W{{1,3}}){{2,40}}\b(?:{'|'.join(DIGIT_WORDS)})\b)",
    re.IGNORECASE,
)
WORD = re.compile(r"\w+")
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Reading:
    """`text[i]` is read from `original[spans[i][0]:spans[i][1]]`."""

    text: str
    spans: Spans

    def original(self, start: int, end: int) -> tuple[int, int]:
        return self.spans[start][0], self.spans[end - 1][1]


def read(text: str) -> Reading:
    """Compatible forms made plain (NFKD), any script's digits as 0 to 9, without accents and invisible characters."""
    if text.isascii():
        return Reading(text, [(i, i + 1) for i in range(len(text))])
    letters: list[str] = []
    spans: Spans = []
    for place, character in enumerate(text):
        for one in _read(character):
            letters.append(one)
            spans.append((place, place + 1))
    return Reading("".join(letters), spans)


def skeleton(text: str) -> str:
    """`read(text).text`, without the places and for what has few letters beyond ASCII many times as fast."""
    return text if text.isascii() else BEYOND_ASCII.sub(lambda match: _read(match[0]), text)


@lru_cache(maxsize=8192)
def _read(character: str) -> str:
    kept = []
    for one in unicodedata.normalize("NFKD", character):
        if unicodedata.category(one) in ("Cf", "Mn", "Me") or one in FILLERS:
            continue
        digit = unicodedata.digit(one, None)
        kept.append(one if digit is None else str(digit))
    return "".join(kept)


def spoken(plain: Reading) -> Reading:
    """The same with `arroba`, `punto` and spelled digits as the characters they stand for."""
    letters: list[str] = []
    spans: Spans = []
    last = 0
    for found in SPOKEN.finditer(plain.text):
        letters.append(plain.text[last : found.start()])
        spans.extend(plain.spans[last : found.start()])
        for character, start, end in _said(found):
            letters.append(character)
            spans.append(plain.original(start, end))
        last = found.end()
    letters.append(plain.text[last:])
    spans.extend(plain.spans[last:])
    return Reading("".join(letters), spans)


def _said(found: re.Match[str]) -> list[tuple[str, int, int]]:
    """The characters that were spoken, each with where its words stand."""
    if not found["digits"]:
        return [("@" if found["at"] else ".", *found.span())]
    words = WORD.finditer(found.string, *found.span())
    return [(DIGIT_WORDS[word[0].lower()], *word.span()) for word in words]


def squeezed(reading: Reading) -> Reading:
    """Only letters and digits, in lower case: however a value was spaced or dashed, here it stands together."""
    kept = [(c.lower(), span) for c, span in zip(reading.text, reading.spans, strict=True) if c.isalnum()]
    return Reading("".join(c for c, _ in kept), [span for _, span in kept])


def squeeze(value: str) -> str:
    return squeezed(read(value)).text
