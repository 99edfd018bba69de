"""Model averaging: one law from many families, with intervals that know that the family is not known.

The means of the cells are all that a curve sees. Their bootstrap is Gaussian: draws of the vector of means with the
covariance that the cells (or their clusters) give it. Each draw is fitted by every family at once, on the same grids of
shapes, and averaged by weights of its own.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import chdtrc

from analytics.families import Family, families, make
from analytics.intervals import LEVEL
from analytics.moments import Floats, Ints
from analytics.points import Points
from analytics.refinement import Fit, refine
from models.errors import NotEnoughData

SATURATED = "saturated"
TIE = 1e-9
"""χ² differences below this are rounding: the earlier shape wins, wherever the cells come from."""


ROUNDING = 1e-13
"""What a χ² may lose, as a share of the sum of squares that it is the rest of."""

CLOSER = 21
"""Shapes that are tried between two neighbours of a grid."""

FINE = 3
"""A grid of shapes is fine enough where so many of a row's shapes are within one unit of χ² of the best."""

HOPELESS = 16.0
"""A family that is worse by this χ² has no weight to speak of, wherever its shape lies on the grid."""

GOLDEN = (np.sqrt(5.0) - 1) / 2
"""Multiples of it fall evenly between 0 and 1: choices in the right shares, without chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """The averaged law at k points, the observed values first.

    Attributes:
        at: Where. [k]
        mean: The law, from the families alone: what knees and larger values are read from. [k]
        curve: The law with the saturated model among the families: what is told of the observed values. [m]
        draws: Bootstrap draws of the law with the saturated model among the families; intervals come from these. [B, m]
        law_draws: Draws of the law from the families alone; knees come from these. [B, k]
        weights: Each family's weight, and that of the saturated model.
        chi2: Each family's Σ (mean - fit)² / variance.
        fits: Each family's best shape and its fit at the points.
        points: What was fitted.
    """

    at: Floats
    mean: Floats
    curve: Floats
    draws: Floats
    law_draws: Floats
    weights: dict[str, float]
    chi2: dict[str, float]
    fits: dict[str, Fit]
    points: Points

    @property
    def best(self) -> str:
        """Name the family of the greatest weight; the saturated model is none."""
        return max(self.fits, key=lambda name: self.weights[name])

    @property
    def described(self) -> bool:
        """Tell whether some family describes the means better than the means themselves do."""
        return self.weights[SATURATED] <= 0.5  # noqa: PLR2004 - more likely than not

    @property
    def lack_of_fit(self) -> float:
        """Give p of the hypothesis that the best family describes the means; 1 where it has as many parameters."""
        freedom = len(self.points.x) - self.fits[self.best].size
        return float(chdtrc(freedom, self.chi2[self.best] / self.points.overdispersion)) if freedom > 0 else 1.0

    def interval(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Give the pointwise interval of the law at the observed values: [m] each."""
        return self.stretched(quantiles(self.draws, ((1 - level) / 2, (1 + level) / 2)))

    def band(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Give the band that covers the law at all observed values together: [m] each.

        Equation: f ± q sd, q the quantile over the draws of max |draw - f| / sd.
        """
        sd = self.draws.std(axis=0)
        away = np.abs(self.draws - self.curve) / np.where(sd > 0, sd, np.inf)
        half = quantiles(away.max(axis=1), (level,))[0] * sd * self.points.stretch
        lo, hi = self.interval(level)
        return np.minimum(self.curve - half, lo), np.maximum(self.curve + half, hi)

    def contrast(self, first: int, second: int, level: float = LEVEL) -> tuple[float, float, float, float]:
        """Give f(second) - f(first) of two observed values, its standard error and its interval."""
        estimate = float(self.curve[second] - self.curve[first])
        draws = self.draws[:, second] - self.draws[:, first]
        ends = quantiles(draws, ((1 - level) / 2, (1 + level) / 2))
        stretch = self.points.stretch
        lo, hi = (estimate + stretch * (end - estimate) for end in ends.tolist())
        return estimate, float(draws.std()) * stretch, lo, hi

    def changes(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Give the interval of f(x) - f(first) at every other observed value: [m - 1] each."""
        change, draws = self.curve[1:] - self.curve[0], self.draws[:, 1:] - self.draws[:, :1]
        ends = quantiles(draws, ((1 - level) / 2, (1 + level) / 2))
        lo, hi = change + self.points.stretch * (ends - change)
        return lo, hi

    def stretched(self, ends: Floats) -> tuple[Floats, Floats]:
        """Widen quantiles [2, m] about the law for the few clusters behind them."""
        lo, hi = self.curve + self.points.stretch * (ends - self.curve)
        return lo, hi


def quantiles(draws: Floats, levels: tuple[float, ...]) -> Floats:
    """Give linear quantiles over the first axis, a row for each level: those of `numpy.quantile`, from one sort."""
    ordered = np.sort(draws.T).T
    place = np.array(levels) * (len(draws) - 1)
    below = place.astype(np.int64)
    share = (place - below).reshape(-1, *(1,) * (draws.ndim - 1))
    low, high = ordered[below], ordered[np.minimum(below + 1, len(draws) - 1)]
    return np.asarray(low + share * (high - low))


def average(
    points: Points,
    names: tuple[str, ...],
    *,
    draws: int = 300,
    also: Floats | None = None,
    bounds: tuple[float, float] | None = None,
) -> Average:
    """Average the families over the points.

    Equation: AICc = χ²/ĉ + 2p + 2p(p+1)/(N-p-1), χ² = Σ (ȳ - f)²/v, weights ∝ exp(-AICc/2), in the data and in every
    draw alike. The saturated model (p = m) is among the families for the curve and the intervals, not for knees.

    Args:
        points: What the curves are fitted to.
        names: The families.
        draws: Bootstrap draws.
        also: Further points to evaluate the law at, such as larger values. [k - m]
        bounds: What the law is held within.

    Raises:
        NotEnoughData: Fewer than two values, or runs.

    References:
        Buckland, Burnham and Augustin (1997), "Model Selection: An Integral Part of Inference".
    """
    m = len(points.x)
    at = points.x if also is None else np.concatenate((points.x, also))
    chosen = families(names, points.x, at)
    y = _draws(points, draws)
    fits, fitted, chi2 = _fit_all(chosen, points, y, at)
    sizes = np.array([family.size for family in chosen], dtype=np.float64)
    score = chi2 / points.overdispersion + _penalty(sizes, points.runs)[:, None]
    law = _weigh(score)
    curves = np.einsum("fb,fbk->bk", law, fitted)
    saturated = np.full((1, y.shape[0]), np.inf if m == 2 else _penalty(np.array([float(m)]), points.runs)[0])  # noqa: PLR2004 - two values are a line
    whole = _weigh(np.vstack((score, saturated)))
    mixed = _mixed(whole, np.concatenate((fitted[:, :, :m], y[None])))
    best = chosen[int(law[:, 0].argmax())].name
    if bounds is not None:
        curves, mixed = np.clip(curves, *bounds), np.clip(mixed, *bounds)
    return Average(
        at=at,
        mean=curves[0],
        curve=mixed[0],
        draws=mixed[1:],
        law_draws=curves[1:],
        weights=dict(zip([*(family.name for family in chosen), SATURATED], whole[:, 0].tolist(), strict=True)),
        chi2={family.name: float(value) for family, value in zip(chosen, chi2[:, 0], strict=True)},
        fits=fits | {best: _settled(fits[best], points)},
        points=points,
    )


def _settled(fit: Fit, points: Points) -> Fit:
    """Refine the best family's fit where its grid was fine enough for the average."""
    return fit if len(fit.linear) or fit.inside else refine(fit.name, fit.shape, points.x, points.mean, points.root)


def _mixed(weights: Floats, fitted: Floats) -> Floats:
    """Average each draw's fits; in every second one take a single family instead, as often as its weight says.

    Averages alone hide how far the families are apart (measured: contrasts covered down to 0.88 for a plateau), single
    families alone count it in full (0.98 on average, intervals no shorter than those of two cells).
    """
    mixed = np.asarray(np.einsum("fb,fbk->bk", weights, fitted))
    odd = np.arange(1, weights.shape[1], 2)
    share = odd * GOLDEN % 1.0
    pick = np.minimum((np.cumsum(weights[:, odd], axis=0) < share).sum(axis=0), len(weights) - 1)
    mixed[odd] = fitted[pick, odd]
    return mixed


@lru_cache(maxsize=64)
def _normal(draws: int, m: int) -> Floats:
    """Give the same standard normal draws [draws, m] to every law, so that a law depends on its cells alone."""
    return np.random.default_rng(20_170 + m).standard_normal((draws, m))


def _draws(points: Points, draws: int) -> Floats:
    """Give the means, and below them draws of them: [1 + B, m]."""
    z = _normal(draws, len(points.x))
    diagonal = np.diag(points.covariance)
    if np.count_nonzero(points.covariance) == np.count_nonzero(diagonal):
        noise = z * np.sqrt(diagonal)
    else:
        values, vectors = np.linalg.eigh(points.covariance)
        noise = z @ (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return np.concatenate((points.mean[None], points.mean + noise))


def _fit_all(
    chosen: tuple[Family, ...], points: Points, y: Floats, at: Floats
) -> tuple[dict[str, Fit], Floats, Floats]:
    """Fit every family to every draw: the fits of the data, and curves [F, 1 + B, k] and χ² [F, 1 + B] of all."""
    root = points.root
    scaled = (y * root).T
    places: dict[str, int] = {}
    fitted = np.empty((len(chosen), y.shape[0], len(at)))
    chi2 = np.empty((len(chosen), y.shape[0]))
    coarse = []
    for number, family in enumerate(chosen):
        loss, place, curve = _fit(family, root, scaled)
        fitted[number] = curve
        chi2[number] = loss[place, np.arange(len(place))]
        places[family.name] = int(place[0])
        if int((loss[:, 0] <= chi2[number, 0] + 1).sum()) < FINE ** family.shapes.shape[1]:
            coarse.append(number)
    fits: dict[str, Fit] = {}
    for number, family in enumerate(chosen):
        start, least = family.shapes[places[family.name]], float(chi2[number, 0])
        if number in coarse and least > chi2[:, 0].min() + HOPELESS:
            start, least = _closer(family, places[family.name], points)
        if number not in coarse or least > chi2[:, 0].min() + HOPELESS:
            fits[family.name] = Fit(family.name, np.zeros(0), start, inside=False)
            continue
        fit = fits[family.name] = refine(family.name, start, points.x, points.mean, root)
        if fit.inside:
            # Near the best shape the family is its tangent: no grid is as fine as many runs ask for.
            losses, _, tangent = _fit(fit.tangent(points.x, at), root, scaled)
            better = losses[0] < chi2[number]
            chi2[number] = np.where(better, losses[0], chi2[number])
            fitted[number] = np.where(better[:, None], tangent, fitted[number])
    return fits, fitted, np.maximum(chi2, 0.0)


def _closer(family: Family, place: int, points: Points) -> tuple[Floats, float]:
    """Look between a grid's best shape and its neighbours: the best shape there, and its χ²."""
    if family.shapes.shape[1] != 1:
        return family.shapes[place], 0.0
    low, high = family.shapes[max(place - 1, 0), 0], family.shapes[min(place + 1, len(family.shapes) - 1), 0]
    finer = make(family.name, points.x, points.x, np.linspace(low, high, CLOSER)[:, None])
    losses, found, _ = _fit(finer, points.root, (points.mean * points.root)[:, None])
    return finer.shapes[found[0]], float(losses[found[0], 0])


def _fit(family: Family, root: Floats, scaled: Floats) -> tuple[Floats, Ints, Floats]:
    """Fit one family to every draw: χ² [T, 1 + B], the place of the best shape [1 + B], and the curve [1 + B, k]."""
    m, draws = scaled.shape
    if len(family.shapes) == 1:
        return _fit_one(family, root, scaled)
    base = family.base[:, :m] * root
    based = bool(base.any())
    basis = _orthonormal(family.columns, root, m)
    loss = (scaled * scaled).sum(axis=0)[None]
    if based:
        loss = loss + (base * base).sum(axis=1)[:, None] - 2 * (base @ scaled)
    loads = []
    for q in basis:
        row = q[:, :m] * root
        load = row @ scaled
        if based:
            load -= (row * base).sum(axis=1)[:, None]
        loss = loss - load * load
        loads.append(load)
    draw = np.arange(draws)
    place = (loss <= loss.min(axis=0) + TIE + ROUNDING * float((scaled[:, 0] ** 2).sum())).argmax(axis=0)
    curve = family.base[place]
    for load, q in zip(loads, basis, strict=True):
        curve = curve + load[place, draw][:, None] * q[place]
    return loss, place, curve


def _fit_one(family: Family, root: Floats, scaled: Floats) -> tuple[Floats, Ints, Floats]:
    """Fit a family of one shape, as `_fit`: a projection."""
    m, draws = scaled.shape
    basis = np.concatenate(_orthonormal(family.columns, root, m))
    away = scaled - (family.base[0, :m] * root)[:, None]
    loads = (basis[:, :m] * root) @ away
    loss = (away * away).sum(axis=0) - (loads * loads).sum(axis=0)
    return loss[None], np.zeros(draws, dtype=np.int64), family.base[0] + loads.T @ basis


def _orthonormal(columns: tuple[Floats, ...], root: Floats, m: int) -> list[Floats]:
    """Make each shape's columns orthonormal over the observed values, weighted; carry the other points along."""
    basis: list[Floats] = []
    weight = root * root
    for column in columns:
        q = column
        # Twice is enough: the second pass takes out what rounding left of the first.
        for _ in range(2 if basis else 0):
            for other in basis:
                q = q - ((q[:, :m] * other[:, :m]) @ weight)[:, None] * other
        norm = np.sqrt((q[:, :m] ** 2) @ weight)
        size = np.sqrt((column[:, :m] ** 2) @ weight)
        # A column that the others explain, as a step between two values may be, adds nothing.
        basis.append(q * np.where(norm > 1e-9 * size, 1 / np.where(norm > 0, norm, 1.0), 0.0)[:, None])
    return basis


def _penalty(sizes: Floats, runs: float) -> Floats:
    left = runs - sizes - 1
    if (left <= 0).any():
        message = f"averaging over families needs more than {sizes.max() + 1:g} runs, there are {runs:g}: collect more"
        raise NotEnoughData(message)
    return np.asarray(2 * sizes + 2 * sizes * (sizes + 1) / left)


def _weigh(score: Floats) -> Floats:
    weight = np.exp(-(score - score.min(axis=0)) / 2)
    return np.asarray(weight / weight.sum(axis=0))
