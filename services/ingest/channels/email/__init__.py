"""Email: MIME in by SMTP, MIME out by SMTP. A sender is as sure as what the receiving server authenticated.

Answers go to the address in From: whoever may forge a Reply-To must not get somebody else's answers. The raw mail keeps
attachments; a part refers to them as `<sha256 of the mail>/<number>`, and `attachment` finds them again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from email import policy
from email.message import EmailMessage
from email.utils import formataddr
from urllib.parse import quote, urlsplit

from pydantic import Field

from services.ingest.channels.email.reading import content_of, leaves, parsed, slice_of
from services.ingest.channels.email.replies import newest
from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Facts,
    Failed,
    Identifier,
    Ignored,
    Item,
    Leg,
    Mail,
    Moment,
    Outgoing,
    Part,
    PartKind,
    Payload,
    Raw,
    Receipt,
    Received,
    Referred,
    Request,
    Result,
    Retry,
    Secret,
    Send,
    Sender,
)

ADDRESS = r"^[^@\s<>,]{1,64}@[^@\s<>,]{1,255}$"


class Email(Account):
    address: str = Field(description="The support address, e.g. help@example.org", pattern=ADDRESS)
    name: str = Field("", description="The name beside it, e.g. Example customer care")
    subject: str = Field("Your message to us", description="Subject of mails that answer none")
    smtp_url: str = Field(
        description="Where outgoing mail goes: smtp://user@host:587 (TLS is asked for) or smtps://user@host:465",
        pattern=r"^smtps?://[^/\s]+$",
    )
    smtp_password: Secret | None = Field(None, description="Password of that user; empty where the server asks for none")


class Attachment(Payload):
    name: str | None = None
    media_type: str
    size: int
    ref: str


class Message(Payload):
    message_id: str
    date: Moment | None
    sender: str = Field(pattern=ADDRESS)
    name: str | None = None
    to: str = ""
    subject: str
    references: tuple[str, ...]
    answers: str | None = None
    text: str
    attachments: tuple[Attachment, ...]
    automatic: str | None = None
    authenticated: bool


class Report(Payload):
    action: str
    status: str = ""
    recipient: str = ""
    diagnostic: str = ""
    original: str | None = None


class Bounce(Payload):
    date: Moment | None
    bounce: Report


# -- in ---------------------------------------------------------------------------------------------------------------


def unpack(raw: Raw) -> Iterable[Item]:
    mail = slice_of(raw)
    return [Item("bounce" if mail["bounce"] else "mail", mail)]


def received(account: Email, m: Message) -> Facts:
    if m.automatic or m.sender.lower() == account.address.lower():
        yield Ignored(m.automatic or "a mail of our own")
        return
    sender = Sender(Identifier("email", m.sender), name=m.name, proof="channel" if m.authenticated else "claimed")
    if token := plus(account, m.to):
        yield Referred(id=provider_id(m), at=m.date, sender=sender, ref=token)
    yield Received(
        id=provider_id(m),
        at=m.date,
        sender=sender,
        parts=tuple(parts_of(m)),
        reply_to=piece_of(account, m.answers) or m.answers,
        context={"to": m.sender, "subject": m.subject, "references": " ".join((*m.references, m.message_id))},
    )


def provider_id(m: Message) -> str:
    """A Message-ID may be used twice, and a stranger who has seen it must not keep the real mail out."""
    said = "\0".join((m.sender, m.subject, m.text, *(a.name or "" for a in m.attachments)))
    return f"{m.message_id}#{hashlib.sha256(said.encode()).hexdigest()[:12]}"


KINDS: Mapping[str, PartKind] = {"image": "image", "audio": "audio", "video": "video"}


def parts_of(m: Message) -> Iterable[Part]:
    """The new words first; the whole mail, quotations included, stays with them."""
    yield Part("text", text=newest(m.text), data={"subject": m.subject, "full": m.text})
    for a in m.attachments:
        kind = KINDS.get(a.media_type.split("/")[0], "file")
        yield Part(kind, ref=a.ref, media_type=a.media_type, name=a.name, size=a.size)


def plus(account: Email, to: str) -> str | None:
    """What stands between + and @ of our address: the code of a handoff link. Some programs write it in small letters."""
    local, _, domain = account.address.lower().partition("@")
    found = re.search(rf"(?<![^\s<,]){re.escape(local)}\+([a-z0-9-]{{4,64}})@{re.escape(domain)}", to.lower())
    return found[1].upper() if found else None


def piece_of(account: Email, message_id: str | None) -> str | None:
    """The piece that one of our own Message-IDs names."""
    domain = account.address.partition("@")[2].lower()
    found = re.fullmatch(rf"<([0-9a-f-]{{36}})@{re.escape(domain)}>", (message_id or "").lower())
    return found[1] if found else None


def bounced(account: Email, b: Bounce) -> Facts:
    """Only what bears our own Message-ID: anybody may send a mail that looks like a report."""
    report, piece = b.bounce, piece_of(account, b.bounce.original)
    if piece is None:
        yield Ignored("a report about a mail that is not ours")
    elif report.action not in ("failed", "delivered"):
        yield Ignored(f"a report that says '{report.action[:20]}'")
    else:
        yield Receipt(
            id=piece,
            at=b.date,
            party=Identifier("email", report.recipient) if re.fullmatch(ADDRESS, report.recipient) else None,
            state="failed" if report.action == "failed" else "delivered",
            correlation=piece,
            reason=f"{report.status} {report.diagnostic}".strip() or None,
            then="other_leg" if report.status.startswith("5.1") else "nothing",
        )


def attachment(mail: bytes, number: int) -> tuple[bytes, str, str | None]:
    """Content, media type and name of one attachment of a raw mail. Raises Unreadable, or IndexError if there is none."""
    leaf = list(leaves(parsed(mail)))[number]
    return content_of(leaf.part), leaf.media_type, leaf.name


# -- out --------------------------------------------------------------------------------------------------------------


def message(account: Email, out: Outgoing) -> Request:
    """The Message-ID is the same for every attempt, and comes back in answers and bounces."""
    to, references = out.context.get("to") or out.thread, out.context.get("references", "").split()
    if not re.fullmatch(ADDRESS, to):
        raise ValueError("the thread of a mail is an address")
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = formataddr((account.name, account.address)) if account.name else account.address
    mail["To"] = to
    mail["Subject"] = subject(account, out)
    mail["Message-ID"] = f"<{out.id}@{account.address.partition('@')[2]}>"
    if references:
        mail["In-Reply-To"], mail["References"] = references[-1], " ".join(references)
    mail.set_content("\n\n".join(written(out.part)))
    headers = {"mail-from": account.address, "rcpt-to": to}
    return Request("MAIL", server(account), headers, mail.as_bytes(), transport="smtp")


def subject(account: Email, out: Outgoing) -> str:
    if own := out.part.data.get("subject"):
        return " ".join(own.split())
    answered = re.sub(r"^((re|aw|sv|antw|r)\s*:\s*)+", "", out.context.get("subject", "").strip(), flags=re.IGNORECASE)
    return f"Re: {' '.join(answered.split())}" if answered else account.subject


def written(part: Part) -> Iterable[str]:
    """Files go as links: a mail server's limit is unknown, and a link can be taken back."""
    if part.text:
        yield part.text
    if part.ref:
        yield f"{part.name}: {part.ref}" if part.name else part.ref


