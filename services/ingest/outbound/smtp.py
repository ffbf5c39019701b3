"""One mail to one server, with an answer for each way it can end: the contract's smtp transport.

Nothing has left before the end of DATA is answered: trouble before is NotSent. After the text was handed over, silence is
AnswerLost, since the server may have taken the mail.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.common.http import AnswerLost, NotSent
from services.ingest.contract import Request, Response

# RFC 5321 4.5.3.2 lets a server take ten minutes to answer the end of DATA; a lease is shorter, and two are plenty today.
TIMEOUT_S = 25.0


@dataclass(frozen=True, slots=True)
class Server:
    """`smtps` is TLS from the first byte; `smtp` upgrades where the server offers it, and must where there is a password."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = None


def server(url: str) -> Server:
    """Raises ValueError for what is no smtp:// or smtps:// address."""
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("a mail server is smtp://host:587 or smtps://host:465")
    tls = parts.scheme == "smtps"
    user, password = (unquote(one) if one else None for one in (parts.username, parts.password))
    return Server(parts.hostname, parts.port or (465 if tls else 587), tls, user, password)


class Mailer:
    """`clear_passwords`: passwords may go over an open line, which only tests and the demo allow."""

    def __init__(self, *, clear_passwords: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        self._clear, self._timeout_s = clear_passwords, timeout_s

    async def send(self, request: Request) -> Response:
        """The server's code and text. Raises NotSent or AnswerLost."""
        at = server(request.url)
        client = aiosmtplib.SMTP(
            hostname=at.host,
            port=at.port,
            use_tls=at.tls,
            start_tls=False if at.tls else (True if at.password and not self._clear else None),
            timeout=self._timeout_s,
        )
        try:
            return await self._talk(client, at, request)
        finally:
            client.close()

    async def _talk(self, client: aiosmtplib.SMTP, at: Server, request: Request) -> Response:
        try:
            await client.connect()
            await client.ehlo()
            if at.username and at.password:
                await client.login(at.username, at.password)
            international = not (request.headers["mail-from"] + request.headers["rcpt-to"]).isascii()
            if international and not client.supports_extension("smtputf8"):
                return Response(553, b"the mail server takes no letters outside ASCII in addresses")
            encoding = "utf-8" if international else "ascii"
            options = _options(client, request, international=international)
            await client.mail(request.headers["mail-from"], options=options, encoding=encoding)
            for recipient in request.headers["rcpt-to"].split(","):
                await client.rcpt(recipient.strip(), encoding=encoding)
        except aiosmtplib.SMTPResponseException as error:
            return _response(error.code, error.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotSent(type(error).__name__) from error
        try:
            code, text = await client.data(request.body)
        except aiosmtplib.SMTPResponseException as error:
            return _response(error.code, error.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise AnswerLost(type(error).__name__) from error
        return _response(code, text)


def _options(client: aiosmtplib.SMTP, request: Request, *, international: bool) -> list[str]:
    """What must be said with MAIL: letters outside ASCII in an address, or in the text."""
    eight = not request.body.isascii() and client.supports_extension("8bitmime")
    return [option for option, needed in (("SMTPUTF8", international), ("BODY=8BITMIME", eight)) if needed]


def _response(code: int, text: str) -> Response:
    """A server that closes the line without a code counts as busy: nothing was taken."""
    return Response(code if 200 <= code < 600 else 421, text.encode(errors="replace"))
