"""The process that reads mails for the mail door: measured first, then by the channel, within the bounds of the process."""

from __future__ import annotations

import math
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from services.ingest.accounts import Connected
from services.ingest.contract import Channel, Outcome
from services.ingest.directory import find_channels
from services.ingest.intake import read
from services.ingest.mail_worker import LENGTH, Job, Refusal
from services.ingest.mime import TooMuch, measure
from services.ingest.settings import IngestSettings

# What the channel cannot bear is the mail's doing where it is memory or depth; elsewhere it is a bug of ours.
UNBEARABLE = {
    "bug: MemoryError": Refusal("more memory than a mail may take"),
    "bug: RecursionError": Refusal("nested deeper than it can be read"),
}


def serve(channels: Callable[[str], Channel[Any]], inward: BinaryIO, outward: BinaryIO, cpu_s: int) -> None:
    """Read jobs until the other side closes."""
    while head := inward.read(LENGTH):
        job: Job = pickle.loads(inward.read(int.from_bytes(head)))  # noqa: S301  # only our own process writes here
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_s, most))
        body = pickle.dumps(_read(channels(job.channel), job))
        outward.write(len(body).to_bytes(LENGTH) + body)
        outward.flush()


def _read(channel: Channel[Any], job: Job) -> Outcome | Refusal:
    try:
        measure(job.raw.body, job.limits)
        outcome = read([Connected(channel, job.account, job.stored, job.tenant_key)], job.raw)
    except TooMuch as error:
        return Refusal(str(error))
    except MemoryError:
        return UNBEARABLE["bug: MemoryError"]
    reasons = [one.reason for one in outcome.quarantined]
    return next((refusal for name, refusal in UNBEARABLE.items() if any(r.startswith(name) for r in reasons)), outcome)


def bound(memory_bytes: int) -> None:
    """What this process may never exceed, whatever a mail makes of it. A Ctrl-C in the terminal is for our parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(cpu_s: str, memory_bytes: str, folder: str) -> None:
    registry = find_channels(IngestSettings(channels_dir=Path(folder) if folder else None))
    bound(int(memory_bytes))
    serve(registry.channels.__getitem__, sys.stdin.buffer, sys.stdout.buffer, int(cpu_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
