"""Means of an experiment's values, and effects that are linear in them, against libraries and brute force."""

import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from msgspec.structs import replace
from scipy import stats

from analytics.adaptive import adaptive_means
from analytics.arm_means import (
    PLANNED_SD,
    ArmMeans,
    arm_means,
    contrasts_of,
    effect_of,
    effect_weights,
    planned_information,
)
from analytics.confidence_sequences import confidence_sequence, e_value
from analytics.moments import Floats, Ints
from analytics.ready_made import AGENT_COUNT, MODEL_SIZE
from analytics.trial_rows import TrialRows
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import Definition

VALUES = np.array([1.0, 2, 3, 4, 6, 8])
SUCCESS = replace(AGENT_COUNT, planned_per_value=200)
QUALITY = replace(SUCCESS, outcome=Outcome.QUALITY_SCORE)


def rows_of(arm: Ints, y: Floats, **fields: Any) -> TrialRows:  # noqa: ANN401 - columns
    """Make rows of these runs."""
    n = len(arm)
    columns = {
        "complexity": np.full(n, np.nan),
        "complied": np.ones(n, np.bool_),
        "cluster": np.arange(n),
        "propensities": np.full((n, 6), 1 / 6),
        "batch": np.zeros(n, np.int64),
    }
    return TrialRows(arm=arm, y=y, **(columns | fields))


def world(seed: int, sizes: tuple[int, ...] = (31, 40, 25, 60, 33, 28)) -> tuple[Ints, Floats, Floats]:
    """Draw qualities that rise with ln x and fall with complexity, with noise that differs by value."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat(np.arange(6), sizes))
    z = rng.beta(2, 2, len(arm))
    return arm, 0.4 + 0.1 * np.log(VALUES)[arm] - 0.3 * z + rng.normal(0, 0.1 + 0.02 * arm), z


# --- means ------------------------------------------------------------------------------------------------------------


def test_plain_means_have_the_variance_of_their_runs_and_a_little_of_the_pooled() -> None:
    """Run by run: each variance is (4 s² pooled + its squares) / (n + 3) / n; runs without the outcome are left out."""
    arm, y, _ = world(1)
    y[::17] = np.nan
    found = arm_means(rows_of(arm, y), QUALITY, Outcome.QUALITY_SCORE)
    groups = [y[(arm == v) & ~np.isnan(y)] for v in range(6)]
    squares = [((group - group.mean()) ** 2).sum() for group in groups]
    pooled = sum(squares) / (sum(map(len, groups)) - 6)
    np.testing.assert_array_equal(found.n, list(map(len, groups)))
    np.testing.assert_allclose(found.mean, [group.mean() for group in groups], rtol=1e-12)
    expected = [(4 * pooled + s) / (len(g) + 3) / len(g) for g, s in zip(groups, squares, strict=True)]
    np.testing.assert_allclose(found.covariance, np.diag(expected), rtol=1e-12)
    assert (found.stretch, found.saved) == (1.0, None)


def test_the_variance_of_a_rate_is_never_zero() -> None:
    """A value whose runs all succeeded has (n + ½) ½ / (n + 1)² / n, that of half a failure more."""
    arm = np.repeat(np.arange(6), 20)
    y = (np.arange(120) % 20 < 10).astype(np.float64)
    y[arm == 5] = 1.0
    found = arm_means(rows_of(arm, y), SUCCESS, Outcome.SUCCESS)
    assert found.variance[5] == pytest.approx(20.5 * 0.5 / 21**2 / 20)
    np.testing.assert_allclose(found.variance[:5], 10.5 * 10.5 / 21**2 / 20)


@pytest.mark.parametrize("seed", range(3))
def test_means_without_complexity_are_statsmodels(seed: int) -> None:
    """They are the regression's on indicators of the values and on complexity, read at its mean; savings too."""
    arm, y, z = world(seed)
    found = arm_means(rows_of(arm, y, complexity=z), QUALITY, Outcome.QUALITY_SCORE, adjusted=True)
    indicators = np.eye(6)[arm]
    fit, raw = sm.OLS(y, np.column_stack([indicators, z])).fit(), sm.OLS(y, indicators).fit()
    np.testing.assert_allclose(found.mean, fit.params[:6] + fit.params[6] * z.mean(), rtol=1e-9)
    assert found.saved == pytest.approx(1 - fit.scale / raw.scale, rel=1e-9)
    effect = effect_of(found, QUALITY, Outcome.QUALITY_SCORE)
    at_mean = np.column_stack([np.eye(6), np.full(6, z.mean())])
    weights, _ = effect_weights(QUALITY)
    robust = sm.OLS(y, np.column_stack([indicators, z])).fit(cov_type="HC1").cov_params()
    assert effect.estimate.se == pytest.approx(math.sqrt(weights @ at_mean @ robust @ at_mean.T @ weights), rel=0.05)


