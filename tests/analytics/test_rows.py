"""The row-wise check itself, against statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.laws import Heading
from analytics.rows import fit_rows, row_line, row_power_mean
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData

HEADING = Heading(
    context="global",
    dimension=Dimension.AGENT_COUNT,
    outcome=Outcome.QUALITY_SCORE,
    basis=Basis.REALISED,
    sources=["observational"],
    lineage={},
    settings_hash="",
    fitted_at="2026-01-01T00:00:00Z",
)


def test_a_row_wise_line_equals_statsmodels() -> None:
    """Coefficients, classical errors, R² and HC3 errors agree; with a stand-in HC3 is that of the stand-in's fit."""
    rng = np.random.default_rng(40)
    g = rng.normal(5, 2, 200)
    y = g + rng.normal(0, 1 + abs(g))
    other = np.round(g)
    plain, binned = row_line(g, y, g), row_line(g, y, other)
    expected = sm.OLS(y, sm.add_constant(g)).fit()
    for fit, design in ((plain, g), (binned, other)):
        robust = sm.OLS(y, sm.add_constant(design)).fit().get_robustcov_results("HC3")
        for place, estimate in enumerate((fit.intercept, fit.coefficient)):
            assert estimate.estimate == pytest.approx(expected.params[place], rel=1e-9)
            assert estimate.se_classical == pytest.approx(expected.bse[place], rel=1e-9)
            assert estimate.se == pytest.approx(robust.bse[place], rel=1e-9)
        assert fit.r_squared == pytest.approx(expected.rsquared, abs=1e-9)


def test_a_row_wise_power_law_equals_statsmodels() -> None:
    """Exponent and robust error agree with statsmodels' Poisson regression of the rows."""
    rng = np.random.default_rng(41)
    ln_x = rng.normal(2, 1, 300)
    y = rng.exponential(np.exp(0.5 * ln_x - 1)) * (rng.random(300) < 0.8)
    law = row_power_mean(ln_x, y)
    model = sm.GLM(y, sm.add_constant(ln_x), family=sm.families.Poisson())
    expected = model.fit(cov_type="HC0", tol=1e-14, maxiter=300)
    assert law.exponent.estimate == pytest.approx(expected.params[1], rel=1e-9)
    assert law.exponent.se == pytest.approx(expected.bse[1] * np.sqrt(300 / 298), rel=1e-9)
    assert law.coefficient.estimate == pytest.approx(np.exp(expected.params[0]), rel=1e-9)


def test_missing_outcomes_do_not_count() -> None:
    """A run whose outcome is nan is in no count, no mean and no fit."""
    x, y = np.array([1.0, 1, 2, 2, 3]), np.array([0.1, 0.3, np.nan, 0.5, 0.4])
    law = fit_rows(x, y, np.zeros(5, np.bool_), x, **HEADING)
    seen = np.isfinite(y)
    again = fit_rows(x[seen], y[seen], np.zeros(4, np.bool_), x[seen], **HEADING)
    assert law == again
    assert law.n == 4


def test_what_rows_cannot_tell_is_not_enough_data() -> None:
    """One value, two rows, a constant outcome or a lone success at the end are told as from cells."""
    one, two = np.ones(3), np.array([0.0, 1, 1])
    with pytest.raises(NotEnoughData, match="at least 2 distinct values"):
        row_line(one, two, one)
    with pytest.raises(NotEnoughData, match="more than 2 runs"):
        row_line(two[:2], one[:2], two[:2])
    with pytest.raises(NotEnoughData, match="same outcome"):
        row_power_mean(two, one)
    with pytest.raises(NotEnoughData, match="an end of the range"):
        row_power_mean(two, two)
    empty = fit_rows(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_), np.zeros(0), **HEADING)
    assert (empty.n, empty.status) == (0, "insufficient")
