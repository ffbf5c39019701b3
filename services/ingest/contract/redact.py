"""The body as logs and consoles may show it: structure, and the values of the fields that are declared `shown`."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from services.ingest.contract.channel import Channel
from services.ingest.contract.inputs import Raw, Unreadable


def masked(channel: Channel[Any], raw: Raw) -> str:
    """Structure and declared values only; of what is not JSON, the size only."""
    try:
        return json.dumps(masked_slice(channel, raw.json()), ensure_ascii=False)
    except (Unreadable, RecursionError):
        return f"({len(raw.body)} bytes)"


def masked_slice(channel: Channel[Any], value: Any) -> Any:
    """The same for an item's slice."""
    return _mask(value, channel.shown, key="")


def _mask(value: Any, shown: Collection[str], key: str) -> Any:
    if isinstance(value, dict):
        return {name: _mask(inner, shown, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask(inner, shown, key) for inner in value]
    return value if key in shown or value is None or isinstance(value, bool) else "***"
