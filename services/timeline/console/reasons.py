"""Short codes of the other services as sentences: why somebody got a conversation, why a command cannot be done. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.timeline.console.texts import known

Text = Callable[..., str]


def assignment(why: str, t: Text) -> str:
    """`by=auto rule=longest_free language=es load=2/12 of=3` in words. What is no such list is said as it stands."""
    facts = {name: value for name, _, value in (word.partition("=") for word in why.split())}
    if "by" not in facts:
        return change(why, t)
    said = [t(f"why_rule_{facts['rule']}") if known(f"why_rule_{facts.get('rule')}") else t(f"why_by_{facts['by']}")]
    if spoken := facts.get("language"):
        said.append(t("why_language", language=language(spoken, t)))
    if unspoken := facts.get("nobody_speaks"):
        said.append(t("why_nobody_speaks", language=language(unspoken, t)))
    if load := facts.get("load"):
        had, _, room = load.partition("/")
        said.append(t("why_load", had=had, room=room))
    if (others := facts.get("of", "1")) != "1":
        said.append(t("why_of", n=others))
    if "overflow" in facts:
        said.append(t("why_overflow"))
    if "forced" in facts:
        said.append(t("why_forced"))
    return "; ".join(said)


def change(why: str, t: Text) -> str:
    """Why a conversation changed: our code in words, a person's own words as they wrote them."""
    name = f"why_{why}"
    return t(name) if known(name) else why


def language(code: str, t: Text) -> str:
    """A language by its name, where we know it."""
    name = f"lang_{code.split('-', maxsplit=1)[0]}"
    return t(name) if known(name) else code


def refusal(said: dict[str, Any], status: int, t: Text) -> str:
    """Why a command was not done: our sentence for its code, else what the service says itself."""
    name = f"e_{said.get('code')}"
    return t(name) if known(name) else str(said.get("detail") or said.get("code") or status)


def failure(reason: str | None, t: Text) -> str:
    """Why a message did not go out. Our own reasons have a sentence, a provider's is quoted."""
    name = f"r_{reason}"
    return t(name) if known(name) else reason or t("r_unsaid")


__all__ = ["assignment", "change", "failure", "language", "refusal"]
