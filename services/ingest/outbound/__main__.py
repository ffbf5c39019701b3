"""python -m services.ingest.outbound"""

from __future__ import annotations

from services.common.run import main
from services.ingest.outbound.app import build
from services.ingest.outbound.settings import OutboundSettings

if __name__ == "__main__":
    main(lambda: build(OutboundSettings()))
