"""`python -m services.timeline`."""

from __future__ import annotations

from services.common.run import main
from services.timeline.app import build
from services.timeline.settings import TimelineSettings

if __name__ == "__main__":
    main(lambda: build(TimelineSettings()))
