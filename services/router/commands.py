"""Commands on a conversation: what agents, bots and rules ask for. Read, judge, compare and set, answer, publish.

A command is done once per idempotency key: its answer is remembered in the conversation, and its messages have ids that come
from the key. Who names a version that is gone gets what is there now; a conversation that was joined names its survivor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.common import metrics
from services.common.errors import Problem, not_found
from services.common.events import Action, Author, Part
from services.common.identifiers import Identifier, Proof, derived_event_id, leg_key, outbound_id
from services.common.tenants import PublicRules
from services.router import conversations as decide
from services.router import handoff, privacy, sending
from services.router.books import RulesOf
from services.router.directory import Directory
from services.router.leaks import PrivateInvitations
from services.router.outputs import Change, Emit
from services.router.people import Parties, People
from services.router.protocol import Conversations
from services.router.sending import Draft
from services.router.state import Command, Conversation, LegRecord, head
from services.router.wishes import Wishes

REMEMBERED = 32
TRIES = 3


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what, once. `version` or `saw` (the entry of the customer's last message on the screen) says what they
    know; with both, `saw` speaks for the customer's messages and `version` for colleagues' answers alone."""

    tenant: str
    conversation: str
    key: str
    by: Author
    version: int | None = None
    saw: str | None = None


Decision = tuple[Change, Mapping[str, Any]]
Decide = Callable[[Conversation], Decision]


