"""What waits on one document and belongs to another: receipts by piece, and what a queued message knew. Pure.

Whoever writes such a document reads it afterwards and passes on what it holds. Of two writers who meet there at least one
sees what the other wrote, so everything arrives, in whatever order the topics were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.timeline.facets import Change, Value
from services.timeline.order import BOTTOM, NOWHERE, TOP

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """`passed` must be written before `wiped`: words leave the pending entry only when the other one has them. `shown` are
    the entries that a waiting document stands for."""

    passed: tuple[Change, ...] = ()
    wiped: tuple[Change, ...] = ()
    shown: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)


def bind(documents: Iterable[Document]) -> Bound:
    passed: list[Change] = []
    wiped: list[Change] = []
    shown: dict[bytes, tuple[bytes, ...]] = {}
    for document in documents:
        entry = bytes(document["_id"])
        if "to" in document or "pend" in document:
            found = [bytes(document[name]["id"]) for name in ("pend", "to") if name in document]
            shown[entry] = tuple(found)
            passed.extend(_receipts(document, target) for target in found)
        elif "gone" in document:
            pieces = list(document["gone"].values())
            shown[entry] = (entry, *(bytes(piece["to"]) for piece in pieces))
            passed.extend(_knowledge(document, piece) for piece in pieces)
            if _complete(document, pieces):
                wiped.append(Change(entry, {"c": {"v": TOP}}, {"k": NOWHERE, "c0": {"v": BOTTOM}}))
    kept = tuple(change for change in passed if change.highest or change.lowest)
    return Bound(kept, tuple(wiped), shown)


def _receipts(document: Document, target: bytes) -> Change:
    lowest: dict[str, Value] = {f"st.{state}": ms for state, ms in document.get("st", {}).items()}
    highest: dict[str, Value] = {"err": document["err"]} if "err" in document else {}
    return Change(target, highest, lowest)


def _knowledge(document: Document, piece: Document) -> Change:
    """Which conversation it belongs to and who wrote it; the words too, where the send result brought none."""
    highest: dict[str, Value] = {name: document[name] for name in ("cv", "au") if name in document}
    lowest: dict[str, Value] = {}
    if _waits_for_words(piece) and _has_words(document):
        highest["c"] = document["c"]
        if "parts" in document.get("c0", {}):
            lowest["c0"] = document["c0"]
    return Change(bytes(piece["to"]), highest, lowest)


def _complete(document: Document, pieces: list[Document]) -> bool:
    """All pieces are sent, and no words are kept here that are nowhere else."""
    if len(pieces) < max(int(piece["n"]) for piece in pieces):
        return False
    return all(not piece["bare"] or (_waits_for_words(piece) and _has_words(document)) for piece in pieces)


def _waits_for_words(piece: Document) -> bool:
    return bool(piece["bare"]) and piece["n"] == 1


def _has_words(document: Document) -> bool:
    return "parts" in document.get("c", {})
