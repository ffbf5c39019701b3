"""What the Meta channels share: the signature, the subscription handshake, and the answers of the Graph API.

https://developers.facebook.com/docs/graph-api/webhooks/getting-started
"""

from __future__ import annotations

from datetime import timedelta

from services.ingest.contract import Account, Failed, Hmac, Raw, Refused, Reply, Result, Retry, Webhook
from services.ingest.contract.schemes import same, secret_of

VERSION = "v23.0"
GRAPH = f"https://graph.facebook.com/{VERSION}"


def subscribed(account: Account, raw: Raw) -> Reply | None:
    """GET hub.mode=subscribe: prove the verify token, echo the challenge."""
    if raw.query.get("hub.mode") != "subscribe":
        return None
    given = raw.query.get("hub.verify_token", "")
    if not any([same(token, given) for token in secret_of(account, "verify_token").all()]):  # noqa: C419  # all are tried
        raise Refused("hub.verify_token is wrong")
    return Reply(body=raw.query.get("hub.challenge", "").encode())


WEBHOOK: Webhook[Account] = Webhook(
    Hmac("x-hub-signature-256", secret="app_secret", prefix="sha256="),  # the name of the account's field
    handshake=subscribed,
    answer_within=timedelta(seconds=5),
)

ANSWERS: dict[object, Result] = {
    1: Retry("unknown error"),
    2: Retry("service is down"),
    4: Retry("too many calls of the app", 60),
    10: Failed("permission is missing", then="fix_account"),
    190: Failed("token expired", then="fix_account"),
    200: Failed("permission is missing", then="fix_account"),
    368: Failed("blocked for policy violations", then="fix_account"),
    613: Retry("too many calls", 60),
}