def test_complexity_that_is_not_known_anywhere_takes_nothing_out() -> None:
    """The adjusted means are then the plain ones, with nothing saved."""
    arm, y, _ = world(4)
    plain = arm_means(rows_of(arm, y), QUALITY, Outcome.QUALITY_SCORE)
    found = arm_means(rows_of(arm, y), QUALITY, Outcome.QUALITY_SCORE, adjusted=True)
    np.testing.assert_allclose(found.mean, plain.mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, plain.covariance, rtol=1e-9)
    assert found.saved == 0.0


def test_a_value_whose_runs_are_all_alike_keeps_the_error_of_a_rate() -> None:
    """Taking complexity out makes no mean certain: its variance is not below that without it."""
    rng = np.random.default_rng(2)
    arm, z = np.repeat(np.arange(6), 40), rng.random(240)
    y = (rng.random(240) < 0.9 - 0.5 * z).astype(np.float64)
    y[arm == 3] = 1.0
    rows = rows_of(arm, y, complexity=z)
    plain, found = (arm_means(rows, SUCCESS, Outcome.SUCCESS, adjusted=each) for each in (False, True))
    assert found.variance[3] >= plain.variance[3]
    assert (np.delete(found.variance, 3) < np.delete(plain.variance, 3)).all()


def switchback(seed: int, blocks: int) -> tuple[Ints, Ints, Floats]:
    """Draw time blocks of unequal size with a level of their own: arm, block and ln time of each run."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, blocks)
    block = np.repeat(np.arange(blocks), sizes)
    arm = np.concatenate([rng.permutation(4) for _ in range(blocks // 4 + 1)])[:blocks][block]
    return arm, block, 5 - 0.2 * arm + rng.normal(0, 0.6, blocks)[block] + rng.normal(0, 0.3, len(block))


TIMED = replace(
    AGENT_COUNT,
    values_tested=[1.0, 2.0, 4.0, 8.0],
    assignment="switchback",
    outcome=Outcome.TIME_TO_COMPLETE,
    direction="decrease",
)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_a_switchback_is_that_of_its_time_blocks(seed: int) -> None:
    """Block by block: variance_v = B_v / (B_v - 1) Σ_b (Σ_run (y - ȳ_v) / n_v)², and no two values share a block."""
    arm, block, y = switchback(seed, 40)
    found = arm_means(rows_of(arm, y, cluster=block), TIMED, Outcome.TIME_TO_COMPLETE)
    for v in range(4):
        mine = y[arm == v]
        own = sorted(set(block[arm == v].tolist()))
        sums = [float((y[block == b] - mine.mean()).sum()) / len(mine) for b in own]
        expected = len(own) / (len(own) - 1) * sum(each * each for each in sums)
        assert found.mean[v] == pytest.approx(mine.mean())
        assert found.variance[v] == pytest.approx(expected)
        assert expected > mine.var(ddof=1) / len(mine)
    np.testing.assert_allclose(found.covariance, np.diag(found.variance), atol=1e-15)
    assert found.stretch == pytest.approx(stats.t.ppf(0.975, 40 - 4) / stats.norm.ppf(0.975))


def test_a_switchback_is_never_surer_than_independent_runs() -> None:
    """Where blocks happen to agree, the variance is that of the runs."""
    arm = np.repeat([0, 1, 2, 3, 0, 1, 2, 3], 6)
    block = np.repeat(np.arange(8), 6)
    y = np.tile([4.0, 5, 6, 4, 5, 6], 8) + arm
    rows = rows_of(arm, y, cluster=block)
    found = arm_means(rows, TIMED, Outcome.TIME_TO_COMPLETE)
    plain = arm_means(rows, replace(TIMED, assignment="blocks"), Outcome.TIME_TO_COMPLETE)
    np.testing.assert_allclose(found.variance, plain.variance)


def test_adaptive_assignments_are_weighted() -> None:
    """Means and variances are those of inverse propensities, diagonal, and not the plain ones."""
    rng = np.random.default_rng(5)
    share = np.array([0.05, 0.05, 0.1, 0.1, 0.2, 0.5])
    batch = np.repeat(np.arange(6), 50)
    propensities = np.where(batch[:, None] == 0, 1 / 6, share)
    arm = np.array([rng.choice(6, p=each) for each in propensities])
    y = rng.normal(0.1 * arm, 0.2)
    rows = rows_of(arm, y, propensities=propensities, batch=batch)
    for rule in ("neyman", "thompson"):
        found = arm_means(rows, replace(QUALITY, assignment=rule), Outcome.QUALITY_SCORE)
        expected = adaptive_means(y, arm, propensities, batch)
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.covariance, np.diag(expected.variance))
    assert not np.allclose(found.mean, [y[arm == v].mean() for v in range(6)], atol=1e-4)


@pytest.mark.parametrize(
    ("definition", "arm", "cluster", "message"),
    [
        (
            QUALITY,
            [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5],
            None,
            "value 8 has 1 measured runs and needs 2: wait for outcomes",
        ),
        (QUALITY, [0, 0], None, "value 2 has 0 measured runs and needs 2"),
        (TIMED, [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3, 4, 5, 6, 6], "every value needs 2 time blocks, one has 1"),
    ],
)
def test_too_few_runs_or_time_blocks_are_told(
    definition: Definition, arm: list[int], cluster: list[int] | None, message: str
) -> None:
    """The reason names the value that is short."""
    y = np.random.default_rng(1).random(len(arm))
    rows = rows_of(np.array(arm), y, **({} if cluster is None else {"cluster": np.array(cluster)}))
    with pytest.raises(NotEnoughData, match=message):
        arm_means(rows, definition, definition.outcome)


# --- effects ----------------------------------------------------------------------------------------------------------


def means(seed: int, m: int = 6) -> ArmMeans:
    """Draw means with a covariance that is not diagonal."""
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 0.02, (m, m))
    return ArmMeans(np.full(m, 100.0), rng.random(m), root @ root.T + np.eye(m) * 1e-4)


def line(mean: Floats) -> float:
    """Fit a line through means on ln x, each with the same weight, and give its change over the values."""
    return float(np.polyfit(np.log(VALUES), mean, 1)[0] * np.log(8))


@pytest.mark.parametrize("seed", range(3))
def test_a_slope_is_the_line_of_least_squares_through_the_means(seed: int) -> None:
    """Its change from the smallest to the largest value, with the error that the means' covariance gives it."""
    made = means(seed)
    found = effect_of(made, SUCCESS, Outcome.SUCCESS)
    pull = np.array([line(each) for each in np.eye(6)])
    assert found.estimate.estimate == pytest.approx(line(made.mean))
    assert found.estimate.se == pytest.approx(math.sqrt(pull @ made.covariance @ pull))
    assert (found.what, found.n, found.outcome) == ("along the line from 1 to 8", 600, "success")


