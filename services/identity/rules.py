"""The rules: how many identifiers of a scheme one person may have, what is never an identifier, when one is shared.

A tenant's own rules are the same model, read from YAML. Rules are values: clustering gets them as an argument, so a dry run
over stored evidence with other rules is the same code.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Limit(BaseModel):
    """How many identifiers of a scheme a customer may have, in all and within one scope. `counts` is False for those that
    are renewed so often (cookies) that many of them do not make their neighbour a shared one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    per_customer: int = Field(20, ge=1)
    per_scope: int = Field(20, ge=1)
    counts: bool = True


# A platform's own id is one per person and scope. WhatsApp gives a new business-scoped id to whoever changes their number,
# so one person may have several there over the years.
ONE_PER_SCOPE = Limit(per_scope=1)
LIMITS = {
    "tel": Limit(per_customer=4, per_scope=4),
    "email": Limit(per_customer=5, per_scope=5),
    "whatsapp": Limit(per_scope=3),
    "instagram": ONE_PER_SCOPE,
    "messenger": ONE_PER_SCOPE,
    "telegram": ONE_PER_SCOPE,
    "user": ONE_PER_SCOPE,
    "webchat": Limit(per_customer=120, per_scope=120, counts=False),
    "visitor": Limit(per_customer=120, per_scope=120, counts=False),
}
BLOCKED = frozenset(
    "null none nil undefined nan n/a na unknown anonymous guest test user admin default 0 -1 true false [object object]"
    " test@test.com test@example.com a@a.com abc@abc.com none@none.com no@no.com asdf@asdf.com +10000000000".split(" ")
) | {"[object object]"}
ROLES = frozenset(
    "abuse accounts admin administrator billing bookings careers contact customerservice enquiries feedback finance hello help"
    " helpdesk hostmaster hr info inquiries it jobs mail mailer-daemon marketing news newsletter no-reply noc noreply"
    " notifications office operations orders postmaster press privacy reception root sales security service shop staff support"
    " team webmaster do-not-reply donotreply kontakt contacto ventas soporte atencion administracion contato vendas buero".split()
)


class Rules(BaseModel):
    """`shared_from`: an identifier with at least so many strong neighbours of which a person has fewer is shared. The sizes
    bound one document and one timeline query; what would exceed them is not linked, and resolved all the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    limits: dict[str, Limit] = Field(default_factory=lambda: dict(LIMITS))
    other: Limit = Limit(per_customer=20, per_scope=3)
    shared_from: int = Field(3, ge=2)
    customer_size: int = Field(200, ge=2)
    component_size: int = Field(500, ge=2)
    component_edges: int = Field(2000, ge=2)
    suggestions: int = Field(64, ge=1)
    blocked: frozenset[str] = BLOCKED
    roles: frozenset[str] = ROLES

    def limit(self, scheme: str) -> Limit:
        return self.limits.get(scheme, self.other)


def read_rules(path: Path | None) -> Rules:
    """The default rules, or those of a file, in which `limits` are added to the default ones. Raises ValueError."""
    if path is None:
        return Rules()
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"HILO_IDENTITY_RULES: {error}") from error
    rules = Rules.model_validate(given)
    return rules.model_copy(update={"limits": LIMITS | rules.limits})
