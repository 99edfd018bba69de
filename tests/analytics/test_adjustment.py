"""Adjusted laws against brute force on raw rows, planted worlds, and the reasons given where there is none."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm

from analytics.adjustment import adjust, differ_in_sign, evidence
from analytics.joint_cells import JointCells, Moments, Slot
from analytics.moments import Floats, Ints
from analytics.reliability import corrected_slope, errors_in_variables, tipping_reliability
from analytics.standardisation import Comparison, augmented, g_computation, naive_slope
from models.dimensions import BASES, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate

LEVELS = np.array([1.0, 2, 3, 4, 6, 8])
AGENTS = (Dimension.AGENT_COUNT, Basis.REALISED)
ITERATIONS = (Dimension.ITERATIONS, Basis.REALISED)


def comparison(
    x: Floats, score: Floats, y: Floats, *, bins: int = 5, covariates: Floats | None = None, bounded: bool = True,
    cluster: Ints | None = None,
) -> Comparison:  # fmt: skip
    """Make raw rows comparable within equal bins of the score."""
    values, value = np.unique(x, return_inverse=True)
    places, stratum = np.unique(np.clip(np.floor(score * bins), 0, bins - 1), return_inverse=True)
    return Comparison(
        x=values,
        ln_x=np.log(values),
        value=value,
        stratum=stratum,
        score=np.asarray((places[stratum] + 0.5) / bins, np.float64),
        covariates=np.zeros((len(x), 0)) if covariates is None else covariates,
        n=np.ones(len(x)),
        mean=y,
        m2=np.zeros(len(x)),
        cluster=cluster,
        bounded=bounded,
    )


def confounded(seed: int, size: int = 3000) -> tuple[Floats, Floats, Floats]:
    """Draw agents that follow difficulty, and success that rises with agents and falls with difficulty."""
    rng = np.random.default_rng(seed)
    z = rng.random(size)
    x = LEVELS[np.clip(np.floor(6 * (z + 0.4 * rng.standard_normal(size))), 0, 5).astype(int)]
    chance = 1 / (1 + np.exp(-(1 + 0.5 * np.log(x) - 4 * z)))
    return x, z, (rng.random(size) < chance).astype(float)


def test_merging_rows_changes_no_estimate() -> None:
    """The laws from rows of single runs and from merged rows are the same, clustered or not."""
    x, z, y = confounded(1)
    cluster = np.random.default_rng(2).integers(0, 20, len(x))
    for codes in (None, cluster):
        single = comparison(x, z, y, cluster=codes)
        merged = single.merged()
        assert len(merged.n) < len(single.n) / 2
        assert merged.n.sum() == len(x)
        for estimator in (g_computation, augmented):
            np.testing.assert_allclose(estimator(merged).mean, estimator(single).mean, rtol=1e-9)
            np.testing.assert_allclose(estimator(merged).covariance, estimator(single).covariance, rtol=1e-6)
        assert naive_slope(merged).se == pytest.approx(naive_slope(single).se, rel=1e-9)
        assert corrected_slope(merged, 0.9).se == pytest.approx(corrected_slope(single, 0.9).se, rel=1e-9)


def test_g_computation_equals_predicting_every_run_at_every_value() -> None:
    """A penalised logit on the raw rows, predicted at each value for each run and averaged, gives the means."""
    x, z, y = confounded(3)
    extra = np.random.default_rng(4).normal(size=(len(x), 1))
    runs = comparison(x, z, y, covariates=extra)
    dummies = np.eye(5)[runs.stratum]
    X = np.column_stack((np.ones(len(x)), np.log(x), dummies, extra))
    ridge = np.array([0, 0, 0.1, 0.1, 0.1, 0.1, 0.1, 0])
    beta = np.zeros(X.shape[1])
    for _ in range(60):
        mu = 1 / (1 + np.exp(-X @ beta))
        beta += np.linalg.solve(X.T @ (X * (mu * (1 - mu))[:, None]) + np.diag(ridge), X.T @ (y - mu) - ridge * beta)
    expected = []
    for level in LEVELS:
        X[:, 1] = np.log(level)
        expected.append((1 / (1 + np.exp(-X @ beta))).mean())
    np.testing.assert_allclose(g_computation(runs.merged()).mean, expected, rtol=1e-8)


def test_augmentation_adds_weighted_residuals_and_reaches_the_strata_means_where_the_model_is_wrong() -> None:
    """A hump in ln x that no slope describes: AIPW comes to the standardised means, g-computation does not."""
    rng = np.random.default_rng(5)
    z, x = rng.random(40_000), rng.choice(LEVELS, 40_000)
    truth = np.array([0.2, 0.5, 0.7, 0.7, 0.5, 0.2])
    mean = truth[np.searchsorted(LEVELS, x)] * (1.2 - 0.4 * z)
    y = (rng.random(len(x)) < mean).astype(float)
    runs = comparison(x, z, y).merged()
    np.testing.assert_allclose(augmented(runs).mean, truth, atol=0.02)
    assert np.abs(g_computation(runs).mean - truth).max() > 0.1


def test_the_standard_error_of_the_adjusted_slope_is_the_spread_over_worlds() -> None:
    """Over 200 worlds the mean standard error is within 15 % of the slopes' standard deviation."""
    for estimator in (g_computation, augmented):
        slopes = [estimator(comparison(*confounded(seed, 1500)).merged()).slope() for seed in range(200)]
        spread = np.std([slope.estimate for slope in slopes])
        assert np.mean([slope.se for slope in slopes]) == pytest.approx(spread, rel=0.15)


