"""The catalogue of metrics: named as Prometheus wants it, and said what to do."""

import re

from models.metrics import CATALOGUE, WORKERS, Kind, Metric, series


def test_names_are_unique_and_follow_prometheus() -> None:
    """Counters end with _total, times with _seconds; every worker kind has some."""
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert re.fullmatch(r"scaling_[a-z][a-z0-9_]*", metric.name)
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        if metric.unit == "seconds":
            assert metric.name.endswith("_seconds"), metric.name
    assert {worker for metric in CATALOGUE for worker in metric.workers} == set(WORKERS)


def test_every_metric_says_what_it_means_and_what_to_do() -> None:
    """A number without either is noise."""
    for metric in CATALOGUE:
        assert metric.meaning.endswith("."), metric.name
        assert metric.advice.endswith("."), metric.name
        assert set(metric.workers) <= set(WORKERS), metric.name
        assert list(metric.buckets) == sorted(metric.buckets), metric.name


def test_a_histogram_has_three_series() -> None:
    """As Prometheus writes it."""
    metric = Metric("scaling_x_seconds", Kind.HISTOGRAM, "seconds", "X.", "Y.", WORKERS)
    assert series(metric) == ("scaling_x_seconds_bucket", "scaling_x_seconds_sum", "scaling_x_seconds_count")
