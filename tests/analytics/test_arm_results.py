"""What became of each value's assignments, counted one by one, with means against libraries."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analytics.arm_means import arm_means
from analytics.arm_results import BURN_IN, arm_results
from analytics.confidence_sequences import confidence_sequence, proportion_e_value
from analytics.ready_made import AGENT_COUNT
from analytics.trial_rows import rows_of
from models.dimensions import Outcome
from models.experiments import ArmResult, Assignment, Definition, Joined

TWO = replace(AGENT_COUNT, values_tested=[1.0, 4.0], planned_per_value=50, switchback_seconds=100)
QUALITY = replace(TWO, outcome=Outcome.QUALITY_SCORE)


def assigned(number: int, value: float | str, run: Joined | None = None, **fields: Any) -> Assignment:  # noqa: ANN401
    """Make an assignment, one every second."""
    known = {"complexity": None, "expired": False} | fields
    return Assignment(
        "e", 1, f"{number:04d}", "sha", f"task=t{number}", value, "s", number // 100, 0, 0.5, [0.5, 0.5],
        1000.0 + number, "", run=run, **known,
    )  # fmt: skip


def a_run(number: int, actual: float | str | None = None, **fields: Any) -> Joined:  # noqa: ANN401 - any outcome
    """Make a run."""
    return Joined(f"r{number}", 2000.0 + number, (0, number), actual, **fields)


def results(assignments: list[Assignment], definition: Definition) -> list[ArmResult]:
    """Give the results of all values."""
    return arm_results(assignments, rows_of(assignments, definition, definition.outcome), definition)


def test_every_assignment_is_counted_once_by_what_became_of_it() -> None:
    """Pending, expired and completed make up the assigned; excluded and unmeasured runs are completed all the same."""
    made = [
        assigned(0, 1.0),
        assigned(1, 1.0, expired=True),
        assigned(2, 1.0, a_run(2, 1.0, success=1.0, total_cost=0.5)),
        assigned(3, 1.0, a_run(3, 4.0, success=0.0, total_cost=0.25), expired=True),
        assigned(4, 1.0, a_run(4, 1.0, success=1.0, excluded=True)),
        assigned(5, 1.0, a_run(5, None, total_cost=1.0)),
        assigned(6, 4.0, a_run(6, 4.0000001, success=1.0)),
    ]
    one, four = results(made, TWO)
    assert (one.value, one.assigned, one.pending, one.expired, one.completed) == (1.0, 6, 1, 1, 4)
    assert (one.excluded, one.measured, one.complied, one.not_complied, one.dollars) == (1, 2, 2, 2, 1.75)
    assert (four.assigned, four.completed, four.measured, four.complied, four.dollars) == (1, 1, 1, 1, 0.0)
    assert (four.mean, four.per_protocol) == (None, None)


def test_values_without_assignments_have_their_row() -> None:
    """It stands there in the order of the values, with nothing in it."""
    rows = results([], replace(TWO, values_tested=[1.0, 2.0, 4.0]))
    assert [(each.value, each.assigned, each.mean, each.anytime_lo) for each in rows] == [
        (1.0, 0, None, None),
        (2.0, 0, None, None),
        (4.0, 0, None, None),
    ]


def successes(k: int, n: int, value: float, first: int = 0) -> list[Assignment]:
    """Make n runs of a value, k of them successful."""
    return [assigned(first + at, value, a_run(at, value, success=float(at < k))) for at in range(n)]


@pytest.mark.parametrize(("k", "n"), [(0, 12), (7, 12), (12, 12), (45, 60)])
def test_a_rate_has_wilsons_interval_and_an_exact_one_for_any_look(k: int, n: int) -> None:
    """At one look it is statsmodels'; at any look it ends where the evidence against a rate reaches 1/alpha."""
    definition = replace(TWO, alpha=0.1)
    row, _ = results(successes(k, n, 1.0), definition)
    assert row.mean is not None
    assert row.mean.estimate == pytest.approx(k / n)
    assert (row.mean.lo, row.mean.hi) == pytest.approx(proportion_confint(k, n, 0.1, "wilson"), abs=1e-12)
    assert row.mean.se == pytest.approx(np.sqrt(k / n * (1 - k / n) / (n - 1)))
    assert row.anytime_lo is not None
    assert row.anytime_hi is not None
    for end, edge in ((row.anytime_lo, 0.0), (row.anytime_hi, 1.0)):
        assert end == edge or float(proportion_e_value(k, n, end)) == pytest.approx(10, rel=1e-6)
    assert row.anytime_lo <= row.mean.lo
    assert row.mean.hi <= row.anytime_hi


