"""The door of the console: signing in and out, what a browser prefers, and who may open the other pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.common.errors import Away
from services.timeline.console.answers import own_path, page, same_origin, wants_part
from services.timeline.console.render import render
from services.timeline.console.session import COOKIE, Language, Sessions, Signed, language, theme
from services.timeline.console.texts import text

Page = Callable[[Request, Signed], Awaitable[Response]]
Handler = Callable[[Request], Awaitable[Response]]
HOME = "/inbox?view=queue"
YEAR = 365 * 86400


class Entrance:
    def __init__(self, sessions: Sessions, *, demo_key: str = "") -> None:
        self.sessions, self._demo_key = sessions, demo_key

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.home, methods=["GET"]),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/lang/{lang}", self.choose_language, methods=["GET"]),
        ]

    async def home(self, request: Request) -> Response:
        return RedirectResponse(HOME, 303)

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return self._door(request, own_path(request.query_params.get("to", ""), ""))
        if not same_origin(request):
            return Response(status_code=403)
        form = await request.form()
        to = own_path(str(form.get("to", "")), HOME)
        cookie = self.sessions.sealed(str(form.get("key", "")).strip())
        if not await self.sessions.signed({COOKIE: cookie}, ""):
            return self._door(request, to, bad=True)
        answer = RedirectResponse(to, 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure, max_age=7 * 86400)
        return answer

    def _door(self, request: Request, to: str, *, bad: bool = False) -> Response:
        lang = language(request.cookies, request.headers.get("accept-language", ""))
        values = {"t": text(lang), "demo_key": self._demo_key, "bad": bad, "to": to}
        return page(render("login.html", lang, theme(request.cookies), values), 401 if bad else 200)

    async def logout(self, request: Request) -> Response:
        if not same_origin(request):
            return Response(status_code=403)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    async def choose_language(self, request: Request) -> Response:
        answer = RedirectResponse(own_path(request.query_params.get("back", ""), "/inbox"), 303)
        if request.path_params["lang"] in ("es", "en"):
            answer.set_cookie("lang", request.path_params["lang"], samesite="strict", max_age=YEAR)
        return answer

    # -- who may open the other pages

    def signed(self, handler: Page) -> Handler:
        """Only for who is signed in: a page leads to the entrance and back, a fragment makes its page do so."""

        async def run(request: Request) -> Response:
            accepted = request.headers.get("accept-language", "")
            try:
                signed = await self.sessions.signed(request.cookies, accepted)
                if signed is None:
                    return _to_entrance(request)
                return await handler(request, signed)
            except Away as error:
                return _away(request, language(request.cookies, accepted), error)

        return run

    def commanding(self, handler: Page) -> Handler:
        """The same for what changes something: only from our own pages."""
        signed = self.signed(handler)

        async def run(request: Request) -> Response:
            return await signed(request) if same_origin(request) else Response(status_code=403)

        return run


def _to_entrance(request: Request) -> Response:
    if wants_part(request):
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?to={quote(path, safe='')}" if request.method == "GET" else "/login", 303)


def _away(request: Request, lang: Language, error: Away) -> Response:
    if wants_part(request):
        return Response(status_code=503)
    values = {"t": text(lang), "what": "away_page", "back": request.url.path if request.method == "GET" else HOME}
    return page(render("missing.html", lang, theme(request.cookies), values), 503)
