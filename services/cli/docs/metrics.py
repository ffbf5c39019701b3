"""docs/metrics.md: every metric of every process."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase

from services.cli.docs.markdown import GENERATED, code, page, table
from services.common import metrics

INTRODUCTION = """
Every process serves `/metrics` in the Prometheus text format, without a key: keep it inside your network. A process shows
only what it has counted. Labels are bounded (channels, stages, outcomes); ids of people and conversations never stand in one.
Which of them deserve an alarm says [operating](operating.md#what-deserves-an-alarm). Beside these there are the usual
`process_*` and `python_*` of the Prometheus client."""


def declared() -> list[MetricWrapperBase]:
    """In the order of services/common/metrics.py."""
    return [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]


def name_of(metric: MetricWrapperBase) -> str:
    """As it is scraped: the client appends `_total` to counters."""
    return f"{metric._name}_total" if metric._type == "counter" else str(metric._name)


def text() -> str:
    rows = [
        (code(name_of(one)), one._type, code(*one._labelnames) if one._labelnames else "", one._documentation)
        for one in declared()
    ]
    return page("# Metrics", GENERATED, INTRODUCTION, table(("name", "type", "labels", "meaning"), rows))