@pytest.mark.parametrize("n", [2, BURN_IN - 1, BURN_IN, 200])
def test_a_mean_has_students_interval_and_a_sequence_from_thirty_runs_on(n: int) -> None:
    """Below thirty runs the asymptotic sequence is not given; from there it is tuned to the planned size."""
    y = np.random.default_rng(n).beta(2, 2, n)
    row, _ = results([assigned(at, 1.0, a_run(at, 1.0, quality_score=float(y[at]))) for at in range(n)], QUALITY)
    assert row.mean is not None
    se = y.std(ddof=1) / np.sqrt(n)
    assert (row.mean.estimate, row.mean.se) == pytest.approx((y.mean(), se))
    assert (row.mean.lo, row.mean.hi) == pytest.approx(stats.t.interval(0.95, n - 1, y.mean(), se))
    if n < BURN_IN:
        assert (row.anytime_lo, row.anytime_hi) == (None, None)
    else:
        lo, hi = confidence_sequence(y.mean(), se, 50 / y.var(ddof=1), 0.05)
        assert (row.anytime_lo, row.anytime_hi) == pytest.approx((float(lo), float(hi)))


def test_equal_outcomes_have_no_sequence() -> None:
    """A mean without a spread is not certain at any look."""
    row, _ = results([assigned(at, 1.0, a_run(at, 1.0, quality_score=0.5)) for at in range(40)], QUALITY)
    assert (row.anytime_lo, row.anytime_hi) == (None, None)


def test_time_and_cost_are_on_the_logarithm_with_a_floor() -> None:
    """A cost of nothing counts as a tenth of a cent."""
    costs = [0.0, 0.5, 2.0]
    made = [assigned(at, 1.0, a_run(at, 1.0, total_cost=cost)) for at, cost in enumerate(costs)]
    row, _ = results(made, replace(TWO, outcome=Outcome.TOTAL_COST))
    assert row.mean is not None
    assert row.mean.estimate == pytest.approx(np.log([0.001, 0.5, 2.0]).mean())
    assert row.dollars == 2.5


@pytest.mark.parametrize(("missing", "measured", "mean"), [("exclude", 2, 0.6), ("zero", 3, 0.4)])
def test_a_run_without_quality_is_left_out_or_counts_as_zero(missing: Any, measured: int, mean: float) -> None:  # noqa: ANN401
    """As the definition was sealed."""
    scores = [0.5, 0.7, None]
    made = [assigned(at, 1.0, a_run(at, 1.0, quality_score=score)) for at, score in enumerate(scores)]
    row, _ = results(made, replace(QUALITY, missing_quality=missing))
    assert row.mean is not None
    assert row.measured == measured
    assert row.mean.estimate == pytest.approx(mean)


def test_per_protocol_is_over_the_runs_that_did_what_they_were_assigned() -> None:
    """Those that went another way, or do not say, are in the mean by assignment only."""
    made = [
        assigned(at, 1.0, a_run(at, actual, success=success))
        for at, (actual, success) in enumerate([(1.0, 1.0), (1.0, 0.0), (1.0, 1.0), (4.0, 0.0), (None, 0.0)])
    ]
    row, _ = results(made, TWO)
    assert row.mean is not None
    assert row.per_protocol is not None
    assert row.mean.estimate == pytest.approx(0.4)
    assert row.per_protocol.estimate == pytest.approx(2 / 3)


def test_runs_in_the_washout_of_a_time_block_are_completed_and_not_measured() -> None:
    """The first seconds of each block are left out of the means, and of the rows."""
    definition = replace(TWO, assignment="switchback", washout_seconds=30)
    made = [assigned(at, 1.0, a_run(at, 1.0, success=1.0)) for at in range(0, 200, 10)]
    row, _ = results(made, definition)
    assert (row.completed, row.measured) == (20, 14)
    assert len(rows_of(made, definition, Outcome.SUCCESS).y) == 14