@pytest.mark.parametrize(
    ("fields", "other", "control", "what"),
    [
        ({}, 5, 0, "from 1 to 8"),
        ({"contrast_value": 3.0}, 2, 0, "from 1 to 3"),
        ({"control_value": 4.0}, 5, 3, "from 4 to 8"),
        ({"control_value": 8.0}, 4, 5, "from 8 to 6"),
        ({"control_value": 8.0, "contrast_value": 1.0}, 0, 5, "from 8 to 1"),
    ],
)
def test_a_contrast_is_a_difference_from_the_control(
    fields: dict[str, Any], other: int, control: int, what: str
) -> None:
    """Of the named value, or the last one that is not the control."""
    made = means(9)
    found = effect_of(made, replace(SUCCESS, estimand="contrast", **fields), Outcome.SUCCESS)
    v = made.covariance
    assert found.estimate.estimate == pytest.approx(made.mean[other] - made.mean[control])
    assert found.estimate.se == pytest.approx(math.sqrt(v[other, other] + v[control, control] - 2 * v[other, control]))
    assert found.what == what


def test_categories_are_contrasted_by_name() -> None:
    """Small against large, as the definition has it."""
    made = means(3, 3)
    assert effect_of(made, MODEL_SIZE, Outcome.QUALITY_SCORE).what == "from small to large"


