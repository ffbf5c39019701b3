"""The router's doors: commands on conversations, the send gate, the page behind a handoff link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.auth import Auth, Principal
from services.common.errors import Problem, not_found
from services.common.events import Action, Author, Head, Part, PartKind
from services.common.identifiers import Proof
from services.router.commands import Commands, Request
from services.router.gate import Gate
from services.router.invitations import Invitations, Page
from services.router.state import head

Id = Annotated[str, Path(min_length=1, max_length=64)]
Key = Annotated[str, Header(alias="idempotency-key", min_length=1, max_length=200, description="Once per key, however often")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PartBody(_Body):
    kind: PartKind = "text"
    text: str | None = Field(None, max_length=20_000)
    ref: str | None = Field(None, max_length=2000)
    media_type: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=500)
    size: int | None = Field(None, ge=0)
    data: dict[str, str] = Field(default_factory=dict)

    def part(self) -> Part:
        return Part(self.kind, self.text, self.ref, self.media_type, self.name, self.size, self.data)


class _Seen(_Body):
    """What the caller knows: the conversation's version, or the entry of the customer's last message on the screen. With
    both, `version` only says which colleagues' answers were seen: it is no conflict that something else happened since."""

    version: int | None = None
    saw: str | None = Field(None, max_length=64, description="Entry id of the customer's last message that was seen")


class _MustHaveSeen(_Seen):
    @model_validator(mode="after")
    def _one_of(self) -> _MustHaveSeen:
        if self.version is None and self.saw is None:
            raise ValueError("name the version or the last message you saw")
        return self


class _Said(_MustHaveSeen):
    text: str | None = Field(None, min_length=1, max_length=20_000)
    parts: list[PartBody] = Field(default_factory=list, max_length=20)

    @model_validator(mode="after")
    def _something(self) -> _Said:
        if not self.text and not self.parts:
            raise ValueError("send `text`, `parts` or both")
        return self

    def content(self) -> tuple[Part, ...]:
        return (*((Part("text", self.text),) if self.text else ()), *(one.part() for one in self.parts))


class ReplyBody(_Said):
    leg: str = Field(min_length=1, max_length=600, description="Key of the leg to write on")
    reply_to: str | None = Field(None, max_length=500, description="The provider's id of the message that is answered")
    target: str | None = Field(None, max_length=500, description="The provider's id of the message to edit, delete or react to")
    action: Action = "message"
    need: Proof | None = Field(None, description="Proof without which it must not go; the leg's own by default")


class StopBody(_Body):
    outbound_id: str = Field(min_length=1, max_length=64)


class NoteBody(_Body):
    text: str = Field(min_length=1, max_length=20_000)


class CloseBody(_MustHaveSeen):
    why: str = Field("", max_length=500)


class ReopenBody(_Seen):
    why: str = Field("", max_length=500)


class LegBody(_Seen):
    channel: str = Field(min_length=1, max_length=60)
    account: str = Field(min_length=1, max_length=120)
    leg: str = Field(min_length=1, max_length=60, description="The leg's name on its channel")
    identifier: str = Field(min_length=22, max_length=22, description="Key of an identifier of this customer")


class InviteBody(_Seen):
    private: list[PartBody] = Field(default_factory=list, max_length=20, description="`{link}` and `{code}` are filled in")
    public: list[PartBody] = Field(default_factory=list, max_length=20)
    targets: list[str] = Field(default_factory=list, max_length=10, description="`channel/account`, best first")
    approval: bool = Field(default=False, description="Keep it as a draft for somebody else's yes")


class OfferBody(_Seen):
    leg: str = Field(min_length=1, max_length=600)
    parts: list[PartBody] = Field(min_length=1, max_length=20)
    targets: list[str] = Field(default_factory=list, max_length=10)


class FinishBody(_Seen):
    parts: list[PartBody] = Field(default_factory=list, max_length=20)


class Done(BaseModel):
    """What a command did; `version` is the conversation's new one."""

    model_config = ConfigDict(extra="allow")
    version: int


class Queued(Done):
    outbound_id: str
    by: str = ""
    not_before: datetime | None = None


class ConversationOut(BaseModel):
    conversation_id: str
    sends: list[dict[str, Any]]
    head: Head


class GateBody(_Body):
    outbound_id: str = Field(min_length=1, max_length=64)


class GateOut(BaseModel):
    allow: bool
    reason: str
    final: bool
    retry_after_s: float | None


def add_routes(app: FastAPI, commands: Commands, invitations: Invitations, gate: Gate, auth: Auth) -> None:
    _conversations(app, commands, auth)
    _handoff(app, invitations, auth)
    _gate(app, gate, invitations, auth)


