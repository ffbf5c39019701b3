"""python -m services.ingest.media"""

from __future__ import annotations

from services.common.run import main
from services.ingest.media.app import build
from services.ingest.media.settings import MediaSettings

if __name__ == "__main__":
    main(lambda: build(MediaSettings()))
