"""Who writes what, on which channel, in which order: a pure function of N and a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from deploy.local.story import visitor_id

T = TypeVar("T")
Channel = Literal["whatsapp", "instagram", "telegram", "email", "webchat"]

# Mail and chat come by connections of their own and cost the client far more than a webhook does.
EVERY: Mapping[Channel, float] = {"whatsapp": 0.45, "instagram": 0.25, "telegram": 0.25, "email": 0.02, "webchat": 0.03}
WEBHOOKS: Mapping[Channel, float] = {"whatsapp": 0.45, "instagram": 0.3, "telegram": 0.25}


@dataclass(frozen=True, slots=True)
class Person:
    """A customer of the load: one channel, one identifier."""

    channel: Channel
    number: int

    @property
    def phone(self) -> str:
        return f"4915{100_000_000 + self.number}"

    @property
    def user_id(self) -> str:
        return f"DE.{10_000_000 + self.number}"

    @property
    def address(self) -> str:
        return f"person{self.number}@load.example"

    @property
    def identifier(self) -> tuple[str, str]:
        """(scheme, value) by which the timeline finds the person; the scope is the account's affair."""
        match self.channel:
            case "whatsapp":
                return "whatsapp", self.user_id
            case "instagram":
                return "instagram", f"ig{self.number}"
            case "telegram":
                return "telegram", str(50_000 + self.number)
            case "email":
                return "email", self.address
            case "webchat":
                return "webchat", visitor_id(self.visitor)

    @property
    def visitor(self) -> str:
        """The secret of this person's browser."""
        return f"visitor-load-{self.number:012d}-{'x' * 12}"


@dataclass(frozen=True, slots=True)
class Message:
    """`place` counts a person's messages; `at` is the provider's time in seconds, rising with it."""

    number: int
    person: Person
    place: int
    at: int

    @property
    def text(self) -> str:
        return f"Nachricht {self.place} von {self.person.number}: ¿dónde está mi pedido? 📦"


def plan(n: int, now: int, *, seed: int = 11, each: int = 10, shares: Mapping[Channel, float] = EVERY) -> list[Message]:
    """`n` messages of about n/each persons. A person's messages are in order; persons are interleaved."""
    chance = random.Random(seed)
    people = [Person(_channel(chance, shares), number) for number in range(max(1, n // each))]
    placed: dict[Person, int] = {}
    messages = []
    for number in range(n):
        person = people[number % len(people)] if number < len(people) else chance.choice(people)
        place = placed.get(person, 0)
        placed[person] = place + 1
        messages.append(Message(number, person, place, now - 3600 + place * 60))
    return messages


def _channel(chance: random.Random, shares: Mapping[Channel, float]) -> Channel:
    return chance.choices(list(shares), list(shares.values()))[0]


def batches(messages: Sequence[Message], size: int) -> list[list[Message]]:
    """Runs of WhatsApp messages as one webhook brings them; every other message alone."""
    found: list[list[Message]] = []
    waiting: list[Message] = []
    for message in messages:
        if message.person.channel != "whatsapp":
            found.append([message])
            continue
        waiting.append(message)
        if len(waiting) == size:
            found.append(waiting)
            waiting = []
    return [*found, waiting] if waiting else found


def sendings(batches: Sequence[T], *, duplicates: float, reorder: float, seed: int = 3) -> list[T]:
    """As the network brings them: some come up to twenty places later than they were written, some a second time up to two
    hundred places after the first."""
    chance = random.Random(seed)
    placed: list[tuple[float, int, T]] = []
    for number, batch in enumerate(batches):
        place = number + (chance.uniform(0, 20) if chance.random() < reorder else 0)
        placed.append((place, number, batch))
        if chance.random() < duplicates:
            placed.append((place + chance.uniform(0, 200), number, batch))
    return [batch for _, _, batch in sorted(placed, key=lambda one: one[:2])]


def bare(channel: str, provider_id: str) -> str:
    """As the sender wrote it: mail adds a digest, since a Message-ID may be used twice, and chat puts its thread before it."""
    match channel:
        case "email":
            return provider_id.partition("#")[0]
        case "webchat":
            return provider_id.rpartition(":")[2]
    return provider_id
