"""What is private whoever it belongs to, told by its shape: email addresses, phone numbers, cards, IBANs, postal addresses.

Each has its own rules (a numbering plan, a checksum), so a run of digits is first cut out and then judged. Every pattern is
bounded: the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import phonenumbers

Kind = Literal["email", "phone", "iban", "card", "address", "order", "identifier", "invitation"]
Hit = tuple[int, int, Kind]

EMAIL = re.compile(r"[\w.+%'-]{1,64}@(?:[\w-]{1,63}\.){1,6}(?:xn--[a-z0-9-]{2,40}|[^\W\d_]{2,24})(?![\w-])", re.IGNORECASE)

# -- what numbers are usually there for -------------------------------------------------------------------------------

UNIT = (
    r"€|eur(?:os?)?|\$|usd|d[oó]lares|£|gbp|libras?|pounds?|%|[cm]?l|litros?|lit(?:re|er)s?|[kcm]?g|kilos?|gramos?|[kcm]?m|"
    r"[kmg]?w|vatios|watts?|v|[kmgt]b|mah|h|hrs?|horas?|hours?|min(?:utos?|utes?)?|s|seg(?:undos)?|d[ií]as?|days?|semanas?|"
    r"weeks?|mes(?:es)?|months?|a[nñ]os?|years?|uds?|unidades|units?|veces|times|personas?|people|puntos?|estrellas?|stars?|"
    r"piezas?|pieces?|tazas?|cups?|º|°|grados?"
)
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
MONTH = r"(?:0?[1-9]|1[0-2])"
CLOCK = r"(?:[01]?\d|2[0-4])[:.h][0-5]\d(?::[0-5]\d)?"
# Each stands alone: no digit touches it on either side, not even across a separator; only a whole date may be followed by one.
USUAL = re.compile(
    r"(?<!\d)(?<!\d[ .,/:-])(?:"
    rf"(?:{DAY}([/.-]){MONTH}\1(?:19|20)\d\d|(?:19|20)\d\d-{MONTH}-{DAY})(?:[ T]{CLOCK})?(?!\d)(?![.,/:-]\d)"
    r"|(?:"
    rf"{DAY}([/.-]){MONTH}\2\d\d"
    rf"|{CLOCK}(?:\s?(?:-|–|a|to)\s?{CLOCK})?"
    r"|(?:€|\$|£)\s?\d{1,3}(?:[.,]\d{3})?(?:[.,]\d{1,2})?"
    rf"|\d{{1,3}}(?:[ .,]?\d{{3}})?(?:[.,]\d{{1,2}})?\s?(?:{UNIT})(?!\w)"
    r")(?!\d)(?![ .,/:-]\d))",
    re.IGNORECASE,
)


def shapes(text: str) -> Iterator[Hit]:
    """In a text that was read (`reading.read`): all but IBANs, which are looked for where separators are gone."""
    for found in EMAIL.finditer(text):
        yield *found.span(), "email"
    masked = USUAL.sub(lambda m: "x" * len(m[0]), text)
    for found in RUN.finditer(masked):
        yield from _cards(masked, *found.span())
        yield from _phones(masked, *found.span())
    for form in ADDRESSES:
        for found in form.finditer(text):
            if not NO_STREET.search(found["name"]) and not found["unit"]:
                yield *found.span("all"), "address"


# -- phone numbers ----------------------------------------------------------------------------------------------------

# A comma and a space make a list, not a number.
RUN = re.compile(r"\+?\(?\d(?:(?:, ?|[^\w,;]{0,3}|_{1,3}|\s{4,12}|[.-]{4,12})\d){6,40}")
LIST = re.compile(r"\d[,;]\s")
# Countries whose national form is recognised, by its number of digits; with + or 00 every country's is. Where a number is
# written with a leading 0, it must be there: without it, it could be any number.
NATIONAL = {"ES": (9,), "PT": (9,), "US": (10,), "MX": (10,), "FR": (10,), "GB": (10, 11), "DE": (9, 10, 11, 12)}
TRUNK = frozenset(("GB", "FR", "DE"))


def _phones(text: str, start: int, end: int) -> Iterator[Hit]:
    """The run as it stands, else a piece of it that begins and ends at a space: `ref 2 612 40 77 82`."""
    run = text[start:end]
    if _is_phone(run.lstrip("(")):
        yield start, end, "phone"
        return
    groups = [m.span() for m in re.finditer(r"\+?\d+", run)][:20]
    for i, (a, _) in enumerate(groups):
        for _, b in groups[i : i + 12] if a == 0 or run[a - 1].isspace() else ():
            if (a, b) != (0, len(run)) and not run[b : b + 1].strip() and _is_phone(run[a:b]):
                yield start + a, start + b, "phone"


@lru_cache(maxsize=8192)
def _is_phone(run: str) -> bool:
    """`run` is a number as somebody wrote it, from its + or first digit to its last digit."""
    digits = "".join(c for c in run if c.isdigit())
    if not 9 <= len(digits) <= 17:
        return False
    if run.startswith("+") or digits.startswith("00"):
        return _valid(f"+{digits.removeprefix('00')}", ())
    if LIST.search(run):
        return False
    return (len(digits) > 10 and _valid(f"+{digits}", tuple(NATIONAL))) or any(
        _valid(digits, (region,))
        for region, lengths in NATIONAL.items()
        if len(digits) in lengths and (region not in TRUNK or digits.startswith("0"))
    )


def _valid(number: str, regions: Sequence[str]) -> bool:
    """Whether it is assigned by a numbering plan: of any country, or of one of these."""
    try:
        parsed = phonenumbers.parse(number, regions[0] if regions else None)
    except phonenumbers.NumberParseException:
        return False
    if not regions:
        return bool(phonenumbers.is_valid_number(parsed))
    return any(phonenumbers.is_valid_number_for_region(parsed, region) for region in regions)


# -- cards and bank accounts ------------------------------------------------------------------------------------------

# Issuers' beginnings and lengths: https://en.wikipedia.org/wiki/Payment_card_number
CARDS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"30[0-5]|3[68]"), (14,)),
    (re.compile(r"35(?:2[89]|[3-8]\d)"), (16,)),
    (re.compile(r"6011|65|64[4-9]|62|81"), (16, 17, 18, 19)),
    (re.compile(r"50|5[6-9]|6[379]"), (16, 18, 19)),
)


def _cards(text: str, start: int, end: int) -> Iterator[Hit]:
    places = [i for i in range(start, end) if text[i].isdigit()]
    digits = "".join(text[i] for i in places)
    for i in range(len(digits) - 12):
        for beginning, lengths in CARDS:
            if beginning.match(digits, i):
                for length in lengths:
                    if i + length <= len(digits) and _luhn(digits[i : i + length]):
                        yield places[i], places[i + length - 1] + 1, "card"


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(c), 10)) for c in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


# Lengths by country, as SWIFT's IBAN registry lists them.
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI NL",
        19: "MK SI",
        20: "AT BA EE LT LU XK",
        21: "CH HR LI LV",
        22: "BG DE GB GE IE ME RS",
        23: "AE GI IL",
        24: "AD CZ ES MD RO SA SE SK VA",
        25: "PT",
        26: "IS TR",
        27: "FR GR IT MC SM",
        28: "AL CY HU LB PL",
        29: "BR UA",
        31: "MT",
    }.items()
    for country in countries.split()
}
IBAN_START = re.compile(r"(?=([a-z]{2})\d{2})")


def ibans(close: str) -> Iterator[tuple[int, int]]:
    """In a text of letters and digits alone, in lower case."""
    for found in IBAN_START.finditer(close):
        a = found.start()
        length = IBAN_LENGTHS.get(found[1].upper(), 0)
        if length and len(close) >= a + length and _checks(close[a : a + length]):
            yield a, a + length


def _checks(text: str) -> bool:
    """The checksum, and digits where accounts have them: a bank's code, the first four, may be letters. One text in 97 that
    is no account has a right checksum."""
    if not text.isascii() or sum(c.isalpha() for c in text[8:]) > 2:
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


# -- postal addresses -------------------------------------------------------------------------------------------------

# Street, name, number; or number, name, street. The words between are a name: a verb or a preposition makes it a sentence.
WORD = r"[^\W\d_][\w'’.-]{0,30}"
NO_STREET = re.compile(
    r"\b(?:desde|hace|por|en|con|a|que|durante|esta|es|fue|tras|hasta|para|sin|solo|unos?|unas?|mas|menos|casi|sobre|vale|"
    r"lleva|llega|tarda|of|in|on|at|to|from|for|and|is|was|with|after|along|about|over|per|than|within|across|down|this|that|"
    r"last|years?|days?|weeks?|months?|hours?|minutes?|times?|people|more)\b",
    re.IGNORECASE,
)
UK_AREA = (
    r"A[BL]|B[ABDHLNRST]?|C[ABFHMORTVW]|D[ADEGHLNTY]|E[CHNX]?|F[KY]|G[LUY]?|H[ADGPRSUX]|I[GMPV]|JE|K[ATWY]|L[ADELNSU]?|M[EKL]?|"
    r"N[EGNPRW]?|O[LX]|P[AEHLOR]|R[GHM]|S[AEGKLMNOPRSTWY]?|T[ADFNQRSW]|UB|W[ACDFNRSV]?|YO|ZE"
)
ADDRESSES = (
    re.compile(
        r"(?P<all>(?<!\w)(?:calle|c/|avenida|avda\.?|av\.|plaza|pza\.?|paseo|carretera|ctra\.?|ronda|travesia|glorieta|"
        rf"callejon|urbanizacion|poligono)\s{{0,2}}(?P<name>{WORD}(?:\s{WORD}){{0,5}})"
        r"(?:,?\s{1,2}|,\s?)(?:numero\s|num\.?\s?|n[o.]\.?\s?|#)?\d{1,4})(?!\d)(?![.,:]\d)"
        rf"(?P<unit>\s?(?:{UNIT})(?!\w))?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<all>(?<![\w.,])\d{{1,5}}[a-z]?,?\s(?P<name>{WORD}(?:\s{WORD}){{0,3}}?)\s"
        r"(?:street|st|road|rd|avenue|ave|lane|boulevard|blvd|crescent|terrace|drive))(?P<unit>(?=\w))?(?!\w)",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<all>(?<!\w)(?P<name>c\.?\s?p\.?|codigo\spostal|postcode|zip(?:\scode)?)[:\s]{1,3}\d{5})(?P<unit>(?!))?(?!\d)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<all>(?<!\w)(?P<name>{UK_AREA})(?:\d{{1,2}}|\d[A-Z]) \d(?!GB|TB|HZ|KG)[ABD-HJLNP-UW-Z]{{2}})(?P<unit>(?!))?(?!\w)"
    ),
)
