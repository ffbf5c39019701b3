"""Which files are generated, and what each must say."""

from __future__ import annotations

from pathlib import Path

from services.cli.docs import channels, event_pages, metrics, settings
from services.cli.docs.markdown import between


def pages(root: Path) -> dict[str, str]:
    """Every generated file by its path from `root`, as it must be. Of README.md only the channel matrix is generated."""
    return {
        "docs/channels.md": channels.text(),
        "docs/settings.md": settings.text(),
        "docs/metrics.md": metrics.text(),
        **{f"docs/events/{name}": text for name, text in event_pages.files().items()},
        "README.md": between((root / "README.md").read_text(), "channels", channels.matrix("docs/channels.md")),
    }


def obsolete(root: Path) -> list[Path]:
    """Files in docs/events, which is generated as a whole, that belong to no event any more."""
    wanted = set(event_pages.files())
    return [file for file in sorted((root / "docs/events").glob("*")) if file.name not in wanted]