def server(account: Email) -> str:
    """The address of the server with its user and password, as the sender of mails takes it."""
    url = urlsplit(account.smtp_url)
    user = quote(url.username or "", safe="")
    password = f":{quote(account.smtp_password.reveal(), safe='')}" if account.smtp_password else ""
    place = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{user}{password}@{place}" if user else f"{url.scheme}://{place}"


def invite(account: Email, code: str) -> str:
    local, _, domain = account.address.partition("@")
    return f"mailto:{local}+{code}@{domain}"


ANSWERS: dict[object, Result] = {
    **dict.fromkeys((421, 450, 451, 452, 454), Retry("the mail server is busy")),
    **dict.fromkeys((530, 534, 535, 538), Failed("the mail server refuses our password", then="fix_account")),
    **dict.fromkeys((500, 501, 502, 503, 504, 552, 554, 555), Failed("the mail server refuses this mail")),
    **dict.fromkeys((550, 551, 553), Failed("no such mailbox", then="other_leg")),
}

CHANNEL = Channel(
    name="email",
    title="Email",
    docs="docs/channels.md#email",
    account=Email,
    legs={
        "mail": Leg(
            "private",
            sends=(
                Can("text"),
                Can("link"),
                Can("image", caption=100_000),
                Can("video", caption=100_000),
                Can("audio", caption=100_000),
                Can("file", caption=100_000),
            ),
        )
    },
    doors=(Mail(),),
    unpack=unpack,
    kinds={"mail": received, "bounce": bounced},
    send=Send({"message": message}, sent_id=lambda out, _: out.id, answers=ANSWERS),
    invite=invite,
    contact=lambda account: (account.address,),
)
