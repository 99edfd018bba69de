"""Standardised means: what each value would bring if all values had met the same strata of difficulty."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from analytics.generalised_linear import GeneralisedLinear, cluster_sums, fit_generalised, mean_at, slope_at
from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Estimate

RIDGE = 0.1
"""Weight, in units of information, with which each stratum is drawn to the common level: a near-empty one needs it."""

LEAST_PROPENSITY = 0.01
"""No run counts as more than a hundred: propensities are clipped here."""

MOST_CODES = 2**40
"""Combined keys are renumbered before they grow out of 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The runs of one law by value, stratum, covariates and cluster; R rows, m values, c covariates.

    Attributes:
        x: Each value, ascending; a bin's nominal one. [m]
        ln_x: Its logarithm; a bin's mean one. [m]
        value: Which value. [R]
        stratum: Which stratum, 0 to the number of strata - 1. [R]
        score: The complexity that stands for the row's stratum. [R]
        covariates: Logarithms of the dimensions held fixed. [R, c]
        n: Runs. [R]
        mean: Mean outcome. [R]
        m2: Squared deviations from it. [R]
        cluster: Codes of clusters, or None. [R]
        bounded: Whether the outcome lies in [0, 1], so that its model is a logit; else it is linear.
    """

    x: Floats
    ln_x: Floats
    value: Ints
    stratum: Ints
    score: Floats
    covariates: Floats
    n: Floats
    mean: Floats
    m2: Floats
    cluster: Ints | None
    bounded: bool

    def merged(self) -> Self:
        """Merge the rows that share value, stratum, covariates and cluster."""
        code, codes = np.zeros(len(self.n), np.int64), 1
        for key in (self.value, self.stratum, *self.covariates.T, *(() if self.cluster is None else (self.cluster,))):
            distinct, place = np.unique(key, return_inverse=True)
            code, codes = code * len(distinct) + place, codes * len(distinct)
            if codes > MOST_CODES:
                distinct, code = np.unique(code, return_inverse=True)
                codes = len(distinct)
        _, first, place = np.unique(code, return_index=True, return_inverse=True)
        n = np.bincount(place, self.n)
        mean = np.bincount(place, self.n * self.mean) / n
        away = self.mean - mean[place]
        return replace(
            self,
            value=self.value[first],
            stratum=self.stratum[first],
            score=self.score[first],
            covariates=self.covariates[first],
            n=np.asarray(n, np.float64),
            mean=np.asarray(mean, np.float64),
            m2=np.asarray(np.bincount(place, self.m2 + self.n * away * away), np.float64),
            cluster=None if self.cluster is None else self.cluster[first],
        )

    @property
    def strata(self) -> int:
        """Count the strata."""
        return int(self.stratum.max()) + 1

    @property
    def counts(self) -> Floats:
        """Count the runs by stratum and value: [strata, m]."""
        table = np.zeros((self.strata, len(self.ln_x)))
        np.add.at(table, (self.stratum, self.value), self.n)
        return table

    @property
    def overlap(self) -> float:
        """Give the share of runs in strata where every value occurs."""
        counts = self.counts
        return float(counts[(counts > 0).all(axis=1)].sum() / counts.sum())

    def expect_overlap(self) -> None:
        """Make sure that values can be compared within strata.

        Raises:
            NotEnoughData: No stratum holds runs at two values.
        """
        if not ((self.counts > 0).sum(axis=1) > 1).any():
            message = (
                f"none of the {self.strata} strata of complexity holds runs at two values, so equals cannot be "
                "compared: run each value on easy and on hard tasks"
            )
            raise NotEnoughData(message)


@dataclass(frozen=True, slots=True, eq=False)
class StandardisedMeans:
    """Adjusted mean of each value [m] with their covariance [m, m]; `weight` [m] are the values' runs."""

    ln_x: Floats
    mean: Floats
    covariance: Floats
    weight: Floats
    dof: int
    level: float = LEVEL

    def slope(self) -> Estimate:
        """Regress the means on ln x, weighted by runs, so that only the adjustment tells it from the naive slope."""
        along = slope_weights(self.ln_x, self.weight)
        return _estimate(float(along @ self.mean), float(along @ self.covariance @ along), self.dof, self.level)

    def estimates(self) -> list[Estimate]:
        """Give each mean with its interval."""
        rows = zip(self.mean.tolist(), np.diag(self.covariance).tolist(), strict=True)
        return [_estimate(mean, variance, self.dof, self.level) for mean, variance in rows]


def naive_slope(runs: Comparison) -> Estimate:
    """Regress the outcome on ln x alone, by least squares with robust or clustered errors.

    Raises:
        NotEnoughData: Fewer than two values, or an outcome that does not vary.
    """
    rows = len(runs.n)
    runs = replace(runs, stratum=np.zeros(rows, np.int64), covariates=np.zeros((rows, 0))).merged()
    X = np.stack((np.ones(len(runs.n)), runs.ln_x[runs.value]), axis=1)
    return fit_generalised(
        X, runs.n, runs.mean, runs.m2, link="identity", variance="constant", cluster=runs.cluster
    ).estimate(1)


