"""Makes the demo's tenant, team, queues and accounts, through the doors an operator would use."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.local import casa
from deploy.local.stack import Stack
from services.common.auth import Keyring
from services.common.http import Http
from services.common.mongo import Mongo
from services.common.tenants import NumberForm, Tenants
from services.common.vault import vault


class NotSetUp(Exception):
    """A service refused what the demo asked of it: a bug, said in full."""


@dataclass(frozen=True, slots=True)
class Keys:
    admin: str
    agent: str


async def tenant(stack: Stack) -> Keys:
    """The shop's tenant with the form of its order numbers, an admin's key and the agent's, whose value the demo prints."""
    mongo = Mongo(stack.settings)
    await mongo.start()
    try:
        ring = Keyring(mongo, vault(stack.settings))
        admin = await ring.create_tenant(casa.TENANT)
        if admin is None:
            raise NotSetUp(f"the tenant {casa.TENANT} is there already")
        scopes = frozenset(("read", "write", "agent", "identity"))
        agent = await ring.create_key(casa.TENANT, "Inés Vidal", scopes, agent=casa.AGENT, value=casa.AGENT_KEY)
        await Tenants(mongo).add_form(casa.TENANT, NumberForm(casa.ORDER))
        return Keys(admin, agent)
    finally:
        await mongo.stop()


async def shop(stack: Stack, http: Http, keys: Keys, secrets: casa.Secrets) -> None:
    """Queues, team and accounts."""
    for queue in casa.QUEUES:
        await _put(http, stack.url("router", f"/v1/queues/{queue}"), {}, keys.admin)
    for agent, profile in casa.TEAM.items():
        await _put(http, stack.url("router", f"/v1/agents/{agent}"), profile, keys.admin)
    await _call(http, "POST", stack.url("router", f"/v1/agents/{casa.AGENT}/presence"), {"on": True}, keys.agent)
    for name, body in casa.connected(stack.ports, secrets).items():
        await _put(http, stack.url("ingest", f"/v1/accounts/{name}"), body, keys.admin)


async def _put(http: Http, url: str, body: dict[str, object], key: str) -> None:
    await _call(http, "PUT", url, body, key)


async def _call(http: Http, method: str, url: str, body: dict[str, object], key: str) -> None:
    answer = await http.service(method, url, casa.TENANT, body, credential=key, tries=3)
    if answer.status >= 300:
        raise NotSetUp(f"{method} {url}: {answer.status} {answer.body.decode(errors='replace')[:300]}")
