"""Every built-in channel passes the conformance kit over its own fixtures. A new channel in BUILT_IN gets this for free."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ingest import channels
from services.ingest.channels import BUILT_IN
from services.ingest.contract.kit import Case, cases

FOLDER = Path(channels.__file__).parent
CASES = [
    pytest.param(case, id=f"{one.name}: {case}") for one in BUILT_IN for case in cases(one, FOLDER / one.name / "fixtures")
]


@pytest.mark.parametrize("case", CASES)
def test_channel_conforms(case: Case) -> None:
    case.run()


def test_every_folder_is_a_channel_and_every_channel_has_its_folder() -> None:
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}

    assert {channel.name for channel in BUILT_IN} == folders
