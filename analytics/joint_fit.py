"""Fit the terms and monomials of a joint law.

Terms are products of centred factors; monomials are products of the settings themselves, with prices that are not
negative: Σ price · monomial · exp(terms) is a mean time or cost.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from scipy.optimize import nnls

from analytics.generalised_linear import GeneralisedLinear, Link, cluster_sums, fit_generalised
from analytics.intervals import t_quantile, z_quantile
from analytics.joint_rows import JointRows
from analytics.joint_terms import (
    CATEGORY,
    COMPLEXITY,
    LOG,
    LONG,
    ONE,
    OVER,
    SHORT,
    SQUARE,
    TIMES,
    monomial_columns,
    parse_term,
    term_columns,
)
from analytics.moments import Floats
from models.dimensions import Dimension, Outcome

RIDGE = 0.3
"""Weight, in units of information, with which each standardised column but the intercept is drawn to 0."""

RUNS_PER_TERM = 10
"""A law has no more terms than this allows; squares, then products, are the first to go."""

PRICED = (Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT)
"""The dimensions whose products are the monomials of cost and time."""

EXACT = 1e-16
"""Squared relative deviations up to this, on average, are rounding."""

ROUNDS = 3
"""Turns of monomials and terms; the second already moves means by less than their error."""


@dataclass(frozen=True, slots=True, eq=False)
class JointFit:
    """A fitted joint law; p terms.

    Attributes:
        terms: Their names.
        link: The link of the mean over the monomials' sum.
        beta: Coefficients of the terms as they are. [p]
        covariance: Theirs. [p, p]
        dispersion: The variance of a single run is this times mean (1 - mean), or times mean².
        X: The terms' columns. [R, p]
        mu: The fitted mean over the monomials' sum. [R]
        base: The monomials' prices; none without monomials.
        missing: Why kinds of terms are not there.
    """

    terms: tuple[str, ...]
    link: Link
    beta: Floats
    covariance: Floats
    dispersion: float
    X: Floats
    mu: Floats
    base: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What terms are products of: columns less their centres [R]; a category's column is 0 or 1 and has no centre."""

    columns: Mapping[str, Floats]
    centres: dict[str, float]


def factors_of(rows: JointRows) -> Factors:
    """Give the logarithm of each dimension, complexity, and a column for each further category."""
    raw = {LOG + SHORT[dimension]: ln_x for dimension, ln_x in rows.ln_x.items()}
    raw |= {} if rows.complexity is None else {COMPLEXITY: rows.complexity}
    centres = {name: rows.average(values) for name, values in raw.items()}
    columns = {name: np.nan_to_num(values - centres[name]) for name, values in raw.items()}
    if rows.category is not None:
        columns |= {
            CATEGORY + label: np.asarray(rows.category == place, np.float64)
            for place, label in enumerate(rows.labels)
            if place > 0
        }
    return Factors(columns, centres)


def fit_bounded(rows: JointRows, factors: Factors) -> JointFit:
    """Fit success or quality: logit, the factors, their squares, and complexity times ln agents.

    Raises:
        NotEnoughData: The outcome does not vary.
    """
    terms, missing = _affordable(rows, [*_main(factors), *_squares(rows, rows.ln_x), *_interaction(factors)])
    return replace(_fit(rows, factors, terms, "logit"), missing=missing)


