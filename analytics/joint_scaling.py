"""A loss over two resources: L(N, D) = E + A / N**alpha + B / D**beta, by a robust fit of its logarithm.

References:
    Hoffmann et al. (2022), "Training Compute-Optimal Large Language Models"; Besiroglu et al. (2024), "Chinchilla
    Scaling: A Replication Attempt" (the data, the objective and the corrected figures).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize

from analytics.moments import Floats
from models.errors import NotEnoughData

HUBER = 1e-3
"""From this residual of ln L on, the loss grows linearly."""

PARAMETERS = 5
STARTS = 8
GRID = tuple(
    product((0.0, 5.0, 10.0, 15.0, 20.0), (0.0, 5.0, 10.0, 15.0, 20.0), (-1.0, 0.0, 1.0), *[(0.0, 0.5, 1.0)] * 2)
)
"""Candidates of (ln A, ln B, ln E, alpha, beta); the best few are starts."""


@dataclass(frozen=True, slots=True)
class JointScaling:
    """L(N, D) = floor + size_scale / N**size_exponent + data_scale / D**data_exponent.

    Attributes:
        floor: E, the loss that no resource removes.
        size_scale: A.
        data_scale: B.
        size_exponent: alpha.
        data_exponent: beta.
        objective: The Huber loss, summed over the points.
        n: Points.
    """

    floor: float
    size_scale: float
    data_scale: float
    size_exponent: float
    data_exponent: float
    objective: float
    n: int

    def loss(self, size: Floats, data: Floats) -> Floats:
        """Give L at each (N, D), both above zero."""
        return np.asarray(
            self.floor + self.size_scale * size**-self.size_exponent + self.data_scale * data**-self.data_exponent
        )


def fit_joint_scaling(size: Floats, data: Floats, loss: Floats) -> JointScaling:
    """Fit the law to points by Huber's loss of ln L.

    Equation: minimise Σ huber(ln(e^(a - alpha ln N) + e^(b - beta ln D) + e^e) - ln L), huber(r) = r²/2 up to 0.001 and
    0.001 (|r| - 0.0005) beyond; L-BFGS with analytic gradient from the best points of a fixed grid. It gives no
    standard errors: most residuals lie beyond the threshold, where the curvature is zero; resample the points instead.

    Args:
        size: N, such as a model's parameters, above zero. [R]
        data: D, such as training tokens, above zero. [R]
        loss: L, above zero. [R]

    Raises:
        NotEnoughData: Fewer than six points, fewer than three distinct sizes or amounts of data, or values that are
            not above zero.
    """
    if len(loss) <= PARAMETERS or min(len(np.unique(size)), len(np.unique(data))) < 3:  # noqa: PLR2004 - a curve in each
        message = f"a joint law needs 6 points with 3 distinct values of each resource, there are {len(loss)}: add some"
        raise NotEnoughData(message)
    if not all(bool((column > 0).all()) for column in (size, data, loss)):
        raise NotEnoughData("a joint law needs sizes, data and losses above 0: leave out the others")
    # Centred logarithms part the scales from the exponents, which otherwise are nearly collinear.
    ln_size, ln_data, ln_loss = np.log(size), np.log(data), np.log(loss)
    centre = np.array([ln_size.mean(), ln_data.mean()])
    x, z = ln_size - centre[0], ln_data - centre[1]
    grid = np.array(GRID)
    starts = np.concatenate((grid[:, :2] - grid[:, 3:] * centre, grid[:, 2:]), axis=1)
    height = np.array([_objective(start, x, z, ln_loss)[0] for start in starts])
    fits = [
        _descend(starts[place], x, z, ln_loss, precision=1e-9) for place in np.argsort(height, kind="stable")[:STARTS]
    ]
    best = _descend(min(fits, key=lambda fit: fit[1])[0], x, z, ln_loss, precision=1e-16)
    at_size, at_data, floor, alpha, beta = best[0].tolist()
    return JointScaling(
        floor=float(np.exp(floor)),
        size_scale=float(np.exp(at_size + alpha * centre[0])),
        data_scale=float(np.exp(at_data + beta * centre[1])),
        size_exponent=alpha,
        data_exponent=beta,
        objective=best[1] * HUBER**2,
        n=len(loss),
    )


def _descend(start: Floats, x: Floats, z: Floats, ln_loss: Floats, *, precision: float) -> tuple[Floats, float]:
    fit = minimize(
        _objective,
        start,
        args=(x, z, ln_loss),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 20000, "ftol": precision, "gtol": 1e-9, "maxcor": 20},
    )
    return np.asarray(fit.x, np.float64), float(fit.fun)


def _objective(theta: Floats, x: Floats, z: Floats, ln_loss: Floats) -> tuple[float, Floats]:
    """Give the summed Huber loss in units of its threshold squared, and its gradient [5]."""
    parts = np.stack((theta[0] - theta[3] * x, theta[1] - theta[4] * z, np.full(len(x), theta[2])))
    top = parts.max(axis=0)
    share = np.exp(parts - top)
    total = share.sum(axis=0)
    residual = (top + np.log(total) - ln_loss) / HUBER
    pull = np.clip(residual, -1, 1)
    value = float((pull * (residual - 0.5 * pull)).sum())
    weighted = share / total * pull
    by_part = weighted.sum(axis=1)
    return value, np.array([*by_part, -weighted[0] @ x, -weighted[1] @ z])