def test_the_linear_model_without_a_choice_of_strata_is_least_squares() -> None:
    """One stratum and a covariate: the slope and its clustered error equal statsmodels' to 1e-9."""
    rng = np.random.default_rng(6)
    agents, cluster = rng.choice(LEVELS, 800), rng.integers(0, 12, 800)
    x = np.ceil(agents * rng.choice(LEVELS, 800))
    y = 0.3 + 0.15 * np.log(agents) + rng.normal(0, 0.2, 800)
    runs = comparison(
        x, np.zeros(800), y, bins=1, covariates=np.log(agents)[:, None], bounded=False, cluster=cluster
    ).merged()
    expected = sm.OLS(y, sm.add_constant(np.column_stack((np.log(x), np.log(agents))))).fit()
    clustered = expected.get_robustcov_results("cluster", groups=cluster)
    found = g_computation(runs).slope()
    assert found.estimate == pytest.approx(expected.params[1], rel=1e-9)
    # the package's factor (N - 1) / (N - p) for the coefficients is not part of a mean's error
    assert found.se == pytest.approx(clustered.bse[1] * np.sqrt((800 - 3) / (800 - 1)), rel=1e-9)


@pytest.mark.parametrize("reliability", [0.7, 0.85])
def test_the_corrected_slope_recovers_the_truth_behind_an_imprecise_score(reliability: float) -> None:
    """Over 150 worlds it is unbiased and covered at the true reliability; taken as exact the score is not enough."""
    truth, found, held, taken = 0.1, [], 0, []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        z = rng.normal(0.5, 0.2, 1500)
        x = LEVELS[np.clip(np.floor(6 * (z + 0.25 * rng.standard_normal(1500))), 0, 5).astype(int)]
        w = z + rng.normal(0, 0.2 * np.sqrt(1 / reliability - 1), 1500)
        covariate = np.log(x)[:, None] * 0.3 + rng.normal(0, 1, (1500, 1))
        y = 2 + truth * np.log(x) - 1.5 * z + 0.2 * covariate[:, 0] + rng.normal(0, 0.3, 1500)
        runs = replace(comparison(x, w, y, bounded=False, covariates=covariate), score=w)
        at = corrected_slope(runs, reliability)
        found.append(at.estimate)
        held += at.lo <= truth <= at.hi
        taken.append(corrected_slope(runs, 1.0).estimate)
    assert np.mean(found) == pytest.approx(truth, abs=3 * np.std(found) / np.sqrt(150))
    assert held / 150 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)
    assert np.mean(taken) < truth - 0.05


