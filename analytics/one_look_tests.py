"""Classical tests of an experiment's values, for one look: they are right once, at the planned size."""

import math

import numpy as np
from scipy.special import ndtr
from scipy.stats import chi2_contingency, f_oneway

from analytics.trial_rows import TrialRows
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import Definition, OneLookTest

ROUNDING = 1e-20
"""Share of the squares that rounding may leave of a perfect line."""


def trend_test(rows: TrialRows, definition: Definition) -> OneLookTest:
    """Test for a trend on ln x: Cochran and Armitage's for success, the slope of least squares for others.

    Raises:
        NotEnoughData: Fewer than two values with runs, or outcomes that do not differ, or only as the line has it.

    References:
        Armitage (1955), "Tests for Linear Trends in Proportions and Frequencies".
    """
    seen = rows.seen()
    score = np.log(np.array(definition.values_tested, np.float64))[seen.arm]
    away = score - (score.mean() if len(score) else 0.0)
    spread = float(away @ away)
    if spread <= 0 or float(np.ptp(seen.y)) == 0:
        raise NotEnoughData("a trend needs two values and outcomes that differ: wait for outcomes")
    slope = float(away @ seen.y) / spread
    centred = seen.y - seen.y.mean()
    rest = centred if definition.outcome is Outcome.SUCCESS else centred - slope * away
    freedom = len(score) if definition.outcome is Outcome.SUCCESS else len(score) - 2
    left = float(rest @ rest)
    # Two runs always lie on a line, and so may more: then nothing is left to measure the error by.
    if freedom < 1 or left <= ROUNDING * float(centred @ centred):
        raise NotEnoughData("a trend needs outcomes that differ from a line: wait for outcomes")
    z = slope * math.sqrt(spread / (left / freedom))
    name = "Cochran-Armitage trend" if definition.outcome is Outcome.SUCCESS else "trend of least squares on ln x"
    return OneLookTest(name, z, 1.0, float(2 * ndtr(-abs(z))))


def omnibus_test(rows: TrialRows, definition: Definition) -> OneLookTest:
    """Test that all values have one mean: Pearson's χ² for success, Welch's analysis of variance for others.

    Raises:
        NotEnoughData: A value with fewer than two runs, or outcomes that do not differ.
    """
    seen, values = rows.seen(), len(definition.values_tested)
    groups = [seen.y[seen.arm == place] for place in range(values)]
    if min(map(len, groups)) < 2 or float(np.ptp(seen.y)) == 0:  # noqa: PLR2004 - a variance
        raise NotEnoughData("an omnibus test needs two runs at each value, and outcomes that differ: wait for outcomes")
    if definition.outcome is Outcome.SUCCESS:
        table = [[float((1 - group).sum()) for group in groups], [float(group.sum()) for group in groups]]
        found = chi2_contingency(table, correction=False)
        return OneLookTest("Pearson χ²", float(found.statistic), float(found.dof), float(found.pvalue))
    if min(float(group.var()) for group in groups) == 0:
        raise NotEnoughData("Welch's test needs outcomes that differ at each value: wait for outcomes")
    welch = f_oneway(*groups, equal_var=False)
    return OneLookTest("Welch's F", float(welch.statistic), float(values - 1), float(welch.pvalue))
