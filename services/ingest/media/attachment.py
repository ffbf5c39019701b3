"""One attachment out of a raw mail, in a process that may be killed: the parser has no limits, so its process has.

Our side is `extracted`; the other side reads the mail from its standard input and writes the attachment to its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import signal
import sys
import time
from dataclasses import dataclass

from services.ingest.contract import Unreadable

NONE = 3  # there is no such attachment, or the mail cannot be read


class NoAttachment(Exception):
    """The mail has no such attachment, or cannot be read within the bounds."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`wait_s` is for the wall clock: a machine without time is not the mail's fault, so that is a TimeoutError."""

    cpu_s: int = 10
    memory_bytes: int = 1024 * 1024 * 1024
    wait_s: float = 60


async def extracted(mail: bytes, number: int, bounds: Bounds = Bounds()) -> bytes:
    """Raises NoAttachment or TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ingest.media.attachment"),
        *(str(number), str(bounds.cpu_s), str(bounds.memory_bytes)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(bounds.wait_s):
            content, _ = await process.communicate(mail)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode == NONE:
        raise NoAttachment("the mail has no such attachment")
    if process.returncode == -signal.SIGXCPU:
        raise NoAttachment(f"the mail needs more than {bounds.cpu_s} s to read")
    if process.returncode != 0:
        raise NoAttachment("the process that read the mail died of it")
    return content


def main(number: str, cpu_s: str, memory_bytes: str) -> int:
    from services.ingest.channels.email import attachment

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + int(cpu_s), most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        content, _, _ = attachment(sys.stdin.buffer.read(), int(number))
    except (Unreadable, IndexError):
        return NONE
    sys.stdout.buffer.write(content)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
