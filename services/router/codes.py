"""Invitations: the token of a link and the code a person can read aloud.

A token names 128 bits, the key that signed them and the beginning of the signature, so that a guess costs no read of the
store. The bits are a keyed function of the conversation and the step that invites, and the code is one of the token: the
same step done twice gives the same invitation, and the page behind a link can show the code although nobody kept it.
Documents hold hashes alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from services.router.reading import read, skeleton

# Crockford's letters without Z, so that there are 31, a prime: one wrong character or two that changed places never pass.
# Read as what people see: O is 0, I and L are 1, Z is 2, U is V.
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXY"
SEEN_AS = str.maketrans("OILZU", "0112V")
CODE = re.compile(
    r"(?<![0-9A-Za-z])H[\W_]{0,3}[I1L][\W_]{0,3}[L1I][\W_]{0,3}[O0][\W_]{0,3}"
    r"((?:[0-9A-Za-z][\W_]{0,3}){7}[0-9A-Za-z])(?![0-9A-Za-z])",
    re.IGNORECASE,
)
# How a code begins, in a form that the regular expression engine can look for by its first letter.
BEGINNING = re.compile(r"[Hh][\W_]{0,3}[Ii\u01311Ll][\W_]{0,3}[Ll1Ii\u0131][\W_]{0,3}[Oo0]")
TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{40}(?![A-Za-z0-9_-])")


@dataclass(frozen=True, slots=True)
class Issued:
    """What goes out (`token`, `code`) and what is kept of it. `id` is the offer's public name."""

    id: str
    token: str
    code: str
    token_hash: str
    code_hash: str


@dataclass(frozen=True)
class Keys:
    """The keys that sign invitations, by their number, 0 to 255. New ones are signed with `current`; what another key of
    the ring signed stays good, so a change of keys needs no more than an overlap of the longest life of an offer."""

    current: int
    secrets: Mapping[int, bytes]

    def __post_init__(self) -> None:
        if self.current not in self.secrets or any(not 0 <= n <= 255 or len(s) < 16 for n, s in self.secrets.items()):
            raise ValueError("keys are numbered 0 to 255, have at least 16 bytes, and the current one is among them")

    def issue(self, tenant: str, conversation: str, step: str) -> Issued:
        secret = self.secrets[self.current]
        bits = _digest(secret, "offer", tenant, conversation, step)[:16]
        return self._issued(self.current, bits, tenant)

    def opened(self, token: str, tenant: str) -> Issued | None:
        """The invitation that this token is, or None for one that we did not make."""
        raw = _raw(token)
        if raw is None or raw[16] not in self.secrets:
            return None
        if not hmac.compare_digest(raw[17:], _digest(self.secrets[raw[16]], "token", raw[:16].hex())[:13]):
            return None
        return self._issued(raw[16], raw[:16], tenant)

    def code_hashes(self, tenant: str, code: str) -> tuple[str, ...]:
        """Under each key of the ring, the current one first. A short code is hashed with a key: without it, all codes
        could be tried against a stolen database."""
        order = sorted(self.secrets, key=lambda number: number != self.current)
        return tuple(_text(_digest(self.secrets[number], "code hash", tenant, code)) for number in order)

    def _issued(self, number: int, bits: bytes, tenant: str) -> Issued:
        secret = self.secrets[number]
        signed = bits + bytes((number,)) + _digest(secret, "token", bits.hex())[:13]
        token = base64.urlsafe_b64encode(signed).decode()
        code = _code(_digest(secret, "code", bits.hex()))
        kept = token_hash(token)
        return Issued(kept[:16], token, code, kept, _text(_digest(secret, "code hash", tenant, code)))


def token_hash(token: str) -> str:
    return _text(hashlib.sha256(b"hilo offer\x00" + token.encode()).digest())


def codes_in(text: str) -> tuple[str, ...]:
    """The codes that somebody typed, as `HILO-XXXX-XXXX`: in any case, spaced or dashed in any way, among other words. One
    that fails its check is no code."""
    found = (_read(match[1]) for match in CODE.finditer(read(text).text))
    return tuple(dict.fromkeys(one for one in found if one))


def may_hold_any(text: str) -> bool:
    """False only for what holds neither a code nor a token, and quickly: every message is asked."""
    if len(text) >= 40 and len(max(text.split(), key=len, default="")) >= 40 and TOKEN.search(text):
        return True
    plain = skeleton(text)
    return BEGINNING.search(plain) is not None and CODE.search(plain) is not None


def tokens_in(text: str) -> tuple[str, ...]:
    """What has the form of a token: in a link, or as the reference that a platform hands on. `Keys.opened` judges it."""
    return tuple(dict.fromkeys(TOKEN.findall(text)))


def link_to(invite: str, code: str) -> str:
    """An account's invitation link with the code in it; `{code}` stands where it goes."""
    return invite.replace("{code}", quote(code, safe=""))


def _code(digest: bytes) -> str:
    number = int.from_bytes(digest[:8], "big")
    values = []
    for _ in range(7):
        number, value = divmod(number, 31)
        values.append(value)
    letters = "".join(LETTERS[value] for value in (*values, _check(values)))
    return f"HILO-{letters[:4]}-{letters[4:]}"


def _check(values: list[int]) -> int:
    return sum(weight * value for weight, value in enumerate(values, 1)) % 31


def _read(typed: str) -> str | None:
    letters = "".join(c for c in typed if c.isalnum()).upper().translate(SEEN_AS)
    values = [LETTERS.find(letter) for letter in letters]
    if len(values) != 8 or -1 in values or _check(values[:7]) != values[7]:
        return None
    return f"HILO-{letters[:4]}-{letters[4:]}"


def _raw(token: str) -> bytes | None:
    if not TOKEN.fullmatch(token):
        return None
    return base64.urlsafe_b64decode(token)


def _digest(secret: bytes, *words: str) -> bytes:
    return hmac.digest(secret, "\x00".join(words).encode(), "sha256")


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
