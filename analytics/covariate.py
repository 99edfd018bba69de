"""What a covariate explains: means of randomised values with it taken out (CUPED), and how much variance went with it.

Randomisation makes the comparison fair with or without; known before the run, complexity only makes it sharper.

References:
    Deng et al. (2013), "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data".
    Lin (2013), "Agnostic Notes on Regression Adjustments to Experimental Data".
"""

from dataclasses import dataclass

import numpy as np

from analytics.moments import Floats, Ints
from analytics.points import variance_of_means
from models.errors import NotEnoughData

CONSTANT = 1e-9
"""A covariate whose standard deviation within values is below this share of its size does not vary but for rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Means at the covariate's mean over these runs.

    Attributes:
        mean: Of each value. [m]
        covariance: Of their errors, without what all have in common; right for contrasts. [m, m]
        saved: The share of the variance within values that went with the covariate, in [0, 1].
        theta: The slope of the outcome on the covariate.
    """

    mean: Floats
    covariance: Floats
    saved: float
    theta: float


def without_covariate(y: Floats, arm: Ints, z: Floats, arms: int) -> Adjusted:
    """Take out of the means what a covariate explains; it must be known before the value is assigned.

    Equation: θ = Σ (z - z̄_v)(y - ȳ_v) / Σ (z - z̄_v)², mean_v = ȳ_v - θ (z̄_v - z̄),
    V_vw = 1{v = w} s_v² / n_v + (z̄_v - z̄)(z̄_w - z̄) s² / Σ (z - z̄_v)², with s_v² the residual variance of the value,
    shrunk by four runs towards the pooled s² of N - m - 1 degrees of freedom; saved = 1 - s² / pooled variance of y.
    Where z does not vary within values, θ = 0.

    Args:
        y: Outcomes. [N]
        arm: The place of each run's value. [N]
        z: The covariate; a missing one (nan) counts as the mean of the others. [N]
        arms: How many values there are, m.

    Raises:
        NotEnoughData: A value with fewer than two runs, or outcomes that do not vary within values or beyond z.
    """
    runs = np.bincount(arm, minlength=arms)
    if int(runs.min()) < 2:  # noqa: PLR2004 - a variance
        message = f"an adjusted mean needs at least 2 runs at each value, there are {runs.tolist()}: collect more"
        raise NotEnoughData(message)
    n = runs.astype(np.float64)
    known = np.isfinite(z)
    filled = np.where(known, z, z[known].mean() if known.any() else 0.0)
    mean, within = _centred(y, arm, n)
    z_mean, z_within = _centred(filled, arm, n)
    away = z_mean - filled.mean()
    spread = float(z_within @ z_within)
    freedom = float(n.sum()) - arms
    if spread <= len(y) * (CONSTANT * float(np.abs(filled).max())) ** 2 or freedom < 2:  # noqa: PLR2004 - one for θ
        return Adjusted(mean, np.diag(_variance(n, mean, arm, within, 1.0)), 0.0, 0.0)
    theta = float(z_within @ within) / spread
    residual = within - theta * z_within
    lost = freedom / (freedom - 1)
    variance = _variance(n, mean, arm, residual, lost)
    pooled = float(residual @ residual) / (freedom - 1)
    return Adjusted(
        mean=mean - theta * away,
        covariance=np.diag(variance) + np.outer(away, away) * pooled / spread,
        saved=max(0.0, 1 - pooled / (float(within @ within) / freedom)),
        theta=theta,
    )


def _centred(values: Floats, arm: Ints, n: Floats) -> tuple[Floats, Floats]:
    """Give the mean by value [m] and the deviations from it [N]."""
    origin = float(values[0])
    mean = np.bincount(arm, values - origin, len(n)) / n
    return origin + mean, (values - origin) - mean[arm]


def _variance(n: Floats, mean: Floats, arm: Ints, residual: Floats, lost: float) -> Floats:
    """Give the variance of each mean [m]; `lost` makes up for the degree of freedom that the slope took."""
    squares = np.asarray(np.bincount(arm, residual * residual, len(n)), np.float64)
    return lost * variance_of_means(n, mean, squares, binary=False)
