import numpy as np
import pytest
import statsmodels.api as sm

from analytics.adjusted_rows import adjust_rows
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData


def rows(size: int = 400, buckets: int = 8) -> tuple[Floats, Floats, dict[str, Floats], Ints]:
    """Make runs in which hard tasks get more agents, with outcomes that go together within a bucket."""
    rng = np.random.default_rng(11)
    complexity = rng.random(size)
    ln_x = np.log(1 + rng.binomial(7, complexity))
    iterations = np.log(rng.integers(1, 9, size).astype(np.float64))
    bucket = rng.integers(buckets, size=size)
    noise = rng.normal(0, 0.3, size) + rng.normal(0, 0.1, buckets)[bucket]
    y = 0.6 + 0.1 * ln_x - 0.5 * complexity + 0.05 * iterations + noise
    return ln_x, y, {"iterations": iterations, "complexity": complexity}, bucket


def test_the_slope_is_that_of_statsmodels_clustered_by_bucket() -> None:
    """From six buckets on the errors are CR1 by bucket; the naive slope is that of ln x alone."""
    ln_x, y, held, bucket = rows()
    found = adjust_rows(ln_x, y, held, bucket)
    design = sm.add_constant(np.column_stack((ln_x, *held.values())))
    fit = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": bucket})
    assert found.slope.estimate == pytest.approx(fit.params[1], rel=1e-10)
    assert found.slope.se == pytest.approx(fit.bse[1], rel=1e-9)
    assert found.slope.se_classical == pytest.approx(sm.OLS(y, design).fit().bse[1], rel=1e-10)
    assert found.naive.estimate == pytest.approx(sm.OLS(y, sm.add_constant(ln_x)).fit().params[1], rel=1e-10)
    assert found.gap == pytest.approx(found.naive.estimate - found.slope.estimate)
    assert (found.n, found.covariates) == (400, ["iterations", "complexity"])


def test_with_few_buckets_the_errors_are_classical() -> None:
    """Five buckets say nothing about how buckets differ."""
    ln_x, y, held, bucket = rows(buckets=5)
    fit = sm.OLS(y, sm.add_constant(np.column_stack((ln_x, *held.values())))).fit()
    found = adjust_rows(ln_x, y, held, bucket)
    assert found.slope.se == pytest.approx(fit.bse[1], rel=1e-10)
    assert (found.slope.lo, found.slope.hi) == pytest.approx(tuple(fit.conf_int()[1]), rel=1e-9)


def test_columns_that_say_nothing_are_left_out() -> None:
    """A constant, and one that those before it determine, change nothing."""
    ln_x, y, held, bucket = rows()
    more = {**held, "constant": np.full(len(y), 3.0), "double": 2 * held["complexity"] + 1}
    assert adjust_rows(ln_x, y, more, bucket) == adjust_rows(ln_x, y, held, bucket)


def test_what_cannot_be_told_apart_is_said() -> None:
    """A dimension that what is held determines, or that does not vary, has no slope."""
    ln_x, y, held, bucket = rows()
    with pytest.raises(NotEnoughData, match="does not vary at equal iterations, copy"):
        adjust_rows(ln_x, y, {"iterations": held["iterations"], "copy": ln_x * 2}, bucket)
    with pytest.raises(NotEnoughData, match="the dimension has one value"):
        adjust_rows(np.ones(len(y)), y, held, bucket)
    with pytest.raises(NotEnoughData, match="more than 4 runs"):
        adjust_rows(ln_x[:4], y[:4], {name: column[:4] for name, column in held.items()}, bucket[:4])
