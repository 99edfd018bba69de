"""Classical tests of an experiment's values against statsmodels and scipy on the runs themselves."""

import numpy as np
import pytest
import statsmodels.api as sm
from msgspec.structs import replace
from scipy import stats
from statsmodels.stats.contingency_tables import Table
from statsmodels.stats.oneway import anova_oneway

from analytics.moments import Floats, Ints
from analytics.one_look_tests import omnibus_test, trend_test
from analytics.ready_made import AGENT_COUNT, MODEL_SIZE
from analytics.trial_rows import TrialRows
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import Definition

VALUES = np.array([1.0, 2, 3, 4, 6, 8])
LN_X = np.log(VALUES)
QUALITY = replace(AGENT_COUNT, outcome=Outcome.QUALITY_SCORE)


def rows_of(arm: Ints, y: Floats) -> TrialRows:
    """Make rows of these runs."""
    n = len(arm)
    return TrialRows(
        arm, y, np.full(n, np.nan), np.ones(n, np.bool_), np.arange(n), np.zeros((n, 6)), np.zeros(n, np.int64)
    )


def runs(seed: int, outcome: str, slope: float = 0.05) -> tuple[Ints, Floats]:
    """Draw runs at six values, unequal in number, some without the outcome."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat(np.arange(6), [31, 40, 25, 60, 33, 28]))
    rate = 0.5 + slope * LN_X[arm]
    if outcome == "success":
        y = (rng.random(len(arm)) < rate).astype(np.float64)
    else:
        y = rate + rng.normal(0, 0.1 + 0.05 * arm)
    y[rng.random(len(arm)) < 0.1] = np.nan
    return arm.astype(np.int64), y


@pytest.mark.parametrize("seed", range(4))
def test_the_trend_of_success_is_cochran_and_armitages(seed: int) -> None:
    """It is statsmodels' test of ordinal association, but for N in place of N - 1, and z² = N r²."""
    arm, y = runs(seed, "success")
    found = trend_test(rows_of(arm, y), AGENT_COUNT)
    seen = ~np.isnan(y)
    n = int(seen.sum())
    table = np.array([[((arm == v) & (y == s)).sum() for s in (0, 1)] for v in range(6)])
    expected = Table(table).test_ordinal_association(row_scores=LN_X, col_scores=np.array([0.0, 1.0]))
    assert found.statistic * np.sqrt((n - 1) / n) == pytest.approx(expected.zscore, rel=1e-9)
    assert found.statistic**2 == pytest.approx(n * stats.pearsonr(LN_X[arm[seen]], y[seen])[0] ** 2, rel=1e-9)
    assert (found.name, found.dof) == ("Cochran-Armitage trend", 1.0)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.statistic)), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_trend_of_other_outcomes_is_the_slope_of_least_squares(seed: int) -> None:
    """Its statistic is the t of the regression of the runs on ln x; p is normal."""
    arm, y = runs(seed, "quality")
    found = trend_test(rows_of(arm, y), QUALITY)
    seen = ~np.isnan(y)
    fit = sm.OLS(y[seen], sm.add_constant(LN_X[arm[seen]])).fit()
    assert found.statistic == pytest.approx(fit.tvalues[1], rel=1e-9)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(fit.tvalues[1])), rel=1e-9)
    assert found.name == "trend of least squares on ln x"


@pytest.mark.parametrize("seed", range(4))
def test_the_omnibus_tests_are_pearsons_and_welchs(seed: int) -> None:
    """χ² of the table of successes, and statsmodels' analysis of variance with unequal variances."""
    arm, y = runs(seed, "success")
    seen = ~np.isnan(y)
    found = omnibus_test(rows_of(arm, y), AGENT_COUNT)
    n, k = np.bincount(arm[seen]), np.bincount(arm[seen], y[seen])
    expected = n * k.sum() / n.sum()
    chi = ((k - expected) ** 2 / expected + (k - expected) ** 2 / (n - expected)).sum()
    assert (found.name, found.dof) == ("Pearson χ²", 5.0)
    assert found.statistic == pytest.approx(chi, rel=1e-9)
    assert found.p == pytest.approx(stats.chi2.sf(chi, 5), rel=1e-9)
    arm, y = runs(seed, "quality")
    groups = [y[(arm == v) & ~np.isnan(y)] for v in range(6)]
    welch = anova_oneway(groups, use_var="unequal", welch_correction=True)
    found = omnibus_test(rows_of(arm, y), QUALITY)
    assert (found.name, found.dof) == ("Welch's F", 5.0)
    assert found.statistic == pytest.approx(welch.statistic, rel=1e-8)
    assert found.p == pytest.approx(welch.pvalue, rel=1e-7)


