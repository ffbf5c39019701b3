"""The one HTTP client: provider calls, polls, streams, media, and calls between our own services.

Provider origins can be mapped to stand-ins (`HILO_PROVIDER_ORIGINS`), path, headers and body unchanged. A call to an address
that a provider or customer gave us is `guarded`: every address it resolves to must be public, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult

from services.common.errors import ServiceAway
from services.common.settings import CommonSettings


class NotSent(Exception):
    """Nothing left this machine: no connection, or an address that is not allowed. Trying again is safe."""


class Forbidden(NotSent):
    """This address is never called: it is none, or a guarded call would leave the public internet for it."""


class AnswerLost(Exception):
    """The request may have arrived, its answer did not. Whether trying again is safe depends on the request."""


class TooLarge(Exception):
    """The answer is larger than the caller wanted to hold."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case

    def json(self) -> Any:
        """None where the body is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


# Not covered by is_global: addresses that carry an IPv4 address inside, which may be private (reliability page, B).
_CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "2002::/16", "::/96", "fec0::/10", "100.64.0.0/10")))


def public(address: str) -> bool:
    """Whether a request to this address leaves for the public internet."""
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if any(found.version == net.version and found in net for net in _CARRIERS):
        return False
    return found.is_global and not found.is_multicast


class _NotPublic(OSError):
    """Carries the resolver's verdict through the connector, which wraps any OSError."""


class _PublicResolver(AbstractResolver):
    """Resolves once and refuses a name of which any address is not public; the connection goes to what was checked."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not found or not all(public(one["host"]) for one in found):
            raise _NotPublic(f"{host} is not a public address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class Http:
    """Two pools, one guarded. Timeouts are always set; redirects are never followed; proxies are never read from the
    environment."""

    def __init__(self, settings: CommonSettings, *, timeout_s: float = 15, connections: int = 100) -> None:
        self._origins = settings.provider_origins
        self._service_key = settings.service_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=5)
        self._connections = connections
        self._open: aiohttp.ClientSession | None = None
        self._guarded: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._open = self._session(None)
        self._guarded = self._session(_PublicResolver())

    def _session(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._connections, resolver=resolver, ttl_dns_cache=30)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            trust_env=False,
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        for session in (self._open, self._guarded):
            if session:
                await session.close()

    def mapped(self, url: str) -> str:
        """The address to call instead, where a stand-in is configured for its origin."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        stand_in = self._origins.get(origin)
        return url if stand_in is None else stand_in.rstrip("/") + url[len(origin) :]

    async def provider(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        guarded: bool = False,
        max_bytes: int = 1_000_000,
    ) -> Answer:
        """One call to a provider. Raises NotSent, AnswerLost or TooLarge; any status is an Answer."""
        async with self.stream(method, url, headers, body, guarded=guarded) as response:
            try:
                content = await response.content.read(max_bytes + 1)
                while len(content) <= max_bytes and (more := await response.content.read(max_bytes + 1 - len(content))):
                    content += more
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise AnswerLost(type(error).__name__) from error
            if len(content) > max_bytes:
                raise TooLarge(f"more than {max_bytes} bytes")
            return Answer(response.status, content, {name.lower(): value for name, value in response.headers.items()})

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        guarded: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body the caller reads piece by piece. Raises NotSent or AnswerLost."""
        target = self.mapped(url)
        session = self._guarded if guarded and target == url else self._open
        assert session, "start() first"
        if guarded and target == url:
            _check(target)
        try:
            response = await session.request(method, target, headers=headers, data=body or None, allow_redirects=False)
        except aiohttp.InvalidURL as error:
            raise Forbidden("not an address") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if isinstance(getattr(error, "os_error", None), _NotPublic):
                raise Forbidden("not a public address") from error
            raise NotSent(type(error).__name__) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AnswerLost(type(error).__name__) from error
        try:
            yield response
        finally:
            response.release()

    async def service(
        self,
        method: str,
        url: str,
        tenant: str,
        json: Any = None,
        *,
        credential: str | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = 1,
    ) -> Answer:
        """One call to another service of ours, with the service key or somebody's own credential. Raises ServiceAway for
        no answer and for 502 to 504; give `tries` only to what is idempotent."""
        assert self._open, "start() first"
        key = credential or (self._service_key.get_secret_value() if self._service_key else "")
        sent = {"authorization": f"Bearer {key}", "hilo-tenant": tenant, "content-type": "application/json", **(headers or {})}
        body = orjson.dumps(json) if json is not None else None
        for attempt in range(tries):
            try:
                async with self._open.request(method, url, headers=sent, data=body, allow_redirects=False) as response:
                    answer = Answer(response.status, await response.read(), {n.lower(): v for n, v in response.headers.items()})
                if answer.status not in (502, 503, 504):
                    return answer
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            if attempt + 1 < tries:
                await asyncio.sleep(0.1 * 2**attempt)
        raise ServiceAway(urlsplit(url).netloc)


async def pieces(response: aiohttp.ClientResponse, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """The body of a streamed response, piece by piece. Raises AnswerLost when it breaks off."""
    try:
        async for piece in response.content.iter_chunked(size):
            yield piece
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise AnswerLost(type(error).__name__) from error


def _check(url: str) -> None:
    """What no resolver sees: a scheme, a port, credentials in the address, an address instead of a name."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.username or parts.password or parts.port not in (None, 443, 8443):
        raise Forbidden("only https to a public host, without credentials, on port 443 or 8443")
    try:
        literal = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return
    if not public(str(literal)):
        raise Forbidden("not a public address")