class Commands:
    def __init__(
        self,
        conversations: Conversations,
        directory: Directory,
        people: People,
        parties: Parties,
        wishes: Wishes,
        invitations: PrivateInvitations,
        rules_of: RulesOf = lambda _: PublicRules(),
    ) -> None:
        self.conversations, self.directory, self.wishes = conversations, directory, wishes
        self.people, self.parties, self.invitations, self.rules_of = people, parties, invitations, rules_of

    # -- the common way

    async def read(self, tenant: str, conversation: str) -> Conversation:
        found = await self.conversations.find(conversation)
        if found is None or found.tenant != tenant:
            raise not_found("conversation")
        return found

    async def repeated(self, c: Conversation, key: str) -> dict[str, Any] | None:
        """What this key was answered before; what it told is published, in case that was cut short."""
        if (done := remembered(c, key)) is not None:
            await self.conversations.publish((c,))
        return done

    async def carry_out(self, request: Request, decide: Decide) -> dict[str, Any]:
        """The answer of the decision, once it is written. Raises Problem: 404, 409 with `current`, or what `decide` raises."""
        for _ in range(TRIES):
            c = await self.read(request.tenant, request.conversation)
            if (done := await self.repeated(c, request.key)) is not None:
                return done
            judged(c, request)
            change, answer = decide(c)
            result = {**answer, "version": c.v + 1}
            after = await self.conversations.change(c, _remembering(change, request.key, result, self.conversations))
            if after:
                await self.conversations.publish((after,))
                if c.assignment and after.assignment is None:
                    await self.conversations.desk.release(c.assignment.reservation)
                return result
            if request.version is not None and request.saw is None:
                raise lost(await self.read(request.tenant, request.conversation))
        raise Problem(503, "busy", "Others change this conversation all the time; try again.", retry_after=1)

    # -- messages

    async def reply(
        self,
        request: Request,
        leg: str,
        parts: Sequence[Part],
        *,
        action: Action = "message",
        reply_to: str | None = None,
        target: str | None = None,
        need: Proof | None = None,
    ) -> dict[str, Any]:
        """Accept a message for a leg. In public it is checked for private data first, and waits a moment."""
        c = await self.read(request.tenant, request.conversation)
        if remembered(c, request.key) is None:
            record = _writable(c, leg)
            if record.visibility == "public":
                await self.refuse_private(c, parts)
            await self._refuse_unwanted(c, record)

        def decide(c: Conversation) -> Decision:
            record = _writable(c, leg)
            now = self.conversations.now()
            _refuse_full(c)
            _refuse_outside(self.directory, record, action, parts, now)
            draft = Draft(
                id=outbound_id(c.id, request.key),
                leg=leg,
                parts=tuple(parts),
                author=request.by,
                party=self.wishes.party_of(c, record),
                need=need or record.proof,
                action=action,
                reply_to=reply_to or (record.last_id if record.visibility == "public" else None),
                target=target,
                not_before=self.wishes.not_before(record, now),
            )
            change = Change(_taken_part(c, request.by))
            if draft.answers:
                change = self.wishes.granted(change, handoff.answered(change.after, leg, now, request.by), now)
            change = sending.queued(change, draft, now)
            not_before = draft.not_before.isoformat() if draft.not_before else None
            return change, {"outbound_id": draft.id, "not_before": not_before, "by": request.by.id}

        return await self.carry_out(request, decide)

    async def refuse_private(self, c: Conversation, parts: Sequence[Part]) -> None:
        """Of what shall be said in public: raises Problem 422 with the spans, for people, bots and templates alike."""
        keys = {one.party for one in c.legs}
        if c.customer:
            keys |= set(await self.conversations.store.identifiers_of(c.customer))
        visible = frozenset(one.party for one in c.legs if one.visibility == "public")
        known = await self.people.known(c.tenant, sorted(keys), visible=visible)
        rules = self.rules_of(c.tenant)
        own = (*self.directory.own_contacts(c.tenant), *rules.contacts)
        found = privacy.find_in_parts(parts, known, own, rules.forms) + await self.invitations.found(c.tenant, parts)
        if found:
            for kind in {one.found.kind for one in found}:
                metrics.REFUSED_PUBLIC.labels(kind).inc()
            raise Problem(
                422,
                "private_data",
                "This must not be said in public.",
                found=[
                    {
                        "kind": one.found.kind,
                        "start": one.found.start,
                        "end": one.found.end,
                        "text": one.found.text,
                        "part": one.part,
                        "field": one.field,
                    }
                    for one in found
                ],
            )

    async def _refuse_unwanted(self, c: Conversation, leg: LegRecord) -> None:
        if await self.people.withdrawn(c.tenant, leg.party, f"{leg.channel}/{leg.account}"):
            raise Problem(422, "consent_withdrawn", "They do not want to be written to here.")

    async def stop(self, request: Request, outbound: str) -> dict[str, Any]:
        """Take a queued message back. 409 when it has left already, or is not known."""

        def decide(c: Conversation) -> Decision:
            send = sending.send_of(c, outbound)
            if send is None:
                raise Problem(409, "not_stoppable", "This message has been sent, refused, or was never queued here.")
            change = sending.stopped(Change(c), outbound, request.by) or Change(c)
            return change, {"outbound_id": outbound, "state": "stopped"}

        return await self.carry_out(request, decide)

    # -- notes and states

    async def note(self, request: Request, text: str) -> dict[str, Any]:
        note_id = derived_event_id(request.conversation, "note", request.key)

        def decide(c: Conversation) -> Decision:
            emit = Emit("note.added", by=request.by, more={"note_id": note_id, "text": text})
            return Change(_taken_part(c, request.by), (emit,)), {"note_id": note_id}

        return await self.carry_out(request, decide)

    async def close(self, request: Request, why: str) -> dict[str, Any]:
        """Needs the version, or the last message the agent saw: nobody closes what they have not read. Its invitations end: a
        code that still comes is ordinary text in a conversation of its own."""

        def decide_(c: Conversation) -> Decision:
            if c.state == "closed":
                return Change(c), {"state": "closed"}
            return self.wishes.closed(c, self.conversations.now(), why, request.by), {"state": "closed"}

        return await self.carry_out(request, decide_)

    async def reopen(self, request: Request, why: str) -> dict[str, Any]:
        """Refused where the customer has another open conversation by now: that one goes on."""
        c = await self.read(request.tenant, request.conversation)
        if c.customer and c.state == "closed":
            others = await self.conversations.store.open_of(c.customer, c.group)
            if others:
                raise Problem(409, "has_open", "The customer has an open conversation.", conversation_id=others[0].id)

        def decide_(c: Conversation) -> Decision:
            if c.state == "open":
                return Change(c), {"state": "open"}
            if not c.held:
                raise Problem(409, "nothing_left", "All its legs went on to other conversations.")
            now = self.conversations.now()
            after = replace(c, state="open", check=True, since=now, last=now)
            return Change(after, (Emit("conversation.reopened", by=request.by, why=why),)), {"state": "open"}

        answer = await self.carry_out(request, decide_)
        await self.conversations.reconcile(request.conversation)
        self.conversations.desk.kick(c.tenant, c.queue)
        return answer

    # -- writing first

    async def add_leg(self, request: Request, channel: str, account: str, leg: str, identifier: str) -> dict[str, Any]:
        """A private leg to an identifier that belongs to this customer by proof, not by a claim."""
        c = await self.read(request.tenant, request.conversation)
        if (done := await self.repeated(c, request.key)) is not None:
            return done
        judged(c, request)
        known = (await self.conversations.store.known((identifier,))).get(identifier)
        who = await self.people.identifier(c.tenant, identifier)
        if known is None or who is None or c.customer is None or known.customer != c.customer:
            raise Problem(409, "unproven", "This identifier is not proven to be this customer's.")
        record = self._private_leg(c, channel, account, leg, who)
        holder = await self.conversations.bring(record, c)
        if holder.id != c.id:
            raise Problem(409, "leg_elsewhere", "Another conversation holds this leg.", conversation_id=holder.id)
        again = replace(request, version=None, saw=None)
        return await self.carry_out(again, lambda c: (Change(c), {"leg": record.key}))

    def _private_leg(self, c: Conversation, channel: str, account: str, leg: str, who: Identifier) -> LegRecord:
        declared = self.directory.leg(channel, leg)
        described = self.directory.account(c.tenant, channel, account)
        if declared is None or declared.visibility != "private" or described is None or described.state != "active":
            raise Problem(422, "no_such_leg", "This account has no such private leg.")
        key = leg_key(c.tenant, channel, account, who.key, "private")
        sealed = self.parties.seal(c.tenant, who)
        return LegRecord(key, who.key, channel, account, who=sealed, leg=leg, visibility="private", proof="channel")


