"""docs/settings.md: every environment variable of every process."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.cli.docs.markdown import GENERATED, code, table
from services.cli.docs.markdown import page as joined
from services.cli.remote import ClientSettings
from services.common.settings import CommonSettings
from services.identity.settings import IdentitySettings
from services.ingest.media.settings import MediaSettings
from services.ingest.outbound.settings import OutboundSettings
from services.ingest.settings import IngestSettings
from services.router.settings import RouterSettings
from services.simulator.settings import SimulatorSettings
from services.timeline.settings import TimelineSettings

PREFIX = "HILO_"
PARTS: tuple[tuple[str, type[CommonSettings]], ...] = (
    ("Every process", CommonSettings),
    ("Ingest: the doors, and also its two workers", IngestSettings),
    ("Outbound worker (`services.ingest.outbound`)", OutboundSettings),
    ("Media worker (`services.ingest.media`)", MediaSettings),
    ("Identity", IdentitySettings),
    ("Router", RouterSettings),
    ("Timeline", TimelineSettings),
    ("The `hilo` command", ClientSettings),
    ("Simulator (never in production)", SimulatorSettings),
)
INTRODUCTION = """
Settings are environment variables, read and checked once, at start: a process with a wrong one says which and why, and ends
with 78. A variable that a process does not know is ignored, so all processes may be given the same ones. Times are in seconds
(`_S`), sizes in bytes, unless the name says otherwise. Secrets are never logged."""


def own(model: type[CommonSettings]) -> dict[str, FieldInfo]:
    """The fields that this class declares, or declares with another default than its parent."""
    parent = model.__mro__[1]
    inherited: dict[str, FieldInfo] = getattr(parent, "model_fields", {})
    return {
        name: field
        for name, field in model.model_fields.items()
        if name not in inherited or field.default != inherited[name].default
    }


def text() -> str:
    blocks = []
    for title, model in PARTS:
        rows = [
            (code(PREFIX + name.upper()), type_name(field.annotation), _default(field), field.description or "")
            for name, field in own(model).items()
        ]
        blocks += [f"## {title}", table(("name", "type", "default", "meaning"), rows)]
    return joined("# Settings", GENERATED, INTRODUCTION, *blocks)


def type_name(hint: Any) -> str:
    """As somebody who writes the variable needs to know it."""
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_name(one) for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is dict:
        return "JSON object"
    if get_origin(hint) is tuple:
        return "list, with commas"
    names: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        Path: "path",
        SecretStr: "secret",
    }
    return names[hint]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return code(f"{value:g}" if isinstance(value, float) and value < 1e6 else value)
