"""What is sent: the same request for the same message, to the right thread, and every answer told apart."""

from __future__ import annotations

from functools import partial
from typing import Any

from services.common.events import Part, PartKind
from services.ingest.contract.kit.subject import Runs, Subject
from services.ingest.contract.outbound import fit, plan, read, request_for
from services.ingest.contract.sending import Outgoing, Request, Response, Result, Retry, Unknown

PIECE = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
DATA = {"name": "hello", "language": "de", "lat": "1.0", "lon": "2.0", "1": "Müller"}


def cases(subject: Subject) -> Runs:
    for name, leg in subject.channel.legs.items():
        for can in leg.sends:
            yield f"{name}: {can.kind} becomes a request, the same each time", partial(builds, subject, name, can.kind)
        if leg.sends:
            yield f"{name}: an answer goes to its thread", partial(thread_named, subject, name)
            yield f"{name}: every action builds", partial(actions, subject, name)
    yield "a long text is split within the limit", partial(splits, subject)
    yield "answers are told apart", partial(results, subject)
    yield "a handoff names what it answers", partial(handoff, subject)


def out(subject: Subject, leg: str, kind: PartKind = "text", **more: Any) -> Outgoing:
    """Something to send as an answer to what the fixtures show."""
    said = subject.said_on(leg)
    values: dict[str, Any] = {
        "id": PIECE,
        "leg": leg,
        "thread": said.thread if said else "thread-1",
        "part": _part(kind),
        "target": said.provider_id if said else "m-1",
        "context": said.context if said else {},
    }
    return Outgoing(**{**values, **more})


def _part(kind: PartKind) -> Part:
    match kind:
        case "text":
            return Part("text", text="Grüße, Ana")
        case "buttons":
            return Part("buttons", text="Passt das?", data={"yes": "Ja, gern", "no": "Nein"})
        case "template":
            return Part("template", name="hello", data=DATA)
    return Part(kind, text="caption", ref="https://media.example/ref-1", media_type="image/png", name="file.png", data=DATA)


def builds(subject: Subject, leg: str, kind: PartKind) -> None:
    wanted = out(subject, leg, kind, action="template" if kind == "template" else "message")
    first, second = (request_for(subject.channel, subject.accounts[0], wanted) for _ in range(2))
    assert first == second, subject.fail("building a request twice gives two requests; no now(), no random: use Outgoing.id.")
    assert first.url, subject.fail("the request has no URL.")


def thread_named(subject: Subject, leg: str) -> None:
    wanted = out(subject, leg)
    request = request_for(subject.channel, subject.accounts[0], wanted)
    assert names(request, wanted.thread), subject.fail(
        f"the request for leg '{leg}' does not name thread '{wanted.thread}': whom would it reach?"
    )


def names(request: Request, value: str) -> bool:
    written = f"{request.url} {request.body.decode(errors='replace')} {dict(request.headers)}"
    return value.lower() in written.lower()


def actions(subject: Subject, leg: str) -> None:
    assert subject.channel.send
    for action in subject.channel.send.requests:
        can = "template" if action == "template" else "text"
        request_for(subject.channel, subject.accounts[0], out(subject, leg, can, action=action))  # type: ignore[arg-type]


def splits(subject: Subject) -> None:
    for name in subject.channel.legs:
        can = subject.channel.can(name, "text")
        if can and can.size:
            pieces = plan(subject.channel, name, (Part("text", text="añb🙂 " * can.size),))
            assert len(pieces) > 1
            assert all(fit(piece.text or "", can) == len(piece.text or "") for piece in pieces)


def results(subject: Subject) -> None:
    leg = next(name for name, leg in subject.channel.legs.items() if leg.sends)
    wanted = out(subject, leg)
    request = request_for(subject.channel, subject.accounts[0], wanted)

    def given(response: Response | None) -> Result:
        return read(subject.channel, wanted, request, response)

    assert isinstance(given(None), Retry if request.idempotent else Unknown)
    if request.transport == "http":
        assert isinstance(given(Response(429, b"{}", {"retry-after": "3"})), Retry)
    assert not isinstance(given(Response(500, b"<html>")), Unknown if request.idempotent else Retry), subject.fail(
        "a 500 to a request that the provider does not recognise may not be tried again: the first may have been sent."
    )
    given(Response(200, b"not json"))


def handoff(subject: Subject) -> None:
    for one in subject.channel.handoffs:
        request = request_for(subject.channel, subject.accounts[0], out(subject, one.private, opens="public-77"))
        assert names(request, "public-77"), subject.fail(
            "the first private message does not name the public item it answers (Outgoing.opens)."
        )
