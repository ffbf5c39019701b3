"""What the documentation says of the code is generated from it, and what it points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.cli.docs import ROOT, event_pages, metrics, settings
from services.cli.docs.channels import fixtures
from services.cli.docs.examples import examples
from services.cli.docs.markdown import anchor, between
from services.cli.docs.pages import obsolete, pages
from services.common.cloudevents import decode, encode
from services.common.events import BY_TYPE, MODELS, Data
from services.common.settings import CommonSettings
from services.ingest.channels import BUILT_IN
from services.ingest.contract.kit import load

PAGES = pages(ROOT)
BY_HAND = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_as_the_code_would_write_it_now(name: str) -> None:
    file = ROOT / name

    assert file.exists(), f"{name} is missing: run `hilo docs write` and commit it"
    assert file.read_text() == PAGES[name], f"{name} has drifted: run `hilo docs write`, read the difference and commit it"


def test_no_page_is_left_of_an_event_that_is_gone() -> None:
    assert not obsolete(ROOT)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_event_has_an_example_that_survives_the_log(model: type[Data]) -> None:
    event = examples()[model]

    assert decode(encode("hilo.events", event)) == event


def test_every_type_of_event_stands_on_the_list() -> None:
    listed = re.findall(r"^\| \[`([^`]+)`\]", PAGES["docs/events/README.md"], re.MULTILINE)

    assert sorted(listed) == sorted(BY_TYPE)


def test_every_event_says_what_it_says() -> None:
    assert [model.__name__ for model in MODELS if not event_pages.meaning(model)] == []


@pytest.mark.parametrize(("part", "model"), settings.PARTS, ids=lambda one: one if isinstance(one, str) else "")
def test_every_setting_says_what_it_is_for(part: str, model: type[CommonSettings]) -> None:
    assert [name for name, field in settings.own(model).items() if not field.description] == []


def test_every_process_reads_its_settings_from_a_class_that_is_on_the_page() -> None:
    files = [file for file in (ROOT / "services").rglob("*.py") if file.parts[-2] != "docs"]
    declared = {name for file in files for name in re.findall(r"^class (\w+Settings)\(", file.read_text(), re.MULTILINE)}

    assert declared == {model.__name__ for _, model in settings.PARTS}


def test_every_metric_says_what_it_counts() -> None:
    assert metrics.declared()
    assert [metrics.name_of(one) for one in metrics.declared() if not one._documentation] == []


@pytest.mark.parametrize("channel", BUILT_IN, ids=lambda channel: channel.name)
def test_where_a_channel_points_for_its_documentation_there_is_some(channel: object) -> None:
    target = getattr(channel, "docs", "")

    assert target.startswith("https://") or _there(ROOT, target)


@pytest.mark.parametrize("channel", BUILT_IN, ids=lambda channel: channel.name)
def test_no_secret_of_the_example_accounts_reaches_a_page(channel: object) -> None:
    one = next(known for known in BUILT_IN if known is channel)
    for account in load(one, fixtures(one)).accounts:
        for secret in (value for name in type(account).model_fields if (value := getattr(account, name)) is not None):
            if hasattr(secret, "all"):
                assert all(value not in PAGES["docs/channels.md"] for value in secret.all())


@pytest.mark.parametrize("file", BY_HAND, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(file: Path) -> None:
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)

    assert [target for target in targets if "://" not in target and not _there(file.parent, target, file)] == []


def test_a_page_without_its_marks_is_not_written_over() -> None:
    with pytest.raises(ValueError, match="are missing"):
        between("no marks here", "channels", "a table")


def _there(folder: Path, target: str, own: Path | None = None) -> bool:
    name, _, part = target.partition("#")
    page = (folder / name) if name else own
    if page is None or not page.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE) if part else []
    return not part or part in [anchor(heading) for heading in headings]
