"""Connected accounts: what an operator filled in, with its secrets sealed, in MongoDB and in memory.

The address of a webhook names no tenant, so an account's id is unique within its channel over all tenants. Every process
keeps all accounts in memory and looks up what others changed, so that accounts it knows still work while MongoDB is away;
only an account that it does not know needs the store, and then the answer is "try again", never "unknown".
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.common import metrics
from services.common.auth import Keyring
from services.common.errors import Away, Problem, StoreAway, conflict, not_found
from services.common.logs import log
from services.common.mongo import ASCENDING, Document, DuplicateKeyError, Mongo, reaching
from services.common.vault import Unsealable, Vault
from services.ingest.contract import Account, Channel, Registry
from services.ingest.stored import (
    Secrets,
    State,
    Stored,
    Wish,
    from_document,
    rotated,
    secret_fields,
    to_document,
    validated,
    wished,
)

__all__ = ["AccountBroken", "Accounts", "Connected", "State", "Stored", "Wish"]

ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
# Server times of two writes may be seen in the other order by so much.
OVERLAP = timedelta(seconds=10)
LOOKUP_S = 2.0


class AccountBroken(Exception):
    """The account is there, but cannot be used: its channel does not load or no longer takes what is stored, or its secrets
    were sealed with another master key. Its doors answer 503, so that the provider keeps what it has."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An account ready for use: its channel, the channel's own model with secrets, and the key that names identifiers."""

    channel: Channel[Any]
    account: Account
    stored: Stored
    tenant_key: bytes = field(repr=False)

    @property
    def tenant(self) -> str:
        return self.stored.tenant

    @property
    def id(self) -> str:
        return self.stored.id

    @property
    def active(self) -> bool:
        """Whether we poll and send for it. What a provider brings to a paused account is taken all the same."""
        return self.stored.state == "active"


Announce = Callable[[Connected], Awaitable[None]]


