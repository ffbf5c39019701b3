"""The kit can fail: each seeded bug, taken from channels that exist elsewhere, is found by the case that names it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from services.common.identifiers import Identifier, Sender
from services.ingest import channels
from services.ingest.channels.instagram import CHANNEL as INSTAGRAM
from services.ingest.channels.instagram.payloads import Direct, Instagram
from services.ingest.channels.telegram import CHANNEL as TELEGRAM
from services.ingest.channels.telegram.payloads import Message as TelegramMessage
from services.ingest.channels.telegram.payloads import Telegram
from services.ingest.channels.whatsapp import CHANNEL as WHATSAPP
from services.ingest.channels.whatsapp.payloads import unpack
from services.ingest.contract import (
    Account,
    Channel,
    Consented,
    Echoed,
    Facts,
    Hmac,
    Ignored,
    Item,
    Outgoing,
    Raw,
    Received,
    Request,
    Step,
    Stream,
    Webhook,
    get,
    tel,
    text,
)
from services.ingest.contract.facts import Fact
from services.ingest.contract.kit import accept, cases, conformance
from tests.contract.examples.gazette import CHANNEL as GAZETTE
from tests.contract.examples.gazette import PAGES, Comment, Gazette
from tests.contract.examples.nimbus import CHANNEL as NIMBUS
from tests.contract.examples.pigeon import CHANNEL as PIGEON
from tests.contract.examples.pigeon import Message, Pigeon, Report, message

EXAMPLES = Path(__file__).parent / "examples"
BUILT_IN = Path(channels.__file__).parent


def fixtures(name: str) -> Path:
    return next(folder / name / "fixtures" for folder in (EXAMPLES, BUILT_IN) if (folder / name).exists())


# This is the whole test module of a channel in a package of its own.
test_pigeon_conforms = conformance(PIGEON, fixtures("pigeon"))
test_a_channel_from_yaml_conforms = conformance(NIMBUS, fixtures("nimbus"))
test_a_channel_that_we_ask_conforms = conformance(GAZETTE, fixtures("gazette"))


class Careless(Pigeon):
    signing_key: str = Field(description="as plain text")  # type: ignore[assignment]


class Undescribed(Pigeon):
    region_code: str = "x"


class Resigned(Hmac):
    def check(self, account: Account, raw: Raw) -> None:
        super().check(account, replace(raw, body=json.dumps(json.loads(raw.body)).encode()))


class OnlyOldest(Hmac):
    def check(self, account: Account, raw: Raw) -> None:
        oldest = account.signing_key.all()[-1]  # type: ignore[attr-defined]
        super().check(account.model_copy(update={"signing_key": type(account.signing_key)(oldest + "x")}), raw)  # type: ignore[attr-defined]


class Trusting(Hmac):
    def check(self, account: Account, raw: Raw) -> None:
        """Believes whatever comes."""


def first_only(raw: Raw) -> Iterable[Item]:
    return list(unpack(raw))[:1]


def raising(raw: Raw) -> Iterable[Item]:
    for index, event in enumerate(raw.json()["events"]):
        yield Item(event["type"], event, f"events[{index}]")


def dropping(raw: Raw) -> Iterable[Item]:
    return [item for item in PIGEON.unpack(raw) if item.kind in ("message", "report")]


def said(account: Pigeon, m: Message) -> Received:
    return Received(id=m.id, at=m.sent_at, sender=Sender(tel(m.sender)), parts=(text(m.text),))


def by_chance(account: Pigeon, m: Message) -> Facts:
    yield replace(said(account, m), id=str(random.random()))


def zoneless(account: Pigeon, m: Message) -> Facts:
    yield replace(said(account, m), at=datetime(2026, 1, 1))


def twice(account: Pigeon, m: Message) -> Facts:
    yield said(account, m)
    yield said(account, m)


def ourselves(account: Pigeon, m: Message) -> Facts:
    """The party of an echo is the customer; here it is our own number."""
    yield Echoed(id=m.id, at=m.sent_at, party=tel(account.number), parts=(text(m.text),))


def nobody(account: Pigeon, m: Message) -> Facts:
    yield Echoed(id=m.id, at=m.sent_at, parts=(text(m.text),))


def consented(account: Pigeon, r: Report) -> Facts:
    """Bears the id that a message has already."""
    yield Consented(id="p-1", at=r.at, sender=Sender(tel("+4915112345678")), state="given")


def listening(account: Pigeon, m: Message) -> Facts:
    raise KeyError(m.id)
    yield Ignored("never")


def unprefixed(account: Telegram, m: TelegramMessage) -> Facts:
    """Numbers of messages are unique within a chat only."""
    for fact in TELEGRAM.kinds["message"](account, m):
        yield replace(fact, id=str(m.message_id)) if isinstance(fact, Fact) else fact


def unrevised(account: Telegram, m: TelegramMessage) -> Facts:
    """Two edits within one second."""
    for fact in TELEGRAM.kinds["edited_message"](account, m):
        yield replace(fact, revision=str(m.edit_date)) if isinstance(fact, Fact) else fact  # type: ignore[call-arg]


def echo_of_thread(account: Instagram, d: Direct) -> Facts:
    """Keys an echo by whoever sent it."""
    for fact in INSTAGRAM.kinds["message"](account, d):
        wrong = Identifier("instagram", d.sender.id, account.ig_id)
        yield replace(fact, party=wrong) if isinstance(fact, Echoed) else fact


def chancy(account: Pigeon, out: Outgoing) -> Request:
    return message(account, replace(out, id=str(random.random())))


def to_one(account: Pigeon, out: Outgoing) -> Request:
    return message(account, replace(out, thread="+4930123456"))


def unopened(account: Any, out: Outgoing) -> Request:
    assert INSTAGRAM.send
    return INSTAGRAM.send.requests["message"](account, replace(out, opens=None))


HMAC: dict[str, Any] = {"header": "x-pigeon-signature", "secret": "signing_key"}
I_SEND = INSTAGRAM.send
assert I_SEND


def pigeon(**handlers: Callable[..., Facts]) -> Channel[Any]:
    return replace(PIGEON, kinds={**PIGEON.kinds, **handlers})


def sending(message: Callable[[Pigeon, Outgoing], Request]) -> Channel[Any]:
    assert PIGEON.send
    return replace(PIGEON, send=replace(PIGEON.send, requests={"message": message}))


def doors(*doors: Any) -> Channel[Any]:
    return replace(GAZETTE, doors=doors)


STREAM = GAZETTE.doors[1]
assert isinstance(STREAM, Stream)

SEEDED: list[tuple[str, Channel[Any], str]] = [
    ("reads only the first message of a batch", replace(WHATSAPP, unpack=first_only), "twice in a batch|has a fixture"),
    ("one bad item hides its neighbours", replace(PIGEON, unpack=raising), "harms no neighbour"),
    ("an unknown kind vanishes", replace(PIGEON, unpack=dropping), "unknown kind is counted"),
    ("ids from chance", pigeon(message=by_chance), "twice gives the same ids"),
    ("two events share an id", pigeon(message=twice), "ids are unique"),
    ("times without zone", pigeon(message=zoneless), "quarantined by surprise"),
    ("a handler that raises", pigeon(message=listening), "gives the expected outcome"),
    ("an echo is keyed by ourselves", pigeon(message=ourselves), "the party is the customer"),
    ("an echo of a message names nobody", pigeon(message=nobody), "quarantined by surprise"),
    (
        "an echo is keyed by its sender",
        replace(INSTAGRAM, kinds={**INSTAGRAM.kinds, "message": echo_of_thread}),
        "the party is",
    ),
    ("one id for a message and a consent", pigeon(report=consented), "an id names one thing only"),
    ("ids repeat from chat to chat", replace(TELEGRAM, kinds={**TELEGRAM.kinds, "message": unprefixed}), "names one thing"),
    ("two edits are one", replace(TELEGRAM, kinds={**TELEGRAM.kinds, "edited_message": unrevised}), "names one thing"),
    ("the body is signed after being written again", replace(PIGEON, doors=(Webhook(Resigned(**HMAC)),)), "signed is accepted"),
    ("one secret is known", replace(PIGEON, doors=(Webhook(OnlyOldest(**HMAC)),)), "signed is accepted|old and new"),
    ("nothing is checked", replace(PIGEON, doors=(Webhook(Trusting(**HMAC)),)), "unsigned is refused"),
    ("a secret as plain text", replace(PIGEON, account=Careless), "no secret is shown|signed is accepted"),
    ("an account field without a description", replace(PIGEON, account=Undescribed), "every account field is described"),
    ("a secret among public data", replace(PIGEON, contact=lambda a: (a.api_key.reveal(),)), "no secret is shown"),
    ("an invitation without its code", replace(PIGEON, invite="https://pigeon.example/hello"), "carries its code"),
    ("personal data in logs", replace(PIGEON, shown=("text", "from")), "no personal data"),
    ("a kind without fixture", pigeon(call=zoneless), "every kind has a fixture"),
    ("another request at each attempt", sending(chancy), "the same each time"),
    ("every answer goes to one person", sending(to_one), "an answer goes to its thread"),
    (
        "the private reply forgets its comment",
        replace(INSTAGRAM, send=replace(I_SEND, requests={"message": unopened})),
        "handoff names",
    ),
    ("the page cursor is ignored", doors(replace(PAGES, request=lambda *_: get("u")), STREAM), "cursor moves"),
    ("the reader stops at junk", doors(replace(PAGES, after=lambda _, raw: Step(raw.json()["x"])), STREAM), "junk does not"),
    (
        "the stream starts anew each time",
        doors(PAGES, replace(STREAM, connect=lambda *_: get("u"))),
        "leads the next connect",
    ),
]


@pytest.mark.parametrize(("bug", "channel", "case"), SEEDED, ids=[bug for bug, _, _ in SEEDED])
def test_the_kit_finds(bug: str, channel: Channel[Any], case: str) -> None:
    failed = []
    try:
        found = cases(channel, fixtures(channel.name))
    except (KeyError, TypeError, AttributeError) as error:
        found, failed = [], [f"cannot even list: {error!r}"]
    wanted = case.split("|")
    for one in found:
        if any(part in one.name for part in wanted):
            try:
                one.run()
            except Exception:
                failed.append(one.name)

    assert any(part in name for part in wanted for name in failed), failed


@pytest.mark.parametrize("channel", [PIGEON, WHATSAPP, GAZETTE], ids=lambda channel: channel.name)
def test_without_a_seeded_bug_the_same_cases_pass(channel: Channel[Any]) -> None:
    for one in cases(channel, fixtures(channel.name)):
        if "mangled" not in one.name:
            one.run()


def test_accept_writes_what_is_missing_and_names_what_changed(tmp_path: Path) -> None:
    for file in fixtures("pigeon").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    written = (tmp_path / "batch.expected").read_text()
    (tmp_path / "batch.expected").unlink()

    assert accept(PIGEON, tmp_path) == ["batch"]
    assert accept(PIGEON, tmp_path) == []
    assert (tmp_path / "batch.expected").read_text() == written


def test_a_missing_snapshot_says_how_to_write_it(tmp_path: Path) -> None:
    for file in fixtures("pigeon").iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    case = next(one for one in cases(PIGEON, tmp_path) if "expected outcome" in one.name)

    with pytest.raises(AssertionError, match="hilo channel accept"):
        case.run()


def empty(account: Gazette, c: Comment) -> Facts:
    return []


def test_a_handler_that_yields_nothing_is_counted() -> None:
    channel = replace(GAZETTE, kinds={"comment": empty})
    found = next(one for one in cases(channel, fixtures("gazette")) if one.name == "inbound/gives the expected outcome[page]")

    with pytest.raises(AssertionError):
        found.run()


@pytest.mark.parametrize("example", ["pigeon/__init__.py", "nimbus/channel.yaml"])
def test_the_page_about_channels_shows_the_examples_as_they_are(example: str) -> None:
    page = (EXAMPLES.parent.parent.parent / "docs" / "adding-a-channel.md").read_text()

    assert f"\n{(EXAMPLES / example).read_text().strip()}\n```" in page
