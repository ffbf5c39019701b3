"""A process that reads mails, with a channel that does to it what a hostile mail would do if it got through."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from services.ingest.channels.email import CHANNEL
from services.ingest.contract import Item, Raw
from services.ingest.mail_reader import bound, serve


def unpack(raw: Raw) -> Iterable[Item]:
    match raw.body:
        case b"spin":
            while True:
                pass
        case b"eat":
            return [Item("mail", "x" * 10**12)]
        case b"recurse":
            return unpack(raw)
        case b"die":
            os._exit(3)
        case b"sleep":
            time.sleep(3600)
    return CHANNEL.unpack(raw)


if __name__ == "__main__":
    bound(int(sys.argv[2]))
    hostile = replace(CHANNEL, unpack=unpack)
    serve(lambda _: hostile, sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