def fit_priced(rows: JointRows, factors: Factors, outcome: Outcome) -> JointFit:
    """Fit time or cost: by turns the monomials' prices and the terms beside them, log link, Gamma.

    Prices minimise Σ n ((ȳ - e Σ price · monomial) / μ)², e the exponential of the terms that are no logarithms of
    priced dimensions. Squares of the priced dimensions and products of logarithms are among the terms if QAIC is less
    with them: then the price is more than a sum of products.

    Raises:
        NotEnoughData: The outcome does not vary.
    """
    inside = [each for each in rows.ln_x if each in PRICED]
    if outcome is Outcome.TIME_TO_COMPLETE and Dimension.PARALLELISM_LEVEL in rows.ln_x:
        inside.append(Dimension.PARALLELISM_LEVEL)
    names = _monomials(inside)
    scarce: dict[str, str] = {}
    if rows.size < RUNS_PER_TERM * len(names):
        inside, names = [], []
        scarce["base"] = f"{rows.size:g} runs are fewer than {RUNS_PER_TERM} for each monomial"
    outside = [each for each in rows.ln_x if each not in inside]
    plain, missing = _affordable(rows, [*_main(factors), *_squares(rows, outside), *_interaction(factors)])
    pieces = monomial_columns(names, lambda short: np.exp(rows.ln_x[LONG[short]]), len(rows.n))
    priced = {ONE, *(LOG + SHORT[each] for each in inside)}
    base, prices, fit = np.ones(len(rows.n)), np.zeros(len(names)), _fit(rows, factors, plain, "log")
    for _ in range(ROUNDS if inside else 0):
        beside = [place for place, term in enumerate(fit.terms) if term not in priced]
        rest = np.exp(fit.X[:, beside] @ fit.beta[beside])
        weight = np.sqrt(rows.n) / (base * fit.mu)
        prices = _not_negative(pieces * (weight * rest)[:, None], weight * rows.mean)
        base = pieces @ prices
        if _explained(rows, base):
            named = {name: price for name, price in zip(names, prices.tolist(), strict=True) if price > 0}
            return replace(_certain(rows, factors, base), base=named, missing=missing | scarce)
        fit = _fit(rows, factors, plain, "log", base)
    products = [TIMES.join(pair) for pair in combinations([LOG + SHORT[each] for each in rows.ln_x], 2)]
    rich, rich_missing = _affordable(rows, [*plain, *_squares(rows, inside), *products])
    if len(rich) > len(plain):
        curved = _fit(rows, factors, rich, "log", base)
        if _qaic(rows, curved, base, curved.dispersion) < _qaic(rows, fit, base, curved.dispersion):
            fit, missing = curved, rich_missing
    named = {name: price for name, price in zip(names, prices.tolist(), strict=True) if price > 0}
    return replace(fit, base=named, missing=missing | scarce)


def _explained(rows: JointRows, base: Floats) -> bool:
    """Tell whether the monomials' sum is every run's outcome, up to rounding: a price list without noise."""
    away = rows.n @ np.square(rows.mean / base - 1) + float((rows.m2 / np.square(base)).sum())
    return bool(away <= EXACT * rows.size)


def _certain(rows: JointRows, factors: Factors, base: Floats) -> JointFit:
    """Give the law of a price list without noise: the monomials alone, without error."""
    X = _columns([ONE], factors, len(rows.n))
    level = math.log(float(rows.n @ (rows.mean / base)) / rows.size)
    return JointFit((ONE,), "log", np.array([level]), np.zeros((1, 1)), 0.0, X, np.full(len(rows.n), math.exp(level)))


def _main(factors: Factors) -> list[str]:
    return [ONE, *factors.columns]


def _squares(rows: JointRows, dimensions: Iterable[Dimension]) -> list[str]:
    """Name the squares of the dimensions with enough runs off their two commonest values."""
    return [LOG + SHORT[each] + SQUARE for each in dimensions if each in rows.curved]


def _interaction(factors: Factors) -> list[str]:
    agents = LOG + SHORT[Dimension.AGENT_COUNT]
    return [COMPLEXITY + TIMES + agents] if {COMPLEXITY, agents} <= set(factors.columns) else []


