"""What a live stream listens to: a customer, a conversation, queues, agents, identifiers or a whole tenant."""

from __future__ import annotations

from dataclasses import dataclass

from services.timeline.reader import Reader

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Listen:
    """What was asked for. What it means changes: identifiers move between customers, conversations are joined."""

    customer: str | None = None
    conversation: str | None = None
    queues: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    tenant: bool = False

    @property
    def empty(self) -> bool:
        return not (self.tenant or self.customer or self.conversation or self.queues or self.agents or self.identifiers)


async def subjects(reader: Reader, tenant: str, listen: Listen) -> frozenset[str]:
    """The subjects of the journal that this means now. `m:` is where an identifier goes; `t:` is who types, which is never
    journaled."""
    if listen.tenant:
        return frozenset((EVERYTHING,))
    found = {f"q:{queue}" for queue in listen.queues} | {f"a:{agent}" for agent in listen.agents}
    found |= {f"{kind}:{one}" for one in listen.identifiers for kind in "it"}
    if listen.customer:
        present, identifiers = await reader.identifiers(tenant, listen.customer)
        found |= {f"c:{listen.customer}", f"c:{present or listen.customer}"}
        found |= {f"{kind}:{one}" for one in identifiers for kind in "it"}
        if present != listen.customer:  # merged away: its id leads to where most of them are, so each one's moves count
            found |= {f"m:{one}" for one in await reader.once(tenant, listen.customer)}
    if listen.conversation:
        found |= await _of_conversation(reader, tenant, listen.conversation)
    return frozenset(found)


async def _of_conversation(reader: Reader, tenant: str, conversation: str) -> set[str]:
    """The one asked for, the one it was joined into, and all that this one absorbed."""
    found = {f"v:{conversation}"}
    if row := await reader.conversation(tenant, conversation):
        found |= {f"v:{one}" for one in (row.id, *row.head.absorbed)}
        found |= {f"t:{leg.party}" for leg in row.head.legs}
    return found
