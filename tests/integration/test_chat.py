"""The web chat's door, over real sockets, broker and store: nothing accepted is lost, doubled, or shown to somebody else."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.common import metrics
from services.common import topics as t
from services.common.errors import BrokerAway
from services.common.events import MessageDelivered, MessageRead, MessageReceived, ReferralFollowed
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.chat_out import ChatOut, Thread
from services.ingest.chat_protocol import resumes
from services.ingest.contract import Secret
from services.ingest.settings import IngestSettings
from tests.chatting import SECRET, SITE, Widget, address, chat_settings, connected, doors, visitor, widget
from tests.ingesting import events, header, records, running
from tests.waiting import until

CODE = "HILO-7KQ2-M4T9"


@pytest.fixture
async def chat(settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path) -> AsyncIterator[IngestSettings]:
    """A process with the chat, served."""
    await connected(mongo, settings)
    one = chat_settings(settings, tmp_path)
    async with running(one, doors()):
        yield one


@pytest.fixture
async def out(mongo: Mongo) -> ChatOut:
    return ChatOut(mongo)


async def answer(out: ChatOut, thread: str, number: int, **frame: Any) -> str:
    """What the outbound worker does with an answer of ours."""
    piece = f"piece-{thread[:6]}-{number}"
    body = {"type": "message", "id": piece, "kind": "text", "text": f"¿Añadimos {number}?", **frame}
    await out.append("acme", "shop", thread, piece, body, party="party-key")
    return piece


async def said(settings: CommonSettings) -> list[tuple[str, str | None]]:
    """Provider id and text of what is on hilo.events."""
    found = [event.data for event in await events(settings, t.EVENTS)]
    return [(one.provider_id, one.parts[0].text) for one in found if isinstance(one, MessageReceived)]


async def closing(one: Widget) -> int:
    """The code that the socket is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(20):
            while True:
                await one.socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


# -- what the visitor says ------------------------------------------------------------------------------------------------


async def test_a_message_is_acknowledged_once_it_is_on_the_log_with_its_raw_frame(
    chat: IngestSettings, settings: CommonSettings
) -> None:
    async with widget(chat) as one:
        await one.say(type="message", id="c1", text="¿Tenéis la talla M?")
        accepted = await one.hear()
        found, raw = await events(settings, t.EVENTS), await records(settings, t.RAW)

    thread = one.welcome["thread"]
    assert accepted == {"type": "accepted", "id": "c1"}
    assert [(e.channel, e.account, e.tenant) for e in found] == [("webchat", "shop", "acme")]
    message = found[0].data
    assert isinstance(message, MessageReceived)
    assert (message.provider_id, message.parts[0].text, message.thread) == (f"{thread}:c1", "¿Tenéis la talla M?", thread)
    assert header(raw[0], "hilo_verdict")["event_ids"] == [found[0].id]
    assert header(raw[0], "hilo_input")["headers"]["thread"] == thread


async def test_the_same_id_sent_again_is_the_same_event(chat: IngestSettings, settings: CommonSettings) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        await one.say(type="message", id="c1", text="hola")
        await one.hear("accepted")
    async with widget(chat, who, resume=one.welcome["resume"]) as two:
        await two.say(type="message", id="c1", text="hola")
        await two.hear("accepted")

    found = await events(settings, t.EVENTS)
    assert len(found) == 2
    assert len({event.id for event in found}) == 1


async def test_the_same_id_of_two_visitors_is_two_messages(chat: IngestSettings, settings: CommonSettings) -> None:
    for text in ("una", "otra"):
        async with widget(chat) as one:
            await one.say(type="message", id="c1", text=text)
            await one.hear("accepted")

    assert len({event.id for event in await events(settings, t.EVENTS)}) == 2


