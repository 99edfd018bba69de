"""Adjusted linear laws from Grams against statsmodels on the raw rows."""

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.gram_laws import REGRESSORS, VARIABLES, Grams, adjust_gram
from analytics.moments import Floats, Ints, from_rows, unpack
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData

AGENTS, ITERATIONS = Dimension.AGENT_COUNT, Dimension.ITERATIONS


def columns(seed: int = 1, size: int = 900) -> tuple[dict[str, Floats], Ints]:
    """Draw runs whose agents follow complexity and whose iterations follow agents, with their time buckets."""
    rng = np.random.default_rng(seed)
    bucket = rng.integers(0, 12, size)
    complexity = rng.random(size)
    agents = 0.3 + complexity + rng.normal(0, 0.4, size)
    iterations = 0.8 * agents + rng.normal(0, 0.5, size)
    success = 0.4 + 0.1 * agents - 0.5 * complexity + 0.1 * rng.normal(0, 1, 12)[bucket] + rng.normal(0, 0.2, size)
    runs = dict.fromkeys(VARIABLES, np.zeros(size))
    return runs | {
        "agent_count": agents,
        "iterations": iterations,
        "parallelism_level": agents + 1,
        "context": np.full(size, 9.2103403),
        "model_size": rng.choice(np.log([3.0, 8, 70]), size),
        "complexity": complexity,
        "success": success,
        "ln_time": 6 - 0.5 * agents + complexity + rng.normal(0, 0.5, size),
    }, bucket


def grams(runs: dict[str, Floats], bucket: Ints) -> Grams:
    """Reduce the runs of each bucket, as the stream does."""
    rows = np.column_stack([runs[name] for name in VARIABLES])
    n, mean, comoment = zip(*(from_rows(rows[bucket == code]) for code in np.unique(bucket)), strict=True)
    return np.array(n), np.stack(mean), unpack(np.stack(comoment))


@pytest.mark.parametrize(("outcome", "variable"), [(Outcome.SUCCESS, "success"), (Outcome.TIME_TO_COMPLETE, "ln_time")])
def test_the_law_equals_the_regression_on_the_raw_rows(outcome: Outcome, variable: str) -> None:
    """Slope, errors clustered by bucket, classical errors, interval and naive slope equal statsmodels' to 1e-9."""
    runs, bucket = columns()
    held = ["iterations", "context", "model_size", "attempts", "complexity"]
    found = adjust_gram(grams(runs, bucket), AGENTS, outcome, held)
    names = ["iterations", "model_size", "complexity"]
    X = sm.add_constant(np.column_stack([runs["agent_count"], *(runs[name] for name in names)]))
    ordinary = sm.OLS(runs[variable], X).fit()
    clustered = ordinary.get_robustcov_results("cluster", groups=bucket, use_t=True, df_correction=True)
    assert found.covariates == names
    assert found.slope.estimate == pytest.approx(ordinary.params[1], rel=1e-9)
    assert found.slope.se == pytest.approx(clustered.bse[1], rel=1e-9)
    assert found.slope.se_classical == pytest.approx(ordinary.bse[1], rel=1e-9)
    assert (found.slope.lo, found.slope.hi) == pytest.approx(tuple(clustered.conf_int()[1]), rel=1e-9)
    alone = sm.OLS(runs[variable], sm.add_constant(runs["agent_count"])).fit()
    assert found.naive.estimate == pytest.approx(alone.params[1], rel=1e-9)
    assert found.gap == pytest.approx(alone.params[1] - ordinary.params[1], rel=1e-9)
    assert (found.n, found.strata) == (900, 0)
    assert "linear in complexity" in found.method
    assert "clustered by time bucket" in found.method