def test_a_trend_is_blind_to_a_hump_that_the_omnibus_test_sees() -> None:
    """Rates that rise and fall again have no trend: that is why both stand side by side."""
    rates = 0.4 + 0.3 * np.array([0, 0.6, 1, 1, 0.6, 0])
    arm = np.repeat(np.arange(6), 200)
    y = np.concatenate([np.repeat([1.0, 0.0], [round(200 * rate), 200 - round(200 * rate)]) for rate in rates])
    assert trend_test(rows_of(arm, y), AGENT_COUNT).p > 0.05
    assert omnibus_test(rows_of(arm, y), AGENT_COUNT).p < 1e-6


def test_categories_have_an_omnibus_test() -> None:
    """It asks for no order of the values."""
    rng = np.random.default_rng(1)
    arm = np.repeat(np.arange(3), 50)
    y = rng.normal(0.1 * arm, 0.2)
    expected = anova_oneway([y[arm == v] for v in range(3)], use_var="unequal")
    assert omnibus_test(rows_of(arm, y), MODEL_SIZE).p == pytest.approx(expected.pvalue, rel=1e-7)


@pytest.mark.parametrize(
    ("definition", "arm", "y"),
    [
        (AGENT_COUNT, [], []),
        (AGENT_COUNT, [0], [1.0]),
        (AGENT_COUNT, [0, 0], [0.0, 1.0]),
        (AGENT_COUNT, [0, 1], [1.0, 1.0]),
        (AGENT_COUNT, [0, 1], [np.nan, np.nan]),
        (QUALITY, [0, 1], [0.2, 0.5]),
        (QUALITY, [0, 0, 1], [0.2, 0.2, 0.5]),
        (QUALITY, [0, 0, 1, 1, 1], [0.1, 0.1, 0.3, 0.3, 0.3]),
        (QUALITY, [0, 1, 3], (0.1 + 0.7 * LN_X[[0, 1, 3]]).tolist()),
    ],
)
def test_a_trend_without_values_or_without_error_is_not_known(
    definition: Definition, arm: list[int], y: list[float]
) -> None:
    """No runs, one value, equal outcomes, or points on a line: there is a reason in place of a statistic."""
    with pytest.raises(NotEnoughData, match="a trend needs"):
        trend_test(rows_of(np.array(arm, np.int64), np.array(y, np.float64)), definition)


def test_success_at_two_runs_has_a_trend() -> None:
    """Its error is that of the pooled rate: z² = N r² = 2."""
    found = trend_test(rows_of(np.array([0, 1]), np.array([0.0, 1.0])), AGENT_COUNT)
    assert found.statistic == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(
    ("definition", "per_value", "match"),
    [
        (AGENT_COUNT, [[0.0, 1.0]] * 5 + [[1.0]], "two runs at each value"),
        (AGENT_COUNT, [[1.0, 1.0]] * 6, "outcomes that differ"),
        (QUALITY, [[0.1, 0.2]] * 5 + [[0.5, 0.5]], "outcomes that differ at each value"),
        (QUALITY, [[0.1, 0.2]] * 5 + [[]], "two runs at each value"),
    ],
)
def test_an_omnibus_test_without_runs_or_error_is_not_known(
    definition: Definition, per_value: list[list[float]], match: str
) -> None:
    """Every value needs two runs, and outcomes have to differ; for Welch's test at each value."""
    arm = np.repeat(np.arange(6), list(map(len, per_value)))
    with pytest.raises(NotEnoughData, match=match):
        omnibus_test(rows_of(arm, np.array([y for each in per_value for y in each])), definition)
