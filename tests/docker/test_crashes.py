"""The whole of Hilo on Apache Kafka under load, each of its parts killed with -9 once: nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.local.stack import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def test_with_every_part_killed_once_nothing_is_lost_and_nothing_twice() -> None:
    command = [sys.executable, "-m", "tests.load", "N=1500", "KAFKA=apache", "KILLS=1", "DUPLICATES=10", "RATE=60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=850, check=False)
    assert done.stdout.strip(), done.stderr[-3000:]

    found = json.loads(done.stdout.strip().splitlines()[-1])

    assert (found["lost"], found["doubled"]) == (0, 0), found
    assert found["on_timeline"] == 1500
    assert found["kills"] >= 7
    assert found["suppressed"] > 0
    assert found["out_of_order"] == 0
