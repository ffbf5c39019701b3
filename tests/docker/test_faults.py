"""The whole under load on Apache Kafka, with every process and the broker killed, and workers that come back as zombies."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from deploy.local.stack import MODULES, ROOT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SECOND = 3  # identity, router and timeline have a second worker


def test_nothing_is_lost_doubled_or_out_of_order_when_everybody_is_killed_and_workers_are_stopped_and_go_on() -> None:
    words = ["N=1000", "KAFKA=apache", "KILLS=1", "PAUSES=1", "WORKERS=2", "DUPLICATES=10", "RATE=25"]
    run = [sys.executable, "-m", "tests.load", *words]

    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode in (0, 1), done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["wrong"] == [], f"{told}\n{done.stderr[-2000:]}"
    assert (told["lost"], told["doubled"], told["out_of_order"]) == (0, 0, 0)
    assert told["on_timeline"] == told["promised"] == 1000
    assert (told["kills"], told["pauses"]) == (len(MODULES) + SECOND + 1, SECOND)
    assert told["suppressed"] > 0
    assert told["sends"] >= 20
