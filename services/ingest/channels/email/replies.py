"""What somebody wrote now, apart from what they quoted: a library of the phrases that mail programs put above a quotation.

Its expressions take time that grows with the square of the text (60 kB of "On " held it for 108 s, measured), so it sees the
beginning alone, with runs of empty lines shortened; a quotation that begins later than that is kept.
"""

from __future__ import annotations

import re

from mailparser_reply import EmailReplyParser

SEEN = 3000
PARSER = EmailReplyParser(languages=["en", "de", "cs", "da", "es", "fr", "it", "ja", "ko", "nl", "pl", "sv", "zh"])


def newest(text: str) -> str:
    """The new words of a mail; the whole text where nothing else would be left of it."""
    squeezed = re.sub(r"[ \t]+\n", "\n", text)
    squeezed = re.sub(r"\n{3,}", "\n\n", squeezed).strip()
    head, tail = squeezed[:SEEN], squeezed[SEEN:]
    reply = str(PARSER.parse_reply(head) or "").strip()
    if not reply:
        return squeezed
    return reply if reply != head.strip() or not tail else squeezed