@pytest.mark.parametrize("stretch", [1.0, 1.3])
def test_the_intervals_of_an_effect(stretch: float) -> None:
    """One look at 1 - alpha, one-sided tests at 1 - 2 alpha, any look by the sequence tuned to the planned size."""
    made = means(4)
    made = ArmMeans(made.n, made.mean, made.covariance, stretch)
    definition = replace(SUCCESS, alpha=0.1)
    found = effect_of(made, definition, Outcome.SUCCESS)
    at, se = found.estimate.estimate, found.estimate.se
    pull = np.array([line(each) for each in np.eye(6)])
    assert se == pytest.approx(stretch * math.sqrt(pull @ made.covariance @ pull))
    assert (found.estimate.lo, found.estimate.hi) == pytest.approx(stats.norm.interval(0.9, at, se))
    assert (found.equivalence_lo, found.equivalence_hi) == pytest.approx(stats.norm.interval(0.8, at, se))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(at) / se))
    planned = 200 / (0.25 * float(pull @ pull))
    lo, hi = confidence_sequence(at, se, planned, 0.1)
    assert (found.anytime_lo, found.anytime_hi) == pytest.approx((float(lo), float(hi)))
    assert found.e_value == found.best_e_value == pytest.approx(float(e_value(at, se, planned, alpha=0.1)))
    assert found.anytime_p == pytest.approx(min(1.0, 1 / found.e_value))
    assert (found.e_value >= 10) == (found.anytime_lo > 0 or found.anytime_hi < 0)


@pytest.mark.parametrize("outcome", list(PLANNED_SD))
def test_the_planned_information_is_that_of_a_balanced_experiment(outcome: Outcome) -> None:
    """At the planned size, with the planned deviation, the effect's error is that of least squares on the runs."""
    definition = replace(SUCCESS, outcome=outcome, planned_per_value=150)
    x = np.repeat(np.log(VALUES), 150)
    design = sm.add_constant(x)
    error = PLANNED_SD[outcome] * math.sqrt(np.linalg.inv(design.T @ design)[1, 1]) * math.log(8)
    weights, _ = effect_weights(definition)
    assert planned_information(definition, outcome, weights) == pytest.approx(1 / error**2)


def moved(made: ArmMeans, by: float, factor: float = 1.0) -> ArmMeans:
    """Move the effect of means by an amount, and scale their variance."""
    ln_x = np.log(VALUES) - np.log(VALUES).mean()
    return ArmMeans(made.n, made.mean + by * ln_x / np.log(8), made.covariance * factor)


def test_what_was_ruled_out_at_a_look_stays_ruled_out() -> None:
    """The sequence is intersected with that of the look before; the evidence is the most so far."""
    made = means(6)
    first = effect_of(made, SUCCESS, Outcome.SUCCESS)
    wider = effect_of(moved(made, 0.0, 1.5), SUCCESS, Outcome.SUCCESS, first)
    assert (wider.anytime_lo, wider.anytime_hi) == (first.anytime_lo, first.anytime_hi)
    alone = effect_of(moved(made, 0.05), SUCCESS, Outcome.SUCCESS)
    second = effect_of(moved(made, 0.05), SUCCESS, Outcome.SUCCESS, first)
    assert (second.anytime_lo, second.anytime_hi) == (alone.anytime_lo, first.anytime_hi)
    assert second.best_e_value == max(first.e_value, alone.e_value)
    assert second.anytime_p == pytest.approx(min(1.0, 1 / second.best_e_value))
    assert (second.e_value, second.estimate) == (alone.e_value, alone.estimate)
    again = effect_of(moved(made, 0.05), SUCCESS, Outcome.SUCCESS, second)
    assert again == second


def test_sequences_that_exclude_each_other_are_not_made_empty() -> None:
    """If two looks contradict each other (one was wrong), the newer stands."""
    made = means(6)
    first = effect_of(made, SUCCESS, Outcome.SUCCESS)
    far = effect_of(moved(made, 3.0), SUCCESS, Outcome.SUCCESS)
    assert far.anytime_lo > first.anytime_hi
    second = effect_of(moved(made, 3.0), SUCCESS, Outcome.SUCCESS, first)
    assert (second.anytime_lo, second.anytime_hi) == (far.anytime_lo, far.anytime_hi)


def test_an_effect_without_error_is_not_known() -> None:
    """Means that are certain are a sign of too few runs, not of certainty."""
    with pytest.raises(NotEnoughData, match="standard error above 0"):
        effect_of(ArmMeans(np.ones(6), np.ones(6), np.zeros((6, 6))), SUCCESS, Outcome.SUCCESS)


