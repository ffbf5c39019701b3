"""Which channels exist: the built-in tuple, installed packages by entry point, and YAML files of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from services.ingest.contract.channel import Channel, Misdeclared
from services.ingest.contract.declarative import load

GROUP = "hilo.channels"


@dataclass
class Registry:
    """`broken` names what could not be loaded and why: its webhooks answer 503, so that the provider keeps what it has."""

    channels: dict[str, Channel[Any]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, find: Callable[[], object]) -> None:
        """One broken plug-in must not stop the other channels, whatever it raises."""
        try:
            channel = find()
            if not isinstance(channel, Channel):
                raise Misdeclared(f"{name} is a {type(channel).__name__}, not a Channel; point to the CHANNEL value.")
            if channel.name != name:
                raise Misdeclared(f"{name} declares name='{channel.name}'; both must be the same, it stands in URLs and ids.")
            if name in self.channels:
                raise Misdeclared(f"{name} exists already; choose another name, the first one stays.")
            self.channels[name] = channel
        except Exception as error:
            self.broken[name] = f"{type(error).__name__}: {error}"


def registry(builtin: Iterable[Channel[Any]], installed: Iterable[EntryPoint] = (), folder: Path | None = None) -> Registry:
    """Built-in first, then installed (`importlib.metadata.entry_points(group=GROUP)`), then `folder`/*.yaml."""
    found = Registry()
    for channel in builtin:
        found.add(channel.name, partial(_itself, channel))
    for point in installed:
        found.add(point.name, point.load)
    for file in sorted(folder.glob("*.yaml")) if folder else ():
        found.add(file.stem, partial(load, file))
    return found


def _itself(channel: Channel[Any]) -> Channel[Any]:
    return channel
