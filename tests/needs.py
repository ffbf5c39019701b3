"""What a test needs of the machine and does not find."""

from __future__ import annotations

import pytest


def missing(config: pytest.Config, marker: str, what: str) -> BaseException:
    """To be raised: skips the test, and fails it where just this suite was asked for, since one that skips all of itself is
    green and shows nothing."""
    outcome = pytest.fail if config.getoption("markexpr") == marker else pytest.skip
    return outcome.Exception(what)