def test_an_exact_score_needs_no_correction() -> None:
    """At a reliability of 1 the corrected slope and its robust error are those of least squares on ln x and score."""
    x, z, y = confounded(7)
    runs = comparison(x, z, y).merged()
    bins = (np.floor(z * 5) + 0.5) / 5
    expected = sm.OLS(y, sm.add_constant(np.column_stack((np.log(x), bins)))).fit(cov_type="HC1", use_t=True)
    found = corrected_slope(runs, 1.0)
    assert found.estimate == pytest.approx(expected.params[1], rel=1e-9)
    assert found.se == pytest.approx(expected.bse[1], rel=1e-9)
    model = errors_in_variables(runs)
    assert model.least == pytest.approx(sm.OLS(bins, sm.add_constant(np.log(x))).fit().rsquared, rel=1e-9)
    with pytest.raises(NotEnoughData, match="cannot be corrected"):
        model.slope(model.least)


def test_the_tipping_reliability_is_where_the_corrected_interval_meets_zero() -> None:
    """More agents go to easier tasks: below the tipping reliability the slope may be zero, above it is not."""
    rng = np.random.default_rng(8)
    z = rng.random(4000)
    x = LEVELS[np.clip(np.floor(6 * (1 - z + 0.3 * rng.standard_normal(4000))), 0, 5).astype(int)]
    y = 0.5 + 0.1 * np.log(x) - 0.3 * z + rng.normal(0, 0.2, 4000)
    runs = comparison(x, z, y, bounded=False, bins=10).merged()
    slope = corrected_slope(runs, 1.0)
    tipping = tipping_reliability(runs, slope)
    assert slope.lo > 0
    assert tipping is not None
    assert errors_in_variables(runs).least < tipping < 1
    assert corrected_slope(runs, tipping).lo == pytest.approx(0, abs=1e-4)
    assert corrected_slope(runs, (1 + tipping) / 2).lo > 0


def test_a_slope_within_noise_tips_at_once_and_one_that_the_correction_strengthens_hardly_ever() -> None:
    """An interval that holds zero tips at 1; harder tasks with more agents only strengthen a positive slope."""
    x, z, y = confounded(9, 6000)
    runs = comparison(x, z, y, bins=10).merged()
    slope = augmented(runs).slope()
    assert tipping_reliability(runs, Estimate(0.01, 0.01, -0.01, 0.03)) == 1.0
    tipping = tipping_reliability(runs, slope)
    assert tipping is None or tipping < errors_in_variables(runs).least + 0.1


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [((0.1, 0.3), (-0.3, -0.1), True), ((-0.3, -0.1), (0.1, 0.3), True), ((-0.1, 0.3), (-0.3, -0.1), False)],
)
def test_signs_differ_only_beyond_noise(one: tuple[float, float], other: tuple[float, float], *, differs: bool) -> None:
    """Both intervals have to exclude zero, on different sides."""
    first, second = (Estimate(sum(ends) / 2, 0.1, *ends) for ends in (one, other))
    assert differ_in_sign(first, second) is differs


def joint(slots: Mapping[Slot, Floats], complexity: Ints, y: Floats, *, outcome: str, project: Ints) -> JointCells:
    """Make joint cells of single runs; whatever is not given is absent."""
    size = len(y)
    every: list[Slot] = [
        (dimension, basis) for dimension, bases in BASES.items() for basis in bases if basis != Basis.CATEGORY
    ]
    design = {slot: slots.get(slot, np.full(size, np.nan)) for slot in every}
    return JointCells(
        design=design,
        ln_x={slot: np.log(np.where(value > 0, value, 1.0)) for slot, value in design.items()},
        binned={slot: np.zeros(size, np.bool_) for slot in every},
        category=(None,) * size,
        complexity=complexity,
        fold=np.zeros(size, np.int64),
        project=project,
        task_group=np.full(size, -1),
        outcomes={
            name: Moments(np.ones(size), y, np.zeros(size))
            for name in (outcome, *{"time_to_complete": ["ln_time"]}.get(outcome, []))
        },
    )


