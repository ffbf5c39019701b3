"""Reading the timeline on a real mongod: pages, filters, merges, conversations, inboxes, dead letters, channels."""

from __future__ import annotations

import asyncio
import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.common.cloudevents import Event
from services.common.events import (
    AccountDescribed,
    AccountHealth,
    Author,
    ChannelDeclared,
    ConversationAssigned,
    DeadDecided,
    DeadLettered,
    JourneyStep,
    LegDeclared,
    NoteAdded,
    Part,
    PostCommented,
    SlaHead,
)
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.timeline.order import key_of
from services.timeline.reader import Filters, Inbox, Page, Reader, Span
from tests.histories import (
    appended,
    at,
    changed,
    entry,
    event,
    fact,
    head,
    leg,
    mapped,
    pending,
    queued,
    said,
    sender,
    sent,
    stated,
)
from tests.timeline_parts import Log, projected, projector, started

TENANT = "acme"


async def walked(reader: Reader, customer: str, direction: str, size: int, filters: Filters = Filters()) -> list[str]:
    """The ids that a reader sees who goes through the whole history."""
    seen: list[str] = []
    span = Span(limit=size) if direction == "older" else Span(after=bytes(30), limit=size)
    while True:
        page = await reader.timeline(TENANT, customer, span, filters)
        assert page is not None
        if direction == "older":
            seen += [one.id for one in page.items]
            if page.older is None:
                return seen
            span = Span(before=key_of(page.older), limit=size)
        else:
            seen += [one.id for one in reversed(page.items)]
            if not page.items:
                return seen
            assert page.newer is not None
            span = Span(after=key_of(page.newer), limit=size)


def texts(page: Page | None) -> list[str | None]:
    assert page is not None
    return [one.text for one in page.items]


