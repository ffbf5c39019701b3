"""A channel from a YAML file: paths, constants and maps; no templates with logic. What needs an `if` is written in Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, Field, ValidationError, create_model

from services.common.events import Part, PartKind
from services.common.identifiers import Identifier, Sender
from services.ingest.contract.account import Account, Secret
from services.ingest.contract.capabilities import Can, Leg, Rate
from services.ingest.contract.channel import Channel, Handler, Misdeclared
from services.ingest.contract.doors import Reply, Scheme, Webhook
from services.ingest.contract.facts import Facts, Receipt, Received, text
from services.ingest.contract.inputs import Item, Node, Payload, Raw
from services.ingest.contract.schemes import Hmac, Token
from services.ingest.contract.sending import Failed, Outgoing, Request, Result, Retry, Send, post
from services.ingest.contract.specs import (
    AnswerSpec,
    CanSpec,
    ChannelSpec,
    HmacSpec,
    MediaSpec,
    ReceiptSpec,
    ReceivedSpec,
    RequestSpec,
    SendSpec,
    TokenSpec,
    WebhookSpec,
)

PLACES = ("thread", "text", "id", "ref", "reply_to", "target", "leg")


class Slice(Payload):
    """An item as it came; the paths of the file say what is read."""

    model_config = ConfigDict(extra="allow")


def load(path: Path) -> Channel[Account]:
    """The channel of a file, or `Misdeclared` with the place in the file and what is wrong there."""
    try:
        spec = ChannelSpec.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise Misdeclared(f"{path.name} is not a channel yet: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise Misdeclared("\n".join([f"{path.name} is not a channel yet:", *lines])) from error
    check(path.name, spec)
    fields: dict[str, Any] = {n: (Secret if f.secret else str, Field(description=f.help)) for n, f in spec.account.items()}
    return Channel(
        name=spec.channel,
        title=spec.title,
        docs=spec.docs,
        account=create_model(spec.channel.title(), __base__=Account, **fields),
        legs={
            n: Leg(
                s.visibility,
                sends=tuple(Can(kind, **(can or CanSpec()).model_dump()) for kind, can in s.sends.items()),
                rates=(Rate(s.per_second),) if s.per_second else (),
            )
            for n, s in spec.legs.items()
        },
        doors=(Webhook(scheme(spec.webhook.verify), reply=replies(spec.webhook)),),
        unpack=lambda raw: unpack(spec, raw),
        kinds={kind: handler(s) for kind, s in spec.kinds.items()},
        ignores=spec.ignores,
        send=send(spec.send) if spec.send else None,
        shown=spec.shown,
    )


def check(file: str, spec: ChannelSpec) -> None:
    """What the schema cannot say: names that must exist elsewhere in the file."""
    secrets = [name for name, field in spec.account.items() if field.secret]
    if spec.webhook.verify.secret not in secrets:
        raise Misdeclared(
            f"{file}: webhook.verify.secret is '{spec.webhook.verify.secret}'; the secrets of account are {', '.join(secrets) or 'none'}."
        )
    for kind, shape in spec.kinds.items():
        if isinstance(shape, ReceivedSpec) and shape.leg and shape.leg not in spec.legs:
            raise Misdeclared(f"{file}: kinds.{kind}.leg is '{shape.leg}'; legs are {', '.join(spec.legs)}.")
    for action, request in (spec.send.requests if spec.send else {}).items():
        known = {*PLACES, *(f"account.{name}" for name in spec.account)}
        for place in re.findall(
            r"\{([^{}\"]*)\}",
            json.dumps([request.post, dict(request.headers), request.json_body, request.form and dict(request.form)]),
        ):
            if place not in known:
                raise Misdeclared(f"{file}: send.requests.{action} uses {{{place}}}; it can use {', '.join(sorted(known))}.")


def scheme(spec: HmacSpec | TokenSpec) -> Scheme:
    if isinstance(spec, TokenSpec):
        return Token(spec.token.lower(), spec.secret)

    def over(raw: Raw) -> bytes:
        stamp = raw.headers.get(spec.stamp.lower(), "") if spec.stamp else ""
        before, _, after = spec.over.replace("{url}", raw.url).replace("{stamp}", stamp).partition("{body}")
        return before.encode() + raw.body + after.encode()

    return Hmac(
        spec.header.lower(),
        spec.secret,
        spec.hmac,
        spec.encoding,
        spec.prefix,
        over,
        spec.stamp.lower() if spec.stamp else None,
    )


def replies(spec: WebhookSpec) -> Callable[[Account, Raw], Reply]:
    reply = Reply(body=spec.reply.encode(), media_type=spec.reply_type)
    return lambda *_: reply


def unpack(spec: ChannelSpec, raw: Raw) -> Iterable[Item]:
    document = Node(dict(raw.form()) if spec.webhook.body == "form" else raw.json())
    for node in document.walk(spec.items) if spec.items else [document]:
        name = spec.kind[1:] if spec.kind.startswith("=") else node.get(spec.kind)
        yield node.item(name if isinstance(name, str) else None)


def handler(spec: ReceivedSpec | ReceiptSpec) -> Handler[Account]:
    def received(account: Account, item: Slice) -> Facts:
        assert isinstance(spec, ReceivedSpec)
        node = Node(item.model_dump())
        files = spec.media
        media = tuple(media_part(files, found) for found in node.walk(files.each)) if files else ()
        words = node.get(spec.text) if spec.text else None
        parts = media + ((text(str(words)),) if words else ())
        sender = Sender(
            Identifier(spec.sender.scheme, need(node, spec.sender.value), spec.sender.scope),
            name=node.get(spec.sender.name) if spec.sender.name else None,
        )
        reply_to = node.get(spec.reply_to) if spec.reply_to else None
        yield Received(
            id=need(node, spec.id),
            at=when(node, spec.at),
            leg=spec.leg,
            sender=sender,
            thread=need(node, spec.thread) if spec.thread else "",
            parts=parts or (Part("unsupported"),),
            reply_to=reply_to,
            type=spec.type,
        )

    def receipt(account: Account, item: Slice) -> Facts:
        assert isinstance(spec, ReceiptSpec)
        node = Node(item.model_dump())
        state = spec.state.map.get(need(node, spec.state.at))
        if state not in ("sent", "delivered", "read", "failed"):
            raise ValueError(f"state '{node.get(spec.state.at)}' is not in state.map")
        correlation = node.get(spec.correlation) if spec.correlation else None
        yield Receipt(id=need(node, spec.id), at=when(node, spec.at), state=state, correlation=correlation)  # type: ignore[arg-type]

    return received if isinstance(spec, ReceivedSpec) else receipt


def need(node: Node, path: str) -> str:
    value = node.get(path)
    if not isinstance(value, (str, int)) or value == "":
        raise ValueError(f"nothing usable at '{path}'")
    return str(value)


def when(node: Node, path: str | None) -> datetime | None:
    """ISO 8601, or Unix seconds or milliseconds. A time without zone is UTC."""
    if path is None:
        return None
    value = need(node, path)
    if value.isdigit():
        if int(value) > 10**14:
            raise ValueError(f"'{value}' is not a time")
        return datetime.fromtimestamp(int(value) / (1000 if len(value) > 11 else 1), UTC)
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def media_part(spec: MediaSpec, node: Node) -> Part:
    media_type = node.get(spec.type) if spec.type else None
    kinds: dict[str, PartKind] = {"image": "image", "video": "video", "audio": "audio"}
    return Part(kinds.get(str(media_type).split("/")[0], "file"), ref=need(node, spec.ref), media_type=media_type)


def send(spec: SendSpec) -> Send[Account]:
    def build(request: RequestSpec) -> Any:
        return lambda account, out: filled(request, account, out)

    answers: dict[object, Result] = {}
    for code, answer in spec.answers.items():
        answers[code] = answers[int(code) if code.isdigit() else code] = result(code, answer)
    requests = {action: build(request) for action, request in spec.requests.items()}
    return Send(requests, sent_id=spec.sent_id, error_code=spec.error_code, answers=answers)


def result(code: str, answer: AnswerSpec) -> Retry | Failed:
    return Retry(code, answer.retry) if answer.retry is not None else Failed(answer.failed or code, then=answer.then)


def filled(spec: RequestSpec, account: Account, out: Outgoing) -> Request:
    values = {
        f"account.{n}": v.reveal() if isinstance(v := getattr(account, n), Secret) else str(v)
        for n in type(account).model_fields
    }
    values |= {
        "thread": out.thread,
        "text": out.part.text or "",
        "id": out.id,
        "ref": out.part.ref or "",
        "reply_to": out.reply_to or "",
        "target": out.target or "",
        "leg": out.leg,
    }

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\{([^{}]*)\}", lambda m: values[m[1]], value)
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        return [fill(v) for v in value] if isinstance(value, list) else value

    headers = {k.lower(): fill(v) for k, v in spec.headers.items()}
    form = None if spec.form is None else fill(dict(spec.form))
    return post(fill(spec.post), fill(spec.json_body), form=form, headers=headers, idempotent=spec.idempotent)