def world(seed: int = 10, size: int = 4000) -> tuple[dict[Slot, Floats], Ints, Floats, Ints]:
    """Draw agents after difficulty, iterations after agents, a constant context, and success after all of them."""
    x, z, _ = confounded(seed, size)
    rng = np.random.default_rng(seed + 100)
    iterations = np.ceil(x * rng.choice(LEVELS, size) / 2)
    chance = 1 / (1 + np.exp(-(1 + 0.5 * np.log(x) - 4 * z)))
    slots = {AGENTS: x, ITERATIONS: iterations, (Dimension.CONTEXT, Basis.DOSE): np.full(size, 8192.0)}
    slots[Dimension.PARALLELISM_LEVEL, Basis.REALISED] = rng.choice(LEVELS[:3], size)
    slots[Dimension.ATTEMPTS, Basis.REALISED] = rng.choice(LEVELS[:3], size)
    y = (rng.random(size) < chance).astype(float)
    return slots, np.floor(10 * z).astype(np.int64), y, rng.integers(0, 12, size)


def test_the_adjusted_law_of_joint_cells_turns_the_naive_sign_around() -> None:
    """Harder tasks get more agents: the naive slope falls, the adjusted rises, and the record tells how and over what.

    Held fixed are the limits and settings that vary in every run, not realised counts and not constants.
    """
    slots, complexity, y, project = world()
    found = adjust(joint(slots, complexity, y, outcome="success", project=project), AGENTS, Outcome.SUCCESS)
    assert found.naive.hi < 0 < found.slope.lo
    assert found.sign_differs
    assert found.gap == pytest.approx(found.naive.estimate - found.slope.estimate)
    assert (found.n, found.strata, found.covariates) == (4000, 10, ["parallelism_level"])
    assert [row.x for row in found.values] == LEVELS.tolist()
    assert sum(row.n for row in found.values) == 4000
    assert found.overlap is not None
    assert 0 < found.overlap <= 1
    expected = sm.OLS(y, sm.add_constant(np.log(slots[AGENTS]))).fit()
    clustered = expected.get_robustcov_results("cluster", groups=project)
    assert found.naive.estimate == pytest.approx(expected.params[1], rel=1e-9)
    assert found.naive.se == pytest.approx(clustered.bse[1], rel=1e-9)


def test_time_is_adjusted_on_the_log_scale() -> None:
    """The slope is that of ln time: least squares with a dummy for each bin recovers it."""
    slots, complexity, _, project = world(11)
    rng = np.random.default_rng(11)
    y = 5 - 0.4 * np.log(slots[AGENTS]) + 0.2 * complexity + rng.normal(0, 0.5, len(complexity))
    found = adjust(
        joint({AGENTS: slots[AGENTS]}, complexity, y, outcome="time_to_complete", project=project),
        AGENTS,
        Outcome.TIME_TO_COMPLETE,
    )
    dummies = np.eye(10)[complexity]
    expected = sm.OLS(y, np.column_stack((np.log(slots[AGENTS]), dummies))).fit()
    assert found.slope.estimate == pytest.approx(expected.params[0], abs=2 * found.slope.se)
    assert found.slope.lo < -0.4 < found.slope.hi
    assert "linear outcome model" in found.method