class Accounts:
    """All accounts. Reads come from memory; writes are compare-and-set on the version and are announced."""

    def __init__(
        self,
        mongo: Mongo,
        vault: Vault,
        keyring: Keyring,
        registry: Registry,
        announce: Announce | None = None,
        *,
        refresh_s: float = 2,
    ) -> None:
        self._accounts = mongo.database("ingest")["accounts"]
        self._vault, self._keyring, self._registry, self._announce = vault, keyring, registry, announce
        self._refresh_s = refresh_s
        self._known: dict[tuple[str, str], Connected | AccountBroken] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self._by_door: dict[tuple[str, str], dict[str, Connected]] = {}
        self._newest: datetime | None = None
        self._stopping = asyncio.Event()
        self.away = False

    async def start(self) -> None:
        async with reaching():
            await self._accounts.create_index([("changed_at", ASCENDING)], name="changed")
            await self._accounts.create_index([("tenant", ASCENDING), ("channel", ASCENDING)], name="tenant")
        await self.refresh()

    async def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Learns what other processes changed, until `stop`. While the store is away, what is known stays known."""
        while not self._stopping.is_set():
            try:
                await self.refresh()
            except Away as error:
                self._set_away(error)
            try:
                await asyncio.wait_for(self._stopping.wait(), self._refresh_s)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Raises StoreAway."""
        since = {"changed_at": {"$gt": self._newest - OVERLAP}} if self._newest else {}
        async with reaching():
            found = await self._accounts.find(since).to_list(None)
        for document in found:
            await self._learn(document)
        self._set_away(None)

    def _set_away(self, error: Away | None) -> None:
        if self.away != (error is not None):
            self.away = error is not None
            metrics.AWAY.labels("store").set(self.away)
            if error:
                log().warning("away", part=error.part, reason=str(error))

    # -- reading

    async def get(self, channel: str, id: str) -> Connected | None:
        """The account of this address; None if there is none or it was removed. Raises StoreAway when only the store could
        tell, AccountBroken when it cannot be used."""
        found = self._known.get((channel, id))
        if found is None:
            found = await self._look_up(channel, id)
        if isinstance(found, AccountBroken):
            raise found
        return None if found is None or found.stored.state == "removed" else found

    async def sharing(self, channel: str, id: str) -> Sequence[Connected]:
        """The accounts that inputs at this address may be meant for, the address's own first: where the channel names its
        side in every item, all accounts of the same tenant. Empty for an unknown account; raises as `get`."""
        first = await self.get(channel, id)
        if first is None:
            return ()
        if first.channel.address is None:
            return (first,)
        others = self._by_door.get((first.tenant, channel), {})
        return (first, *(one for name, one in others.items() if name != id))

    def all(self) -> list[Connected]:
        """Every usable account that was not removed: what pollers and streams work for."""
        return [one for door in self._by_door.values() for one in door.values()]

    def of(self, tenant: str, channel: str) -> list[Connected]:
        """The same of one tenant on one channel."""
        return list(self._by_door.get((tenant, channel), {}).values())

    def broken(self, channel: str) -> bool:
        """Whether an account of this channel cannot be used now, so that nobody can say what it would take."""
        return any(isinstance(one, AccountBroken) for (name, _), one in self._known.items() if name == channel)

    def known(self) -> list[Connected]:
        """The same and those that were removed: what the directory announces."""
        return [one for one in self._known.values() if isinstance(one, Connected)]

    async def stored(self, tenant: str, channel: str, id: str) -> Stored:
        """Raises Problem 404, also for an account of another tenant."""
        found = await self._found(channel, id)
        if found is None or found["tenant"] != tenant or found["state"] == "removed":
            raise not_found("account")
        return from_document(found)

    async def list(self, tenant: str, channel: str | None = None) -> list[Stored]:
        where = {"tenant": tenant, "state": {"$ne": "removed"}, **({"channel": channel} if channel else {})}
        async with reaching():
            found = await self._accounts.find(where, {"sealed": 0}).sort("_id", ASCENDING).to_list(None)
        return [from_document(document) for document in found]

    # -- changing

    async def put(self, tenant: str, channel: str, id: str, wish: Wish, version: int | None = None) -> Stored:
        """Connect an account or change it. `version` names the one that was seen: Problem 409 if it is another by now, or if
        the id belongs to another tenant."""
        if not ID.fullmatch(id):
            raise Problem(422, "account_id_invalid", "An account's id is 1 to 64 of a-z, 0-9, '.', '_' and '-'.")
        model = self._model(channel)

        def change(stored: Stored, secrets: Secrets) -> tuple[Stored, dict[str, tuple[str, ...]]]:
            if stored.state == "removed":  # connected anew: nothing of before comes back
                fresh = Stored(tenant, channel, id, version=stored.version, created_at=stored.created_at)
                return wished(model, fresh, {}, wish)
            return wished(model, stored, secrets, wish)

        return await self._change(tenant, channel, id, version, change, create=True)

    async def rotate(
        self,
        tenant: str,
        channel: str,
        id: str,
        name: str,
        *,
        add: str | None = None,
        retire: bool = False,
        version: int | None = None,
    ) -> Stored:
        """Give a secret a new first value, the old ones staying valid; or, with `retire`, drop all but the first."""
        model = self._model(channel)
        if name not in secret_fields(model):
            raise Problem(
                422, "secret_unknown", f"{channel} has the secrets {', '.join(sorted(secret_fields(model))) or '(none)'}."
            )

        def change(stored: Stored, secrets: Secrets) -> tuple[Stored, dict[str, tuple[str, ...]]]:
            values = rotated(secrets, name, add, retire=retire)
            validated(model, tenant, id, {**stored.config, **values})
            return replace(stored, secrets={n: len(v) for n, v in sorted(values.items())}), values

        return await self._change(tenant, channel, id, version, change)

    async def remove(self, tenant: str, channel: str, id: str, version: int | None = None) -> Stored:
        """Disconnect. The secrets are destroyed; the id stays taken, since the account's history goes by it."""

        def change(stored: Stored, secrets: Secrets) -> tuple[Stored, dict[str, tuple[str, ...]]]:
            return replace(stored, state="removed", config={}, secrets={}), {}

        return await self._change(tenant, channel, id, version, change)

    async def _change(
        self,
        tenant: str,
        channel: str,
        id: str,
        version: int | None,
        change: Callable[[Stored, Secrets], tuple[Stored, dict[str, tuple[str, ...]]]],
        *,
        create: bool = False,
    ) -> Stored:
        for _attempt in range(20):
            found = await self._found(channel, id)
            if found is not None and found["tenant"] != tenant:
                if create:
                    raise Problem(409, "account_taken", f"The id {id} is taken on {channel}; choose another.")
                raise not_found("account")
            if not create and (found is None or found["state"] == "removed"):
                raise not_found("account")
            before = from_document(found) if found else Stored(tenant, channel, id, created_at=datetime.now(UTC))
            if version is not None and version != before.version:
                raise conflict("The account was changed since it was read.", {"version": before.version})
            after, secrets = change(before, self._opened(before, found))
            if (saved := await self._save(after, secrets)) is not None:
                await self._learn(saved)
                await self._tell(saved)
                return from_document(saved)
        raise StoreAway("the account is being changed by many at once")

    async def _save(self, stored: Stored, secrets: Mapping[str, tuple[str, ...]]) -> Document | None:
        """None if somebody was faster. The time is the server's, by which other processes find what is new."""
        sealed = self._vault.seal(stored.place, json.dumps({name: list(values) for name, values in secrets.items()}).encode())
        where = {"_id": stored.name, "tenant": stored.tenant, "version": stored.version}
        change = {
            "$set": to_document(stored, sealed),
            "$inc": {"version": 1},
            "$currentDate": {"changed_at": True},
        }
        async with reaching():
            try:
                found: Document | None = await self._accounts.find_one_and_update(
                    where, change, upsert=stored.version == 0, return_document=True
                )
            except DuplicateKeyError:
                return None
        return found

    async def _tell(self, saved: Document) -> None:
        """Announce what is stored until it is what was announced: two processes may change an account at once, and the last
        announcement must be of the last change. Raises BrokerAway: then the caller tries again, and so does every start."""
        while self._announce:
            known = self._known.get((saved["channel"], saved["account"]))
            if not isinstance(known, Connected):
                return
            await self._announce(known)
            found = await self._found(saved["channel"], saved["account"])
            if found is None or found["version"] == saved["version"]:
                return
            saved = found
            await self._learn(saved)

    # -- from documents to values

    def _model(self, channel: str) -> type[Account]:
        if why := self._registry.broken.get(channel):
            raise Problem(409, "channel_broken", f"The channel {channel} cannot be loaded: {why}")
        found = self._registry.channels.get(channel)
        if found is None:
            raise not_found("channel")
        return found.account

    async def _found(self, channel: str, id: str) -> Document | None:
        async with reaching():
            found: Document | None = await self._accounts.find_one({"_id": f"{channel}/{id}"})
        return found

    async def _look_up(self, channel: str, id: str) -> Connected | AccountBroken | None:
        if not ID.fullmatch(id):
            return None
        if self.away:  # known already: do not let every stranger wait for a store that does not answer
            raise StoreAway("accounts")
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await self._found(channel, id)
                if found is not None:
                    await self._learn(found)
        except TimeoutError as error:
            raise StoreAway("accounts") from error
        return self._known.get((channel, id))

    async def _learn(self, document: Document) -> None:
        """Keep the account in memory, unless a newer version is there."""
        key = (document["channel"], document["account"])
        if self._versions.get(key, 0) >= document["version"]:
            return
        connected = await self._connected(document)
        if self._versions.get(key, 0) >= document["version"]:
            return
        self._versions[key], self._known[key] = document["version"], connected
        door = self._by_door.setdefault((document["tenant"], document["channel"]), {})
        if isinstance(connected, Connected) and connected.stored.state != "removed":
            door[document["account"]] = connected
        else:
            door.pop(document["account"], None)
        changed: datetime = document["changed_at"]
        self._newest = max(self._newest, changed) if self._newest else changed

    async def _connected(self, document: Document) -> Connected | AccountBroken:
        stored = from_document(document)
        channel = self._registry.channels.get(stored.channel)
        try:
            if channel is None:
                raise AccountBroken(f"channel {stored.channel}: {self._registry.broken.get(stored.channel, 'not installed')}")
            tenant_key = await self._keyring.tenant_key(stored.tenant)
            if stored.state == "removed":
                return Connected(channel, Account(tenant=stored.tenant, id=stored.id), stored, tenant_key)
            fields = {**stored.config, **self._open(stored, document)}
            return Connected(channel, validated(channel.account, stored.tenant, stored.id, fields), stored, tenant_key)
        except AccountBroken as error:
            broken = error
        except KeyError:
            broken = AccountBroken(f"there is no tenant {stored.tenant}")
        except Unsealable:
            broken = AccountBroken("its secrets were sealed with another master key")
        except Problem as problem:
            names = ", ".join(one["at"] for one in problem.more["fields"])
            broken = AccountBroken(f"its channel no longer takes what is stored: {names}")
        log().error("account_broken", tenant=stored.tenant, channel=stored.channel, account=stored.id, reason=str(broken))
        return broken

    def _opened(self, stored: Stored, document: Document | None) -> Secrets:
        """What cannot be opened any more is asked for again: whoever changes the account must give it anew."""
        try:
            return self._open(stored, document)
        except Unsealable:
            return {}

    def _open(self, stored: Stored, document: Document | None) -> dict[str, tuple[str, ...]]:
        """Raises Unsealable."""
        if document is None or stored.state == "removed":
            return {}
        opened = json.loads(self._vault.open(stored.place, bytes(document["sealed"])))
        return {name: tuple(values) for name, values in opened.items()}
