"""Pollers and streams: the cursor moves, is used, and junk stops no reader."""

from __future__ import annotations

from functools import partial
from typing import Any

from services.ingest.contract.doors import Poll, Stream
from services.ingest.contract.inputs import Raw, Unreadable
from services.ingest.contract.kit.subject import JUNK, Runs, Subject


def cases(subject: Subject) -> Runs:
    for door in subject.channel.doors:
        if isinstance(door, Poll | Stream):
            yield f"{door.name}: junk does not stop the reader", partial(reader, subject, door)
        if isinstance(door, Poll):
            yield f"{door.name}: the cursor moves and repeats", partial(poll, subject, door)
        if isinstance(door, Stream):
            yield f"{door.name}: a frame's cursor leads the next connect", partial(stream, subject, door)


def reader(subject: Subject, door: Poll[Any] | Stream[Any]) -> None:
    for junk in JUNK:
        try:
            if isinstance(door, Poll):
                door.after("7", Raw(junk))
            else:
                door.cursor(Raw(junk))
        except Unreadable:
            continue
        except Exception as error:
            raise subject.fail(f"{door.name} stops at {junk[:20]!r}: {error!r}; it may raise Unreadable only.") from error


def poll(subject: Subject, door: Poll[Any]) -> None:
    for fixture in (f for f in subject.fixtures if f.raw.door == door.name):
        step = door.after(None, fixture.raw)
        assert step == door.after(None, fixture.raw), subject.fail("Poll.after is not a function of its arguments.")
        account = subject.accounts[0]
        assert step.cursor is None or door.request(account, None) != door.request(account, step.cursor), subject.fail(
            "Poll.request ignores the cursor: every page would be the first one."
        )


def stream(subject: Subject, door: Stream[Any]) -> None:
    for fixture in (f for f in subject.fixtures if f.raw.door == door.name):
        if (cursor := door.cursor(fixture.raw)) is not None:
            request = door.connect(subject.accounts[0], cursor)
            assert cursor in request.url + str(request.body) + str(request.headers) or door.catch_up, subject.fail(
                "Stream.connect does not use the cursor and there is no catch_up: what is said while we are away is lost."
            )