REFUSED: list[dict[str, Any]] = [
    {"type": "message", "id": "c1", "text": "x" * 4001},
    {"type": "message", "id": "c1", "text": "  "},
    {"type": "message", "id": "x" * 65, "text": "hola"},
    {"type": "message", "text": "no id"},
    {"type": "delivered", "id": "a receipt that only we may make"},
    {"type": "start"},
    {"type": "message", "id": 7, "text": "hola"},
    {"type": "ack", "n": -1},
    {"nothing": 1},
]


async def test_what_cannot_be_taken_is_refused_with_a_reason_and_the_socket_goes_on(
    chat: IngestSettings, settings: CommonSettings
) -> None:
    async with widget(chat) as one:
        for frame in REFUSED:
            await one.say(**frame)
            refused = await one.hear()

            assert refused["type"] == "refused", frame
            assert refused["reason"]
        await one.say(type="message", id="good", text="hola")
        await one.hear("accepted")

    assert [text for _, text in await said(settings)] == ["hola"]


async def test_junk_that_is_no_json_is_refused_and_the_socket_goes_on(chat: IngestSettings) -> None:
    async with widget(chat) as one:
        for junk in ("", "{", "null", "[" * 5000, '"\ud800"'.encode("utf-16", "surrogatepass").hex()):
            await one.socket.send(junk)
            assert (await one.hear())["type"] == "refused"
        await one.say(type="message", id="good", text="hola")
        await one.hear("accepted")


async def test_typing_is_live_and_leaves_no_trace_on_the_log(chat: IngestSettings, settings: CommonSettings) -> None:
    async with widget(chat) as one:
        await one.say(type="typing")
        await until(lambda: _count(settings, t.LIVE, 1), what="typing on hilo.live")

    assert await records(settings, t.RAW) == []
    assert await records(settings, t.EVENTS) == []


async def _count(settings: CommonSettings, topic: t.Topic, count: int) -> bool:
    return len(await records(settings, topic)) >= count


async def test_a_link_of_ours_that_led_here_is_told_once_with_the_sender(
    chat: IngestSettings, settings: CommonSettings
) -> None:
    who = visitor()
    async with widget(chat, who, ref=CODE) as one:
        await one.say(type="message", id="c1", text="hola")
        await one.hear("accepted")
    async with widget(chat, who, resume=one.welcome["resume"], ref=CODE) as two:
        await two.say(type="message", id="c2", text="otra vez")
        await two.hear("accepted")

    found = [event for event in await events(settings, t.EVENTS) if isinstance(event.data, ReferralFollowed)]
    assert len({event.id for event in found}) == 1
    assert isinstance(found[0].data, ReferralFollowed)
    assert (found[0].data.ref, found[0].data.thread) == (CODE, one.welcome["thread"])


# -- limits ---------------------------------------------------------------------------------------------------------------


async def test_a_frame_that_is_too_large_closes_the_socket(chat: IngestSettings, settings: CommonSettings) -> None:
    async with widget(chat) as one:
        await one.say(type="message", id="c1", text="x" * 33_000)
        assert await closing(one) == 1009
    async with widget(chat) as two:
        await two.say(type="message", id="c1", text="x" * 1_000_000)
        assert await closing(two) == 1009

    assert await records(settings, t.RAW) == []


async def test_frames_are_text(chat: IngestSettings) -> None:
    async with widget(chat) as one:
        await one.socket.send(b"\x00\x01")

        assert await closing(one) == 1003


async def test_a_flooding_socket_is_closed_and_what_was_acknowledged_stays(
    chat: IngestSettings, settings: CommonSettings
) -> None:
    who, accepted = visitor(), set[str]()
    async with widget(chat, who) as neighbour, widget(chat) as flood:
        for number in range(200):
            await flood.say(type="message", id=f"f{number}", text="x")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                accepted.add((await flood.hear("accepted"))["id"])
        await neighbour.say(type="message", id="n1", text="vecina")
        await neighbour.hear("accepted")

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert chat.chat_burst <= len(accepted) < 200
    kept = {provider_id.rpartition(":")[2] for provider_id, _ in await said(settings)}
    assert accepted | {"n1"} <= kept