def _conversations(app: FastAPI, commands: Commands, auth: Auth) -> None:
    reader, agent = Depends(auth.requires("read", "agent")), Depends(auth.requires("agent"))
    at = "/v1/conversations/{conversation}"

    @app.get(at, tags=["conversations"])
    async def conversation(conversation: Id, who: Principal = reader) -> ConversationOut:
        """The conversation as it is now. A joined one names its survivor in `head.into`."""
        c = await commands.read(who.tenant, conversation)
        sends = [
            {"outbound_id": one.id, "leg": one.leg, "state": one.state, "at": one.at, "not_before": one.not_before}
            for one in c.sends
        ]
        return ConversationOut(conversation_id=c.id, sends=sends, head=head(c))

    @app.post(f"{at}/messages", tags=["conversations"])
    async def reply(conversation: Id, body: ReplyBody, key: Key, who: Principal = agent) -> Queued:
        """Answer on a leg. In public: 422 `private_data` with the spans, and a moment in which it can be stopped."""
        request = _request(who, conversation, key, body)
        answer = await commands.reply(
            request,
            body.leg,
            body.content(),
            action=body.action,
            reply_to=body.reply_to,
            target=body.target,
            need=body.need,
        )
        return Queued(**answer)

    @app.post(f"{at}/stop", tags=["conversations"])
    async def stop(conversation: Id, body: StopBody, key: Key, who: Principal = agent) -> Done:
        """Take a queued message back."""
        return Done(**await commands.stop(_request(who, conversation, key), body.outbound_id))

    @app.post(f"{at}/notes", tags=["conversations"])
    async def note(conversation: Id, body: NoteBody, key: Key, who: Principal = agent) -> Done:
        """Write to the team; never leaves."""
        return Done(**await commands.note(_request(who, conversation, key), body.text))

    @app.post(f"{at}/close", tags=["conversations"])
    async def close(conversation: Id, body: CloseBody, key: Key, who: Principal = agent) -> Done:
        return Done(**await commands.close(_request(who, conversation, key, body), body.why))

    @app.post(f"{at}/reopen", tags=["conversations"])
    async def reopen(conversation: Id, body: ReopenBody, key: Key, who: Principal = agent) -> Done:
        return Done(**await commands.reopen(_request(who, conversation, key, body), body.why))

    @app.post(f"{at}/legs", tags=["conversations"])
    async def add_leg(conversation: Id, body: LegBody, key: Key, who: Principal = agent) -> Done:
        """Write first: a private leg to a proven identifier of this customer, else 409 `unproven`."""
        request = _request(who, conversation, key, body)
        return Done(**await commands.add_leg(request, body.channel, body.account, body.leg, body.identifier))


def _handoff(app: FastAPI, invitations: Invitations, auth: Auth) -> None:
    agent = Depends(auth.requires("agent"))
    at = "/v1/conversations/{conversation}"

    @app.post(f"{at}/handoff/invite", tags=["handoff"])
    async def invite(conversation: Id, body: InviteBody, key: Key, who: Principal = agent) -> Done:
        """From public to private: by the platform's own private reply where it has one, else by a link."""
        request = _request(who, conversation, key, body)
        wish = (_parts(body.private), _parts(body.public), tuple(body.targets))
        return Done(**await invitations.invite(request, *wish, approval=body.approval))

    @app.post(f"{at}/handoff/approve", tags=["handoff"])
    async def approve(conversation: Id, body: _Seen, key: Key, who: Principal = agent) -> Done:
        """Send the draft as it was written."""
        return Done(**await invitations.approve(_request(who, conversation, key, body)))

    @app.post(f"{at}/handoff/decline", tags=["handoff"])
    async def decline(conversation: Id, body: _Seen, key: Key, who: Principal = agent) -> Done:
        """The customer stays in public."""
        return Done(**await invitations.decline(_request(who, conversation, key, body)))

    @app.post(f"{at}/handoff/close", tags=["handoff"])
    async def finish(conversation: Id, body: FinishBody, key: Key, who: Principal = agent) -> Done:
        """The last public word, or none."""
        return Done(**await invitations.finish(_request(who, conversation, key, body), _parts(body.parts)))

    @app.post(f"{at}/offers", tags=["handoff"])
    async def offer(conversation: Id, body: OfferBody, key: Key, who: Principal = agent) -> Done:
        """An invitation given on a private leg: its code proves that two legs are one person's."""
        request = _request(who, conversation, key, body)
        return Done(**await invitations.offer(request, body.leg, _parts(body.parts), tuple(body.targets)))


def _gate(app: FastAPI, gate: Gate, invitations: Invitations, auth: Auth) -> None:
    worker = Depends(auth.requires("gate"))

    @app.post("/v1/gate", tags=["gate"])
    async def ask(body: GateBody, who: Principal = worker) -> GateOut:
        """May this message leave now? Anything but `allow: true` means hold."""
        return GateOut(**asdict(await gate.ask(who.tenant, body.outbound_id)))

    @app.get("/v1/offers/{token}", tags=["gate"])
    async def offers(token: Annotated[str, Path(max_length=200)], who: Principal = worker) -> Page:
        """What the page behind a handoff link shows. Reading it changes nothing."""
        page = await invitations.page(who.tenant, token)
        if page is None:
            raise not_found("offer")
        return page


def _parts(parts: Sequence[PartBody]) -> tuple[Part, ...]:
    return tuple(one.part() for one in parts)


def _request(who: Principal, conversation: str, key: str, seen: _Seen | None = None) -> Request:
    if not who.tenant:
        raise Problem(422, "tenant_missing", "Name the tenant in the header hilo-tenant.")
    kind: Literal["agent", "system"] = "agent" if who.agent or not who.service else "system"
    by = Author(kind, who.agent or who.key_id, who.name or None)
    return Request(who.tenant, conversation, key, by, seen.version if seen else None, seen.saw if seen else None)
