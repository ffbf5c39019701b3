"""What a tenant says about its own data: the forms of its numbers, which are private, and its contact data, which is not.
Kept in the tenant's document, which `auth.Keyring` makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from services.common.mongo import Document, Mongo, reaching

NumberKind = Literal["order", "identifier"]
FORM = re.compile(r"[#?\w .\-/]{4,64}", re.ASCII)
CONTACT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
MOST_FORMS, MOST_CONTACTS = 50, 200
READABLE = 6  # letters and digits; what is shorter could stand in anybody's number


@dataclass(frozen=True, slots=True)
class NumberForm:
    """A form of the tenant's own numbers: `#` is a digit, `?` a letter, other letters and digits stand for themselves, as in
    `HV-######`; spaces and signs between them do not matter. Deliberately no regular expression: a form cannot be slow."""

    form: str
    kind: NumberKind = "order"

    def __post_init__(self) -> None:
        if not FORM.fullmatch(self.form) or self.form.count("#") < 3:
            raise ValueError("a form has 4 to 64 of a-z, 0-9, #, ?, spaces and - . / _, and at least three #")
        if self.kind not in get_args(NumberKind):
            raise ValueError(f"a form is of an {' or an '.join(get_args(NumberKind))}")


def contact(value: str) -> str:
    """As it is kept. Raises ValueError for what cannot be told from other people's data."""
    value = value.strip()
    if not CONTACT.fullmatch(value) or sum(c.isalnum() for c in value) < READABLE:
        raise ValueError(
            f"contact data is an address or a number as people read it, with at least {READABLE} letters or digits"
        )
    return value


@dataclass(frozen=True, slots=True)
class PublicRules:
    """What may not be said in public beyond what may never be, and what may all the same."""

    forms: tuple[NumberForm, ...] = ()
    contacts: tuple[str, ...] = ()


class Tenants:
    """The rules of tenants. Raises KeyError for a tenant that does not exist."""

    def __init__(self, mongo: Mongo) -> None:
        self._tenants = mongo.database("common")["tenants"]

    async def rules(self, tenant: str) -> PublicRules:
        async with reaching():
            found = await self._tenants.find_one({"_id": tenant})
        if found is None:
            raise KeyError(tenant)
        return _rules(found)

    async def all_rules(self) -> Mapping[str, PublicRules]:
        """Of every tenant that has any."""
        async with reaching():
            found = await self._tenants.find(
                {"$or": [{"forms.0": {"$exists": True}}, {"contacts.0": {"$exists": True}}]}
            ).to_list(None)
        return {one["_id"]: _rules(one) for one in found}

    async def add_form(self, tenant: str, form: NumberForm) -> None:
        """Raises ValueError when there are too many."""
        if not await self._update({"_id": tenant, "forms.form": form.form}, {"$set": {"forms.$.kind": form.kind}}):
            room = {"_id": tenant, "forms.form": {"$ne": form.form}, f"forms.{MOST_FORMS - 1}": {"$exists": False}}
            await self._grow(tenant, room, {"$push": {"forms": {"form": form.form, "kind": form.kind}}})

    async def remove_form(self, tenant: str, form: str) -> bool:
        """Whether it was there."""
        await self.rules(tenant)
        return await self._update({"_id": tenant, "forms.form": form}, {"$pull": {"forms": {"form": form}}})

    async def add_contact(self, tenant: str, value: str) -> None:
        """Raises ValueError for an unusable value, and when there are too many."""
        room = {"_id": tenant, f"contacts.{MOST_CONTACTS - 1}": {"$exists": False}}
        await self._grow(tenant, room, {"$addToSet": {"contacts": contact(value)}})

    async def remove_contact(self, tenant: str, value: str) -> bool:
        """Whether it was there."""
        await self.rules(tenant)
        return await self._update({"_id": tenant, "contacts": value.strip()}, {"$pull": {"contacts": value.strip()}})

    async def _grow(self, tenant: str, room: Document, change: Document) -> None:
        if not await self._update(room, change):
            await self.rules(tenant)
            raise ValueError(f"{tenant} has {MOST_FORMS} forms or {MOST_CONTACTS} contacts; remove some first")

    async def _update(self, where: Document, change: Document) -> bool:
        async with reaching():
            done = await self._tenants.update_one(where, change)
        return bool(done.matched_count)


def _rules(found: Mapping[str, Any]) -> PublicRules:
    forms = tuple(NumberForm(one["form"], one["kind"]) for one in found.get("forms", ()))
    return PublicRules(forms, tuple(found.get("contacts", ())))