def test_merged_moments_give_the_same_law_with_classical_errors() -> None:
    """Without buckets apart the slope is the same and its error the classical one, and the law says so."""
    runs, bucket = columns()
    apart = adjust_gram(grams(runs, bucket), AGENTS, Outcome.SUCCESS, ["complexity"])
    merged = adjust_gram(grams(runs, np.zeros_like(bucket)), AGENTS, Outcome.SUCCESS, ["complexity"])
    assert merged.slope.estimate == pytest.approx(apart.slope.estimate, rel=1e-9)
    assert merged.slope.se == merged.slope.se_classical
    assert merged.slope.se == pytest.approx(apart.slope.se_classical, rel=1e-9)
    assert "classical errors" in merged.method


def test_empty_buckets_change_nothing() -> None:
    """A bucket without runs is neither a cluster nor a moment."""
    runs, bucket = columns()
    n, mean, comoment = grams(runs, bucket)
    with_empty = tuple(np.concatenate((part, np.zeros_like(part[:1]))) for part in (n, mean, comoment))
    held = ["complexity"]
    found = adjust_gram((with_empty[0], with_empty[1], with_empty[2]), AGENTS, Outcome.SUCCESS, held)
    assert found.slope == adjust_gram((n, mean, comoment), AGENTS, Outcome.SUCCESS, held).slope


def test_iterations_hold_the_agents_whatever_is_asked() -> None:
    """Agents are among the covariates of iterations, and the method says that alone they are not identified."""
    runs, bucket = columns()
    found = adjust_gram(grams(runs, bucket), ITERATIONS, Outcome.SUCCESS, ["complexity"])
    assert found.covariates == ["agent_count", "complexity"]
    assert "iterations alone is not identified" in found.method
    alone = adjust_gram(grams(runs, bucket), AGENTS, Outcome.SUCCESS, [])
    assert alone.covariates == []
    assert "complexity not held" in alone.method


def test_a_covariate_that_repeats_another_is_left_out() -> None:
    """Attempts that are twice the model size add nothing and change nothing."""
    runs, bucket = columns()
    doubled = runs | {"attempts": 2 * runs["model_size"] + 1}
    found = adjust_gram(grams(doubled, bucket), AGENTS, Outcome.SUCCESS, REGRESSORS[4:])
    assert found.covariates == ["model_size", "complexity"]
    expected = adjust_gram(grams(runs, bucket), AGENTS, Outcome.SUCCESS, ["model_size", "complexity"])
    assert found.slope.estimate == pytest.approx(expected.slope.estimate, rel=1e-9)


def test_opposite_signs_are_told() -> None:
    """More agents go to harder tasks: the naive slope falls, the adjusted one rises, both beyond noise."""
    rng = np.random.default_rng(6)
    runs, bucket = columns(seed=2, size=4000)
    success = 0.4 + 0.1 * runs["agent_count"] - 0.9 * runs["complexity"] + rng.normal(0, 0.2, 4000)
    found = adjust_gram(grams(runs | {"success": success}, bucket), AGENTS, Outcome.SUCCESS, ["complexity"])
    assert found.naive.hi < 0 < found.slope.lo
    assert found.sign_differs


def test_what_cannot_be_regressed_says_why() -> None:
    """A constant dimension or outcome, one that moves with what is held, and too few runs raise with the reason."""
    runs, bucket = columns()
    whole = grams(runs, bucket)
    with pytest.raises(NotEnoughData, match="context has the same value in all 900 runs"):
        adjust_gram(whole, Dimension.CONTEXT, Outcome.SUCCESS, [])
    with pytest.raises(NotEnoughData, match="same quality_score"):
        adjust_gram(whole, AGENTS, Outcome.QUALITY_SCORE, [])
    with pytest.raises(NotEnoughData, match="does not vary at equal parallelism_level"):
        adjust_gram(whole, AGENTS, Outcome.SUCCESS, ["parallelism_level"])
    few = {name: column[:3] for name, column in runs.items()}
    with pytest.raises(NotEnoughData, match="more than 3 runs"):
        adjust_gram(grams(few, np.zeros(3, np.int64)), AGENTS, Outcome.SUCCESS, ["complexity"])
    n, mean, comoment = whole
    with pytest.raises(NotEnoughData, match="no runs"):
        adjust_gram((0 * n, 0 * mean, 0 * comoment), AGENTS, Outcome.SUCCESS, [])
