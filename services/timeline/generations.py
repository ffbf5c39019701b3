"""Rebuild beside the live projection: another generation reads the log from its beginning, then readers change over.

Start a process with `HILO_TIMELINE_GENERATION=b`: it has collections, marks and a consumer group of its own, and shares the
journal, whose positions are the log's. Stop the old projectors, and when `switch` answers true readers and streams have gone
over, cursors and event ids included. `python -m services.timeline.generations b`.
"""

from __future__ import annotations

import asyncio
import sys

from services.common.mongo import Mongo, reaching
from services.timeline.settings import TimelineSettings


async def switch(mongo: Mongo, to: str) -> bool:
    """Make a generation the one that readers see. False, and nothing is changed, while it is behind the live one: streams
    would stay at old content for what they have been told already."""
    marks = mongo.database("timeline")["marks"]
    async with reaching():
        found = {one["_id"]: one for one in await marks.find({}).to_list(None)}
    live = found["live"]["gen"] if "live" in found else to
    ends = {name.partition("/")[2]: one["o"] for name, one in found.items() if name.startswith(f"{live}/")}
    if any(found.get(f"{to}/{lane}", {"o": 0})["o"] < end for lane, end in ends.items()):
        return False
    async with reaching():
        await marks.update_one({"_id": "live"}, {"$set": {"gen": to}}, upsert=True)
    return True


async def main(to: str) -> int:
    mongo = Mongo(TimelineSettings())
    done = await switch(mongo, to)
    await mongo.stop()
    print(f"readers see generation {to}" if done else f"generation {to} is behind the live one; nothing was changed")
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(sys.argv[1])))
