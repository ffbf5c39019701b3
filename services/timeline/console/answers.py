"""What the console answers with: pages under a policy that forbids inline code, and who may post to it."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

CONTENT_SECURITY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY,
    "cache-control": "no-store",
    "vary": "cookie",
    # Without a referrer a browser also hides the origin of a form, by which we know our own.
    "referrer-policy": "same-origin",
}
OWN_PATH = re.compile(r"/(?:[\w.~!$&'()*+,;=:@%?-][\w./~!$&'()*+,;=:@%?-]*)?", re.ASCII)


def page(html: str, status: int = 200, **headers: str) -> Response:
    return HTMLResponse(html, status, {**HEADERS, **headers})


def wants_part(request: Request) -> bool:
    """Whether the page's own script asks, which puts a fragment where it belongs; else a browser, which needs a page."""
    return "hx-request" in request.headers or "x-part" in request.headers


def same_origin(request: Request) -> bool:
    """Whether one of our own pages sent this. Browsers say so in Fetch Metadata, older ones by the origin alone."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


def own_path(text: str, instead: str) -> str:
    """A path of ours to lead a browser to. What could be read as an address elsewhere is none."""
    return text if OWN_PATH.fullmatch(text) else instead