@pytest.mark.parametrize("rule", ["switchback", "neyman", "thompson"])
@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.QUALITY_SCORE, Outcome.TOTAL_COST])
def test_values_of_runs_that_are_not_independent_have_the_interval_of_the_estimated_means(
    rule: Any,  # noqa: ANN401 - one of five words
    outcome: Outcome,
) -> None:
    """By time block or by the chances of the draws, as the headline has them; none for any look, none per protocol."""
    rng = np.random.default_rng(5)
    definition = replace(TWO, assignment=rule, outcome=outcome, alpha=0.1)
    made = []
    for at in range(1600):
        value = [1.0, 4.0][at // 100 % 2] if rule == "switchback" else [1.0, 4.0][int(rng.random() < 0.5)]
        level = 0.1 * np.sin(at // 100)
        run = a_run(
            at,
            value,
            success=float(rng.random() < 0.5 + level),
            quality_score=float(rng.beta(2, 2)),
            total_cost=float(np.exp(level + rng.normal())),
        )
        made.append(assigned(at, value, run))
    means = arm_means(rows_of(made, definition, outcome), definition, outcome)
    half = stats.norm.ppf(0.95) * np.sqrt(np.diag(means.covariance)) * means.stretch
    rows = results(made, definition)
    for place, row in enumerate(rows):
        assert row.mean is not None
        assert row.mean.estimate == pytest.approx(means.mean[place])
        assert (row.mean.lo, row.mean.hi) == pytest.approx(
            (means.mean[place] - half[place], means.mean[place] + half[place])
        )
        assert (row.anytime_lo, row.anytime_hi, row.per_protocol, row.adjusted) == (None, None, None, None)
    assert sum(row.measured for row in rows) == 1600
    if rule == "switchback":
        assert means.stretch == pytest.approx(stats.t.ppf(0.975, 14) / stats.norm.ppf(0.975))
        plain = results(made, replace(definition, assignment="blocks"))[0].mean
        assert plain is not None
        assert rows[0].mean is not None
        assert rows[0].mean.se > plain.se


def test_one_time_block_a_value_has_no_interval() -> None:
    """Without two blocks there is no telling how blocks differ: the counts stand alone."""
    made = [assigned(at, [1.0, 4.0][at // 100], a_run(at, None, success=float(at % 2))) for at in range(200)]
    rows = results(made, replace(TWO, assignment="switchback"))
    assert [(each.measured, each.mean, each.anytime_lo) for each in rows] == [(100, None, None), (100, None, None)]


def test_a_clusters_mean_stands_for_its_runs() -> None:
    """Block by block and value by value, by brute force; it complies where all its runs did."""
    rng = np.random.default_rng(9)
    definition = replace(TWO, assignment="switchback", outcome=Outcome.QUALITY_SCORE)
    made = [
        assigned(
            at,
            [1.0, 4.0][at // 100 % 2],
            a_run(at, [1.0, 4.0][at // 100 % 2] if at != 252 else 2.0, quality_score=float(rng.random())),
            complexity=float(rng.random()),
        )
        for at in range(0, 700, 7)
    ]
    whole = rows_of(made, definition, Outcome.QUALITY_SCORE)
    found = whole.by_cluster()
    blocks = {(int(arm), int(cluster)) for arm, cluster in zip(whole.arm, whole.cluster, strict=True)}
    assert sorted(zip(found.arm.tolist(), found.cluster.tolist(), strict=True)) == sorted(blocks)
    assert len(blocks) == 7
    assert found.complied.sum() == 6
    for at in range(7):
        inside = (whole.arm == found.arm[at]) & (whole.cluster == found.cluster[at])
        assert found.y[at] == pytest.approx(whole.y[inside].mean())
        assert found.complexity[at] == pytest.approx(whole.complexity[inside].mean())
        assert found.complied[at] == whole.complied[inside].all()
        assert found.batch[at] == whole.batch[inside][0]
        assert found.propensities[at].tolist() == [0.5, 0.5]
    none = whole.where(np.zeros(len(whole.y), np.bool_)).by_cluster()
    assert (len(none.arm), len(none.y), none.propensities.shape) == (0, 0, (0, 2))


def test_adjusted_means_are_those_of_the_headline() -> None:
    """With complexity taken out where that was sealed and is possible; else none."""
    rng = np.random.default_rng(3)
    made = []
    for at in range(120):
        z, value = float(rng.random()), [1.0, 4.0][at % 2]
        run = a_run(at, value, success=float(rng.random() < 0.9 - 0.6 * z + 0.05 * value))
        made.append(assigned(at, value, run, complexity=z))
    rows = rows_of(made, TWO, Outcome.SUCCESS)
    expected = arm_means(rows, TWO, Outcome.SUCCESS, adjusted=True).mean
    assert [each.adjusted for each in results(made, TWO)] == pytest.approx(expected.tolist())
    for other in (replace(TWO, adjust_for_complexity=False), replace(TWO, assignment="thompson")):
        assert [each.adjusted for each in results(made, other)] == [None, None]
    assert [each.adjusted for each in results(made[:3], TWO)] == [None, None]