# --- contrasts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", [1.0, 4.0])
def test_contrasts_for_one_look_are_dunnetts(control: float) -> None:
    """Intervals and p-values of all values against the control agree with scipy's test on the runs."""
    rng = np.random.default_rng(8)
    sizes = (900, 1500, 700, 1100, 800, 1000)
    arm = np.repeat(np.arange(6), sizes)
    y = rng.normal(0.012 * arm, 0.3)
    definition = replace(QUALITY, control_value=control)
    found = contrasts_of(
        arm_means(rows_of(arm, y), definition, Outcome.QUALITY_SCORE), definition, Outcome.QUALITY_SCORE
    )
    place = VALUES.tolist().index(control)
    others = [v for v in range(6) if v != place]
    groups = [y[arm == v] for v in others]
    expected = stats.dunnett(*groups, control=y[arm == place], rng=np.random.default_rng(1))
    ends = expected.confidence_interval(0.95)
    assert [each.value for each in found] == VALUES[others].tolist()
    assert {each.over for each in found} == {control}
    np.testing.assert_allclose([each.difference.lo for each in found], ends.low, atol=0.002)
    np.testing.assert_allclose([each.difference.hi for each in found], ends.high, atol=0.002)
    np.testing.assert_allclose([each.p for each in found], expected.pvalue, atol=0.01)
    for each, group in zip(found, groups, strict=True):
        assert each.difference.estimate == pytest.approx(group.mean() - y[arm == place].mean())


def test_contrasts_for_any_look_share_alpha() -> None:
    """Each has its sequence at alpha over their number, tuned to the planned size, and evidence to match."""
    made = ArmMeans(np.full(6, 50.0), np.linspace(0.3, 0.7, 6), np.eye(6) * 0.004)
    se = math.sqrt(0.008)
    for at, each in enumerate(contrasts_of(made, SUCCESS, Outcome.SUCCESS)):
        difference = 0.08 * (at + 1)
        lo, hi = confidence_sequence(difference, se, 200 / (2 * 0.25), 0.01)
        assert (each.anytime_lo, each.anytime_hi) == pytest.approx((float(lo), float(hi)))
        assert (each.e_value >= 100) == (each.anytime_lo > 0)


def test_contrasts_of_correlated_means_hold_together_too() -> None:
    """The quantile is that of the largest of correlated errors; p is Bonferroni's."""
    made = means(7)
    found = contrasts_of(made, SUCCESS, Outcome.SUCCESS)
    pick = np.column_stack([-np.ones(5), np.eye(5)])
    v = pick @ made.covariance @ pick.T
    se = np.sqrt(np.diag(v))
    z = (made.mean[1:] - made.mean[0]) / se
    np.testing.assert_allclose([each.difference.se for each in found], se)
    np.testing.assert_allclose([each.p for each in found], np.minimum(1, 5 * 2 * stats.norm.sf(np.abs(z))))
    half = np.array([(each.difference.hi - each.difference.lo) / 2 for each in found]) / se
    np.testing.assert_allclose(half, half[0])
    box = stats.multivariate_normal(np.zeros(5), v / np.outer(se, se), seed=1)
    assert box.cdf(np.full(5, half[0]), lower_limit=np.full(5, -half[0])) == pytest.approx(0.95, abs=0.004)
    assert stats.norm.ppf(0.975) < half[0] <= stats.norm.ppf(1 - 0.025 / 5) + 0.02


def test_the_one_contrast_of_two_values_is_the_effect() -> None:
    """With two values nothing has to hold together: intervals and evidence agree with those of the effect."""
    two = replace(SUCCESS, values_tested=[1.0, 8.0], estimand="contrast")
    made = ArmMeans(np.full(2, 80.0), np.array([0.4, 0.6]), np.diag([0.003, 0.002]))
    effect, (contrast,) = effect_of(made, two, Outcome.SUCCESS), contrasts_of(made, two, Outcome.SUCCESS)
    assert contrast.difference.estimate == pytest.approx(effect.estimate.estimate)
    assert (contrast.difference.lo, contrast.difference.hi) == pytest.approx((effect.estimate.lo, effect.estimate.hi))
    assert (contrast.anytime_lo, contrast.anytime_hi) == pytest.approx((effect.anytime_lo, effect.anytime_hi))
    assert (contrast.e_value, contrast.p) == pytest.approx((effect.e_value, effect.p))
