"""What is counted of events, dead letters and assignments."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from agents.accept import accept
from agents.decode import EventDecoder
from agents.definitions import read_definition, seal
from agents.flush import Flush
from agents.observer import Observer
from agents.trial import Trial
from models import metrics
from models.batches import Batch
from models.experiments import Joined, Status, StatusRecord
from models.settings import load_settings
from models.topics import RUNS
from streams.sampling import EventCounts, assignment_counts, flush_counter, kind_of_reason
from streams.vitals import Vitals

SETTINGS = load_settings(partitions=1, max_event_bytes=1024)
SECRET, AT = "0123456789abcdef", "2025-06-15T15:06:40.000Z"
DEFINITION: dict[str, Any] = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 2],
    "control_value": 1,
    "min_samples_per_value": 10,
}
BAD = {
    "no_value": None,
    "too_large": b" " * 2000,
    "not_utf8": b'{"agent_run_id": "\xff"}',
    "not_json": b"{",
    "too_new": b'{"agent_run_id": "a", "completed_at": "2100-01-01T00:00:00Z"}',
    "invalid_field": b'{"agent_run_id": "a", "agent_count": -1}',
}


def batch_of(values: Sequence[bytes | None]) -> Batch:
    """Put values in a batch from offset 0 on."""
    count = len(values)
    return Batch(RUNS, 0, list(range(count)), [1_000_000_000_000] * count, [None] * count, values, [()] * count)


def value_of(vitals: Vitals, name: str, **labels: str) -> float:
    """Read one sample."""
    for family in text_string_to_metric_families(vitals.text().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    pytest.fail(f"{name} {labels} is not published")


@pytest.mark.parametrize("kind", BAD)
def test_every_way_to_be_rejected_has_its_label(kind: str) -> None:
    """The labels are few, whatever publishers send."""
    accepted = accept(batch_of([BAD[kind]]), EventDecoder(SETTINGS), SETTINGS)
    (rejection,) = accepted.rejections
    assert kind_of_reason(rejection.reason) == kind


def test_events_are_counted_once_however_often_one_looks() -> None:
    """Counts of an observer that is gone stay."""
    vitals = Vitals(metrics.STATS_WORKER)
    observers = [Observer(0, SETTINGS, EventDecoder(SETTINGS))]
    counts = EventCounts(vitals, lambda: observers)
    vitals.when_asked(counts.look)
    runs = [orjson.dumps({"agent_run_id": name, "project": "atlas"}) for name in ("a", "b", "a")]
    observers[0].observe(batch_of([*runs, b"{"]))
    counts.look()
    assert value_of(vitals, "scaling_events_total", verdict="accepted") == 2
    assert value_of(vitals, "scaling_events_total", verdict="duplicate") == 1
    assert value_of(vitals, "scaling_events_total", verdict="rejected") == 1
    assert value_of(vitals, "scaling_runs_remembered") == 2
    assert value_of(vitals, "scaling_contexts") == 2
    observers[:] = [Observer(0, SETTINGS, EventDecoder(SETTINGS))]
    observers[0].observe(batch_of(runs[:1]))
    assert value_of(vitals, "scaling_events_total", verdict="accepted") == 3
    assert value_of(vitals, "scaling_runs_remembered") == 1


def test_dead_letters_are_counted_by_reason_with_the_flush_that_writes_them() -> None:
    """Nothing counts before it is written."""
    vitals = Vitals(metrics.STATS_WORKER)
    observer = Observer(0, SETTINGS, EventDecoder(SETTINGS))
    observer.observe(batch_of([BAD["not_json"], BAD["not_json"], BAD["invalid_field"]]))
    flush: Flush = observer.drain()
    flush_counter(vitals)(flush, 0.125)
    assert value_of(vitals, "scaling_dead_letters_total", reason="not_json") == 2
    assert value_of(vitals, "scaling_dead_letters_total", reason="invalid_field") == 1
    assert value_of(vitals, "scaling_flush_seconds_sum") == 0.125


def test_assignments_are_counted_by_what_became_of_them() -> None:
    """Of nine that were given away two wait for their run, three have it, and four are expired."""
    definition = read_definition(DEFINITION)
    sealed = seal(definition, SECRET, previous=None, at=AT, by="")
    trial = Trial(sealed, StatusRecord(definition.experiment_id, 1, Status.RUNNING, AT, "", ""), SECRET)
    for number in range(9):
        made = trial.assign(f"task={number}", {}, ["global"], {}, 0.0)
        trial.put(made)
        if number < 3:
            joined = trial.joined(made, Joined(f"run-{number}", 60.0, (0, number), made.value, success=1.0))
            assert joined is not None
            trial.put(joined)
        elif number < 7:
            trial.put(replace(made, expired=True))
    vitals = Vitals(metrics.EXPERIMENTS_WORKER)
    vitals.when_asked(assignment_counts(vitals, lambda: [trial]))
    states = ("pending", "completed", "expired")
    assert [value_of(vitals, "scaling_experiment_assignments", state=state) for state in states] == [2, 3, 4]
