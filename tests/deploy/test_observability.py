"""Dashboard, alerts and pages say what the catalogue of metrics has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from cli.metrics_table import markdown
from deploy.dashboard import dashboard
from models.metrics import CATALOGUE, WORKERS, Metric, series

ROOT = Path(__file__).parents[2]
NOT_OURS = {"up", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"} | {
    "process_open_fds"
}
SERIES: dict[str, Metric] = {name: metric for metric in CATALOGUE for name in series(metric)}
ALERTS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in ALERTS for rule in group["rules"]]
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def used(expression: str) -> set[str]:
    """Find the metrics in an expression."""
    return set(re.findall(r"\b(?:scaling_\w+|process_\w+|up)\b", re.sub(r'"[^"]*"', '""', expression)))


def labels(expression: str) -> set[str]:
    """Find the labels in an expression: those that are matched and those that are grouped by."""
    matched = re.findall(r"(\w+)=~?\"", expression)
    grouped = [name for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in re.findall(r"\w+", group)]
    return {*matched, *grouped}


def check(expression: str) -> None:
    """Hold an expression against the catalogue."""
    names = used(expression)
    assert names
    assert names <= SERIES.keys() | NOT_OURS, names
    known = LABELS_OF_PROMETHEUS.union(*(SERIES[name].labels for name in names if name in SERIES))
    assert labels(expression) <= known, expression
    assert expression.count("(") == expression.count(")"), expression


def test_the_page_of_metrics_is_the_output_of_the_command() -> None:
    """docs/metrics.md is generated; write it again with `scaling metrics > docs/metrics.md`."""
    result = CliRunner().invoke(app, ["metrics"])
    assert result.stdout == markdown()
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == result.stdout
    listed = json.loads(CliRunner().invoke(app, ["metrics", "--json"]).stdout)
    assert [each["name"] for each in listed] == [metric.name for metric in CATALOGUE]


def test_the_dashboard_is_made_from_the_catalogue() -> None:
    """Write it again with `scaling metrics --grafana > deploy/grafana/dashboard.json`."""
    assert json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8")) == dashboard()


def test_every_metric_is_on_the_dashboard_and_every_panel_shows_one_that_exists() -> None:
    """Panels do not lie on top of each other either."""
    panels = dashboard()["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    for expression in expressions:
        check(expression)
    shown = {SERIES[name].name for expression in expressions for name in used(expression) if name in SERIES}
    assert shown == {metric.name for metric in CATALOGUE}
    squares = [
        (panel["gridPos"]["x"] + right, panel["gridPos"]["y"] + down)
        for panel in panels
        for right in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_rests_on_metrics_that_exist_and_has_its_section(rule: dict[str, Any]) -> None:
    """Whoever is called at night finds what to do under the alert's own name."""
    check(rule["expr"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"### {rule['alert']}\n" in page
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert rule["annotations"]["summary"]


def test_alerts_have_names_of_their_own_and_the_page_has_no_others() -> None:
    """Sections of alerts that are gone go too."""
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (Scaling\w+)$", page, re.MULTILINE) == names


def test_there_is_a_job_for_each_kind_of_worker() -> None:
    """Alerts tell workers apart by it."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == [f"scaling-{worker}" for worker in WORKERS]
    assert config["rule_files"] == ["alerts.yml"]
