"""Structured logs: an event name and key-values, JSON by default. What is not on the list of shown keys is masked, so a
new field cannot leak; bodies, texts and secrets never are on it."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from services.common.settings import CommonSettings

SHOWN = frozenset(
    "event level timestamp service logger tenant channel account door kind reason stage group topic partition offset count "
    "event_id entry_id conversation_id customer_id outbound_id dead_id agent_id queue version seq attempt status part port "
    "seconds ms path method route code outcome addresses exc_type component signal url_host result size state parts names "
    "items normalized quarantined ignored bytes backoff_s env".split()
)


def masked(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the values of shown keys; of an exception keep its type and place, without values of locals."""
    shown = {key: value if key in SHOWN or key == "exception" else "***" for key, value in event.items()}
    return {
        key: value if isinstance(value, str | int | float | bool | type(None)) else str(value) for key, value in shown.items()
    }


def configure(settings: CommonSettings, service: str) -> None:
    """Set up logging of this process. Libraries' own loggers are kept above DEBUG: Faust would build a record for every
    send otherwise."""
    logging.basicConfig(stream=sys.stderr, level=settings.log_level.upper(), format="%(levelname)s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode", "asyncio", "pymongo", "mail.log", "aiohttp.access", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    renderer: Any = structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            masked,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def log() -> Any:
    """The logger. Name the event, give ids as keys: log().info("batch_handled", count=3)."""
    return structlog.get_logger()


def place(error: BaseException) -> str:
    """Where it was raised, for errors whose text may hold what somebody wrote."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
