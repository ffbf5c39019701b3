"""Invitations given on a private leg must not be repeated in public: who brings such a code back counts as the customer, so
whoever read it there could pass for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.common.events import Part
from services.router.codes import CODE, TOKEN, Keys, codes_in, token_hash
from services.router.privacy import Found, FoundIn, fields_of
from services.router.reading import read
from services.router.state import Conversation
from services.router.stores import ConversationStore

MOST = 50  # looked up of one message; a text with more codes than that is no answer


class PrivateInvitations:
    def __init__(self, store: ConversationStore, keys: Keys) -> None:
        self._store, self._keys = store, keys

    async def found(self, tenant: str, parts: Sequence[Part]) -> list[FoundIn]:
        """Where a message carries the link or the code of an invitation that was given in private."""
        places = [(n, name, *one) for n, part in enumerate(parts) for name, text in fields_of(part) for one in _carried(text)]
        return [
            FoundIn(number, name, Found("invitation", start, end, text))
            for number, name, start, end, text in places[:MOST]
            if await self._is_private(tenant, text)
        ]

    async def _is_private(self, tenant: str, text: str) -> bool:
        if TOKEN.fullmatch(text):
            hashed = token_hash(text)
            return any(_given(c, tenant, hashed) for c in await self._store.with_token(hashed))
        for code in codes_in(text):
            for hashed in self._keys.code_hashes(tenant, code):
                if any(_given(c, tenant, hashed) for c in await self._store.with_code(tenant, hashed)):
                    return True
        return False


def _carried(text: str) -> Iterator[tuple[int, int, str]]:
    """What may be a link's token or a code, with where it stands."""
    yield from ((*found.span(), found[0]) for found in TOKEN.finditer(text))
    reading = read(text)
    for found in CODE.finditer(reading.text):
        if codes_in(found[0]):
            start, end = reading.original(*found.span())
            yield start, end, text[start:end]


def _given(c: Conversation, tenant: str, hashed: str) -> bool:
    over = ("used", "expired")
    return c.tenant == tenant and any(
        hashed in (o.token, o.code) and o.given == "private" and o.state not in over for o in c.offers
    )
