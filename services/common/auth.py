"""Who may do what: tenants, API keys with scopes, and the service key. Owns `tenants` and `keys` in the database `common`.

A key is shown once and kept as SHA-256. The tenant always comes from the credential, never from the request.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from fastapi import Request

from services.common.errors import Problem
from services.common.mongo import Document, DuplicateKeyError, Mongo, reaching
from services.common.settings import CommonSettings
from services.common.vault import Vault, new_secret

Scope = Literal["read", "write", "agent", "identity", "ingest", "admin", "gate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,38}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `service` is one of our own processes, which names its tenant itself."""

    tenant: str
    scopes: frozenset[str]
    key_id: str = ""
    agent: str | None = None
    name: str = ""
    service: bool = False

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or ("admin" in self.scopes and scope != "gate")


class Keyring:
    """Tenants and keys, cached for a few seconds: a revoked key stops working within `ttl_s`."""

    def __init__(self, mongo: Mongo, vault: Vault, *, ttl_s: float = 10) -> None:
        database = mongo.database("common")
        self._tenants, self._keys = database["tenants"], database["keys"]
        self._vault, self._ttl = vault, ttl_s
        self._known: dict[str, tuple[float, Principal | None]] = {}
        self._tenant_keys: dict[str, bytes] = {}

    async def create_tenant(self, tenant: str) -> str | None:
        """The first admin key, shown this once; None if the tenant exists. Raises ValueError for an unusable name."""
        if not NAME.fullmatch(tenant):
            raise ValueError("a tenant's name is 1 to 39 of a-z, 0-9 and -, and begins with a letter or digit")
        sealed = self._vault.seal(f"tenant/{tenant}", os.urandom(32))
        async with reaching():
            try:
                await self._tenants.insert_one({"_id": tenant, "key": sealed, "at": datetime.now(UTC)})
            except DuplicateKeyError:
                return None
        return await self.create_key(tenant, "first key", frozenset(SCOPES) - {"gate"})

    async def create_key(
        self,
        tenant: str,
        name: str,
        scopes: frozenset[str],
        *,
        agent: str | None = None,
        expires: datetime | None = None,
        value: str | None = None,
    ) -> str:
        """A new key. `value` is for the demo, whose key is printed in its documentation."""
        if unknown := scopes - set(SCOPES):
            raise ValueError(f"{', '.join(sorted(unknown))}: scopes are {', '.join(SCOPES)}")
        key = value or new_secret("hilo")
        document: Document = {
            "_id": _digest(key),
            "tenant": tenant,
            "name": name,
            "scopes": sorted(scopes),
            "agent": agent,
            "at": datetime.now(UTC),
            "expires": expires,
        }
        async with reaching():
            await self._keys.replace_one({"_id": document["_id"]}, document, upsert=True)
        return key

    async def revoke(self, tenant: str, key_id: str) -> bool:
        """`key_id` is the beginning of the key's digest, as `hilo key list` shows it."""
        self._known.clear()
        async with reaching():
            done = await self._keys.delete_one({"tenant": tenant, "_id": {"$regex": f"^{re.escape(key_id)}"}})
        return bool(done.deleted_count)

    async def keys(self, tenant: str) -> list[Document]:
        async with reaching():
            found: list[Document] = await self._keys.find({"tenant": tenant}).sort("at", 1).to_list(1000)
        return found

    async def tenants(self) -> list[str]:
        async with reaching():
            return [d["_id"] for d in await self._tenants.find({}, {"_id": 1}).sort("_id", 1).to_list(10_000)]

    async def tenant_key(self, tenant: str) -> bytes:
        """The key that names the tenant's identifiers. Raises KeyError for an unknown tenant."""
        if tenant not in self._tenant_keys:
            async with reaching():
                found = await self._tenants.find_one({"_id": tenant})
            if found is None:
                raise KeyError(tenant)
            self._tenant_keys[tenant] = self._vault.open(f"tenant/{tenant}", found["key"])
        return self._tenant_keys[tenant]

    async def principal(self, key: str) -> Principal | None:
        """Whose key it is; None for an unknown or expired one."""
        digest, now = _digest(key), time.monotonic()
        cached = self._known.get(digest)
        if cached and cached[0] > now:
            return cached[1]
        async with reaching():
            found = await self._keys.find_one({"_id": digest})
        principal = None
        if found and (found["expires"] is None or found["expires"] > datetime.now(UTC)):
            principal = Principal(found["tenant"], frozenset(found["scopes"]), digest[:12], found["agent"], found["name"])
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[digest] = (now + (self._ttl if principal else 1), principal)
        return principal


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Auth:
    """Turns a request's credential into a Principal, or into 401 and 403."""

    def __init__(self, keyring: Keyring, settings: CommonSettings) -> None:
        self._keyring = keyring
        self._service_key = settings.service_key.get_secret_value().encode() if settings.service_key else None

    async def principal(self, authorization: str, tenant: str = "") -> Principal:
        """Raises Problem 401. `tenant` is heard from our own services only."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Problem(401, "key_missing", "Send the header Authorization: Bearer <key>.")
        if self._service_key and hmac.compare_digest(token.encode(), self._service_key):
            return Principal(tenant, frozenset(SCOPES), "service", name="service", service=True)
        if (found := await self._keyring.principal(token)) is None:
            raise Problem(401, "key_unknown", "This key is unknown, revoked or expired.")
        return found

    def requires(self, *scopes: Scope) -> Callable[[Request], Awaitable[Principal]]:
        """A FastAPI dependency: the Principal, which has one of these scopes."""

        async def check(request: Request) -> Principal:
            headers = request.headers
            principal = await self.principal(headers.get("authorization", ""), headers.get("hilo-tenant", ""))
            if not any(principal.may(scope) for scope in scopes):
                raise Problem(403, "scope_missing", f"This needs a key with the scope {' or '.join(scopes)}.")
            return principal

        return check
