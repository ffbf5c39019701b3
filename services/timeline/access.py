"""Who may read: a key in the header, or, for browsers, the console's cookie through a port that the console fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from services.common.auth import Auth, Principal, Scope
from services.common.errors import Problem

Session = Callable[[Request], Awaitable[Principal | None]]


class Access:
    """`session` answers whose cookie a request carries; None for nobody's. It is asked only where there is no key."""

    def __init__(self, auth: Auth, session: Session | None = None) -> None:
        self._auth, self.session = auth, session

    async def principal(self, request: Request) -> Principal:
        """Raises Problem 401."""
        headers = request.headers
        if "authorization" not in headers and self.session and (found := await self.session(request)):
            return found
        return await self._auth.principal(headers.get("authorization", ""), headers.get("hilo-tenant", ""))

    def requires(self, *scopes: Scope) -> Callable[[Request], Awaitable[Principal]]:
        """A FastAPI dependency: the Principal, which has one of these scopes. Raises Problem 401 or 403."""

        async def check(request: Request) -> Principal:
            principal = await self.principal(request)
            if not any(principal.may(scope) for scope in scopes):
                raise Problem(403, "scope_missing", f"This needs a key with the scope {' or '.join(scopes)}.")
            return principal

        return check
