"""What surrounds a mail, decided from values: whom it is for, and what our own mail server found out about its sender."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from services.ingest.accounts import Connected
from services.ingest.contract import Mail

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_RESULT = re.compile(r"\s*([a-z0-9-]+)(?:/\d+)?\s*=\s*([a-z]+)")
_HEADER_FROM = re.compile(r"\bheader\.from\s*=\s*([a-z0-9.-]+)")


def recipient(address: str, accounts: Iterable[Connected]) -> Connected | None:
    """The account with this address. What follows a plus sign in the local part is the sender's own and not looked at,
    unless an account has exactly that address."""
    wanted, short = _folded(address), _folded(_without_plus(address))
    found: Connected | None = None
    for one in accounts:
        own = getattr(one.account, "address", None)
        if isinstance(own, str) and any(isinstance(door, Mail) for door in one.channel.doors):
            if _folded(own) == wanted:
                return one
            if _folded(own) == short:
                found = found or one
    return found


def _without_plus(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _folded(address: str) -> str:
    """Addresses as the world compares them; the domain in the form that DNS has."""
    local, _, domain = address.strip().rpartition("@")
    try:
        domain = domain.rstrip(".").encode("idna").decode()
    except UnicodeError:
        pass
    return f"{local}@{domain}".casefold()


def trusted(peer: str, networks: Networks) -> bool:
    """Whether the connection comes from our own mail server."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)


def authentication(mail: bytes, own: str) -> str:
    """The results that the server called `own` wrote on top of the mail (RFC 8601), as `dmarc=pass header.from=example.org;
    spf=fail`; empty where it wrote none. Only the topmost header of that name counts, since the server adds its own above
    what the sender wrote. Comments, quoted texts and other properties are left out: the sender chooses what is in them."""
    end = _HEADER_END.search(mail[: 64 * 1024])
    for line in _unfolded(mail[: end.start() if end else 64 * 1024]):
        name, _, value = line.partition(":")
        if name.strip().lower() == "authentication-results":
            server, *results = _plain(value).lower().split(";")
            if server.split()[:1] == [own.lower()]:
                return "; ".join(found for one in results if (found := _result(one)))
    return ""


def _result(text: str) -> str:
    found = _RESULT.match(text)
    if found is None:
        return ""
    of = _HEADER_FROM.search(text) if found[1] == "dmarc" else None
    return f"{found[1]}={found[2]}{f' header.from={of[1]}' if of else ''}"


def _unfolded(headers: bytes) -> list[str]:
    text = headers.decode("latin-1")
    return re.sub(r"\r?\n[ \t]+", " ", text).splitlines()


def _plain(value: str) -> str:
    """Without comments, which nest, and without quoted strings. What does not close hides the rest."""
    kept, depth, quoted, escaped = [], 0, False, False
    for char in value:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif quoted:
            quoted = char != '"'
        elif char == '"' and not depth:
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)