async def test_a_visitor_who_opens_more_sockets_may_not_send_more(chat: IngestSettings) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        for number in range(chat.chat_burst):
            await one.say(type="message", id=f"a{number}", text="x")
            await one.hear("accepted")
        async with widget(chat, who, resume=one.welcome["resume"]) as two:
            with pytest.raises(ConnectionClosed):
                for number in range(chat.chat_burst):
                    await two.say(type="message", id=f"b{number}", text="x")
                    await two.hear("accepted")


async def test_new_visitors_from_one_address_are_bounded(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path, chat_arrivals_per_min=2)
    async with running(chat, doors()), widget(chat) as one, widget(chat):
        async with connect(address(chat, visitor()), additional_headers={"origin": SITE}) as third:
            assert await closing(Widget(third)) == 1013
        await one.say(type="message", id="c1", text="hola")
        await one.hear("accepted")


async def test_a_widget_that_does_not_read_is_closed_and_holds_nobody_up(
    chat: IngestSettings, out: ChatOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers wait in the store, not in our memory."""
    monkeypatch.setattr("services.ingest.chat_socket.SEND_S", 0.3)
    async with AsyncExitStack() as stack:
        url, headers = address(chat, visitor()), {"origin": SITE}
        deaf = Widget(
            await stack.enter_async_context(connect(url, additional_headers=headers, max_queue=1, ping_interval=None))
        )
        welcome = await deaf.hear("welcome")
        one = await stack.enter_async_context(widget(chat))
        for number in range(80):
            await answer(out, welcome["thread"], number, text=secrets.token_urlsafe(300_000))
        await until(lambda: metrics.CHAT_SOCKETS._value.get() == 1, what="the end of the deaf socket")
        await answer(out, one.welcome["thread"], 1)

        assert (await one.hear("message"))["n"] == 1


async def test_a_silent_widget_is_closed(settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path, chat_ping_s=0.1)
    async with running(chat, doors()), widget(chat) as one:
        assert await closing(one) == 4408


# -- who may come ---------------------------------------------------------------------------------------------------------


STRANGE: list[tuple[str, str, dict[str, str], int]] = [
    ("shop", "https://evil.example", {}, 403),
    ("shop", "null", {}, 403),
    ("shop", f"{SITE}.evil.example", {}, 403),
    ("nobody", SITE, {}, 404),
    ("shop", SITE, {"visitor": "short"}, 400),
    ("shop", SITE, {"visitor": "x" * 200}, 400),
    ("shop", SITE, {"after": "-1"}, 400),
    ("shop", SITE, {"after": "9" * 30}, 400),
]


async def test_the_handshake_refuses_strange_sites_accounts_and_visitors(chat: IngestSettings) -> None:
    for account, origin, query, status in STRANGE:
        asked = {"visitor": visitor(), **query}
        with pytest.raises(InvalidStatus) as refused:
            async with widget(chat, asked.pop("visitor"), account=account, origin=origin, **asked):
                pass

        assert refused.value.response.status_code == status, (account, origin, query)


async def test_who_only_knows_a_visitor_reads_nothing(chat: IngestSettings, out: ChatOut) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        await answer(out, one.welcome["thread"], 1)
        await one.hear("message")
    good = one.welcome["resume"]
    issued, _, signature = good.partition(".")
    async with widget(chat) as stranger:
        another = stranger.welcome["resume"]
    forged = ["", "x", f"{issued}.", f".{signature}", f"{int(issued) + 1}.{signature}", f"{issued}.{signature[::-1]}", another]
    forged += [f"{issued}.ñ", f"{int(issued) - 500 * 86400}.{signature}", "9" * 50 + "." + signature]
    for token in forged:
        async with connect(address(chat, who, resume=token), additional_headers={"origin": SITE}) as socket:
            assert await closing(Widget(socket)) == 4401
    async with widget(chat, who, resume=good) as two:
        assert (await two.hear("message"))["n"] == 1


async def test_a_token_goes_on_after_the_secret_was_rotated(
    chat: IngestSettings, settings: CommonSettings, mongo: Mongo
) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        pass
    accounts = await connected(mongo, settings)
    await accounts.rotate("acme", "webchat", "shop", "identity_secret", add="another-secret-of-more-than-32-bytes-2")

    signer = Secret("another-secret-of-more-than-32-bytes-2")
    thread = Thread("acme", "shop", one.welcome["thread"])

    async def reissued() -> str | None:
        """A token by the new secret, once the process has learnt of it."""
        async with widget(chat, who, resume=one.welcome["resume"]) as two:
            new = str(two.welcome["resume"])
        return new if resumes(signer, thread, new, datetime.now(UTC)) else None

    new = await until(reissued, every_s=0.3)
    await accounts.rotate("acme", "webchat", "shop", "identity_secret", retire=True)
    async with widget(chat, who, resume=new):
        pass


def identity(**claims: Any) -> str:
    key = OctKey.import_key(claims.pop("key", SECRET))
    return jwt.encode({"alg": "HS256"}, {"sub": "cust-4711", "exp": int(time.time()) + 300, **claims}, key)


async def test_who_is_logged_in_has_the_same_thread_on_every_device(chat: IngestSettings, out: ChatOut) -> None:
    async with widget(chat, token=identity()) as one:
        await answer(out, one.welcome["thread"], 1)
        await one.hear("message")
    async with widget(chat, token=identity()) as two, widget(chat, token=identity(sub="cust-9")) as other:
        assert (await two.hear("message"))["n"] == 1
        assert two.welcome["thread"] == one.welcome["thread"] != other.welcome["thread"]


async def test_a_bad_identity_token_is_refused_and_not_taken_as_nobody(chat: IngestSettings) -> None:
    wrong: list[dict[str, Any]] = [{"key": "x" * 40}, {"exp": 1}, {"sub": ""}]
    for claims in wrong:
        async with connect(address(chat, visitor(), token=identity(**claims)), additional_headers={"origin": SITE}) as socket:
            assert await closing(Widget(socket)) == 4403


async def test_secrets_may_come_as_subprotocols(chat: IngestSettings, out: ChatOut) -> None:
    who = visitor()
    url = f"ws://127.0.0.1:{chat.port}/chat/shop/socket?after=0"
    first: list[Any] = ["hilo.chat.1", f"visitor.{who}"]
    async with connect(url, additional_headers={"origin": SITE}, subprotocols=first) as socket:
        welcome = await Widget(socket).hear("welcome")
        assert socket.subprotocol == "hilo.chat.1"
    again = [*first, f"resume.{welcome['resume']}"]
    async with connect(url, additional_headers={"origin": SITE}, subprotocols=again) as socket:
        assert (await Widget(socket).hear("welcome"))["thread"] == welcome["thread"]


# -- what we say ----------------------------------------------------------------------------------------------------------


async def test_answers_arrive_in_order_whichever_process_holds_the_socket(
    chat: IngestSettings, settings: CommonSettings, out: ChatOut, tmp_path: Path
) -> None:
    second = chat_settings(settings, tmp_path)
    who = visitor()
    async with running(second, doors()), widget(chat, who) as one, widget(second, who, resume=one.welcome["resume"]) as two:
        for number in range(1, 31):
            await answer(out, one.welcome["thread"], number)
        heard = [[(await each.hear("message"))["n"] for _ in range(30)] for each in (one, two)]

    assert heard == [list(range(1, 31))] * 2


async def test_a_widget_that_comes_back_gets_everything_after_its_number_then_what_is_new(
    chat: IngestSettings, out: ChatOut
) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        thread = one.welcome["thread"]
    for number in range(1, 251):
        await answer(out, thread, number)
    async with widget(chat, who, resume=one.welcome["resume"], after=3) as two:
        heard = [(await two.hear("message"))["n"] for _ in range(247)]
        await answer(out, thread, 251)
        heard.append((await two.hear("message"))["n"])

    assert heard == list(range(4, 252))


async def test_a_number_that_is_not_there_yet_starts_the_list_again(chat: IngestSettings, out: ChatOut) -> None:
    async with widget(chat, after=58) as one:
        assert one.welcome["last"] == 0
        await answer(out, one.welcome["thread"], 1)

        assert (await one.hear("message"))["n"] == 1


async def test_receipts_name_the_newest_message_and_are_told_once(
    chat: IngestSettings, settings: CommonSettings, out: ChatOut
) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        thread = one.welcome["thread"]
        pieces = [await answer(out, thread, number) for number in (1, 2)]
        for _ in pieces:
            await one.hear("message")
        await one.say(type="ack", n=1)
        await one.say(type="ack", n=2)
        await one.say(type="ack", n=2)
        await one.say(type="read", n=99)
        await one.say(type="message", id="c1", text="visto")
        await one.hear("accepted")
    async with widget(chat, who, resume=one.welcome["resume"], after=2) as two:
        await two.say(type="ack", n=2)
        await two.say(type="message", id="c2", text="otra")
        await two.hear("accepted")

    found = [e.data for e in await events(settings, t.EVENTS) if isinstance(e.data, MessageDelivered | MessageRead)]
    assert [(type(one), one.provider_id, one.up_to) for one in found] == [
        (MessageDelivered, pieces[0], True),
        (MessageDelivered, pieces[1], True),
        (MessageRead, pieces[1], True),
    ]


async def test_typing_of_ours_is_not_shown_when_it_is_over(chat: IngestSettings, out: ChatOut) -> None:
    who = visitor()
    async with widget(chat, who) as one:
        thread = one.welcome["thread"]
        old = datetime.now(UTC) - timedelta(minutes=1)
        await out.append("acme", "shop", thread, "t1", {"type": "typing"}, at=old)
        await out.append("acme", "shop", thread, "t2", {"type": "typing"})
        await answer(out, thread, 3)
        heard = [(await one.hear())["n"] for _ in range(2)]

    assert heard == [2, 3]


# -- faults ---------------------------------------------------------------------------------------------------------------


async def test_a_stopped_process_loses_nothing_that_was_acknowledged_and_answers_wait(
    settings: CommonSettings, mongo: Mongo, out: ChatOut, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path)
    who = visitor()
    async with AsyncExitStack() as stack:
        async with running(chat, doors()):
            one = await stack.enter_async_context(widget(chat, who))
            await one.say(type="message", id="c1", text="antes")
            await one.hear("accepted")
        assert await closing(one) in (1012, 1006)
    await answer(out, one.welcome["thread"], 1)
    async with running(chat, doors()), widget(chat, who, resume=one.welcome["resume"]) as two:
        await two.say(type="message", id="c1", text="antes")
        await two.say(type="message", id="c2", text="después")
        await two.hear("accepted")
        await two.hear("accepted")

    assert len({event.id for event in await events(settings, t.EVENTS)}) == 2


async def test_while_the_broker_is_away_the_widget_is_told_to_keep_it(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path)
    async with running(chat, doors()), widget(chat) as one:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Publisher, "publish", _away)
            await one.say(type="message", id="c1", text="hola")
            told = await one.hear()
        await one.say(type="message", id="c1", text="hola")
        accepted = await one.hear()

    assert (told, accepted) == ({"type": "retry", "id": "c1"}, {"type": "accepted", "id": "c1"})
    assert len(await events(settings, t.EVENTS)) == 1


async def _away(*_: Any) -> Any:
    raise BrokerAway("test")


# -- files ----------------------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


def post(chat: IngestSettings, who: str, resume: str, content: bytes, media_type: str, origin: str = SITE) -> httpx.Request:
    headers = {"origin": origin, "hilo-visitor": who, "hilo-resume": resume, "content-type": media_type}
    return httpx.Request("POST", f"http://127.0.0.1:{chat.port}/chat/shop/upload", headers=headers, content=content)


async def test_a_file_is_kept_and_a_message_may_name_it(chat: IngestSettings, settings: CommonSettings) -> None:
    who = visitor()
    async with widget(chat, who) as one, httpx.AsyncClient() as client:
        answer = await client.send(post(chat, who, one.welcome["resume"], PNG, "image/png"))
        file = answer.json()
        await one.say(type="message", id="c1", text="mira", file={**file, "name": "hervidor.png"})
        await one.hear("accepted")

    message = (await events(settings, t.EVENTS))[0].data
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == SITE
    assert isinstance(message, MessageReceived)
    assert [(part.kind, part.ref, part.media_type) for part in message.parts] == [
        ("image", file["ref"], "image/png"),
        ("text", None, None),
    ]


FILES = [
    (b"<script>alert(1)</script>" * 20, "image/png", 201),  # kept as the plain text that it is
    (b"MZ\x90\x00" + b"\x00" * 600, "image/png", 415),
    (b"PK\x03\x04" + b"\x00" * 600, "application/zip", 415),
    (b"", "image/png", 415),
]


async def test_a_file_is_what_its_bytes_say(chat: IngestSettings) -> None:
    who = visitor()
    async with widget(chat, who) as one, httpx.AsyncClient() as client:
        for content, media_type, status in FILES:
            answer = await client.send(post(chat, who, one.welcome["resume"], content, media_type))
            assert answer.status_code == status
            if status == 201:
                assert answer.json()["media_type"] == "text/plain"
                await one.say(type="message", id="c1", file={"ref": answer.json()["ref"], "media_type": "image/png"})
                assert (await one.hear())["type"] == "refused"


async def test_a_message_may_not_name_what_was_not_uploaded(chat: IngestSettings) -> None:
    async with widget(chat) as one:
        for ref in ("upload:" + "0" * 64, "http://169.254.169.254/latest", "upload:../../etc/passwd"):
            await one.say(type="message", id="c1", file={"ref": ref, "media_type": "image/png"})
            assert (await one.hear())["type"] == "refused"


async def test_files_come_only_from_admitted_visitors_of_allowed_sites_within_bounds(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path, chat_upload_max_bytes=1000, chat_uploads_per_min=3)
    who = visitor()
    async with running(chat, doors()), widget(chat, who) as one, httpx.AsyncClient() as client:
        resume = one.welcome["resume"]
        strange = await client.send(post(chat, who, resume, PNG, "image/png", "https://evil.example"))
        forged = await client.send(post(chat, who, "1.x", PNG, "image/png"))
        unknown = await client.send(post(chat, "x", resume, PNG, "image/png"))
        large = await client.send(post(chat, who, resume, PNG * 100, "image/png"))
        preflight = await client.options(f"http://127.0.0.1:{chat.port}/chat/shop/upload", headers={"origin": SITE})
        statuses = [(await client.send(post(chat, who, resume, PNG, "image/png"))).status_code for _ in range(3)]

    assert [one.status_code for one in (strange, forged, unknown, large, preflight)] == [403, 401, 401, 413, 204]
    assert "access-control-allow-origin" not in strange.headers
    assert statuses == [201, 201, 429]


# -- pages ----------------------------------------------------------------------------------------------------------------


async def test_page_and_widget_are_served_with_a_strict_policy(chat: IngestSettings) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{chat.port}") as client:
        page = await client.get("/chat/shop", headers={"accept-language": "en"})
        script = await client.get("/chat/shop/widget.js")
        files = [await client.get(f"/chat/shop/{name}") for name in ("widget.css", "page.css", "mark.svg", "text.woff2")]
        missing = [await client.get(path) for path in ("/chat/nobody", "/chat/nobody/widget.js", "/chat/shop/..%2fgo.html")]

    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in page.text
    assert "<script>" not in page.text
    assert 'lang="en"' in page.text
    assert '"title":"Casa Lumbre"' in script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert [one.status_code for one in files] == [200] * 4
    assert [one.status_code for one in missing] == [404] * 3