def test_iterations_are_compared_at_equal_agents_with_and_without_complexity() -> None:
    """With strata the agents are a covariate; without, a linear model holds them, and it never counts as adjusted."""
    slots, complexity, y, project = world(12)
    within = adjust(joint(slots, complexity, y, outcome="success", project=project), ITERATIONS, Outcome.SUCCESS)
    assert "agent_count" in within.covariates
    assert "iterations alone is not identified" in within.method
    unknown = np.full_like(complexity, -1)
    alone = adjust(joint(slots, unknown, y, outcome="success", project=project), ITERATIONS, Outcome.SUCCESS)
    names = [slots[AGENTS], slots[Dimension.PARALLELISM_LEVEL, Basis.REALISED]]
    X = sm.add_constant(np.log(np.column_stack((slots[ITERATIONS], *names))))
    assert alone.slope.estimate == pytest.approx(sm.OLS(y, X).fit().params[1], rel=1e-9)
    assert alone.covariates == ["agent_count", "parallelism_level"]
    assert "complexity not held" in alone.method
    assert "not identified" in alone.method
    assert (alone.strata, alone.tipping_reliability, alone.overlap) == (0, None, None)
    assert evidence(alone, 1.0) == "associational"


def test_evidence_asks_for_a_reliable_score() -> None:
    """At least 0.8, and at least the tipping reliability."""
    slots, complexity, y, project = world(13)
    found = adjust(joint(slots, complexity, y, outcome="success", project=project), AGENTS, Outcome.SUCCESS)
    assert evidence(found, 1.0) == "adjusted"
    assert evidence(found, 0.79) == "associational"
    near = msgspec.structs.replace(found, tipping_reliability=0.9)
    assert evidence(near, 0.89) == "associational"
    assert evidence(near, 0.9) == "adjusted"


def test_a_run_without_complexity_is_left_out_while_few_lack_it() -> None:
    """A tenth without a score: the law is that of the rest; three tenths: none."""
    slots, complexity, y, project = world(14)
    some = np.where(np.arange(len(y)) % 10 == 0, -1, complexity)
    found = adjust(joint(slots, some, y, outcome="success", project=project), AGENTS, Outcome.SUCCESS)
    assert found.n == 3600
    many = np.where(np.arange(len(y)) % 10 < 3, -1, complexity)
    with pytest.raises(NotEnoughData, match="missing in 30% of the runs"):
        adjust(joint(slots, many, y, outcome="success", project=project), AGENTS, Outcome.SUCCESS)


def test_where_equals_cannot_be_compared_the_reason_is_given() -> None:
    """One stratum, no overlap, one value, a twin dimension, a category, and no runs."""
    slots, complexity, y, project = world(15)
    ten: Floats = complexity.astype(np.float64)

    def attempt(slots: Mapping[Slot, Floats], complexity: Ints) -> None:
        adjust(joint(slots, complexity, y, outcome="success", project=project), AGENTS, Outcome.SUCCESS)

    with pytest.raises(NotEnoughData, match="at least 2 strata"):
        attempt(slots, np.full_like(complexity, 4))
    with pytest.raises(NotEnoughData, match="agent_count does not vary at equal complexity: "):
        attempt({AGENTS: ten + 1}, complexity)
    apart = comparison(ten + 1, ten / 10 + 0.05, y, bins=10)
    with pytest.raises(NotEnoughData, match="none of the 10 strata"):
        augmented(apart)
    with pytest.raises(NotEnoughData, match="at least 2 distinct values"):
        attempt({AGENTS: np.full(len(y), 3.0)}, complexity)
    with pytest.raises(NotEnoughData, match="equal complexity, parallelism_level: their effects"):
        attempt({AGENTS: slots[AGENTS], (Dimension.PARALLELISM_LEVEL, Basis.REALISED): slots[AGENTS]}, complexity)
    with pytest.raises(NotEnoughData, match="no run carries"):
        attempt({}, complexity)
    with pytest.raises(NotEnoughData, match="iterations with agent_count above zero"):
        adjust(
            joint({ITERATIONS: slots[ITERATIONS]}, complexity, y, outcome="success", project=project),
            ITERATIONS,
            Outcome.SUCCESS,
        )
    category = (Dimension.MODEL_SIZE, Basis.CATEGORY)
    with pytest.raises(NotEnoughData, match="category without a number"):
        adjust(joint(slots, complexity, y, outcome="success", project=project), category, Outcome.SUCCESS)
