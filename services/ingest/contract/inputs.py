"""What comes in: the raw input, places in an untrusted document, the items in it, and the base of payload models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

JSON = Any
Moment = Annotated[datetime, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]
"""A time in a payload: ISO 8601, or Unix seconds or milliseconds, as number or text. Without a zone it is UTC."""

NEVER = datetime.min.replace(tzinfo=UTC)


class Payload(BaseModel):
    """Base of payload models: only the fields that are read; others are ignored, and masked where bodies are shown.
    Declare a time as `Moment`."""

    # Ids are texts for us, also where a provider writes one as a number.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, coerce_numbers_to_str=True)


class CamelPayload(Payload):
    """The same for providers that writeNamesLikeThis: the model is written_like_this."""

    model_config = ConfigDict(alias_generator=to_camel)


class Unreadable(Exception):
    """The whole input cannot be read: it is quarantined with this reason."""


class Refused(Exception):
    """The signature, token or challenge is wrong: 401, counted, body not kept."""


_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def _whole(document: JSON) -> JSON:
    text = json.dumps(document, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


@dataclass(frozen=True)
class Raw:
    """One thing a provider gave us, exactly as it came: a request, a page, a frame or a mail. This is what `hilo.raw` keeps.
    Header names are in lower case; `url` is as the provider called it, before any proxy."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    url: str = ""
    received_at: datetime = NEVER
    door: str = "webhook"

    def json(self) -> JSON:
        """The document. Half of a surrogate pair (an emoji cut in two) becomes U+FFFD: no UTF-8 could carry it further."""
        try:
            return from_json(self.body)
        except ValueError:  # half a pair among other things, of which the standard library reads some
            return self._lenient()

    def _lenient(self) -> JSON:
        try:
            document = json.loads(self.body)
            return _whole(document) if _HALF.search(self.body) else document
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"body is not JSON: {type(error).__name__}") from error

    def form(self) -> list[tuple[str, str]]:
        try:
            return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body))
        except ValueError as error:
            raise Unreadable("body is not a form") from error


@dataclass(frozen=True)
class Item:
    """One fact-to-be: a self-contained JSON slice, which can be quarantined, mended and replayed alone. `to` is the
    provider's id for our side, where one webhook serves several accounts; `broken` says why the slice has not even the
    expected outer shape."""

    kind: str
    data: JSON
    path: str = ""
    to: str | None = None
    broken: str | None = None


@lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[tuple[str, int | None], ...]:
    """The names in a path, each with the number that it is in a list."""
    names = filter(None, path.replace("]", "").replace("[", ".").split("."))
    return tuple((name, int(name) if name.isdecimal() else None) for name in names)


@dataclass(frozen=True, slots=True)
class Node:
    """A place in an untrusted document. Its methods never raise: what has the wrong shape becomes a broken item."""

    value: JSON
    path: str = ""

    def get(self, path: str) -> JSON:
        here, steps = self.value, _steps(path)
        if len(steps) == 1 and isinstance(here, dict):  # nearly always
            return here.get(steps[0][0])
        for name, number in steps:
            if isinstance(here, dict):
                here = here.get(name)
            elif isinstance(here, list) and number is not None and number < len(here):
                here = here[number]
            else:
                return None
        return here

    def walk(self, path: str) -> Iterable[Node]:
        """Every place under `path`; `[]` stands for each element of a list. Absent is nothing, misshapen is a broken node."""
        head, bracket, rest = path.partition("[]")
        value = self.get(head)
        if value is None:
            return ()
        where = self._under(head)
        if not bracket:
            return (Node(value, where),)
        if not isinstance(value, list):
            return (Node(_Broken(f"expected a list, found {type(value).__name__}", value), where),)
        places = (Node(element, f"{where}[{index}]") for index, element in enumerate(value))
        return (found for place in places for found in place.walk(rest.removeprefix("."))) if rest else places

    def item(self, kind: str | None, *, around: JSON = None, to: JSON = None) -> Item:
        """This place as an item of `kind`; `around` is what it needs from outside, found as `around` in its model."""
        if isinstance(self.value, _Broken):
            return Item(kind or "?", self.value.value, self.path, broken=self.value.reason)
        if not isinstance(self.value, dict):
            return Item(kind or "?", self.value, self.path, broken=f"expected an object, found {type(self.value).__name__}")
        data = self.value if around is None else {**self.value, "around": around}
        if not isinstance(kind, str) or not kind:
            return Item("?", data, self.path, _text(to), broken="it does not say what kind it is")
        return Item(kind, data, self.path, _text(to))

    def each(self, path: str, *, kind: str, prefix: str = "", around: JSON = None, to: JSON = None) -> Iterator[Item]:
        """An item for each place under `path`; `kind` is the name of the field that tells its kind."""
        for node in self.walk(path):
            name = node.get(kind)
            yield node.item(prefix + name if isinstance(name, str) else None, around=around, to=to)

    def others(self, *known: str, prefix: str = "", around: JSON = None, to: JSON = None) -> Iterator[Item]:
        """An item per key that is not `known`, the key being its kind. Ends most unpack functions: what the provider
        added since is then counted under its name, never dropped."""
        if isinstance(self.value, dict):
            for key in self.value:
                if key not in known:
                    value = self.value[key]
                    data = {**value, "around": around} if around is not None and isinstance(value, dict) else value
                    yield Item(prefix + key, data, self._under(key), _text(to))
        elif self.value is not None:
            yield self.item(None)

    def _under(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path and name else self.path or name


@dataclass(frozen=True)
class _Broken:
    reason: str
    value: JSON


def _text(value: JSON) -> str | None:
    return None if value is None else str(value)


def each(path: str, *, kind: str) -> Callable[[Raw], Iterable[Item]]:
    """The `unpack` of most providers: a list at `path` (or the body itself when empty), and a field that tells the kind."""
    return lambda raw: Node(raw.json()).each(path, kind=kind)
