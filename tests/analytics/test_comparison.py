import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, ttest_ind_from_stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from analytics.comparison import ContextSlope, compare_scaling_by_context, holm
from models.errors import NotEnoughData
from models.laws import Estimate


def slope(context: str, value: float, se: float, n: int = 600, dof: int | None = None) -> ContextSlope:
    """Make a slope over six values."""
    return ContextSlope(context, Estimate(value, se, value - 2 * se, value + 2 * se), n, 6, n * 0.477, dof)


def test_with_few_runs_the_test_is_the_analysis_of_covariance() -> None:
    """With classical errors Q / (K - 1) and the pairs' p are those of the interactions in one regression."""
    rng = np.random.default_rng(4)
    contexts, columns, outcome = [], [], []
    for place, (name, n, b) in enumerate((("a", 8, 0.3), ("b", 12, 0.1), ("c", 20, 0.5))):
        g = np.log(np.repeat([1.0, 2.0, 4.0, 8.0], n))
        y = b * g + rng.normal(size=len(g))
        fit = sm.OLS(y, sm.add_constant(g)).fit()
        spread = float(((g - g.mean()) ** 2).sum())
        contexts.append(ContextSlope(name, Estimate(fit.params[1], fit.bse[1], 0, 0), len(g), 4, spread))
        design = np.zeros((len(g), 6))
        design[:, place], design[:, 3 + place] = 1, g
        columns.append(design)
        outcome.append(y)
    joint = sm.OLS(np.concatenate(outcome), np.concatenate(columns)).fit()
    found = compare_scaling_by_context(contexts)
    test = joint.f_test(np.array([[0, 0, 0, 1, -1, 0], [0, 0, 0, 0, 1, -1]]))
    assert found.heterogeneity.pooled_variance
    assert found.heterogeneity.q / 2 == pytest.approx(float(test.fvalue), rel=1e-9)
    assert found.heterogeneity.p == pytest.approx(float(test.pvalue), rel=1e-9)
    for pair, contrast in zip(found.pairs, ([1, -1, 0], [1, 0, -1], [0, 1, -1]), strict=True):
        expected = joint.t_test([0, 0, 0, *contrast])
        assert pair.p == pytest.approx(float(expected.pvalue), rel=1e-9)
        assert [pair.difference.lo, pair.difference.hi] == pytest.approx(expected.conf_int()[0].tolist(), rel=1e-9)


def test_with_many_runs_each_context_has_its_own_variance() -> None:
    """Q and the common slope are those of a fixed-effect meta-analysis; pairs are Welch's."""
    values, errors = [0.1, 0.25, 0.18, 0.05], [0.03, 0.05, 0.02, 0.04]
    found = compare_scaling_by_context([slope(*row) for row in zip("abcd", values, errors, strict=True)])
    meta = combine_effects(np.array(values), np.array(errors) ** 2, use_t=False)
    assert not found.heterogeneity.pooled_variance
    assert found.heterogeneity.q == pytest.approx(meta.q, rel=1e-12)
    assert found.heterogeneity.p == pytest.approx(chi2.sf(meta.q, 3), rel=1e-12)
    assert found.heterogeneity.i_squared == pytest.approx(meta.i2, rel=1e-12)
    assert found.heterogeneity.common.estimate == pytest.approx(meta.mean_effect_fe, rel=1e-12)
    # Welch's test of two means with 599 runs, whose errors have 598 degrees of freedom, as 600-run slopes have.
    first = found.pairs[0]
    root = 599**0.5
    welch = ttest_ind_from_stats(0.1, 0.03 * root, 599, 0.25, 0.05 * root, 599, equal_var=False)
    assert (first.first, first.second) == ("a", "b")
    assert first.p == pytest.approx(welch.pvalue, rel=1e-9)
    assert first.difference.estimate == pytest.approx(-0.15)
    assert [pair.p_adjusted for pair in found.pairs] == pytest.approx(
        multipletests([pair.p for pair in found.pairs], method="holm")[1].tolist(), rel=1e-12
    )


def test_clusters_leave_fewer_degrees_of_freedom() -> None:
    """Errors clustered over seven projects widen the pairs' intervals."""
    wide, narrow = (
        compare_scaling_by_context([slope("a", 0.1, 0.03, dof=dof), slope("b", 0.2, 0.03, dof=dof)]).pairs[0]
        for dof in (6, None)
    )
    assert wide.difference.se == narrow.difference.se
    assert wide.p > narrow.p
    assert wide.difference.hi > narrow.difference.hi


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    """Adjusted p-values agree, ties and ends included."""
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(holm(np.array(p)), expected, rtol=1e-12)


def test_one_context_is_no_comparison() -> None:
    """A single context, no spread or no error raise NotEnoughData."""
    with pytest.raises(NotEnoughData, match="at least 2 contexts, there are 1"):
        compare_scaling_by_context([slope("a", 0.1, 0.03)])
    with pytest.raises(NotEnoughData, match=r"estimate 1 is 0\.2 with variance 0"):
        compare_scaling_by_context([slope("a", 0.1, 0.03), slope("b", 0.2, 0.0)])
    with pytest.raises(NotEnoughData, match="'b' has 2 runs"):
        compare_scaling_by_context([slope("a", 0.1, 0.03), slope("b", 0.2, 0.1, n=2)])
