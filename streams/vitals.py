"""The vital signs of a process: its numbers as the catalogue names them, and whether it is alive and ready."""

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from models.metrics import CATALOGUE, READY, Kind, Metric

Condition = Callable[[], str | None]
"""Says in a few words what is missing, or None."""

Look = Callable[[], object]


class Vitals:
    """What one process publishes of itself. Nothing is shared between two of them.

    Counters are added to once a batch or a flush; what can be read at any moment is read when somebody asks.

    Args:
        worker: The kind of worker; decides which metrics of the catalogue there are.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._instruments: dict[str, Any] = {
            metric.name: _instrument(metric, self._registry) for metric in CATALOGUE if worker in metric.workers
        }
        ProcessCollector(registry=self._registry)
        self._looks: list[Look] = []
        self._alive: list[Condition] = []
        self._ready: list[Condition] = []

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._series(metric, labels).inc(amount)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._series(metric, labels).set(value)

    def replace(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """Set all series of a gauge by the values of their labels; those that are not among them end."""
        gauge = self._instruments[metric.name]
        gauge.clear()
        for labels, value in values.items():
            gauge.labels(*labels).set(value)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        self._series(metric, labels).observe(value)

    def when_asked(self, look: Look) -> None:
        """Call a function before the numbers are given out: it reads what needs no counting."""
        self._looks.append(look)

    def alive_unless(self, condition: Condition) -> None:
        """Add a condition under which the process is ill."""
        self._alive.append(condition)

    def ready_unless(self, condition: Condition) -> None:
        """Add a condition under which the process does not do its work yet, or not at this moment."""
        self._ready.append(condition)

    @property
    def ills(self) -> list[str]:
        """What is wrong with the process: a supervisor should start it anew. Empty where it is alive."""
        return _said(self._alive)

    @property
    def waits(self) -> list[str]:
        """What the process waits for. Empty where it is ready."""
        return _said(self._ready)

    def text(self) -> bytes:
        """Write all numbers in Prometheus' text format."""
        for look in self._looks:
            look()
        self.set(READY, not self.waits)
        return generate_latest(self._registry)

    def _series(self, metric: Metric, labels: Mapping[str, str]) -> Any:  # noqa: ANN401 - a counter, gauge or histogram
        instrument = self._instruments[metric.name]
        return instrument.labels(**labels) if labels else instrument


def _said(conditions: list[Condition]) -> list[str]:
    return [said for condition in conditions if (said := condition()) is not None]


def _instrument(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match metric.kind:
        case Kind.COUNTER:
            return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
        case Kind.GAUGE:
            return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets)
