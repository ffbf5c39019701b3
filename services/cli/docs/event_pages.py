"""docs/events: for every event its JSON Schema and a page with an example, and a list of all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from services.cli.docs.examples import examples
from services.cli.docs.markdown import GENERATED, code, page, sentence, table
from services.common import topics
from services.common.cloudevents import encode
from services.common.events import (
    MODELS,
    AccountDescribed,
    ChannelDeclared,
    ConversationEvent,
    CustomerChanged,
    Data,
    DeadDecided,
    DeadLettered,
    Fact,
    IdentityMapped,
    MessageAppended,
    ParticipantTyping,
    SendRequested,
    short,
)
from services.common.topics import Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTRODUCTION = """
Everything that happens is a [CloudEvent 1.0](https://cloudevents.io) in Kafka's binary mode: the attributes are `ce_*` headers
of the record, so that a consumer can route without reading the value, and the value is JSON.

- `ce_id` is a function of what it names: the same fact again, also by a replay, has the same id. Keep the ids that you have
  handled, or write in a way that twice is once: delivery is at least once.
- Order is kept within a key. Records are never re-keyed when customers merge: bind late, through `hilo.identity.map`.
- A field that has its default is left out of the value, `type` too where it can have one value only: `ce_type` always has it.
- A name ends in the version of its shape. Within a version fields are only added: ignore those that you do not know, and count
  types that you do not know. New ones come without notice.
- `ce_origin` is `live`, `backfill` or `replay`. Act on `live` only, if acting twice would hurt.
- On `hilo.customer.events` the same events carry `ce_customerid` and `ce_identityversion`.
- Facts have a `provider_id`, `received_at` (microseconds) and `place`; `at` is the provider's own time and may be missing.

A `key` inside an identifier stands for it wherever its value must not; it is a keyed hash, the same within a tenant."""


def files() -> dict[str, str]:
    """The whole folder, by file name."""
    found = {"README.md": _index()}
    for model in MODELS:
        found[f"{name_of(model)}.json"] = json.dumps(schema(model), indent=1, ensure_ascii=False) + "\n"
        found[f"{name_of(model)}.md"] = _page(model)
    return found


def types(model: type[Data]) -> tuple[str, ...]:
    return get_args(model.model_fields["type"].annotation)


def name_of(model: type[Data]) -> str:
    """The event's short name, or the model's where it stands for several: `message.received`, `journey.step`."""
    known = types(model)
    return short(known[0]) if len(known) == 1 else re.sub(r"(?<!^)(?=[A-Z])", ".", model.__name__).lower()


def schema(model: type[Data]) -> dict[str, Any]:
    return {"$schema": DIALECT, **model.model_json_schema()}


def where(model: type[Data]) -> tuple[Topic, ...]:
    """The topics that carry it."""
    if issubclass(model, ParticipantTyping):
        return (topics.LIVE,)
    if issubclass(model, Fact):
        return (topics.EVENTS, topics.CUSTOMER_EVENTS)
    if issubclass(model, ConversationEvent | MessageAppended):
        return (topics.CONVERSATION_EVENTS,)
    rest: dict[type[Data], Topic] = {
        IdentityMapped: topics.IDENTITY_MAP,
        CustomerChanged: topics.IDENTITY_CHANGES,
        SendRequested: topics.OUTBOUND,
        ChannelDeclared: topics.CHANNELS,
        AccountDescribed: topics.CHANNELS,
        DeadLettered: topics.DEAD,
        DeadDecided: topics.DEAD,
    }
    return (rest[model],)


def _index() -> str:
    rows = [
        (f"[`{name}`]({name_of(model)}.md)", code(*(topic.name for topic in where(model))), _first(model))
        for model in MODELS
        for name in types(model)
    ]
    return page("# Events", GENERATED, INTRODUCTION, table(("type", "topic", "says"), rows))


def _first(model: type[Data]) -> str:
    return meaning(model).partition(". ")[0].rstrip(".")


def meaning(model: type[Data]) -> str:
    """Its own, else that of what it is a kind of, unless that is only the base of all facts."""
    for one in model.__mro__:
        if one in (Data, Fact):
            break
        if one.__dict__.get("__doc__"):
            return sentence(one.__doc__)
    return ""


def _page(model: type[Data]) -> str:
    event = examples()[model]
    topic = where(model)[0]
    record = encode(topic.name, event)
    value = json.dumps(json.loads(record.value or b"{}"), indent=1, ensure_ascii=False)
    headers = "\n".join(f"{name}: {text.decode()}" for name, text in record.headers)
    known = types(model)
    return page(
        f"# {name_of(model)}",
        GENERATED,
        meaning(model),
        f"Types: {code(*known)}." if len(known) > 1 else f"Type: {code(*known)}.",
        f"On {code(*(one.name for one in where(model)))}, key: {topic.key}. Written by {topic.written_by}. "
        f"[JSON Schema]({name_of(model)}.json).",
        table(("field", "type", "default"), _fields(model)),
        "## Example",
        f"```\nkey: {event.key}\n{headers}\n```",
        f"```json\n{value}\n```",
    )


def _fields(model: type[Data]) -> Iterator[tuple[str, str, str]]:
    whole = schema(model)
    for name, field in whole["properties"].items():
        if name != "type":
            default = "required" if name in whole.get("required", ()) else json.dumps(field.get("default"), ensure_ascii=False)
            yield code(name), _type(field), default if default == "required" else ("" if default == "null" else code(default))


def _type(field: dict[str, Any]) -> str:
    """A property's type in words."""
    match field:
        case {"anyOf": options}:
            return _either(_type(one) for one in options)
        case {"$ref": ref}:
            return str(ref).rpartition("/")[2]
        case {"enum": values}:
            return code(*values)
        case {"const": value}:
            return code(value)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"object of {_type(values)}"
        case {"format": form}:
            return str(form)
        case {"type": kind}:
            return str(kind)
    return "anything"


def _either(names: Iterable[str]) -> str:
    found = list(names)
    return " or ".join(one for one in found if one != "null") + (" (or absent)" if "null" in found else "")
