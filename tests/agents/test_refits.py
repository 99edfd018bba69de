"""Comparing a law with its refit from rows: what equals, what differs, and in which part it is told."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest

from agents.raw_laws import RawRuns, Wanted, axis_of
from agents.refits import MERGED, RunColumns, choose_basis, refit_live
from agents.verify import Part, compare
from analytics.laws import explained
from analytics.simulation import simulate
from analytics.world import confounded_world
from models.cells import bin_value
from models.dimensions import BASES, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Adjusted, Drift, Estimate, Law, Pooling, Significance, Validation
from models.settings import Settings, load_settings

START = datetime(2026, 3, 1, tzinfo=UTC)
SIZES = {"small": 0.0, "medium": 1.0, "large": 2.0}
FIELDS: dict[tuple[Dimension, Basis], Callable[[dict[str, Any]], float | None]] = {
    (Dimension.AGENT_COUNT, Basis.REALISED): lambda event: event["agent_count"],
    (Dimension.ITERATIONS, Basis.DOSE): lambda event: event["max_iterations"],
    (Dimension.ITERATIONS, Basis.REALISED): lambda event: event["total_iterations"] / event["agent_count"],
    (Dimension.PARALLELISM_LEVEL, Basis.REALISED): lambda event: event["parallelism_level"],
    (Dimension.CONTEXT, Basis.DOSE): lambda event: event["context_budget"],
    (Dimension.CONTEXT, Basis.REALISED): lambda event: event["context_tokens"],
    (Dimension.MODEL_SIZE, Basis.REALISED): lambda event: event["model_params_b"],
    (Dimension.MODEL_SIZE, Basis.CATEGORY): lambda event: SIZES[event["model_size_category"]],
    (Dimension.ATTEMPTS, Basis.DOSE): lambda event: event["retry_limit"] + 1,
    (Dimension.ATTEMPTS, Basis.REALISED): lambda event: event["retry_count"] + 1,
}
OUTCOMES = tuple(Outcome)[:4]


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Fit with few draws."""
    return load_settings(bootstrap_draws=100)


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Give 1,500 runs of a day."""
    return list(simulate(confounded_world(), 1500, seed=8, start=START))


def columns_of(events: list[dict[str, Any]]) -> RunColumns:
    """Write events as columns."""
    completed = [datetime.fromisoformat(event["completed_at"]).timestamp() for event in events]
    bucket = np.array(completed).astype(np.int64) // 3600
    return RunColumns(
        x={slot: np.array([read(event) for event in events], dtype=np.float64) for slot, read in FIELDS.items()},
        outcomes={
            outcome: np.array([event.get(outcome, np.nan) for event in events], dtype=np.float64)
            for outcome in OUTCOMES
        },
        policy=np.zeros(len(events), dtype=bool),
        complexity=np.array([event["task_complexity"] for event in events]),
        bucket=bucket,
        newest=int(bucket.max()),
    )


@pytest.fixture(scope="module")
def columns(events: list[dict[str, Any]]) -> RunColumns:
    """Give the runs as columns."""
    return columns_of(events)


@pytest.fixture(scope="module")
def law(events: list[dict[str, Any]], settings: Settings) -> Law:
    """Give a law of success over agents, fitted from the events by another route, with an adjusted part."""
    raw = RawRuns(settings)
    raw.add([orjson.dumps(event) for event in events])
    (law,) = raw.laws(Wanted("global", Dimension.AGENT_COUNT, Outcome.SUCCESS))
    adjusted = refit_live(columns_of(events), law, settings).adjusted
    assert adjusted is not None
    return explained(msgspec.structs.replace(law, adjusted=adjusted, confounding_gap=adjusted.gap))


def differing(parts: list[Part]) -> set[str]:
    """Name the parts that differ."""
    return {part.name for part in parts if part.verdict == "differs"}


def test_every_law_is_fitted_as_by_the_rows_of_a_file(
    events: list[dict[str, Any]], columns: RunColumns, settings: Settings
) -> None:
    """All 24 laws of a context equal those of scaling fit, bins and bases and the price of the knee included."""
    raw = RawRuns(settings)
    raw.add([orjson.dumps(event) for event in events])
    laws = list(raw.laws(Wanted("global")))
    assert len(laws) == 24
    for each in laws:
        parts = compare(each, refit_live(columns, each, settings), settings)
        # A law from a file has no adjusted part, and so neither its evidence nor its words.
        assert differing(parts) <= {"adjusted", "heading", "text"}, each.law_id
        assert "adjusted" in differing(parts)


def test_a_law_equals_its_refit(law: Law, columns: RunColumns, settings: Settings) -> None:
    """Every part says equal, and nothing is left uncompared."""
    parts = compare(law, refit_live(columns, law, settings), settings)
    assert {part.verdict for part in parts} == {"equal"}
    assert {part.name for part in parts} >= {"heading", "values", "knee", "trend", "adjusted", "text"}


def tampered(law: Law) -> dict[str, Law]:
    """Alter a law, part by part."""
    power, published, knee, trend, adjusted = law.power, law.published, law.knee, law.trend, law.adjusted
    assert power
    assert published
    assert knee
    assert trend
    assert adjusted
    replace = msgspec.structs.replace
    row = replace(law.values[0], mean=law.values[0].mean * (1 + 1e-9))
    point = replace(published.curve[0], hi=published.curve[0].hi + 1e-4)
    log = law.reference.log
    assert log
    return {
        "heading": replace(law, n=law.n + 1),
        "values": replace(law, values=[row, *law.values[1:]]),
        "reference": replace(law, reference=replace(law.reference, log=replace(log, r_squared=log.r_squared + 1e-6))),
        "power": replace(law, power=replace(power, exponent=replace(power.exponent, se=power.exponent.se * 1.00001))),
        "published": replace(law, published=replace(published, curve=[point, *published.curve[1:]])),
        "knee": replace(law, knee=replace(knee, value=knee.value + 1)),
        "trend": replace(law, trend=replace(trend, estimate=trend.estimate + 1e-4)),
        "adjusted": replace(law, adjusted=replace(adjusted, gap=adjusted.gap * 1.0001)),
        "text": replace(law, lint=law.lint[1:]),
    }


def test_each_alteration_is_told_in_its_part(law: Law, columns: RunColumns, settings: Settings) -> None:
    """A change far below what a reader would see is told; texts that rest on it may differ too."""
    refit = refit_live(columns, law, settings)
    for part, altered in tampered(law).items():
        found = differing(compare(altered, refit, settings))
        assert part in found
        assert found <= {part, "text"}
    evident = msgspec.structs.replace(law, e_value=(law.e_value or 1.0) * 1.001)
    assert differing(compare(evident, refit, settings)) == {"trend"}
    other = settings.model_copy(update={"context_values": 7})
    assert differing(compare(law, refit, other)) == {"heading"}


def test_what_other_laws_decide_is_not_compared(law: Law, columns: RunColumns, settings: Settings) -> None:
    """Drift, pooling and significance are named as not compared; an alarm explains the status of a drifted law."""
    one = Estimate(0.1, 0.01, 0.08, 0.12)
    drifted = msgspec.structs.replace(
        law,
        status="drifted",
        drift=Drift(alarm=True, evidence=2e4, limit=1e4, buckets=30, since="2026-03-01T09:00:00Z", cause="law"),
        pooling=Pooling(one, 0.1, 0.2, prior_dominated=False, contexts=4, family="project"),
        adjusted_significance=Significance(0.01, unadjusted=True, adjusted=True, scope="all", laws=24),
    )
    parts = compare(explained(drifted), refit_live(columns, law, settings), settings)
    assert differing(parts) == set()
    assert {part.name for part in parts if part.verdict == "not compared"} == {
        "drift",
        "pooling",
        "adjusted_significance",
    }
    without = msgspec.structs.replace(drifted, drift=None)
    assert "heading" in differing(compare(explained(without), refit_live(columns, law, settings), settings))


def test_errors_over_merged_buckets_are_not_held_against_a_law(
    law: Law, columns: RunColumns, settings: Settings
) -> None:
    """Once old buckets are merged their errors are another matter; slope, gap and runs still have to agree."""
    later = msgspec.structs.replace(law)
    moved = RunColumns(
        columns.x, columns.outcomes, columns.policy, columns.complexity, columns.bucket, columns.newest + 100
    )
    refit = refit_live(moved, law, settings)
    assert refit.adjusted is not None
    assert refit.adjusted.method == MERGED
    adjusted = law.adjusted
    assert adjusted is not None
    wider = msgspec.structs.replace(
        adjusted, slope=msgspec.structs.replace(adjusted.slope, se=1.0, lo=-2.0, hi=2.0), sign_differs=False
    )
    wide = with_adjusted(later, wider)
    assert differing(compare(wide, refit, settings)) == set()
    shifted = msgspec.structs.replace(wider, slope=msgspec.structs.replace(wider.slope, estimate=0.2))
    assert differing(compare(with_adjusted(later, shifted), refit, settings)) == {"adjusted"}


def with_adjusted(law: Law, adjusted: Adjusted) -> Law:
    """Put another adjusted part into a law."""
    return explained(msgspec.structs.replace(law, adjusted=adjusted))


def test_validation_on_other_contexts_or_buckets_is_not_compared(
    law: Law, columns: RunColumns, settings: Settings
) -> None:
    """A part of the validation that the runs of one context do not determine is named with its reason."""
    validation = msgspec.convert(
        {
            "forward": {"buckets": 20, "mean_square": 1.0, "inside": 0.95},
            "transfer": {"contexts": 4, "coverage": 1.0, "skill": None},
        },
        Validation,
    )
    parts = compare(
        explained(msgspec.structs.replace(law, validation=validation)), refit_live(columns, law, settings), settings
    )
    told = {part.name: part.not_compared for part in parts if part.verdict == "not compared"}
    assert told.keys() == {"validation.forward", "validation.transfer"}
    assert "bucket" in told["validation.forward"]


def test_bins_and_bases_are_those_of_the_stream(columns: RunColumns) -> None:
    """Whole numbers up to 64 stay themselves, others fall into quarter octaves; limits come before realised counts."""
    axis = axis_of(Dimension.CONTEXT, np.array([1.0, 64.0, 65.0, 1.5, 8000.0]))
    assert axis.binned.tolist() == [False, False, True, True, True]
    assert axis.nominal.tolist() == [1.0, 64.0, bin_value(24), bin_value(2), bin_value(51)]
    sizes = axis_of(Dimension.MODEL_SIZE, np.array([7.5, 180.0]))
    assert not sizes.binned.any()
    for dimension in Dimension:
        assert choose_basis(columns, dimension, Outcome.SUCCESS) == BASES[dimension][0]
    x = dict(columns.x)
    x[Dimension.CONTEXT, Basis.DOSE] = np.full(len(columns.policy), 8000.0)
    alone = RunColumns(x, columns.outcomes, columns.policy, columns.complexity, columns.bucket, columns.newest)
    assert choose_basis(alone, Dimension.CONTEXT, Outcome.SUCCESS) is Basis.REALISED


def test_without_runs_there_is_nothing_to_verify(law: Law, columns: RunColumns, settings: Settings) -> None:
    """A law whose runs are not in ClickHouse is an error that says what to look at, not a difference."""
    none = {slot: np.full(len(columns.policy), np.nan) for slot in columns.x}
    empty = RunColumns(none, columns.outcomes, columns.policy, columns.complexity, columns.bucket, columns.newest)
    with pytest.raises(NotEnoughData, match="no run of global in ClickHouse below the law's lineage carries"):
        refit_live(empty, law, settings)
