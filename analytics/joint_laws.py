"""Joint laws: an outcome over all dimensions and complexity at once, fitted from joint cells, and its predictions.

Success and quality are logits, additive in the logarithms of the dimensions and their squares. Time and cost are sums
of monomials whose prices are not negative, times the exponential of such terms: a price list (dollars for an agent,
for an iteration of each, for a token of each) or the Universal Scalability Law comes out as it is.

References:
    McCullagh and Nelder (1989), "Generalized Linear Models"; Gunther (2007), "Guerrilla Capacity Planning".
    Lawson and Hanson (1974), "Solving Least Squares Problems", for coefficients that are not negative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from analytics.cells import Flags
from analytics.generalised_linear import Link, mean_at, slope_at
from analytics.intervals import LEVEL, z_quantile
from analytics.joint_cells import JointCells
from analytics.joint_fit import factors_of, fit_bounded, fit_priced
from analytics.joint_rows import JointRows, joint_rows
from analytics.joint_terms import (
    CATEGORY,
    COMPLEXITY,
    LOG,
    LONG,
    Term,
    monomial_columns,
    parse_term,
    term_columns,
)
from analytics.moments import Floats, pack, unpack
from analytics.randomisation import seed
from models.dimensions import LESS_IS_BETTER, Dimension, Outcome
from models.joint_laws import JOINT, JointLaw
from models.laws import Estimate, law_id

ESTABLISHED_PER_TERM, ACTIONABLE_PER_TERM = 30, 200
"""Runs for each term from which on a law is established, and actionable."""

SUPPORT_RUNS = 10
"""The range of a dimension ends where so many runs reach, so that a single odd run does not widen it."""

BEYOND = 1.5
"""Predictions are held at this multiple of the greatest value in the range."""

ROUNDED = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class SettingGrid:
    """G settings to predict at; a dimension that is not given has its typical value.

    Attributes:
        values: By dimension, above zero; context in tokens, model size in billions of parameters. [G] or []
        complexity: In [0, 1]; None for the typical one. [G] or []
        category: The label of the model size, or one for each setting. [G]
    """

    values: Mapping[Dimension, Floats]
    complexity: Floats | float | None = None
    category: str | Sequence[str] | None = None

    def __len__(self) -> int:
        shapes = [np.shape(value) for value in self.values.values()]
        shapes += [] if self.complexity is None else [np.shape(self.complexity)]
        shapes += [] if self.category is None or isinstance(self.category, str) else [(len(self.category),)]
        return int((*np.broadcast_shapes(*shapes), 1)[0])


def fit_joint_law(
    joint: JointCells,
    outcome: Outcome,
    *,
    context: str,
    fitted_at: str,
    settings_hash: str = "",
    lineage: Mapping[int, int] | None = None,
    sources: Sequence[str] = (),
    tier: str = "audited",
    version: int = 1,
    epoch: int = 1,
    evidence: str | None = None,
) -> JointLaw:
    """Fit an outcome over all dimensions that vary, and over complexity.

    Success and quality: logit link, binomial variance; the terms are 1, ln x and (ln x)² of each dimension, complexity,
    and complexity times ln agents. Time and cost: log link, Gamma; by turns the monomials are fitted to the means over
    the terms' exponential (non-negative least squares weighted by n / mean²) and the terms to the means over the
    monomials; squares and products of logarithms come in where QAIC asks for them. Columns are standardised and drawn
    to 0 by a ridge of 0.3; the coefficients are those of the terms as they are.

    Covariance: the robust one plus φ A P A, where A is the inverse of the penalised information, φ the dispersion and
    P the ridge: a direction that no run says anything about has the ridge's uncertainty, not none. Where runs have
    clusters, that of the clusters, stretched by t / z, in no direction below that of independent runs. The error of
    the monomials' coefficients is that of the terms beside them.

    A dimension is measured by its dose where that varies, else as realised, else by category.

    Args:
        joint: The runs of one context.
        outcome: What is explained.
        context: The context's id.
        fitted_at: The time of the fit (RFC 3339).
        settings_hash: The hash of the settings that decide how events are read.
        lineage: Per source partition the first offset that is not in the cells.
        sources: Where the settings of the runs came from.
        tier: Of the law.
        version: Of the law.
        epoch: Of the runs.
        evidence: Of the law; absent: adjusted where complexity is among the terms, else associational.

    Raises:
        NotEnoughData: Fewer than 30 runs, no dimension that varies, or an outcome that does not vary.
    """
    rows = joint_rows(joint, outcome)
    factors = factors_of(rows)
    fit = fit_priced(rows, factors, outcome) if outcome in LESS_IS_BETTER else fit_bounded(rows, factors)
    per_term = rows.size / len(fit.terms)
    status = "established" if per_term >= ESTABLISHED_PER_TERM else "exploratory"
    middle = {each: rows.average(ln_x) for each, ln_x in rows.ln_x.items()} | dict(rows.constant)
    typical = {dimension.value: _number(ln_x) for dimension, ln_x in middle.items()}
    return JointLaw(
        law_id=law_id(context, JOINT, outcome, tier),
        tier=tier,
        context=context,
        outcome=outcome.value,
        version=version,
        epoch=epoch,
        fitted_at=fitted_at,
        n=int(rows.size),
        status="actionable" if per_term >= ACTIONABLE_PER_TERM else status,
        evidence=evidence or ("adjusted" if COMPLEXITY in fit.terms else "associational"),
        settings_hash=settings_hash,
        link=fit.link,
        terms=list(fit.terms),
        coefficients=fit.beta.tolist(),
        covariance=pack(fit.covariance).tolist(),
        dispersion=fit.dispersion,
        centres=factors.centres,
        base=fit.base,
        bases={dimension.value: basis.value for dimension, basis in rows.bases.items()},
        support={dimension.value: _support(rows, ln_x) for dimension, ln_x in rows.ln_x.items()},
        typical=typical | ({COMPLEXITY: factors.centres[COMPLEXITY]} if COMPLEXITY in factors.centres else {}),
        categories=list(rows.labels),
        sources=list(sources),
        clusters=rows.clusters,
        missing=dict(rows.missing) | fit.missing,
        lineage={str(partition): offset for partition, offset in (lineage or {}).items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A joint law ready to predict, built once for each version; p terms.

    Each dimension is held between the least value of the law's range and 1.5 times the greatest one; `supported` tells
    where that changes nothing.

    Attributes:
        law: The law.
        link: Its link.
        terms: What its terms are made of.
        beta: Its coefficients. [p]
        root: root root' is their covariance. [p, p]
    """

    law: JointLaw
    link: Link
    terms: tuple[Term, ...]
    beta: Floats
    root: Floats

    @classmethod
    def of(cls, law: JointLaw) -> Self:
        """Make a law ready to predict."""
        values, axes = np.linalg.eigh(unpack(np.asarray(law.covariance, np.float64)))
        return cls(
            law=law,
            link="logit" if law.link == "logit" else "log",
            terms=tuple([parse_term(term) for term in law.terms]),
            beta=np.asarray(law.coefficients, np.float64),
            root=np.asarray(axes * np.sqrt(np.maximum(values, 0.0))),
        )

    def mean(self, grid: SettingGrid) -> Floats:
        """Predict the mean outcome at each setting. [G]."""
        offset, X = self.design(grid)
        return mean_at(offset + X @ self.beta, self.link)

    def se(self, grid: SettingGrid) -> Floats:
        """Give the standard error of the linear predictor at each setting: of the logit, or of ln mean. [G]."""
        _, X = self.design(grid)
        return np.asarray(np.sqrt(np.square(X @ self.root).sum(axis=1)))

    def estimates(self, grid: SettingGrid, level: float = LEVEL) -> list[Estimate]:
        """Estimate the mean outcome at each setting; its interval is symmetric on the scale of the link."""
        offset, X = self.design(grid)
        eta, se = offset + X @ self.beta, np.sqrt(np.square(X @ self.root).sum(axis=1))
        half = z_quantile(level) * se
        columns = (
            mean_at(eta, self.link),
            slope_at(eta, self.link) * se,
            *(mean_at(eta + side * half, self.link) for side in (-1, 1)),
        )
        return [Estimate(*(float(value) for value in row)) for row in zip(*columns, strict=True)]

    def draws(self, k: int, grid: SettingGrid) -> Floats:
        """Draw k laws and predict by each. [k, G]; the same law version gives the same draws, in opposite pairs."""
        offset, X = self.design(grid)
        return mean_at(offset + (X @ self.coefficients(k)).T, self.link)

    def coefficients(self, k: int) -> Floats:
        """Draw coefficients from N(beta, covariance), every second the opposite of the one before. [p, k]."""
        rng = np.random.default_rng(seed(b"joint law", self.law.law_id, self.law.version, self.law.epoch))
        half = rng.standard_normal(((k + 1) // 2, len(self.beta)))
        steps = np.stack((half, -half), axis=1).reshape(-1, len(self.beta))[:k]
        return np.asarray(self.beta[:, None] + self.root @ steps.T)

    def variance_of_run(self, mean: Floats) -> Floats:
        """Give the variance of a single run about its mean: dispersion times mean (1 - mean), or mean²."""
        return np.asarray(self.law.dispersion * (mean * (1 - mean) if self.link == "logit" else mean * mean))

    def supported(self, grid: SettingGrid) -> Flags:
        """Tell which settings lie within the law's range, or at most 1.5 times beyond its greatest values. [G]."""
        inside = np.ones(len(grid), dtype=bool)
        if self.law.categories and grid.category is not None:
            inside &= np.isin(np.asarray(grid.category), self.law.categories)
        for dimension, value in grid.values.items():
            if dimension.value in self.law.support:
                least, greatest = self.law.support[dimension.value]
                inside &= (value >= least * (1 - ROUNDED)) & (value <= BEYOND * greatest * (1 + ROUNDED))
        return inside

    def design(self, grid: SettingGrid) -> tuple[Floats, Floats]:
        """Give the logarithm of the monomials' sum, 0 without them, [G] and the terms [G, p]."""
        offset, X, by_complexity = self.parts(grid)
        if by_complexity is not None:
            X = X + by_complexity * self.from_centre(grid.complexity)[..., None]
        return offset, X

    def parts(self, grid: SettingGrid) -> tuple[Floats, Floats, Floats | None]:
        """Give `design` at the centre of complexity, and what a unit of complexity adds to the terms. [G, p]."""
        size = len(grid)
        known: dict[str, Floats] = {}

        def setting(name: str) -> Floats:
            if name not in known:
                dimension = LONG[name]
                value = np.asarray(grid.values.get(dimension, self.law.typical[dimension.value]), np.float64)
                least, greatest = self.law.support[dimension.value]
                known[name] = np.clip(value, least, BEYOND * greatest)
            return known[name]

        def factor(name: str) -> Floats:
            if name.startswith(CATEGORY):
                given = self.law.categories[0] if grid.category is None else grid.category
                return np.asarray(np.asarray(given) == name.removeprefix(CATEGORY), np.float64)
            return np.asarray(np.log(setting(name.removeprefix(LOG))) - self.law.centres[name])

        columns = term_columns(self.terms, factor, size)
        moves = np.array([term.with_complexity for term in self.terms])
        offset = np.zeros(size)
        if self.law.base:
            prices = np.array(list(self.law.base.values()))
            offset = np.log(monomial_columns(list(self.law.base), setting, size) @ prices)
        return offset, columns * ~moves, columns * moves if moves.any() else None

    def surface(self, grid: SettingGrid, draws: int = 0, precision: type[np.floating] = np.float64) -> "Surface":
        """Evaluate all that does not depend on complexity, once for many tasks.

        Args:
            grid: The settings; its complexity does not matter.
            draws: How many drawn laws to keep beside.
            precision: Of their predictions.
        """
        offset, X, change = self.parts(grid)
        change = np.zeros((1, len(self.beta))) if change is None else change
        drawn = self.coefficients(draws)
        return Surface(
            predictor=self,
            level=offset + X @ self.beta,
            slope=change @ self.beta,
            terms=X,
            change=change,
            drawn=np.ascontiguousarray((offset + (X @ drawn).T).astype(precision)),
            drawn_slope=np.ascontiguousarray((change @ drawn).T.astype(precision)),
        )

    def from_centre(self, complexity: Floats | float | None) -> Floats:
        """Give the complexity less its centre; a missing one (nan) counts as the centre."""
        centre = self.law.centres.get(COMPLEXITY, 0.0)
        given = np.asarray(centre if complexity is None else complexity, np.float64)
        return np.asarray(np.clip(np.where(np.isnan(given), centre, given), 0.0, 1.0) - centre)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A law over a grid of settings, ready for tasks of any complexity z; G settings, d draws.

    Attributes:
        predictor: Of the law.
        level: The linear predictor at the centre of complexity; `slope` by z. [G]
        terms: The law's terms there, [G, p], and their `change` by z, [G, p] or [1, p].
        drawn: The level of each drawn law; `drawn_slope` by z. [d, G]
    """

    predictor: Predictor
    level: Floats
    slope: Floats
    terms: Floats
    change: Floats
    drawn: Floats
    drawn_slope: Floats

    def mean(self, complexity: float | None = None) -> Floats:
        """Predict the mean outcome at each setting. [G]."""
        return mean_at(self.level + self.predictor.from_centre(complexity) * self.slope, self.predictor.link)

    def se(self, complexity: float | None = None) -> Floats:
        """Give the standard error of the linear predictor at each setting. [G]."""
        X = self.terms + float(self.predictor.from_centre(complexity)) * self.change
        return np.asarray(np.sqrt(np.square(X @ self.predictor.root).sum(axis=1)))

    def draws(self, complexity: float | None = None) -> Floats:
        """Predict by each drawn law, in the precision of the draws. [d, G]."""
        z = float(self.predictor.from_centre(complexity))
        return mean_at(self.drawn + z * self.drawn_slope, self.predictor.link)


def _support(rows: JointRows, ln_x: Floats) -> list[float]:
    """Give the least and the greatest value that ten runs reach."""
    order = np.argsort(ln_x, kind="stable")
    up, down = np.cumsum(rows.n[order]), np.cumsum(rows.n[order][::-1])
    least = ln_x[order][int(np.searchsorted(up, SUPPORT_RUNS))]
    greatest = ln_x[order][::-1][int(np.searchsorted(down, SUPPORT_RUNS))]
    return [_number(float(least)), _number(float(greatest))]


def _number(ln_x: float) -> float:
    """Undo a logarithm, so that whole numbers come back whole."""
    return float(f"{np.exp(ln_x):.12g}")
