"""Which channels this installation has, and telling the others: declarations and accounts on hilo.channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    def __init__(self, publisher: Publisher, registry: Registry, known: Callable[[], Iterable[Connected]]) -> None:
        self._publisher, self._registry, self._known = publisher, registry, known

    async def start(self) -> None:
        """Raises BrokerAway."""
        channels = [declaration(channel) for channel in self._registry.channels.values()]
        await self._publisher.emit(topics.CHANNELS, [*channels, *map(description, self._known())])

    async def stop(self) -> None:
        """Nothing is held."""


async def announce(publisher: Publisher, account: Connected) -> None:
    """Raises BrokerAway."""
    await publisher.emit(topics.CHANNELS, [description(account)])
