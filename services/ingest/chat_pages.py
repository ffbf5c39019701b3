"""What a browser loads of the web chat: a page with the widget, the widget for any allowed site, and the way for files."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from services.common.errors import Away, Problem
from services.common.media import MediaStore, Oversized, upload_ref
from services.common.media_types import HEAD_BYTES, sniffed
from services.common.web import problem_response
from services.ingest import chat_protocol as protocol
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.chat import allowed_origin, own_origin, proven
from services.ingest.chat_out import Thread
from services.ingest.chat_protocol import Visit
from services.ingest.chat_socket import CHANNEL, Closed, secret_of
from services.ingest.go import language_of
from services.ingest.rate import Buckets, caller
from services.ingest.settings import IngestSettings

PAGES = Path(__file__).parent / "pages"
FILES: Mapping[str, tuple[str, str]] = {
    "widget.css": ("widget.css", "text/css"),
    "page.css": ("page.css", "text/css"),
    "mark.svg": ("mark.svg", "image/svg+xml"),
    "text.woff2": ("fonts/text.woff2", "font/woff2"),
}
HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
PLACE = b"/*config*/ {} /*config*/"
ALLOWED = ("image/", "audio/", "video/", "application/pdf", "text/plain", "text/csv")
SCENERY: Mapping[str, Mapping[str, Any]] = {
    "es": {
        "sections": ("Cocina", "Desayuno", "Ayuda"),
        "crumb": "Desayuno · Hervidores",
        "product": "Hervidor Alba 1,7 L",
        "price": "39,90 €",
        "about": "Acero cepillado, hierve en tres minutos y se calla al acabar. Dos años de garantía.",
    },
    "en": {
        "sections": ("Kitchen", "Breakfast", "Help"),
        "crumb": "Breakfast · Kettles",
        "product": "Alba kettle 1.7 L",
        "price": "€39.90",
        "about": "Brushed steel, boils in three minutes and is silent when it is done. Two years of guarantee.",
    },
}


class ChatPages:
    def __init__(
        self,
        settings: IngestSettings,
        accounts: Accounts,
        store: MediaStore,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._accounts, self._store, self._now = settings, accounts, store, now
        per_min = settings.chat_uploads_per_min
        self._uploads = Buckets(per_min / 60, per_min, clock)
        loader = FileSystemLoader(PAGES)
        self._page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html")

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/chat/{account}", self.page, name="chat_page"),
            Route("/chat/{account}/widget.js", self.widget, name="chat_widget"),
            Route("/chat/{account}/upload", self.upload, methods=["POST", "OPTIONS"], name="chat_upload"),
            Route("/chat/{account}/{file}", self.file, name="chat_file"),
        ]

    async def page(self, request: Request) -> Response:
        try:
            account = await self._account(request)
        except Problem as problem:
            return problem_response(problem)
        accepted = request.headers.get("accept-language", "")
        language = account.stored.language or language_of(accepted, "es")
        scenery = SCENERY["en" if language.startswith("en") else "es"]
        html = self._page.render(account=account.id, title=title_of(account), language=language, **scenery)
        headers = {"content-security-policy": self._policy(request), "cache-control": "no-cache"}
        return Response(html, 200, headers, media_type="text/html")

    def _policy(self, request: Request) -> str:
        """Nothing inline and nothing from elsewhere, but for the pictures that our media store serves."""
        host = found[0] if (found := HOST.fullmatch(request.headers.get("host", ""))) else ""
        media = " ".join(filter(None, ("'self' blob:", _origin(self._settings.timeline_url))))
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
            f"img-src {media}; media-src {media}; connect-src 'self' ws://{host} wss://{host}; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )

    async def widget(self, request: Request) -> Response:
        try:
            account = await self._account(request)
        except Problem as problem:
            return problem_response(problem)
        config = {
            "account": account.id,
            "title": title_of(account),
            "language": account.stored.language,
            "go": f"{self._settings.public_url}/go/",
            "whatsapp": self._on_whatsapp(account.tenant),
        }
        script = _content("widget.js").replace(PLACE, _for_script(config), 1)
        return Response(script, 200, _shared("public, max-age=60"), media_type="text/javascript")

    async def file(self, request: Request) -> Response:
        found = FILES.get(request.path_params["file"])
        if found is None:
            return problem_response(Problem(404, "not_found", "There is no such file."))
        return Response(_content(found[0]), 200, _shared("public, max-age=3600"), media_type=found[1])

    def _on_whatsapp(self, tenant: str) -> bool:
        """Whether this tenant can invite somebody there."""
        return any(
            one.tenant == tenant and one.channel.name == "whatsapp" and one.active and one.channel.invitation(one.account, "x")
            for one in self._accounts.all()
        )

    async def _account(self, request: Request) -> Connected:
        """Raises Problem."""
        try:
            found = await self._accounts.get(CHANNEL, request.path_params["account"])
        except (Away, AccountBroken):
            raise Problem(503, "away", "This chat cannot be opened now; try again.", retry_after=2) from None
        if found is None:
            raise Problem(404, "not_found", "There is no such chat.")
        return found

    # -- files from the visitor

    async def upload(self, request: Request) -> Response:
        """201 `{ref, media_type, size}`: the ref goes into a message of the same visitor."""
        origin = request.headers.get("origin", "")
        try:
            account = await self._account(request)
            if not allowed_origin(account, origin, own_origin(request, self._settings)):
                raise Problem(403, "origin", "This site is not on the account's list of origins.")
            answer = Response(status_code=204) if request.method == "OPTIONS" else await self._stored(request, account)
        except Problem as problem:
            answer = problem_response(problem)
            if problem.code in ("origin", "not_found"):
                return answer
        except Away:
            answer = problem_response(Problem(503, "away", "The file cannot be kept now; try again.", retry_after=2))
        answer.headers.update(_cors(origin))
        return answer

    async def _stored(self, request: Request, account: Connected) -> Response:
        """Raises Problem or Away."""
        thread = self._thread(request, account)
        address = caller(request.client.host if request.client else None, request.headers, self._settings.forwarded_for)
        if not (self._uploads.take(thread.name) and self._uploads.take(address)):
            raise Problem(429, "too_many", "That is many files at once; wait a minute.", retry_after=60)
        limit = self._settings.chat_upload_max_bytes
        too_large = Problem(413, "body_too_large", f"A file may have {limit} bytes.")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise too_large
        declared = request.headers.get("content-type")
        try:
            head, rest = await _begun(request)
            media_type = sniffed(head, declared)
            if not media_type.startswith(ALLOWED):
                raise Problem(415, "media_type", "Send a picture, a sound, a film, a PDF or plain text.")
            stored = await self._store.put(account.tenant, rest, max_bytes=limit, declared=declared)
        except Oversized:
            raise too_large from None
        except ClientDisconnect:
            raise Problem(400, "disconnected", "The file did not arrive.") from None
        told = {"ref": upload_ref(stored.sha256), "media_type": stored.media_type, "size": stored.size}
        return JSONResponse(told, 201)

    def _thread(self, request: Request, account: Connected) -> Thread:
        """The visitor's thread; files come only from somebody whose socket was admitted. Raises Problem."""
        headers = request.headers
        visit = Visit(headers.get("hilo-visitor", ""), 0, headers.get("hilo-resume", ""), headers.get("hilo-token", ""))
        try:
            if not protocol.VISITOR.fullmatch(visit.visitor):
                raise Closed(protocol.NOT_YOURS, "visitor")
            who = proven(account, visit, headers.get("origin", ""), self._now())
            thread = Thread(account.tenant, account.id, who["thread"])
            if "user" not in who and not protocol.resumes(secret_of(account), thread, visit.resume, self._now()):
                raise Closed(protocol.NOT_YOURS, "resume token")
        except Closed as error:
            raise Problem(401, "not_admitted", error.reason) from error
        return thread


def title_of(account: Connected) -> str:
    return account.stored.title or str(getattr(account.account, "site", "")) or account.id


async def _begun(request: Request) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first bytes of the body, and all of it."""
    pieces, head = request.stream(), b""
    async for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    return head, whole()


@cache
def _content(name: str) -> bytes:
    return (PAGES / name).read_bytes()


def _for_script(value: object) -> bytes:
    """JSON that cannot end a script or start a comment, wherever it stands."""
    return (
        orjson.dumps(value).replace(b"<", b"\\u003c").replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    )


def _shared(caching: str) -> dict[str, str]:
    """Headers of what other sites embed."""
    return {"cache-control": caching, "cross-origin-resource-policy": "cross-origin", "access-control-allow-origin": "*"}


def _cors(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "content-type, hilo-visitor, hilo-resume, hilo-token",
        "access-control-max-age": "600",
        "vary": "origin",
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
