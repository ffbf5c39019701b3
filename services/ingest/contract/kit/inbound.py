"""Each fixture: the expected outcome, twice the same, nothing lost, and nothing personal in a log."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import partial

from services.common import events
from services.ingest.contract.kit.subject import JUNK, NOW, Fixture, Runs, Subject, timeless, told
from services.ingest.contract.normalize import FactEvent
from services.ingest.contract.redact import masked

WORDS = (b"", b"x", b"-1", b"null", b"99999999999999999999", b"\\ud800", b"\\u0000", b"0001-01-01T00:00:00")


def cases(subject: Subject, fixture: Fixture) -> Runs:
    yield "gives the expected outcome", partial(expected, subject, fixture)
    yield "nothing is quarantined by surprise", partial(surprises, subject, fixture)
    yield "what it fetches has a door", partial(fetches, subject, fixture)
    yield "twice gives the same ids", partial(same_twice, subject, fixture)
    yield "ids are unique and times aware", partial(sane, subject, fixture)
    yield "an id names one thing only", partial(one_thing, subject, fixture)
    yield "the party is the customer", partial(party, subject, fixture)
    yield "logs show no personal data", partial(masks, subject, fixture)
    yield "any mangled body is answered", partial(mangled, subject, fixture)
    if fixture.path.suffix == ".json":
        for junk in JUNK:
            yield f"{junk[:8]!r} instead is answered", partial(instead, subject, fixture, junk)


def expected(subject: Subject, fixture: Fixture) -> None:
    if not fixture.expected.exists():
        raise subject.fail(f"{fixture.expected.name} is missing. Run `hilo channel accept`, read what it wrote, and commit it.")
    assert json.loads(fixture.expected.read_text()) == told(subject.outcome(fixture.raw))


def surprises(subject: Subject, fixture: Fixture) -> None:
    for item in [] if fixture.bad else subject.outcome(fixture.raw).quarantined:
        raise subject.fail(
            f"fixture {fixture.name}: {item.path or 'body'} (kind '{item.kind}') is quarantined: {item.reason}. "
            f"Mend the payload model; or, if it should be refused, name the fixture bad_{fixture.name}."
        )


def fetches(subject: Subject, fixture: Fixture) -> None:
    for fetch in subject.outcome(fixture.raw).fetches:
        if fetch.door not in {door.name for door in subject.channel.doors}:
            raise subject.fail(
                f"a Fetch leads to door '{fetch.door}', which is not declared; add Fetched('{fetch.door}') to doors."
            )


def same_twice(subject: Subject, fixture: Fixture) -> None:
    """A second delivery an hour later differs in nothing but the time of receipt."""
    first, later = (subject.outcome(replace(fixture.raw, received_at=NOW + timedelta(hours=h))) for h in (0, 1))
    for outcome in (first, later):
        outcome.events[:] = map(timeless, outcome.events)
        outcome.live[:] = map(timeless, outcome.live)
    assert first == later, subject.fail(
        "the second delivery differs. Ids and times must come from the input alone: no now(), no random, no counters."
    )


def sane(subject: Subject, fixture: Fixture) -> None:
    found = subject.outcome(fixture.raw).events
    assert len({event.id for event in found}) == len(found), subject.fail(
        "two events of one input share an id; Fact.id must be unique, and revisions differ."
    )
    for event in found:
        assert event.time.tzinfo, subject.fail(
            f"{event.data.type} has a time without zone; providers' times are UTC unless they say otherwise."
        )


def one_thing(subject: Subject, fixture: Fixture) -> None:
    """Over all fixtures: the same id means the same thing, told the same way each time."""
    mine = {(event.account, event.data.provider_id) for event in subject.outcome(fixture.raw).events}
    told_by_id: dict[str, set[str]] = defaultdict(set)
    named: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for other in subject.fixtures:
        for event in subject.outcome(other.raw).events:
            told_by_id[event.id].add(timeless(event).data.model_copy(update={"place": 0}).model_dump_json())
            if thing := _thing(event):
                place = f"{other.name}[{event.data.place}]"
                named[event.account, event.data.provider_id][thing].add(place)
    for event in subject.outcome(fixture.raw).events:
        assert len(told_by_id[event.id]) == 1, subject.fail(
            f"two different facts are both '{event.data.provider_id}' ({event.data.type}). Prefix the chat where the provider "
            f"repeats its ids, and put what changes into revision."
        )
    for account, provider_id in mine:
        things = named[account, provider_id]
        alone = [thing for thing, places in things.items() if not any(places & o for t, o in things.items() if t != thing)]
        assert len(things) < 2 or not alone, subject.fail(
            f"'{provider_id}' names {' and '.join(sorted(things))}: they would be one entry. Prefix one of them."
        )


def _thing(event: FactEvent) -> str | None:
    """What an id stands for; None for facts about something that another fact brought."""
    match event.data:
        case events.Said() | events.MessageSent():
            return "a message"
        case events.Call():
            return "a call"
        case events.ReferralFollowed():
            return "a referral"
        case events.JourneyStep() | events.ConsentGiven() | events.ConsentWithdrawn() | events.IdentityAsserted():
            return event.data.type
    return None


def party(subject: Subject, fixture: Fixture) -> None:
    """An echo that is keyed by ourselves would put all customers' answers into one row."""
    ours = {
        str(getattr(account, name)) for account in subject.accounts for name in type(account).model_fields if name != "tenant"
    }
    for event in subject.outcome(fixture.raw).events:
        who, data = event.data.party, event.data
        assert who is None or who.value not in ours, subject.fail(
            f"{data.type} '{data.provider_id}' names our own account as its party; it is the customer's side, also when we wrote."
        )
        if isinstance(data, events.Said):
            assert who == data.sender.id, subject.fail("who wrote to us is the party")


def masks(subject: Subject, fixture: Fixture) -> None:
    printed = masked(subject.channel, fixture.raw)
    for event in subject.outcome(fixture.raw).events:
        for value in personal(event.data):
            assert value not in printed, subject.fail(f"{value!r} shows in logs; take its field out of Channel.shown.")


def personal(data: events.Fact) -> list[str]:
    sender = getattr(data, "sender", None)
    values = [part.text for part in getattr(data, "parts", ())]
    values += [sender.name, sender.id.value, *(e.identifier.value for e in sender.also)] if sender else []
    values += [data.party.value] if data.party else []
    return [json.dumps(value, ensure_ascii=False)[1:-1] for value in values if value and len(value) > 3]


def mangled(subject: Subject, fixture: Fixture) -> None:
    """Cut short, one byte changed, one value emptied or replaced: 300 of each, the same ones in every run."""
    chance, body = random.Random(fixture.name), fixture.raw.body  # noqa: S311  # a seeded choice, no secret
    words = re.findall(rb"[\w.+:-]+", body) or [b"x"]
    for _ in range(300):
        spot = chance.randrange(len(body) or 1)
        word, other = chance.choice(words), chance.choice((*WORDS, chance.choice(words)))
        flipped = body[:spot] + bytes([chance.randrange(256)]) + body[spot + 1 :]
        for changed in (body[:spot], flipped, body.replace(word, other)):
            subject.outcome(replace(fixture.raw, body=changed))


def instead(subject: Subject, fixture: Fixture, junk: bytes) -> None:
    try:
        outcome = subject.outcome(replace(fixture.raw, body=junk))
    except RecursionError as error:
        raise subject.fail("deep nesting breaks unpack.") from error
    assert not outcome.events, subject.fail(f"{junk[:20]!r} became an event; the model asks for too little.")