# -- what is judged before ------------------------------------------------------------------------------------------------


def judged(c: Conversation, request: Request) -> None:
    """Raises Problem 409 for a joined conversation, for a version that is gone, for a message that was not seen."""
    if c.state == "joined":
        raise Problem(
            409, "joined", "This conversation was joined to another.", joined_into=c.into, version=c.v, current=_current(c)
        )
    if request.version is not None and (request.version != c.v if request.saw is None else _answered_since(c, request)):
        raise lost(c)
    if request.saw is not None and any(leg.wait and leg.last_entry not in (None, request.saw) for leg in c.held):
        newest = max((leg for leg in c.held if leg.last), key=lambda leg: leg.last or c.opened, default=None)
        if newest and newest.last_entry != request.saw:
            raise lost(c)


def _answered_since(c: Conversation, request: Request) -> bool:
    """Whether somebody else has written to the customer after the version that the caller knows."""
    known = request.version or 0
    answers = (one.result for one in c.commands if one.result.get("outbound_id"))
    return any(one["version"] > known and one.get("by") not in (None, request.by.id) for one in answers)


def lost(c: Conversation) -> Problem:
    return Problem(409, "version_lost", "Somebody was faster; look at what is there now.", current=_current(c))


def over(c: Conversation) -> Problem:
    return Problem(409, "closed", "The conversation is closed; open it again first.", current=_current(c))


def _current(c: Conversation) -> dict[str, Any]:
    return {"conversation_id": c.id, **head(c).model_dump(mode="json")}


def remembered(c: Conversation, key: str) -> dict[str, Any] | None:
    return next((dict(one.result) for one in c.commands if one.key == key), None)


def _remembering(change: Change, key: str, result: Mapping[str, Any], conversations: Conversations) -> Change:
    after = change.after
    commands = (*after.commands, Command(key, result))[-REMEMBERED:]
    return Change(decide.unfinished(replace(after, commands=commands), conversations.now()), change.outputs)


def _taken_part(c: Conversation, by: Author) -> Conversation:
    if by.kind not in ("agent", "bot") or by.id in c.participants:
        return c
    return replace(c, participants=(*c.participants, by.id))


def _writable(c: Conversation, leg: str) -> LegRecord:
    record = c.leg(leg)
    if record is None or record.moved:
        raise Problem(422, "no_such_leg", "The conversation does not hold this leg.", current=_current(c))
    if c.state != "open":
        raise over(c)
    return record


def _refuse_full(c: Conversation) -> None:
    if len(c.sends) >= sending.MOST:
        raise Problem(429, "too_many_unsent", "Too many messages wait to be sent here.", retry_after=10)


def _refuse_outside(directory: Directory, leg: LegRecord, action: Action, parts: Sequence[Part], now: Any) -> None:
    """What the gate would refuse anyway is said at once."""
    templated = action != "message" or any(part.kind == "template" for part in parts)
    if leg.window and now >= leg.window and not templated:
        declared = directory.leg(leg.channel, leg.leg)
        instead = declared.outside if declared else None
        raise Problem(422, "window_closed", "The provider's window for a free answer is over.", instead=instead)
