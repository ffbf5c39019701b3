"""The values behind the keys: what an identifier is called, sealed, in a collection of its own that can be erased alone.

Written once per identifier and when its name changes; what this process has seen already costs neither a read nor a write.
An erased value leaves its key behind, so that events from before the erasure cannot bring it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from services.common.mongo import Document, InsertOne, Mongo, UpdateOne, bulk, reaching
from services.common.vault import Vault
from services.identity.evidence import Profile
from services.identity.recent import Recent
from services.identity.stores import DATABASE

KNOWN = 200_000


class Plain(BaseModel):
    """What is sealed."""

    model_config = ConfigDict(frozen=True)
    value: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A value as it stands in the store. `sealed` is None once it was erased at `erased`."""

    key: str
    tenant: str
    scheme: str
    scope: str
    at: int
    sealed: bytes | None
    erased: int = 0


class Values(Protocol):
    async def find(self, tenant: str, keys: Collection[str]) -> dict[str, Sealed]: ...

    async def put(self, values: Sequence[Sealed]) -> None:
        """Insert, or replace what is older, and what was erased before `at`."""

    async def forget(self, tenant: str, keys: Collection[str], at: int) -> None: ...


class MemoryValues:
    def __init__(self) -> None:
        self.values: dict[str, Sealed] = {}

    async def find(self, tenant: str, keys: Collection[str]) -> dict[str, Sealed]:
        return {key: v for key in keys if (v := self.values.get(key)) and v.tenant == tenant}

    async def put(self, values: Sequence[Sealed]) -> None:
        for one in values:
            old = self.values.get(one.key)
            if old is None or (old.tenant == one.tenant and old.at < one.at and old.erased < one.at):
                self.values[one.key] = one

    async def forget(self, tenant: str, keys: Collection[str], at: int) -> None:
        for key in keys:
            old = self.values.get(key)
            if old is None or (old.tenant == tenant and old.erased < at):
                self.values[key] = Sealed(key, tenant, "", "", 0, None, at)


class MongoValues:
    """`values {_id: key, tenant, scheme, scope, at, sealed, erased}`."""

    def __init__(self, mongo: Mongo) -> None:
        self._values = mongo.database(DATABASE)["values"]

    async def find(self, tenant: str, keys: Collection[str]) -> dict[str, Sealed]:
        async with reaching():
            found = await self._values.find({"_id": {"$in": list(keys)}, "tenant": tenant}).to_list(None)
        return {d["_id"]: _sealed_of(d) for d in found}

    async def put(self, values: Sequence[Sealed]) -> None:
        taken = (await bulk(self._values, [InsertOne(_document(one)) for one in values])).duplicates
        await bulk(self._values, [self._newer(values[place]) for place in taken])

    def _newer(self, one: Sealed) -> UpdateOne:
        query = {"_id": one.key, "tenant": one.tenant, "at": {"$lt": one.at}, "erased": {"$lt": one.at}}
        return UpdateOne(query, {"$set": {name: v for name, v in _document(one).items() if name != "_id"}})

    async def forget(self, tenant: str, keys: Collection[str], at: int) -> None:
        gone = [Sealed(key, tenant, "", "", 0, None, at) for key in keys]
        taken = (await bulk(self._values, [InsertOne(_document(one)) for one in gone])).duplicates
        await bulk(self._values, [self._emptied(gone[place]) for place in taken])

    def _emptied(self, one: Sealed) -> UpdateOne:
        query = {"_id": one.key, "tenant": one.tenant, "erased": {"$lt": one.erased}}
        return UpdateOne(query, {"$set": {name: v for name, v in _document(one).items() if name != "_id"}})


def _document(one: Sealed) -> Document:
    return {
        "_id": one.key,
        "tenant": one.tenant,
        "scheme": one.scheme,
        "scope": one.scope,
        "at": one.at,
        "sealed": one.sealed,
        "erased": one.erased,
    }


def _sealed_of(d: Document) -> Sealed:
    return Sealed(d["_id"], d["tenant"], d["scheme"], d["scope"], d["at"], d["sealed"], d["erased"])


class Profiles:
    """Seals and opens values; the place that a value is sealed for names its tenant and key."""

    def __init__(self, values: Values, vault: Vault) -> None:
        self._values, self._vault = values, vault
        self._known: Recent[str, tuple[int, str | None]] = Recent(KNOWN)

    async def remember(self, tenant: str, profiles: Iterable[Profile], versions: dict[str, int]) -> None:
        """`versions` are the identity versions: an identifier whose version has changed is looked up again, since an erasure
        by another process is among the reasons."""
        told = [p for p in profiles if p.identifier.value and self._new(p, versions)]
        if not told:
            return
        news = {p.key: p for p in sorted(told, key=lambda p: (p.name is not None, p.at))}
        there = await self._values.find(tenant, news.keys())
        await self._values.put([self._seal(tenant, p) for p in news.values() if self._differs(tenant, p, there.get(p.key))])
        for key, profile in news.items():
            self._known.put(key, (versions.get(key, 0), profile.name))

    def _new(self, profile: Profile, versions: dict[str, int]) -> bool:
        known = self._known.get(profile.key)
        if known is None or known[0] != versions.get(profile.key, 0):
            return True
        return profile.name is not None and profile.name != known[1]

    def _differs(self, tenant: str, profile: Profile, there: Sealed | None) -> bool:
        if there is None or there.sealed is None:
            return True
        return profile.name is not None and self._open(tenant, there).name != profile.name

    def _seal(self, tenant: str, profile: Profile) -> Sealed:
        plain = Plain(value=profile.identifier.value, name=profile.name).model_dump_json().encode()
        sealed = self._vault.seal(_place(tenant, profile.key), plain)
        return Sealed(profile.key, tenant, profile.identifier.scheme, profile.identifier.scope, profile.at, sealed)

    def _open(self, tenant: str, one: Sealed) -> Plain:
        return Plain.model_validate_json(self._vault.open(_place(tenant, one.key), one.sealed or b""))

    async def read(self, tenant: str, keys: Collection[str]) -> dict[str, Plain]:
        """Those that are known and not erased."""
        found = await self._values.find(tenant, keys)
        return {key: self._open(tenant, one) for key, one in found.items() if one.sealed is not None}

    async def forget(self, tenant: str, keys: Collection[str], at: int) -> None:
        await self._values.forget(tenant, keys, at)
        for key in keys:
            self._known.forget(key)


def _place(tenant: str, key: str) -> str:
    return f"identity/{tenant}/{key}"
