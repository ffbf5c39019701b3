"""`make bench`: each stage beside the bare version of the same work, on Apache Kafka; one JSON line a stage.

    python -m tests.benchmarks [STAGES=webhook,identity,router,timeline]

Bare means the same deciders and store without the framework; what each leaves out stands in its module. Runs of both take
turns and the medians of three are printed: `events_s` and `bare_events_s`, their `ratio`, and the processor time per event of
the process that does the work (`cpu_us`, `bare_cpu_us`), which other work on the machine moves less than the rates.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from deploy.local.containers import ApacheBroker
from deploy.local.embedded import EmbeddedMongod
from services.common.logs import configure
from services.common.settings import CommonSettings
from tests.benchmarks import identity, router, timeline, webhook
from tests.benchmarks.measuring import Parts

Stage = Callable[[Parts], Awaitable[dict[str, Any]]]
STAGES: Mapping[str, Stage] = {
    "webhook": lambda parts: webhook.stage(parts, count=5000, connections=64),
    "identity": lambda parts: identity.stage(parts, count=8000, people=500),
    "router": lambda parts: router.stage(parts, count=8000, customers=1000),
    "timeline": lambda parts: timeline.stage(parts, count=12_000, size=500),
}


def wanted(words: list[str]) -> list[str]:
    given = dict(word.split("=", 1) for word in words)
    names = (given.get("STAGES") or os.environ.get("STAGES") or ",".join(STAGES)).split(",")
    if unknown := set(names) - STAGES.keys() | given.keys() - {"STAGES"}:
        raise SystemExit(f"bench: unknown {', '.join(sorted(unknown))}; stages are {', '.join(STAGES)}")
    return names


async def run(names: list[str], parts: Parts) -> None:
    for name in names:
        print(json.dumps(await STAGES[name](parts)), flush=True)


def main(words: list[str]) -> None:
    names = wanted(words)
    configure(CommonSettings(env="test", log_level="error"), "bench")
    with tempfile.TemporaryDirectory(prefix="hilo-bench-") as place:
        broker, mongod = ApacheBroker(heap="-Xmx1g"), EmbeddedMongod(Path(place))
        try:
            broker.start()
            mongod.start()
            uvloop.run(run(names, Parts(broker.servers, mongod.uri, mongod.pid or 0)))
        finally:
            broker.stop()
            mongod.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
