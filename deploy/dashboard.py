"""The Grafana dashboard, made from the catalogue of metrics: one panel each, described by what it means."""

from typing import Any

from models.metrics import CATALOGUE, WORKERS, Kind, Metric

WIDTH, HEIGHT, COLUMNS = 8, 8, 24
STAT_WIDTH, STAT_HEIGHT = 4, 4
UNITS = {"seconds": "s", "1 or 0": "bool", "bytes": "bytes"}
QUANTILES = (0.5, 0.99)
SCHEMA_VERSION = 39
Place = tuple[int, int, int, int]
"""Of a panel: left, top, width, height."""

SOURCE = {"type": "prometheus", "uid": "${source}"}
OF_JOB = '{job=~"$job"}'

SEVERAL = "several kinds of workers"

AT_A_GLANCE = (
    ("Workers that are ready", f"sum(scaling_ready{OF_JOB})", "short"),
    ("Workers that are not", f"count(scaling_ready{OF_JOB} == 0) or vector(0)", "short"),
    ("Events a second", f"sum(rate(scaling_events_total{OF_JOB}[$__rate_interval]))", "short"),
    ("Records that wait", f"sum(scaling_consumer_lag{OF_JOB})", "short"),
    ("Laws a second", f"sum(rate(scaling_laws_published_total{OF_JOB}[$__rate_interval]))", "short"),
    ("Dead letters in the last hour", f"sum(increase(scaling_dead_letters_total{OF_JOB}[1h]))", "short"),
)
PROCESS = (
    ("Processors used", f"rate(process_cpu_seconds_total{OF_JOB}[$__rate_interval])", "short"),
    ("Memory", f"process_resident_memory_bytes{OF_JOB}", "bytes"),
    ("Open files", f"process_open_fds{OF_JOB}", "short"),
)


def dashboard() -> dict[str, Any]:
    """Build the dashboard as Grafana imports it."""
    groups: dict[str, list[Metric]] = {name: [] for name in (SEVERAL, *WORKERS)}
    for metric in CATALOGUE:
        groups[metric.workers[0] if len(metric.workers) == 1 else SEVERAL].append(metric)
    panels = [
        _panel(
            "stat", title, [_target(expression, title)], unit=unit, place=(at * STAT_WIDTH, 0, STAT_WIDTH, STAT_HEIGHT)
        )
        for at, (title, expression, unit) in enumerate(AT_A_GLANCE)
    ]
    top = STAT_HEIGHT
    for name, metrics in groups.items():
        graphs = [
            (metric.name, _description(metric), _targets(metric), UNITS.get(metric.unit, "short")) for metric in metrics
        ]
        top = _row(panels, name, graphs, top)
    processes = [(title, "", [_target(expression, "{{instance}}")], unit) for title, expression, unit in PROCESS]
    _row(panels, "processes", processes, top)
    return {
        "title": "Orchestration scaling laws",
        "uid": "scaling-laws",
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": [panel | {"id": number} for number, panel in enumerate(panels, start=1)],
    }


def _row(panels: list[dict[str, Any]], name: str, graphs: list[tuple[str, str, list[Any], str]], top: int) -> int:
    """Append a row of panels under a heading; give where the next one begins."""
    panels.append(
        {"type": "row", "title": name, "collapsed": False, "panels": [], "gridPos": _place(0, top, COLUMNS, 1)}
    )
    across = COLUMNS // WIDTH
    for at, (title, description, targets, unit) in enumerate(graphs):
        place = (at % across * WIDTH, top + 1 + at // across * HEIGHT, WIDTH, HEIGHT)
        panels.append(_panel("timeseries", title, targets, unit=unit, place=place, description=description))
    return top + 1 + -(-len(graphs) // across) * HEIGHT


def _targets(metric: Metric) -> list[dict[str, Any]]:
    by = ", ".join(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    match metric.kind:
        case Kind.HISTOGRAM:
            rate = f"sum by (le) (rate({metric.name}_bucket{OF_JOB}[$__rate_interval]))"
            return [_target(f"histogram_quantile({each}, {rate})", f"{each:.0%}") for each in QUANTILES]
        case Kind.COUNTER:
            grouped = f"sum by ({by or 'instance'})"
            return [_target(f"{grouped} (rate({metric.name}{OF_JOB}[$__rate_interval]))", legend or "{{instance}}")]
        case Kind.GAUGE if metric.labels:
            return [_target(f"sum by ({by}) ({metric.name}{OF_JOB})", legend)]
        case Kind.GAUGE:
            return [_target(f"{metric.name}{OF_JOB}", "{{instance}}")]


def _description(metric: Metric) -> str:
    return f"{metric.meaning}\n\n{metric.advice}"


def _panel(
    kind: str, title: str, targets: list[dict[str, Any]], *, unit: str, place: Place, description: str = ""
) -> dict[str, Any]:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": _place(*place),
        "targets": [target | {"refId": chr(ord("A") + number)} for number, target in enumerate(targets)],
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
    }


def _target(expression: str, legend: str) -> dict[str, Any]:
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend}


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _variables() -> list[dict[str, Any]]:
    jobs = "label_values(scaling_ready, job)"
    return [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "job",
            "label": "Workers",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": jobs, "refId": "jobs"},
            "definition": jobs,
            "includeAll": True,
            "multi": True,
            "refresh": 2,
            "current": {"text": "All", "value": "$__all"},
        },
    ]
