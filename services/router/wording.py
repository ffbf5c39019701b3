"""The words of a handoff: short public answers with what is known filled in, and a sentence for every step.

Public texts keep the house rules: at most two sentences and 180 characters, the name, an apology without conditions, where it
goes on, initials; no exclamation mark, no emoji, no question that invites private data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Language = Literal["es", "en"]
LIMIT = 180

PUBLIC: Mapping[tuple[str, Language], str] = {
    (
        "private_first",
        "es",
    ): "Sentimos lo del {topic}, {name}. Te acabamos de escribir por privado para arreglarlo hoy. — {initials}",
    ("private_first", "en"): (
        "Sorry about the {topic}, {name}. We have just written to you privately to put it right today. — {initials}"
    ),
    ("link", "es"): "Sentimos lo del {topic}, {name}. Seguimos en privado aquí, para arreglarlo hoy: {link} — {initials}",
    ("link", "en"): "Sorry about the {topic}, {name}. Let us put it right today, in private, here: {link} — {initials}",
    ("closing", "es"): "Resuelto con {name} por privado. Gracias por avisarnos. — {initials}",
    ("closing", "en"): "Settled with {name} in private. Thank you for telling us. — {initials}",
}
PRIVATE: Mapping[tuple[str, Language], str] = {
    (
        "first",
        "es",
    ): "Hola, {name}: hemos leído lo del {topic}, no hace falta que lo repitas. Te contestamos aquí. — {initials}",
    ("first", "en"): "Hello {name}, we have read about the {topic}, no need to repeat it. We answer you here. — {initials}",
    ("elsewhere", "es"): "Si lo prefieres por otro sitio, entra por aquí y seguimos donde estábamos: {link}",
    ("elsewhere", "en"): "If another place suits you better, come in here and we go on where we were: {link}",
}

REASONS: Mapping[str, tuple[str, str]] = {
    "complaint": ("Parece una queja pública.", "It reads like a public complaint."),
    "question": ("Es una pregunta pública.", "It is a public question."),
    "seen": ("Alguien ha escrito en público.", "Somebody wrote in public."),
    "needs_approval": (
        "Una respuesta pública de esta cuenta pide el visto bueno de otra persona.",
        "A public answer of this account needs a second pair of eyes.",
    ),
    "approved": ("El borrador tiene el visto bueno.", "The draft was approved."),
    "sending_private": (
        "Primero va el mensaje privado; la respuesta pública sale cuando la plataforma lo acepte.",
        "The private message goes first; the public reply follows once the platform has accepted it.",
    ),
    "sending_link": ("La respuesta pública con el enlace está saliendo.", "The public reply with the link is on its way."),
    "answered_in_public": ("Contestado en público, sin ofrecer otro sitio.", "Answered in public; no private place offered."),
    "private_accepted": (
        "La plataforma ha entregado el mensaje privado; sale la respuesta pública.",
        "The platform took the private message; the public reply goes out.",
    ),
    "private_delivered": ("La plataforma ha entregado el mensaje privado.", "The platform took the private message."),
    "public_followed": (
        "Mensaje privado entregado y respuesta pública publicada.",
        "Private message delivered, public reply published.",
    ),
    "public_failed": (
        "El mensaje privado llegó, pero la respuesta pública no se publicó.",
        "The private message arrived, but the public reply was not published.",
    ),
    "link_published": ("El enlace está publicado; puede abrirlo cualquiera.", "The link is published; anybody may open it."),
    "link_opened": (
        "Alguien ha abierto el enlace: puede ser el cliente o cualquiera que lo haya leído.",
        "Somebody opened the link: the customer, or anybody who read the reply.",
    ),
    "code_from_public": (
        "Alguien escribe con el código público; hasta que lo demuestre no se enseña nada privado.",
        "Somebody writes with the public code; nothing private is shown until it is proven.",
    ),
    "code_unverified_sender": (
        "El código vuelve desde un remitente que no está comprobado.",
        "The code came back from a sender that nobody vouches for.",
    ),
    "code_elsewhere": (
        "El código llegó por una conversación que ya estaba abierta; quedan relacionadas, no unidas.",
        "The code came in a conversation that was open already; the two are related, not joined.",
    ),
    "code_from_private": (
        "El código que dimos en privado ha vuelto: es la misma persona.",
        "The code we gave in private came back: it is the same person.",
    ),
    "code_in_public": (
        "El autor ha publicado el código que dimos en privado: es la misma persona.",
        "The author posted the code we gave in private: it is the same person.",
    ),
    "same_subject": (
        "Escribe por privado la misma cuenta que escribió en público.",
        "The account that wrote in public writes in private.",
    ),
    "logged_in": ("Ha entrado con su cuenta.", "They signed in to their account."),
    "talking": ("La conversación sigue en privado.", "The conversation goes on in private."),
    "resolved": (
        "Resuelto en privado; en público sigue pareciendo sin contestar.",
        "Resolved in private; in public it still looks unanswered.",
    ),
    "closing": ("La respuesta pública de cierre está saliendo.", "The closing public answer is on its way."),
    "closing_failed": ("La respuesta pública de cierre no se publicó.", "The closing public answer was not published."),
    "closed_in_public": ("Resuelto, y dicho en público.", "Resolved, and said so in public."),
    "closed_silently": ("Resuelto; no hace falta decir más en público.", "Resolved; nothing more needs to be said in public."),
    "stop_word": ("Pide que no le escribamos por privado.", "They ask us not to write in private."),
    "prefers_public": ("Prefiere seguir en público.", "They prefer to stay in public."),
    "offer_expired": ("La invitación ha caducado.", "The invitation expired."),
    "closed_first": (
        "El caso se cerró antes de que nadie aceptara la invitación.",
        "The case was closed before anybody took the invitation.",
    ),
    "window_over": (
        "Ya ha pasado el plazo de la plataforma para un mensaje privado.",
        "The platform's time for a private message is over.",
    ),
    "rejected": (
        "La plataforma rechazó el mensaje privado; la respuesta pública no se publicó.",
        "The platform refused the private message; the public reply was not published.",
    ),
    "rejected_public": ("La plataforma rechazó la respuesta pública.", "The platform refused the public reply."),
    "unknown_fate": (
        "No se sabe si el mensaje llegó; no se repite hasta saberlo.",
        "Nobody knows whether the message arrived; it is not repeated until we know.",
    ),
    "post_deleted": ("El autor ha borrado lo que escribió en público.", "The author deleted what they wrote in public."),
    "wrote_again": ("Ha vuelto a escribir en público.", "They wrote in public again."),
    "stopped": ("Alguien del equipo paró el envío.", "Somebody of the team stopped the send."),
}


def sentence(reason: str, language: str | None) -> str:
    """The reason as a person reads it; a reason without a sentence is shown as it is."""
    spanish, english = REASONS.get(reason, (reason, reason))
    return spanish if (language or "es").startswith("es") else english


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with what is known. An unknown value goes, with the words that only make sense beside it."""
    text = template
    for name, beside, instead in ABSENT:
        if not values.get(name):
            text = re.sub(beside, instead, text)
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), text).strip()


