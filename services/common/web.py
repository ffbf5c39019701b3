"""The web app every process has: health, readiness, metrics, and errors as `application/problem+json`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common import metrics
from services.common.errors import Away, Problem
from services.common.logs import log

Check = Callable[[], bool | str | None]
OPEN_PATHS = ("/healthz", "/readyz", "/metrics")


class Readiness:
    """Whether this process can do its work: started, not draining, and every check content."""

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.checks: dict[str, Check] = {}

    def missing(self) -> dict[str, str]:
        """What is not ready, and why; empty when all is. A check returns True or None when content, else why not."""
        if not self.started:
            return {"process": "starting"}
        if self.draining:
            return {"process": "draining"}
        found = {name: check() for name, check in self.checks.items()}
        return {name: str(why or "not ready") for name, why in found.items() if why is not True and why is not None}


def build(title: str, service: str, readiness: Readiness, *, description: str = "", docs: bool = True) -> FastAPI:
    app = FastAPI(
        title=title,
        description=description,
        version="1",
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
    )

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return PlainTextResponse("ok")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        missing = readiness.missing()
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Away, _away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(_Measured, service=service, readiness=readiness)
    return app


def problem_response(problem: Problem) -> JSONResponse:
    body = {"type": "about:blank", "status": problem.status, "code": problem.code, "detail": problem.detail, **problem.more}
    headers = {"retry-after": str(problem.retry_after)} if problem.retry_after is not None else {}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body, problem.status, headers, media_type="application/problem+json")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _away(request: Request, error: Exception) -> Response:
    assert isinstance(error, Away)
    return problem_response(Problem(503, "away", f"The {error.part} does not answer; try again.", retry_after=2))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [{"at": ".".join(map(str, one["loc"])), "why": one["msg"]} for one in error.errors()]
    return problem_response(Problem(422, "body_invalid", "The request does not have the expected form.", fields=fields))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(Problem(error.status_code, "http", str(error.detail)))


async def _bug(request: Request, error: Exception) -> Response:
    return bug_response(request.url.path, error)


def bug_response(path: str, error: Exception) -> JSONResponse:
    """What is answered when our own code fails; it is logged here."""
    log().error("request_failed", path=path, exc_type=type(error).__name__, exc_info=error)
    return problem_response(Problem(500, "bug", "This failed on our side and was recorded."))


class Front:
    """Plain ASGI: requests whose path begins with `prefix` go to `hot`, which measures itself and makes its responses `safe`,
    once the process has started; everything else goes to the app."""

    def __init__(self, prefix: str, hot: ASGIApp, app: ASGIApp, readiness: Readiness) -> None:
        self._prefix, self._hot, self._app, self._readiness = prefix, hot, app, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = scope["type"] == "http" and scope["path"].startswith(self._prefix) and self._readiness.started
        await (self._hot if hot else self._app)(scope, receive, send)


class _Measured:
    """Plain ASGI: durations by route, security headers, and 503 for all but health until the process has started."""

    def __init__(self, app: ASGIApp, service: str, readiness: Readiness) -> None:
        self._app, self._service, self._readiness = app, service, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._readiness.started and scope["path"] not in OPEN_PATHS:
            await problem_response(Problem(503, "starting", "This service is starting.", retry_after=2))(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_safe(message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = metrics.child(metrics.HTTP_SECONDS, self._service, scope["method"], route, str(status))
            seconds.observe(time.perf_counter() - began)


SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def _with_safe(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, with those of ours that are not among them."""
    names = {name for name, _ in headers}
    return [*headers, *(one for one in SAFE_HEADERS if one[0] not in names)]


def safe(response: Response) -> Response:
    """With the security headers, for a route that stands in front of the app."""
    response.raw_headers = _with_safe(response.raw_headers)
    return response