def g_computation(runs: Comparison) -> StandardisedMeans:
    """Predict each value on all strata and covariates from a model of the outcome, and average (g-computation).

    Equation: m(v) = 1/N Σ_i μ(z_i, v, c_i); μ a logit (bounded outcome) or linear model with a level for each stratum,
    one slope on ln x and one for each covariate. The covariance sums, over runs or clusters, the squared influence
    μ(z_i, v, c_i) - m(v) + N ∂m(v)/∂β · (influence of run i on β).

    Raises:
        NotEnoughData: As `fit_generalised`; no stratum holds two values.

    References:
        Robins (1986); Snowden, Rose and Mortimer (2011), "Implementation of G-Computation on a Simulated Data Set".
    """
    runs.expect_overlap()
    model, X = _outcome_model(runs)
    predicted, derivative = _predictions(runs, model, X)
    size = runs.n.sum()
    mean = runs.n @ predicted / size
    return _standardised(runs, model, mean, predicted - mean, model.influence @ derivative.T)


def augmented(runs: Comparison) -> StandardisedMeans:
    """Add to g-computation what its model leaves unexplained, weighted by inverse propensity (AIPW).

    Equation: m(v) + 1/N Σ_z n_zv (ȳ_zv - μ_zv) / π_zv with π_zv = (n_zv + 1/2) / (n_z + m/2), at least 0.01. It is
    right if either the outcome model or the strata are: the mean within a stratum need not follow ln x. Covariates are
    held by the outcome model alone. The covariance is that of g-computation with the residuals' influence added.

    Raises:
        NotEnoughData: As `g_computation`.

    References:
        Robins, Rotnitzky and Zhao (1994); Bang and Robins (2005).
    """
    runs.expect_overlap()
    model, X = _outcome_model(runs)
    counts, size, values = runs.counts, runs.n.sum(), len(runs.ln_x)
    propensity = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * values)
    weight = 1 / np.maximum(propensity, LEAST_PROPENSITY)[runs.stratum, runs.value]
    at = np.zeros((len(runs.n), values))
    at[np.arange(len(runs.n)), runs.value] = weight
    predicted, derivative = _predictions(runs, model, X)
    slopes = slope_at(X @ model.beta, model.link)
    derivative -= (at * (runs.n * slopes)[:, None]).T @ X
    residual = runs.mean - model.mu
    standard = runs.n @ predicted / size
    mean = standard + (runs.n * residual) @ at / size
    return _standardised(runs, model, mean, predicted - standard, at + model.influence @ derivative.T)


def slope_weights(ln_x: Floats, weight: Floats) -> Floats:
    """Give the contrast that is the weighted least-squares slope of means [m] on ln x."""
    away = ln_x - weight @ ln_x / weight.sum()
    return np.asarray(weight * away / (weight @ (away * away)))


def _outcome_model(runs: Comparison) -> tuple[GeneralisedLinear, Floats]:
    """Fit level by stratum, slope on ln x, and covariates; the strata's levels are drawn together by a ridge."""
    rows, strata = len(runs.n), runs.strata
    centred = runs.covariates - runs.n @ runs.covariates / runs.n.sum()
    dummies = np.eye(strata)[runs.stratum] if strata > 1 else np.zeros((rows, 0))
    X = np.column_stack((np.ones(rows), runs.ln_x[runs.value], dummies, centred))
    ridge = np.zeros(X.shape[1])
    ridge[2 : 2 + dummies.shape[1]] = RIDGE
    fit = fit_generalised(
        X,
        runs.n,
        runs.mean,
        runs.m2,
        link="logit" if runs.bounded else "identity",
        variance="binomial" if runs.bounded else "constant",
        ridge=ridge,
        cluster=runs.cluster,
    )
    return fit, X


def _predictions(runs: Comparison, model: GeneralisedLinear, X: Floats) -> tuple[Floats, Floats]:
    """Give each row's mean at each value [R, m], and the derivative by beta of their sums over runs [m, p]."""
    eta = (X @ model.beta - model.beta[1] * X[:, 1])[:, None] + model.beta[1] * runs.ln_x
    weighted = runs.n[:, None] * slope_at(eta, model.link)
    derivative = weighted.T @ X
    derivative[:, 1] = weighted.sum(axis=0) * runs.ln_x
    return mean_at(eta, model.link), derivative


def _standardised(
    runs: Comparison, model: GeneralisedLinear, mean: Floats, level: Floats, pull: Floats
) -> StandardisedMeans:
    """Sum the squared influence: `level` [R, m] of a run for being in its row, `pull` [R, m] by its residual."""
    size, p = float(runs.n.sum()), len(model.beta)
    run = level + pull * (runs.mean - model.mu)[:, None]
    if runs.cluster is None:
        meat = run.T @ (run * runs.n[:, None]) + pull.T @ (pull * runs.m2[:, None])
        meat = meat * (size / (size - p))
    else:
        scores = cluster_sums(run * runs.n[:, None], runs.cluster)
        meat = scores.T @ scores * ((model.dof + 1) / model.dof)
    return StandardisedMeans(runs.ln_x, mean, meat / size**2, runs.counts.sum(axis=0), model.dof)


def _estimate(value: float, variance: float, dof: int, level: float) -> Estimate:
    se, t = max(variance, 0.0) ** 0.5, t_quantile(dof, level)
    return Estimate(value, se, value - t * se, value + t * se)
