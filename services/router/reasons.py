"""Why something happened, as state events and assignments say it: the closed list of our own codes. Who shows them says them
in words; a person's own words for a release, a transfer or an end stand there as they were written."""

from __future__ import annotations

from typing import Literal

# An assignment says `by=... rule=... load=2/12 ...`: how it came about and what was weighed, each as `name` or `name=value`.
By = Literal["auto", "rule", "manual"]
Rule = Literal["sticky", "longest_free"]
Weighed = Literal["language", "nobody_speaks", "load", "of", "overflow", "forced"]

Ended = Literal["inactivity", "legs_left"]
Reopened = Literal["joined_open"]
Breached = Literal["answer", "resolve"]
Answered = Literal["native_app"]
Proven = Literal["handoff.code", "logged_in"]
Released = Literal["timeout", "rejected", "released", "transferred", "agent_away"]
