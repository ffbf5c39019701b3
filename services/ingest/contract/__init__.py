"""The channel contract. Authors of channels import from here alone."""

from services.common.events import Part, PartKind
from services.common.identifiers import Evidence, Identifier, NotAnIdentifier, Proof, Sender, Strength, Visibility
from services.ingest.contract.account import Account, Secret
from services.ingest.contract.admission import Verdict, admit
from services.ingest.contract.capabilities import Can, Handoff, Leg, Rate, Window
from services.ingest.contract.channel import Channel, Handler, Misdeclared, model_of
from services.ingest.contract.declarative import load
from services.ingest.contract.describe import declared, described, form, how, matrix_row
from services.ingest.contract.doors import (
    Door,
    Fetched,
    Mail,
    Poll,
    Posted,
    Reply,
    Scheme,
    Session,
    Step,
    Stream,
    Webhook,
)
from services.ingest.contract.facts import (
    Called,
    Consented,
    Deleted,
    Echoed,
    Edited,
    Fact,
    Facts,
    Fetch,
    Healed,
    Ignored,
    Linked,
    Reacted,
    Receipt,
    Received,
    Referred,
    Stepped,
    Typing,
    tel,
    text,
)
from services.ingest.contract.inputs import JSON, CamelPayload, Item, Moment, Node, Payload, Raw, Refused, Unreadable, each
from services.ingest.contract.normalize import FactEvent, Outcome, Quarantined, Unused, complete, find, normalize
from services.ingest.contract.outbound import NotPossible, fit, media_link, plan, read, request_for, split
from services.ingest.contract.redact import masked, masked_slice
from services.ingest.contract.registry import GROUP, Registry, registry
from services.ingest.contract.schemes import BasicAuth, Ed25519, Hmac, Token, Unsigned, body_only, sha256_hex
from services.ingest.contract.sending import (
    Check,
    Failed,
    Left,
    Media,
    Outgoing,
    Renew,
    Request,
    Response,
    Result,
    Retry,
    Send,
    Sent,
    Unknown,
    basic,
    bearer,
    get,
    left_by,
    post,
)

# fmt: off
__all__ = [
    "GROUP", "JSON", "Account", "BasicAuth", "Called", "CamelPayload", "Can", "Channel", "Check", "Consented", "Deleted",
    "Door", "Echoed", "Ed25519", "Edited", "Evidence", "Fact", "FactEvent", "Facts", "Failed", "Fetch", "Fetched", "Handler",
    "Handoff", "Healed", "Hmac", "Identifier", "Ignored", "Item", "Left", "Leg", "Linked", "Mail", "Media", "Misdeclared",
    "Moment", "Node", "NotAnIdentifier", "NotPossible", "Outcome", "Outgoing", "Part", "PartKind", "Payload", "Poll", "Posted",
    "Proof", "Quarantined", "Rate", "Raw", "Reacted", "Receipt", "Received", "Referred", "Refused", "Registry", "Renew",
    "Reply", "Request", "Response", "Result", "Retry", "Scheme", "Secret", "Send", "Sender", "Sent", "Session", "Step",
    "Stepped", "Stream", "Strength", "Token", "Typing", "Unknown", "Unreadable", "Unsigned", "Unused", "Verdict",
    "Visibility", "Webhook", "Window", "admit", "basic", "bearer", "body_only", "complete", "declared", "described",
    "each", "find", "fit", "form", "get", "how", "left_by", "load", "masked", "masked_slice", "matrix_row", "media_link", "model_of",
    "normalize", "plan", "post", "read", "registry", "request_for", "sha256_hex", "split", "tel", "text",
]
