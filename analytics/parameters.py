"""The parameters of an averaged law's best family, with standard errors and intervals."""

import numpy as np

from analytics.averaging import Average
from analytics.intervals import LEVEL, z_quantile
from models.laws import Estimate


def parameters(average: Average, level: float = LEVEL) -> dict[str, Estimate]:
    """Estimate the parameters of the family of the greatest weight.

    Covariance: (J'WJ)⁺ J'W V W J (J'WJ)⁺, V that of the means, W the inverse of their variances. A shape at the end of
    its grid, or a breakpoint, has no standard error and is left out; the others hold given it.

    Args:
        average: The law.
        level: The coverage of the intervals.
    """
    points, fit = average.points, average.fits[average.best]
    jacobian = fit.jacobian(points.x, points.x)
    if not jacobian.shape[1]:
        return {}
    weighted = jacobian / points.variance[:, None]
    bread = np.linalg.pinv(jacobian.T @ weighted)
    covariance = bread @ (weighted.T @ points.covariance @ weighted) @ bread
    z = z_quantile(level) * points.stretch
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    values = np.concatenate((fit.linear, fit.shape))[: len(errors)]
    return {
        name: Estimate(value, se, value - z * se, value + z * se)
        for name, value, se in zip(fit.names, values.tolist(), errors.tolist(), strict=False)
    }