async def test_a_page_holds_all_channels_newest_first_and_its_cursors_lead_both_ways(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    written = [said(f"m{n}", str(n), n, ("ana", "ana-mail")[n % 2]) for n in range(7)]
    reader = await projected(mongo, mongo_settings, mapped("ana", "c1"), mapped("ana-mail", "c1"), *written)
    first = await reader.timeline(TENANT, "c1", Span(limit=3))
    assert first is not None
    assert first.older is not None
    assert first.newer is not None
    second = await reader.timeline(TENANT, "c1", Span(before=key_of(first.older), limit=3))
    assert second is not None
    assert second.newer is not None
    back = await reader.timeline(TENANT, "c1", Span(after=key_of(second.newer), limit=3))

    assert (texts(first), texts(second), texts(back)) == (["6", "5", "4"], ["3", "2", "1"], ["6", "5", "4"])
    assert first.customer_id == "c1"
    last = await reader.timeline(TENANT, "c1", Span(before=key_of(second.older or ""), limit=3))
    assert (texts(last), last.older if last else "") == (["0"], None)
    nothing = await reader.timeline(TENANT, "c1", Span(after=key_of(first.newer), limit=3))
    assert (texts(nothing), nothing.newer if nothing else "") == ([], first.newer)


@pytest.mark.parametrize("direction", ["older", "newer"])
async def test_paging_is_stable_while_entries_arrive_late_and_are_revised(
    mongo: Mongo, mongo_settings: CommonSettings, direction: str
) -> None:
    rng, log = random.Random(direction), Log()
    before = [said(f"m{n}", "x", rng.randrange(40), f"ana{n % 3}") for n in range(120)]
    reader = await projected(mongo, mongo_settings, *(mapped(f"ana{n}", "c1") for n in range(3)), *before, log=log)
    writer, done = projector(await started(mongo), mongo_settings), asyncio.Event()

    async def write() -> None:
        number = 1000
        while not done.is_set():
            number += 1
            late = said(f"m{number}", "tarde", rng.randrange(40), f"ana{number % 3}")
            await writer.handle(log.add([late, appended("v1", f"m{rng.randrange(120)}", after=number)]))

    writing = asyncio.create_task(write())
    seen = await walked(reader, "c1", direction, rng.randrange(3, 9))
    done.set()
    await writing
    existed = {entry(one.provider_id) for one in before}

    assert sorted(one for one in seen if one in existed) == sorted(existed)
    assert len(seen) == len(set(seen))


async def test_a_merge_and_its_undoing_move_the_history_without_rewriting_it(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log = Log()
    reader = await projected(
        mongo, mongo_settings, mapped("ana", "c1"), mapped("bea", "c2"), said("m1", "a", 1), said("m2", "b", 2, "bea"), log=log
    )
    writer = projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([mapped("bea", "c1", version=2, previous="c2")]))
    merged, loser = await reader.timeline(TENANT, "c1"), await reader.timeline(TENANT, "c2")
    await writer.handle(log.add([mapped("bea", "c2", version=3, previous="c1"), mapped("bea", "c1", version=2, previous="c2")]))
    apart, again = await reader.timeline(TENANT, "c1"), await reader.timeline(TENANT, "c2")

    assert texts(merged) == texts(loser) == ["b", "a"]
    assert loser is not None
    assert loser.customer_id == "c1"
    assert (texts(apart), texts(again)) == (["a"], ["b"])
    assert await reader.timeline(TENANT, "never") is None


async def test_more_than_200_identifiers_are_read_in_groups(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    maps = [mapped(f"id{n}", "c1") for n in range(250)]
    written = [said(f"m{n}", str(n), n * 37 % 250, f"id{n}") for n in range(250)]
    reader = await projected(mongo, mongo_settings, *maps, *written)
    seen = await walked(reader, "c1", "older", 20)

    assert seen == [entry(one.provider_id) for one in sorted(written, key=lambda one: one.at or one.received_at, reverse=True)]
    assert sorted(await walked(reader, "c1", "newer", 60)) == sorted(seen)


async def test_filters_keep_their_cursors_valid(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    public = [
        fact(PostCommented, f"p{n}", n, sender=sender("ana"), parts=(Part("text", f"p{n}"),), visibility="public")
        for n in (3, 6)
    ]
    reader = await projected(
        mongo, mongo_settings, mapped("ana", "c1"), *(said(f"m{n}", f"m{n}", n) for n in range(9)), *public
    )

    async def page(filters: Filters, before: str | None = None) -> Page:
        found = await reader.timeline(TENANT, "c1", Span(before=key_of(before) if before else None, limit=2), filters)
        assert found is not None
        return found

    first = await page(Filters())
    assert texts(await page(Filters(visibility="public"), first.older)) == ["p6", "p3"]
    assert texts(await page(Filters(kinds=("comment",)), first.older)) == ["p6", "p3"]
    assert texts(await page(Filters(kinds=("message",)), first.older)) == ["m6", "m5"]
    assert texts(await page(Filters(kinds=("comment", "message")), first.older)) == ["p6", "m6"]
    assert texts(await page(Filters(channel="whatsapp"))) == []
    assert await walked(reader, "c1", "older", 1, Filters(visibility="public")) == [entry("p6"), entry("p3")]


async def test_a_filter_that_matches_little_walks_the_whole_history_in_windows(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    written = [
        said(f"m{n}", str(n), n, visibility="public" if n in (0, 499, 500, 501, 1200) else "private") for n in range(1300)
    ]
    reader = await projected(mongo, mongo_settings, mapped("ana", "c1"), *written)
    expected = [entry(f"m{n}") for n in (1200, 501, 500, 499, 0)]

    assert await walked(reader, "c1", "older", 2, Filters(visibility="public")) == expected
    page = await reader.timeline(TENANT, "c1", Span(after=bytes(30), limit=10), Filters(visibility="public"))
    assert page is not None
    assert [one.id for one in page.items] == expected


async def test_a_filtered_read_out_of_time_answers_a_short_page_that_goes_on(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    written = [said(f"m{n}", str(n), n, visibility="public" if n == 3 else "private") for n in range(1300)]
    await projected(mongo, mongo_settings, mapped("ana", "c1"), *written)
    hasty = Reader(mongo, read_limit_ms=1)
    page = await hasty.timeline(TENANT, "c1", Span(limit=5), Filters(visibility="public"))

    assert page is not None
    assert (page.items, page.older is None) == ((), False)
    assert await walked(hasty, "c1", "older", 5, Filters(visibility="public")) == [entry("m3")]


# -- conversations ------------------------------------------------------------------------------------------------------


def step(name: str, seconds: float) -> JourneyStep:
    return fact(JourneyStep, name, seconds, sender=sender("ana"), type="hilo.page.viewed.v1", title=name)


async def test_a_conversation_is_one_thread_with_the_journey_before_it(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    reader = await projected(
        mongo, mongo_settings, mapped("ana", "c1"), step("faq", -60), said("m0", "otro tema", -30), said("m1", "roto", 1),
        changed("v1", 1, with_head={"customer": "c1"}), appended("v1", "m1"), step("after", 5),
        stated(ConversationAssigned, "v1", 2, 2, type="hilo.conversation.assigned.v1", agent="lena", reservation="r"),
        stated(NoteAdded, "v1", 3, 3, note_id="n", text="ojo"), queued("v1", 4, "o1", "claro", 4),
    )  # fmt: skip
    page = await reader.conversation_entries(TENANT, "v1")

    assert page is not None
    kinds = [(one.kind, one.text or one.data.get("title") or one.data.get("state")) for one in page.items]
    assert kinds == [
        ("message", "claro"),
        ("note", "ojo"),
        ("assignment", "assigned"),
        ("message", "roto"),
        ("conversation", "opened"),
        ("journey", "faq"),
    ]
    first = await reader.conversation_entries(TENANT, "v1", Span(limit=5))
    assert first is not None
    assert first.older is not None
    rest = await reader.conversation_entries(TENANT, "v1", Span(before=key_of(first.older), limit=5))
    assert rest is not None
    assert [one.kind for one in rest.items] == ["journey"]
    assert await reader.conversation_entries(TENANT, "v9") is None


async def test_a_joined_conversation_leads_to_its_survivor_with_both_threads(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    reader = await projected(
        mongo, mongo_settings, said("m1", "uno", 1), said("m2", "dos", 2), appended("v1", "m1"), appended("v2", "m2"),
        changed("v1", 2, "joined", with_head={"state": "joined", "into": "v2"}),
        changed("v2", 2, "absorbed", other="v1", with_head={"absorbed": ("v1",)}),
    )  # fmt: skip
    row = await reader.conversation(TENANT, "v1")
    page = await reader.conversation_entries(TENANT, "v1")

    assert row is not None
    assert (row.id, row.last.text if row.last else "") == ("v2", "dos")
    assert [text for text in texts(page) if text] == ["dos", "uno"]


async def test_a_row_shows_what_was_said_last_and_follows_the_queued_answer_to_the_sent_one(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    reader = await projected(
        mongo, mongo_settings, changed("v1", 1), said("m1", "roto", 1), appended("v1", "m1"), queued("v1", 2, "o1", "claro", 9),
        sent("p1", "claro", 8, outbound_id="o1"),
    )  # fmt: skip
    row = await reader.conversation(TENANT, "v1")
    by_old_id = await reader.entry(TENANT, pending("o1"))

    assert row is not None
    assert row.last is not None
    assert (row.last.text, row.last.id, row.last.status) == ("claro", entry("p1"), "sent")
    assert by_old_id is not None
    assert by_old_id.id == entry("p1")


def inbox() -> list[Event[ConversationAssigned]]:
    def one(name: str, seconds: float, **more: Any) -> Event[ConversationAssigned]:
        type_ = "hilo.conversation.assigned.v1"
        made = stated(
            ConversationAssigned,
            name,
            1,
            seconds,
            type=type_,
            agent="x",
            reservation="r",
            head=head(1, opened_at=at(seconds), **more),
        )
        return event(made, id=name)

    return [
        one("waits", 1),
        one("mine", 2, agent="lena", sla=SlaHead(answer_by=at(50))),
        one("other", 3, agent="tom", legs=(leg("ana", "public"),), sla=SlaHead(answer_by=at(40), resolve_by=at(30))),
        one("sales", 4, queue="sales", customer="c2"),
        one("over", 5, state="closed", agent="lena", legs=(leg("ana", "public"),)),
    ]


@pytest.mark.parametrize(
    ("view", "more", "rows"),
    [
        ("open", {}, ["sales", "other", "mine", "waits"]),
        ("closed", {}, ["over"]),
        ("mine", {"agent": "lena"}, ["mine"]),
        ("queue", {}, ["sales", "waits"]),
        ("queue", {"queue": "support"}, ["waits"]),
        ("public", {}, ["other"]),
        ("due", {}, ["other", "mine"]),
        ("customer", {"customer": "c2"}, ["sales"]),
    ],
)
async def test_inboxes(
    mongo: Mongo, mongo_settings: CommonSettings, view: Inbox, more: dict[str, str], rows: list[str]
) -> None:
    reader = await projected(mongo, mongo_settings, *inbox())
    whole = await reader.conversations(TENANT, view, **more)  # type: ignore[arg-type]

    assert [row.id for row in whole.items] == rows
    assert (await reader.conversations("other", view, **more)).items == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("view", ["open", "due"])
async def test_an_inbox_is_read_page_by_page(mongo: Mongo, mongo_settings: CommonSettings, view: Inbox) -> None:
    names = [f"00000000-0000-4000-8000-{n:012d}" for n in range(5)]
    heads = [head(1, opened_at=at(n), sla=SlaHead(answer_by=at(90 + n // 2))) for n in range(5)]
    reader = await projected(
        mongo, mongo_settings, *(changed(name, 1, head=one) for name, one in zip(names, heads, strict=True))
    )
    seen: list[str] = []
    before = None
    while True:
        rows = await reader.conversations(TENANT, view, before=before, limit=2)
        seen += [row.id for row in rows.items]
        if rows.older is None:
            break
        before = key_of(rows.older)

    assert seen == (names if view == "due" else names[::-1])


# -- operations ---------------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_with_what_was_decided(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    now = datetime.now(UTC).replace(microsecond=0)  # what is older than thirty days is dropped

    def letter(n: int) -> Event[DeadLettered]:
        data = DeadLettered(
            dead_id=f"00000000-0000-4000-8000-{n:012d}", topic="hilo.raw", partition=1, offset=n, path="/0", reason=f"r{n}",
            stage="ingest", at=now + timedelta(seconds=n), headers={"a.b": "c"}, body=base64.b64encode(b"roto").decode(),
        )  # fmt: skip
        return event(data)

    by = Author("agent", "lena", "Lena")
    decided = DeadDecided(dead_id=letter(1).data.dead_id, decision="discarded", by=by, why="spam", at=now)
    reader = await projected(mongo, mongo_settings, decided, *(letter(n) for n in range(4)))
    first = await reader.dead_letters(TENANT, limit=2)
    rest = await reader.dead_letters(TENANT, limit=2, before=key_of(first.older or ""))
    over = await reader.dead_letters(TENANT, "discarded")
    whole = await reader.dead_letter(TENANT, letter(2).data.dead_id)

    assert [one.reason for one in (*first.items, *rest.items)] == ["r3", "r2", "r0"]
    assert [(one.reason, one.decided_by, one.decided_why) for one in over.items] == [("r1", "Lena", "spam")]
    assert whole is not None
    assert (whole.body, whole.headers, whole.where) == ("cm90bw==", {"a.b": "c"}, "hilo.raw[1]@2 /0")
    assert first.items[0].body is None
    assert await reader.dead_letter("other", letter(2).data.dead_id) is None
    assert await (await started(mongo)).open_dead() == 3


async def test_channels_come_with_the_tenants_accounts_and_their_health(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    declared = ChannelDeclared(name="telegram", title="Telegram", legs={"chat": LegDeclared(visibility="private")})
    ours = AccountDescribed(tenant=TENANT, channel="telegram", account="bot", title="Bot")
    later = AccountDescribed(tenant=TENANT, channel="telegram", account="bot", title="Nuestro bot")
    theirs = AccountDescribed(tenant="other", channel="telegram", account="b2", title="Suyo")
    broken = fact(AccountHealth, "h", 5, customer=None, state="broken", reason="token expired")
    reader = await projected(mongo, mongo_settings, declared, ours, later, event(theirs, tenant="other"), broken)
    found = await reader.channels(TENANT)

    assert [one.channel.title for one in found] == ["Telegram"]
    account = found[0].accounts[0]
    assert len(found[0].accounts) == 1
    assert (account.account.title, account.health, account.reason) == ("Nuestro bot", "broken", "token expired")
