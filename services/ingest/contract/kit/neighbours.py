"""Each item of a batch: junk in its place harms no neighbour, an unknown kind is counted, a second copy changes nothing."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from functools import partial
from typing import Any

from services.common.events import Part
from services.ingest.contract.inputs import Item, Raw
from services.ingest.contract.kit.subject import TENANT_KEY, Fixture, Runs, Subject
from services.ingest.contract.normalize import Outcome, normalize

STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def cases(subject: Subject, fixture: Fixture) -> Runs:
    if fixture.path.suffix != ".json":
        return
    document = json.loads(fixture.raw.body)
    for item in subject.channel.unpack(fixture.raw):
        if item.broken:
            continue
        where = item.path or "body"
        yield f"{where} broken harms no neighbour", partial(isolated, subject, fixture, document, item)
        yield f"{where} of an unknown kind is counted", partial(unknown, subject, fixture, document, item)
        if item.path.endswith("]"):
            yield f"{where} twice in a batch", partial(doubled, subject, fixture, document, item)


def isolated(subject: Subject, fixture: Fixture, document: Any, item: Item) -> None:
    before = subject.outcome(fixture.raw)
    for junk in ("junk", 7, ["junk"]):
        after = subject.outcome(replace(fixture.raw, body=json.dumps(put(document, item.path, junk)).encode()))
        lost = _ids(before) - _ids(after)
        assert lost <= _ids(_alone(subject, item)), subject.fail(
            f"breaking {item.path} also lost events of its neighbours; unpack must walk with Node, which cannot raise."
        )
        assert after.quarantined or after.unused or not item.path, subject.fail(
            f"{item.path} was broken and nobody counted it."
        )


def _alone(subject: Subject, item: Item) -> Outcome:
    return normalize(replace(subject.channel, unpack=lambda *_: [item]), subject.accounts, Raw(b""), TENANT_KEY)


def _ids(outcome: Outcome) -> set[str]:
    return {event.id for event in (*outcome.events, *outcome.live)}


def unknown(subject: Subject, fixture: Fixture, document: Any, item: Item) -> None:
    parent, _, key = item.path.rpartition(".")
    path = parent if key == item.kind.rsplit(".", 1)[-1] else item.path
    changed = renamed(copy.deepcopy(at(document, path)), item.kind)
    if changed is None:
        return
    before = subject.outcome(fixture.raw)
    after = subject.outcome(replace(fixture.raw, body=json.dumps(put(document, path, changed)).encode()))
    alone = _alone(subject, item)
    meant_something = alone.normalized and not _noticed(alone) and not fixture.bad
    if after.items < before.items or (meant_something and _noticed(after) <= _noticed(before)):
        raise subject.fail(
            f"an unknown kind at {item.path or 'the body'} vanished: nobody counted it. End unpack with Node.others(), "
            f"and let it yield an Item for every kind, known or not."
        )


def _noticed(outcome: Outcome) -> int:
    """How much was counted as not understood, or is shown as a part that nobody can show."""
    parts: list[Part] = [part for event in outcome.events for part in getattr(event.data, "parts", ())]
    return len(outcome.unused) + len(outcome.quarantined) + sum(part.kind == "unsupported" for part in parts)


def doubled(subject: Subject, fixture: Fixture, document: Any, item: Item) -> None:
    before, doubled = subject.outcome(fixture.raw), copy.deepcopy(document)
    at(doubled, item.path[: item.path.rindex("[")]).append(copy.deepcopy(at(document, item.path)))
    after = subject.outcome(replace(fixture.raw, body=json.dumps(doubled).encode()))
    assert after.items > before.items, subject.fail(
        f"{item.path} twice in a batch was read once; unpack must look at every element."
    )
    assert _ids(after) == _ids(before), subject.fail("the same item twice got another id.")


def at(document: Any, path: str) -> Any:
    for name, index in STEP.findall(path):
        document = document[name] if name else document[int(index)]
    return document


def put(document: Any, path: str, value: Any) -> Any:
    """A copy of the document with `value` at `path`."""
    if not path:
        return value
    document = copy.deepcopy(document)
    *parents, (name, index) = STEP.findall(path)
    here = document
    for parent, number in parents:
        here = here[parent] if parent else here[int(number)]
    here[name or int(index)] = value
    return document


def renamed(value: Any, kind: str) -> Any:
    """The slice with the name of its kind changed, wherever that name is a value or a key; None when it is neither."""
    short = kind.rsplit(".", 1)[-1]
    if not isinstance(value, dict):
        return None
    changed = {("hilo_unknown" if k == short else k): ("hilo_unknown" if v == short else v) for k, v in value.items()}
    return changed if changed != value else None
