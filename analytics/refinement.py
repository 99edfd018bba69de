"""From a family's best shape on its grid to the shape of least χ², by Gauss-Newton steps with analytic derivatives."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg.lapack import dposv

from analytics.families import KINDS, Family, make
from analytics.moments import Floats

STEPS = 12
HALVINGS = 8
TOLERANCE = 1e-11
NOISE = 1e-15
"""A step may raise χ² by this share of the means' own: that is rounding, which no shorter step mends."""
SINGULAR = 1e-6
"""Determinant of the columns' correlations below which squaring them would cost too many digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A family fitted to the data.

    Attributes:
        name: The family.
        linear: Its linear parameters.
        shape: Its shape parameters.
        inside: Whether the shape has been refined and lies inside its grid; breakpoints stay on theirs.
    """

    name: str
    linear: Floats
    shape: Floats
    inside: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Name the parameters, the linear ones first."""
        return KINDS[self.name].names

    @property
    def size(self) -> int:
        """Count the parameters."""
        return len(self.names)

    def jacobian(self, x: Floats, at: Floats) -> Floats:
        """Give the derivatives of f at the points by the parameters: by the shape's too where it has been refined."""
        family = make(self.name, x, at, self.shape[None])
        parts = [column[0] for column in family.columns]
        slopes = KINDS[self.name].slopes
        if self.inside and slopes is not None:
            parts += list(slopes(at, self.shape, self.linear))
        return np.stack(parts, axis=1) if parts else np.zeros((len(at), 0))

    def tangent(self, x: Floats, at: Floats) -> Family:
        """Give the family's tangent at the fit: f at the fit plus any combination of its derivatives there."""
        family = make(self.name, x, at, self.shape[None])
        columns = [*family.columns, *(slope[None] for slope in self.jacobian(x, at).T[len(family.columns) :])]
        base = family.base + sum(
            (value * column for value, column in zip(self.linear.tolist(), family.columns, strict=True)),
            start=np.zeros_like(family.base),
        )
        return Family(self.name, family.names, tuple(columns), base, self.shape[None])


def refine(name: str, start: Floats, x: Floats, mean: Floats, root: Floats) -> Fit:
    """Fit a family from a shape on its grid.

    Args:
        name: The family.
        start: The shape to start from. [s]
        x: The observed values. [m]
        mean: The means there. [m]
        root: One over the standard error of each mean. [m]
    """
    slopes = KINDS[name].slopes
    linear, residual, design = _linear(name, start, x, mean, root)
    if slopes is None:
        return Fit(name, linear, start, inside=False)
    low, high = _ends(name, np.ascontiguousarray(x).tobytes())
    noise = NOISE * float((mean * root) @ (mean * root))
    shape, loss = start, float(residual @ residual)
    for _ in range(STEPS):
        jacobian = np.concatenate((design, slopes(x, shape, linear).T * root[:, None]), axis=1)
        step = _solve(jacobian, residual)[design.shape[1] :]
        share = 1.0
        for _ in range(HALVINGS):
            tried = np.minimum(np.maximum(shape + share * step, low), high)
            found = _linear(name, tried, x, mean, root)
            reached = float(found[1] @ found[1])
            if reached <= loss + noise:
                break
            share /= 2
        else:
            break
        moved = float(np.abs(tried - shape).max())
        shape, loss, (linear, residual, design) = tried, reached, found
        if moved <= TOLERANCE * float(np.abs(shape).max()):
            break
    return Fit(name, linear, shape, inside=bool(((shape > low) & (shape < high)).all()))


@lru_cache(maxsize=512)
def _ends(name: str, x: bytes) -> tuple[Floats, Floats]:
    """Give the ends of a family's grid of shapes [s] each."""
    grid = KINDS[name].grid(np.frombuffer(x))
    return grid.min(axis=0), grid.max(axis=0)


def _linear(name: str, shape: Floats, x: Floats, mean: Floats, root: Floats) -> tuple[Floats, Floats, Floats]:
    """Give the linear parameters at a shape, the weighted residuals there, and the weighted columns [m, p]."""
    kind, shapes = KINDS[name], shape[None]
    away = mean * root if kind.base is None else (mean - kind.base(x, shapes)[0]) * root
    columns = kind.columns(x, x, shapes)
    design = np.empty((len(x), len(columns)))
    for place, column in enumerate(columns):
        np.multiply(column[0], root, out=design[:, place])
    if not columns:
        return np.zeros(0), away, design
    linear = _solve(design, away)
    return linear, away - design @ linear, design


def _solve(design: Floats, y: Floats) -> Floats:
    """Solve least squares of a few columns [m, p]: by scaled normal equations, by SVD where these are near singular."""
    gram, pull = design.T @ design, design.T @ y
    size = np.sqrt(gram.diagonal())
    if size.all():
        factor, solution, failed = dposv(gram / size / size[:, None], pull / size)
        if not failed and float(factor.diagonal().prod()) ** 2 > SINGULAR:
            return np.asarray(solution / size, np.float64)
    return np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], np.float64)
