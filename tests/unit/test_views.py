"""Entries as readers see them, over documents of every shape that the projector writes: the stream, the REST API and what
OpenAPI declares say the same, and `rev` tells two states apart."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.common.identifiers import Visibility
from services.timeline.api import EntriesPage
from services.timeline.order import EDITED_RANK, NOWHERE, order_key, version
from services.timeline.views import Direction, EntryView, Status, entry_view

DECLARED = TypeAdapter(EntryView)

words, times, ids = st.text(max_size=8), st.integers(0, 4_000_000_000_000), st.binary(min_size=16, max_size=16)
ranks = st.sampled_from((0, 1, 2, EDITED_RANK))
versions = st.builds(version, ranks, times, st.integers(0, 9), ids)
pairs = st.lists(st.tuples(words, words).map(list), max_size=2)


def facet(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """With a version, and any of these fields."""
    return st.fixed_dictionaries({"v": versions}, optional=fields)


parts = st.fixed_dictionaries(
    {"k": st.sampled_from(("text", "image", "unsupported"))},
    optional={"tx": words, "mt": words, "nm": words, "sz": times, "dt": pairs, "rf": st.just(True), "sha": words},
)
content = facet(parts=st.lists(parts, max_size=3))
base = st.fixed_dictionaries(
    {
        "v": versions,
        "kd": st.sampled_from(("message", "comment", "call", "note")),
        "dr": st.sampled_from(get_args(Direction)),
        "ms": times,
        "rcv": times.map(lambda ms: ms * 1000 + 999),
        "pt": st.booleans(),
    },
    optional={
        **dict.fromkeys(("ch", "ac", "lg", "pid", "rt"), words),
        "i": st.one_of(words, st.lists(words, min_size=1, max_size=2)),
        "vs": st.sampled_from(get_args(Visibility)),
        "by": st.fixed_dictionaries({}, optional=dict.fromkeys(("n", "s", "i", "p"), words)),
    },
)
out = facet(
    id=words,
    state=st.sampled_from(get_args(Status)),
    reason=words,
    next=times,
    then=st.sampled_from(("nothing", "fix_account")),
)
data = facet(dt=pairs, state=words, why=words, duration=st.one_of(st.none(), st.floats(0, 9)), queue=words)
call = st.fixed_dictionaries({"v": versions, "ms": times}, optional={"direction": words})
stored = facet(sha=words, mt=words, sz=times, why=words)
gone = st.fixed_dictionaries({"v": versions, "to": ids, "n": st.integers(1, 2)}, optional={"bare": st.booleans()})
reaction = facet(e=st.one_of(st.none(), words), us=st.booleans())
receipts = st.fixed_dictionaries({}, optional={"delivered": times, "read": times})


def apart(facets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Equal versions would mean the same event."""
    return {name: {**facet, "v": facet["v"][:15] + name.encode().ljust(16)} for name, facet in facets.items()}


documents = st.fixed_dictionaries(
    {"_id": ids, "tn": st.just("acme"), "b": base},
    optional={
        "k": st.one_of(st.just(NOWHERE), st.builds(order_key, times, st.integers(0, 9), ids)),
        "c": content, "c0": content, "cv": facet(id=words), "out": out, "err": facet(code=words, then=words),
        "st": st.dictionaries(st.sampled_from(("sent", "delivered", "read", "failed")), times),
        "au": st.fixed_dictionaries({"v": versions, "kd": words}, optional={"id": words, "n": st.one_of(st.none(), words)}),
        "del": st.fixed_dictionaries({"v": versions, "by": words}, optional={"ms": times}),
        "rx": st.dictionaries(words, reaction, max_size=3), "md": st.dictionaries(st.sampled_from("012"), stored),
        "gone": st.dictionaries(st.sampled_from("12"), gone, min_size=1),
        "x": st.fixed_dictionaries({}, optional={"note": data, "started": call, "ended": call}).map(apart),
    },
)  # fmt: skip


@given(documents, receipts)
def test_the_stream_the_api_and_the_declared_form_say_the_same(document: dict[str, Any], marks: dict[str, int]) -> None:
    view = entry_view(document, marks)
    page = EntriesPage(items=[view], older=None, newer=None, customer_id=None, live="")

    declared = DECLARED.dump_json(DECLARED.validate_python(asdict(view)))
    assert orjson.loads(view.wire()) == orjson.loads(declared) == orjson.loads(page.model_dump_json())["items"][0]


@given(documents, documents, st.sampled_from(("b", "c", "st", "out", "rx", "md", "x", "cv", "del", "k")), receipts, receipts)
def test_rev_is_equal_where_readers_see_the_same_and_only_there(
    document: dict[str, Any], other: dict[str, Any], changed: str, marks: dict[str, int], later: dict[str, int]
) -> None:
    """Whatever order the store has a document's fields in, which is that of arrival."""
    after = {**document, changed: other[changed]} if changed in other else document
    one, two = entry_view(document, marks), entry_view(_turned(after), later)
    same = {**asdict(one), "rev": ""} == {**asdict(two), "rev": ""}

    assert (one.rev == two.rev) is same


def _turned(document: dict[str, Any]) -> dict[str, Any]:
    """With the fields of every document in it in another order."""
    return {name: _turned(value) if isinstance(value, dict) else value for name, value in reversed(document.items())}
