"""Handoff links: `/go/{token}` shows where a conversation goes on, and a tap goes there.

Programs that preview links open them as people do, so looking changes nothing; only the tap, a POST, says that somebody came.
The tap proves nothing about who it was: it is `referral.followed` without a sender.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.common import metrics
from services.common.cloudevents import Event
from services.common.errors import Away, ServiceAway
from services.common.events import Fact, ReferralFollowed, short
from services.common.http import Http
from services.common.identifiers import entry_id, event_id
from services.ingest.accounts import Connected, Stored
from services.ingest.contract import Account, Channel, Outcome, Posted, Raw
from services.ingest.intake import Intake
from services.ingest.rate import Buckets, caller
from services.ingest.settings import IngestSettings

PAGES = Path(__file__).parent / "pages"
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,64}")
MAX_FORM = 2000
RETRY_S = 5
CHANNEL: Channel[Account] = Channel(
    name="go",
    title="Handoff links",
    docs="docs/architecture.md",
    account=Account,
    legs={},
    doors=(Posted("tap"),),
    unpack=lambda _: (),
    kinds={},
)
ACCOUNT = "links"

Language = Literal["es", "en"]
Texts = Mapping[str, str]

TEXTS: Mapping[Language, Texts] = {
    "es": {
        "heading": "Seguimos en privado",
        "whose": "{title} te espera por aquí.",
        "open": "Elige dónde seguir. No tendrás que repetir nada.",
        "button": "Seguir por {title}",
        "small": "Al tocar se abre {titles}. Hasta entonces no pasa nada.",
        "unknown": "Este enlace no existe",
        "unknown_why": "Comprueba que lo has copiado entero, o pídenos otro donde nos escribiste.",
        "over": "Este enlace ha caducado",
        "over_why": "Pídenos otro donde nos escribiste y seguimos donde estábamos.",
        "away": "Ahora mismo no podemos abrirlo",
        "away_why": "Prueba otra vez dentro de un momento. El enlace sigue siendo bueno.",
        "slow": "Demasiados intentos",
        "slow_why": "Espera un minuto y vuelve a abrir el enlace.",
    },
    "en": {
        "heading": "Let us go on in private",
        "whose": "{title} is waiting for you here.",
        "open": "Choose where to go on. You will not have to repeat anything.",
        "button": "Go on in {title}",
        "small": "A tap opens {titles}. Until then nothing happens.",
        "unknown": "There is no such link",
        "unknown_why": "Check that you copied all of it, or ask us for another one where you wrote to us.",
        "over": "This link has expired",
        "over_why": "Ask us for another one where you wrote to us, and we go on where we were.",
        "away": "We cannot open it right now",
        "away_why": "Try again in a moment. The link is still good.",
        "slow": "Too many tries",
        "slow_why": "Wait a minute and open the link again.",
    },
}


class Link(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    channel: str
    title: str
    url: str


class Offer(BaseModel):
    """What the router says of an invitation."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    tenant: str
    offer_id: str
    state: str
    expires_at: datetime
    title: str = ""
    language: str | None = None
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A page: its status and words, and the links that its buttons lead to."""

    status: int
    heading: str
    lines: tuple[str, ...]
    links: tuple[Link, ...] = ()
    title: str = ""


# -- what is decided without I/O ------------------------------------------------------------------------------------------


def language_of(accepted: str, fallback: str | None) -> Language:
    """The visitor's language of the two we speak, as their browser orders them; else the conversation's."""
    wishes = []
    for one in accepted.split(",")[:20]:
        name, _, weight = one.strip().partition(";q=")
        code = name.split("-")[0].lower()
        if code in ("es", "en"):
            wishes.append((_weight(weight), code))
    best = max(wishes, key=lambda wish: wish[0])[1] if wishes else (fallback or "es").split("-")[0]
    return "en" if best == "en" else "es"


def _weight(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0


def shown(offer: Offer | None, texts: Texts, now: datetime) -> Shown:
    if offer is None:
        return Shown(404, texts["unknown"], (texts["unknown_why"],))
    usable = tuple(link for link in offer.links if urlsplit(link.url).scheme in ("https", "http"))
    if offer.state not in ("open", "claimed") or offer.expires_at <= now or not usable:
        return Shown(410, texts["over"], (texts["over_why"],))
    lines = (texts["whose"].format(title=offer.title), texts["open"]) if offer.title else (texts["open"],)
    return Shown(200, texts["heading"], lines, usable, offer.title)


def tap(offer: Offer, now: datetime) -> Event[Fact]:
    """The fact that somebody followed the link: one, however often it is tapped."""
    name = f"offer:{offer.offer_id}"
    data = ReferralFollowed(provider_id=name, ref=name, received_at=now)
    where = (offer.tenant, CHANNEL.name, ACCOUNT, name)
    return Event(event_id(*where, short(data.type)), offer.tenant, entry_id(*where), now, data, CHANNEL.name, ACCOUNT)


def policy(links: Sequence[Link]) -> str:
    """Browsers hold the redirect after a form to `form-action` as well, so it names where the links lead."""
    targets = {f"{parts.scheme}://{parts.netloc}" for link in links if (parts := urlsplit(link.url)).netloc}
    form = " ".join(["'self'", *sorted(targets)])
    return f"default-src 'none'; style-src 'self'; form-action {form}; base-uri 'none'; frame-ancestors 'none'"


# -- the door -------------------------------------------------------------------------------------------------------------


class Go:
    def __init__(
        self,
        settings: IngestSettings,
        http: Http,
        intake: Intake,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._http, self._intake, self._now = settings, http, intake, now
        self._guesses = Buckets(settings.go_tries_per_min / 60, settings.go_tries_per_min, clock)
        self._page = Environment(loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined).get_template(
            "go.html"
        )

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/go/page.css", self._style, name="go_style"),
            Route("/go/{token}", self.look, methods=["GET"]),  # and HEAD, which Starlette adds
            Route("/go/{token}", self.follow, methods=["POST"]),
        ]

    async def look(self, request: Request) -> Response:
        return self._answer(request, *await self._found(request))

    async def follow(self, request: Request) -> Response:
        """The tap is on the log before the visitor is sent on."""
        wish = await _wish(request)
        page, offer = await self._found(request)
        link = next((one for one in page.links if one.channel == wish), page.links[0] if len(page.links) == 1 else None)
        if offer is None or link is None:
            return self._answer(request, page, offer)
        try:
            await self._take(offer, link)
        except Away:
            return self._answer(request, self._away(request, offer), offer)
        return RedirectResponse(link.url, 303, {"cache-control": "no-store"})

    async def _found(self, request: Request) -> tuple[Shown, Offer | None]:
        """The page for this token and the offer behind it. Only tokens that do not exist count as guesses."""
        address = caller(request.client.host if request.client else None, request.headers, self._settings.forwarded_for)
        if self._guesses.spent(address):
            texts = self._texts(request, None)
            return Shown(429, texts["slow"], (texts["slow_why"],)), None
        try:
            offer = await self._offer(request.path_params["token"])
        except Away:
            return self._away(request, None), None
        if offer is None:
            self._guesses.take(address)
        return shown(offer, self._texts(request, offer), self._now()), offer

    async def _offer(self, token: str) -> Offer | None:
        """Raises ServiceAway, also for an answer that nobody of ours gives."""
        if not TOKEN.fullmatch(token):
            return None
        answer = await self._http.service("GET", f"{self._settings.router_url}/v1/offers/{token}", "", tries=2)
        if answer.status in (404, 410):
            return None
        try:
            if answer.status == 200:
                return Offer.model_validate_json(answer.body)
        except ValidationError as error:
            raise ServiceAway("router") from error
        raise ServiceAway("router")

    async def _take(self, offer: Offer, link: Link) -> None:
        now = self._now()
        account = Account(tenant=offer.tenant, id=ACCOUNT)
        place = Connected(CHANNEL, account, Stored(offer.tenant, CHANNEL.name, ACCOUNT), b"")
        body = orjson.dumps({"type": "tap", "offer": offer.offer_id, "to": link.channel})
        raw = Raw(body, {"content-type": "application/json"}, received_at=now, door="tap")
        await self._intake.take([place], raw, outcome=Outcome(items=1, normalized=1, events=[tap(offer, now)]))

    # -- pages

    def _texts(self, request: Request, offer: Offer | None) -> Texts:
        return TEXTS[self._language(request, offer)]

    def _language(self, request: Request, offer: Offer | None) -> Language:
        return language_of(request.headers.get("accept-language", ""), offer.language if offer else None)

    def _away(self, request: Request, offer: Offer | None) -> Shown:
        texts = self._texts(request, offer)
        return Shown(503, texts["away"], (texts["away_why"],))

    def _answer(self, request: Request, page: Shown, offer: Offer | None) -> Response:
        metrics.INPUTS.labels(CHANNEL.name, "tap", str(page.status)).inc()
        texts = self._texts(request, offer)
        buttons = [{"channel": link.channel, "label": texts["button"].format(title=link.title)} for link in page.links]
        html = self._page.render(
            language=self._language(request, offer),
            heading=page.heading,
            lines=page.lines,
            links=buttons,
            small=texts["small"].format(titles=" / ".join(link.title for link in page.links)),
        )
        headers = {
            "content-security-policy": policy(page.links),
            "cache-control": "no-store",
            "x-robots-tag": "noindex, nofollow",
            "referrer-policy": "no-referrer",
            **({"retry-after": str(60 if page.status == 429 else RETRY_S)} if page.status in (429, 503) else {}),
        }
        return Response(html, page.status, headers, media_type="text/html")

    async def _style(self, request: Request) -> Response:
        return FileResponse(PAGES / "go.css", media_type="text/css", headers={"cache-control": "public, max-age=3600"})


async def _wish(request: Request) -> str:
    """Which button was tapped; empty for a form that is not ours."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            return ""
    return parse_qs(body.decode(errors="replace")).get("to", [""])[0]
