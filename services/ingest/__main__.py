"""python -m services.ingest: webhooks, mail, web chat, journey, handoff links, accounts and dead letters."""

from services.common.run import main
from services.ingest.app import build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    main(lambda: build(IngestSettings()))
