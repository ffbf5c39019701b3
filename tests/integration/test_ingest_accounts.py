"""Accounts on a real MongoDB: one owner per id, secrets that only open in place, and a memory that outlives the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.common.auth import Keyring
from services.common.errors import Problem, StoreAway
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.ingest.accounts import AccountBroken, Accounts, Connected, Wish
from services.ingest.contract import Registry
from tests.ingesting import FIELDS, Pigeon, channels
from tests.waiting import until

Make = Callable[..., Awaitable[Accounts]]


@pytest.fixture
async def keyring(mongo: Mongo) -> Keyring:
    ring = Keyring(mongo, Vault(DEMO_KEY))
    await ring.create_tenant("acme")
    await ring.create_tenant("globex")
    return ring


@pytest.fixture
async def make(mongo: Mongo, keyring: Keyring) -> AsyncIterator[Make]:
    """Accounts as another process has them."""

    async def one(registry: Registry | None = None, vault: Vault | None = None, **more: object) -> Accounts:
        accounts = Accounts(mongo, vault or Vault(DEMO_KEY), keyring, registry or channels(), **more)  # type: ignore[arg-type]
        await accounts.start()
        return accounts

    yield one


async def test_a_connected_account_has_its_secrets_and_shows_none_of_them(make: Make) -> None:
    accounts = await make()
    stored = await accounts.put("acme", "pigeon", "main", Wish(FIELDS, title="Main number", queue="sales", language="de"))
    found = await accounts.get("pigeon", "main")

    assert found and isinstance(found.account, Pigeon)
    assert found.account.signing_key.all() == ("key-that-signs",)
    assert (found.tenant, found.id, stored.queue, stored.version) == ("acme", "main", "sales", 1)
    assert stored.secrets == {"api_key": 1, "signing_key": 1}
    assert stored.config == {"number": "+4930123456"}
    assert "key-that-signs" not in repr(found)
    assert "key-that-signs" not in repr(stored)


async def test_nothing_in_the_store_names_a_secret(make: Make, mongo: Mongo) -> None:
    await (await make()).put("acme", "pigeon", "main", Wish(FIELDS))
    document = await mongo.database("ingest")["accounts"].find_one({})

    assert "key-that-signs" not in str(document)
    assert b"key-that-signs" not in bytes(document["sealed"])  # type: ignore[index]


async def test_an_id_belongs_to_one_tenant_whatever_the_other_does(make: Make) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS))

    with pytest.raises(Problem) as taken:
        await accounts.put("globex", "pigeon", "main", Wish(FIELDS))
    assert (taken.value.status, taken.value.code) == (409, "account_taken")
    for attempt in (accounts.stored, accounts.remove):
        with pytest.raises(Problem) as absent:
            await attempt("globex", "pigeon", "main")
        assert absent.value.status == 404

    await accounts.remove("acme", "pigeon", "main")
    with pytest.raises(Problem):
        await accounts.put("globex", "pigeon", "main", Wish(FIELDS))


async def test_the_same_id_on_another_channel_is_another_account(make: Make) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS))
    await accounts.put("globex", "flock", "main", Wish(FIELDS))
    ours, theirs = await accounts.get("pigeon", "main"), await accounts.get("flock", "main")

    assert ours and theirs
    assert (ours.tenant, theirs.tenant) == ("acme", "globex")
    assert ours.tenant_key != theirs.tenant_key


async def test_two_who_connect_the_same_id_at_once_get_one_account(make: Make) -> None:
    one, other = await make(), await make()
    results = await asyncio.gather(
        one.put("acme", "pigeon", "main", Wish(FIELDS)),
        other.put("globex", "pigeon", "main", Wish(FIELDS)),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["Problem", "Stored"]


async def test_a_change_keeps_what_it_does_not_name(make: Make) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS, title="Main", hours={"mon": ["09:00", "17:00"]}))
    stored = await accounts.put("acme", "pigeon", "main", Wish({"number": "+4930999999"}, queue="vip"))
    found = await accounts.get("pigeon", "main")

    assert (stored.title, stored.queue, stored.hours, stored.version) == ("Main", "vip", {"mon": ["09:00", "17:00"]}, 2)
    assert found and isinstance(found.account, Pigeon)
    assert (found.account.number, found.account.api_key.reveal()) == ("+4930999999", "key-of-the-api")


async def test_a_change_of_an_older_version_is_refused_with_the_current_one(make: Make) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS))
    await accounts.put("acme", "pigeon", "main", Wish(queue="b"), version=1)

    with pytest.raises(Problem) as lost:
        await accounts.put("acme", "pigeon", "main", Wish(queue="c"), version=1)
    assert (lost.value.status, lost.value.code, lost.value.more) == (409, "version_lost", {"current": {"version": 2}})


async def test_a_missing_field_is_named_and_no_value_is(make: Make) -> None:
    with pytest.raises(Problem) as invalid:
        await (await make()).put("acme", "pigeon", "main", Wish({"api_key": ["hush-hush", 7], "number": "1"}))

    assert invalid.value.status == 422
    assert {one["at"] for one in invalid.value.more["fields"]} == {"api_key", "signing_key"}
    assert "hush-hush" not in str(invalid.value.more)
    assert invalid.value.__cause__ is None


async def test_a_rotated_secret_has_both_values_until_the_old_one_is_retired(make: Make) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS))

    async def values() -> tuple[str, ...]:
        found = await accounts.get("pigeon", "main")
        assert found and isinstance(found.account, Pigeon)
        return found.account.signing_key.all()

    stored = await accounts.rotate("acme", "pigeon", "main", "signing_key", add="second")
    assert (await values(), stored.secrets["signing_key"]) == (("second", "key-that-signs"), 2)
    await accounts.put("acme", "pigeon", "main", Wish({"signing_key": "second"}, title="x"))
    assert await values() == ("second", "key-that-signs")
    await accounts.rotate("acme", "pigeon", "main", "signing_key", retire=True)
    assert await values() == ("second",)
    with pytest.raises(Problem) as unknown:
        await accounts.rotate("acme", "pigeon", "main", "number", add="x")
    assert unknown.value.code == "secret_unknown"


async def test_a_removed_account_is_gone_and_comes_back_empty(make: Make, mongo: Mongo) -> None:
    accounts = await make()
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS, title="Old"))
    await accounts.remove("acme", "pigeon", "main")

    assert await accounts.get("pigeon", "main") is None
    assert await accounts.list("acme") == []
    with pytest.raises(Problem):  # its secrets are not there any more
        await accounts.put("acme", "pigeon", "main", Wish({"number": "+4930123456"}))

    stored = await accounts.put("acme", "pigeon", "main", Wish(FIELDS))
    assert (stored.title, stored.state, stored.version) == ("", "active", 3)


async def test_another_process_learns_of_a_change(make: Make) -> None:
    one, other = await make(), await make(refresh_s=0.02)
    running = asyncio.create_task(other.run())
    await one.put("acme", "pigeon", "main", Wish(FIELDS))
    assert await other.get("pigeon", "main")
    await one.rotate("acme", "pigeon", "main", "signing_key", add="second", retire=True)

    async def learned() -> bool:
        found = await other.get("pigeon", "main")
        return bool(found and isinstance(found.account, Pigeon) and found.account.signing_key.all() == ("second",))

    await until(learned)
    await one.remove("acme", "pigeon", "main")

    async def gone() -> bool:
        return await other.get("pigeon", "main") is None

    await until(gone)
    await other.stop()
    await running


async def test_while_the_store_is_away_known_accounts_work_and_only_the_store_could_tell_of_others(
    make: Make, keyring: Keyring, settings: CommonSettings
) -> None:
    await (await make()).put("acme", "pigeon", "main", Wish(FIELDS))
    passing = Mongo(settings.model_copy(update={"mongo_timeout_s": 1.0}))
    accounts = Accounts(passing, Vault(DEMO_KEY), Keyring(passing, Vault(DEMO_KEY)), channels(), refresh_s=0.02)
    await accounts.start()
    running = asyncio.create_task(accounts.run())
    passing.client.close()
    gone = Mongo(settings.model_copy(update={"mongo": _nowhere(settings), "mongo_timeout_s": 0.2}))
    accounts._accounts = gone.database("ingest")["accounts"]
    await until(lambda: accounts.away)

    assert await accounts.get("pigeon", "main")
    with pytest.raises(StoreAway):
        await accounts.get("pigeon", "other")

    await accounts.stop()
    await running
    await gone.stop()


def _nowhere(settings: CommonSettings) -> object:
    from pydantic import SecretStr

    return SecretStr("mongodb://127.0.0.1:1/?directConnection=true")


async def test_accounts_that_share_a_door_are_those_of_the_same_tenant_the_addressed_one_first(make: Make) -> None:
    accounts = await make()
    for tenant, name, number in (("acme", "b", "2"), ("acme", "a", "1"), ("globex", "c", "3")):
        await accounts.put(tenant, "flock", name, Wish({**FIELDS, "number": number}))
        await accounts.put(tenant, "pigeon", name, Wish(FIELDS))

    def ids(found: object) -> list[str]:
        return [one.id for one in found if isinstance(one, Connected)]  # type: ignore[attr-defined]

    assert ids(await accounts.sharing("flock", "a")) == ["a", "b"]
    assert ids(await accounts.sharing("flock", "c")) == ["c"]
    assert ids(await accounts.sharing("pigeon", "a")) == ["a"]
    assert ids(await accounts.sharing("flock", "nobody")) == []


async def test_an_account_that_cannot_be_used_says_so_and_is_not_unknown(make: Make) -> None:
    await (await make()).put("acme", "pigeon", "main", Wish(FIELDS))

    other_key = await make(vault=Vault(bytes(32)))
    with pytest.raises(AccountBroken, match="another master key"):
        await other_key.get("pigeon", "main")
    no_channel = await make(Registry({}, {"pigeon": "ImportError: gone"}))
    with pytest.raises(AccountBroken, match="ImportError: gone"):
        await no_channel.get("pigeon", "main")
    assert [one.id for one in await no_channel.list("acme")] == ["main"]


async def test_every_change_is_announced_and_the_last_announcement_is_of_the_last_change(make: Make) -> None:
    said: list[tuple[str, int]] = []
    late = asyncio.Event()

    async def announce(account: Connected) -> None:
        if account.stored.version == 1:
            await late.wait()
        said.append((account.stored.queue, account.stored.version))

    one, other = await make(announce=announce), await make(announce=announce)
    slow = asyncio.create_task(one.put("acme", "pigeon", "main", Wish(FIELDS, queue="first")))

    async def there() -> bool:
        return bool(await other.list("acme"))

    await until(there)
    await other.put("acme", "pigeon", "main", Wish(queue="second"))
    late.set()
    await slow

    assert said == [("second", 2), ("first", 1), ("second", 2)]