# What goes with a value that is not known: (the words with it, the words without it).
ABSENT: tuple[tuple[str, str, str], ...] = (
    ("name", r"(?:,| con| with|) \{name\}", ""),
    ("topic", r"lo del \{topic\}", "lo ocurrido"),
    ("topic", r"about the \{topic\}", "about what happened"),
    ("initials", r" — \{initials\}", ""),
)


def broken_rules(text: str) -> tuple[str, ...]:
    """Which house rules a public text breaks: a warning for the composer, not a refusal."""
    plain = re.sub(r"https?://\S+", "", text)
    broken = []
    if len(text) > LIMIT:
        broken.append("too_long")
    if "!" in plain or "¡" in plain:
        broken.append("exclamation")
    if re.search(r"[\U0001F000-\U0001FAFF\u2600-\u27BF]", plain):
        broken.append("emoji")
    if re.search(r"lamentamos las molestias|any inconvenience|como te dijimos|as stated", plain, re.IGNORECASE):
        broken.append("empty_phrase")
    if re.search(
        r"\b(?:tu|your)\s+(?:tel[eé]fono|correo|email|direcci[oó]n|n[uú]mero de pedido|phone|address|order number)\b",
        plain,
        re.IGNORECASE,
    ):
        broken.append("asks_private")
    return tuple(broken)
