"""Which channels this installation has, and telling the others: declarations and accounts on hilo.channels."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Any

from services.common import topics
from services.common.cloudevents import Event
from services.common.events import AccountDescribed, ChannelDeclared, Data
from services.common.identifiers import derived_event_id
from services.common.kafka import Publisher
from services.ingest.accounts import Connected
from services.ingest.channels import BUILT_IN
from services.ingest.contract import GROUP, Channel, Registry, declared, described, registry
from services.ingest.settings import IngestSettings


def find_channels(settings: IngestSettings) -> Registry:
    """Every channel: built in, installed and declared in YAML. One that cannot be loaded is listed as broken with the reason;
    the others run."""
    return registry(BUILT_IN, entry_points(group=GROUP), settings.channels_dir)


def declaration(channel: Channel[Any]) -> Event[Data]:
    data = declared(channel)
    return _event(data, "", data.name, "")


def description(account: Connected) -> Event[Data]:
    """An account without its secrets; of one that was removed, little more than that."""
    stored = account.stored
    if stored.state == "removed":
        data = AccountDescribed(
            tenant=stored.tenant, channel=stored.channel, account=stored.id, title=stored.title, state="removed"
        )
    else:
        data = described(
            account.channel,
            account.account,
            title=stored.title or account.channel.title,
            queue=stored.queue,
            language=stored.language,
            state=stored.state,
            hours=stored.hours,
        )
    return _event(data, stored.tenant, stored.channel, stored.id)


def _event(data: ChannelDeclared | AccountDescribed, tenant: str, channel: str, account: str) -> Event[Data]:
    """What says the same has the same id, whichever process says it."""
    key = "/".join(filter(None, (tenant, channel, account)))
    identifier = derived_event_id(key, data.type, data.model_dump_json())
    return Event(identifier, tenant, key, datetime.now(UTC), data, channel, account)


class Directory:
    """Publishes what others may know. At every start all of it, since an announcement may have been lost with its process."""

    def __init__(self, publisher: Publisher, registry: Registry) -> None:
        self._publisher, self._registry = publisher, registry

    async def announce(self, account: Connected) -> None:
        """Raises BrokerAway."""
        await self._publisher.emit(topics.CHANNELS, [description(account)])

    async def announce_all(self, accounts: Iterable[Connected]) -> None:
        """Raises BrokerAway."""
        known = [declaration(channel) for channel in self._registry.channels.values()]
        await self._publisher.emit(topics.CHANNELS, [*known, *map(description, accounts)])