def _affordable(rows: JointRows, terms: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Keep the first terms, as many as ten runs each allow."""
    most = max(2, int(rows.size / RUNS_PER_TERM))
    if len(terms) <= most:
        return list(terms), {}
    reason = f"{rows.size:g} runs are fewer than {RUNS_PER_TERM} for each term"
    return list(terms[:most]), dict.fromkeys(terms[most:], reason)


def _monomials(inside: Sequence[Dimension]) -> list[str]:
    """Name the products of the priced dimensions, each also over parallelism; and parallelism itself."""
    shorts = [SHORT[each] for each in inside if each in PRICED]
    products = [TIMES.join(chosen) or ONE for count in range(len(shorts) + 1) for chosen in combinations(shorts, count)]
    if Dimension.PARALLELISM_LEVEL not in inside:
        return products
    parallelism = SHORT[Dimension.PARALLELISM_LEVEL]
    return [*products, *(product + OVER + parallelism for product in products), parallelism]


def _not_negative(columns: Floats, target: Floats) -> Floats:
    """Minimise |columns x - target| over x >= 0, on the triangle of a QR factorisation."""
    scale = np.linalg.norm(columns, axis=0)
    _, r = np.linalg.qr(np.concatenate((columns / scale, target[:, None]), axis=1))
    return np.asarray(nnls(r[:, :-1], r[:, -1])[0] / scale, np.float64)


def _fit(rows: JointRows, factors: Factors, terms: Sequence[str], link: Link, base: Floats | float = 1.0) -> JointFit:
    """Fit the terms to the means over the monomials' sum; a Gamma fit is the same on any scale."""
    mean, m2 = np.asarray(rows.mean / base), np.asarray(rows.m2 / np.square(base))
    X = _columns(terms, factors, len(rows.n))
    away = X - rows.n @ X / rows.size
    scale = np.sqrt(rows.n @ np.square(away) / rows.size)
    intercept = np.array([term == ONE for term in terms])
    scale[intercept] = 1.0
    ridge = np.where(intercept, 0.0, RIDGE)
    fit = fit_generalised(
        X / scale, rows.n, mean, m2, link=link, variance="binomial" if link == "logit" else "mu2", ridge=ridge
    )
    # A direction without runs keeps the ridge's own variance: φ A P A, A the inverse of the penalised information.
    bread = fit.covariance_classical / fit.dispersion
    covariance = _robust(rows, fit, mean) + fit.dispersion * (bread * ridge) @ bread
    return JointFit(
        tuple(terms), link, fit.beta / scale, covariance / np.outer(scale, scale), fit.dispersion, X, fit.mu
    )


def _columns(terms: Sequence[str], factors: Factors, size: int) -> Floats:
    """Give the columns of terms, complexity included. [R, p]."""
    parsed = [parse_term(term) for term in terms]
    columns = term_columns(parsed, factors.columns.__getitem__, size)
    for place, term in enumerate(parsed):
        if term.with_complexity:
            columns[:, place] *= factors.columns[COMPLEXITY]
    return columns


def _robust(rows: JointRows, fit: GeneralisedLinear, mean: Floats) -> Floats:
    """Give the robust covariance; with clusters theirs, in no direction below that of independent runs.

    In the coordinates in which the covariance of independent runs is the identity, the eigenvalues of that of G
    clusters, times (t_{G-1} / z)², are lifted to 1: fewer clusters than terms leave directions without any.
    """
    if rows.cluster is None:
        return fit.covariance
    scores = cluster_sums(fit.influence * (rows.n * (mean - fit.mu))[:, None], rows.cluster)
    freedom = len(scores) - 1
    stretch = (len(scores) / freedom) * (t_quantile(freedom) / z_quantile()) ** 2
    values, axes = np.linalg.eigh(fit.covariance)
    kept = values > values[-1] * np.finfo(np.float64).eps * len(values)
    root = np.sqrt(values[kept])
    white = scores @ (axes[:, kept] / root)
    ratio, turn = np.linalg.eigh(stretch * white.T @ white)
    lifted = axes[:, kept] * root @ turn * np.sqrt(np.maximum(ratio, 1.0))
    return np.asarray(lifted @ lifted.T)


def _qaic(rows: JointRows, fit: JointFit, base: Floats, dispersion: float) -> float:
    """Give QAIC, up to what all fits share: 2 Σ n (ȳ / μ + ln μ) / dispersion + 2 p."""
    ratio = rows.mean / (base * fit.mu)
    return 2 * float(rows.n @ (ratio + np.log(fit.mu))) / dispersion + 2 * len(fit.terms)
