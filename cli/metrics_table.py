"""`scaling metrics`: everything that workers measure, as docs/metrics.md has it."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import print_json
from deploy.dashboard import dashboard
from models.metrics import CATALOGUE, Metric

HEADING = """\
# Metrics

A worker answers on `SCALING_METRICS_HOST`:`SCALING_METRICS_PORT` with `/metrics` in Prometheus' text format; port 0,
the default, is off. The embedded stack picks ports of its own (`endpoints` in `.scaling/stack.json`). Besides these
there are the `process_` metrics of prometheus_client: CPU, memory, open files, start time. A histogram has `_bucket`,
`_sum` and `_count`. [operations.md](operations.md) says how to scrape them and what to do at an alert.
`scaling metrics` prints this page, and `scaling metrics --grafana` the dashboard deploy/grafana/dashboard.json.

| metric | kind | unit | labels | workers | meaning | when it moves |
|---|---|---|---|---|---|---|
"""


def metrics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    grafana: Annotated[bool, typer.Option("--grafana", help="Print the Grafana dashboard made from them.")] = False,
) -> None:
    """Print every metric with its kind, unit, labels, workers, meaning and what to do, as the table of docs/metrics.md.

    Example: scaling metrics --json
    """
    if grafana:
        print_json(dashboard())
    elif as_json:
        print_json([asdict(metric) for metric in CATALOGUE])
    else:
        typer.echo(markdown(), nl=False)


def markdown() -> str:
    """Write the catalogue as a page."""
    return HEADING + "".join(map(_row, CATALOGUE))


def _row(metric: Metric) -> str:
    cells = (
        f"`{metric.name}`",
        metric.kind,
        metric.unit,
        ", ".join(metric.labels),
        ", ".join(metric.workers),
        metric.meaning,
        metric.advice,
    )
    return f"| {' | '.join(cells)} |\n"
