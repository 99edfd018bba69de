"""What more attempts are worth: the chance that at least one of k attempts succeeds, over tasks that differ.

Each task has its own chance p of success, Beta(alpha, beta) over tasks. Were every task alike, k attempts would succeed
with 1 - (1 - p)**k; hard tasks make the curve flatter, and its tail falls like k**-alpha.

References:
    Brown et al. (2024), "Large Language Monkeys"; Schaeffer et al. (2025), "How Do Large Language Monkeys Get Their
    Power (Laws)?"; Chen et al. (2021), "Evaluating Large Language Models Trained on Code" (the unbiased estimators).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, digamma, gammaln

from analytics.intervals import LEVEL, mean_interval, t_quantile, z_quantile
from analytics.moments import Floats
from analytics.quasi_poisson import raised
from models.errors import NotEnoughData
from models.laws import CurvePoint, Estimate

PRIOR_MEAN = np.array([0.0, 0.5])
PRIOR_SD = 1.5
"""Of ln alpha and ln beta: without a prior, alpha of a few runs is often infinite."""

TOLERANCE = 1e-9
"""Steps stop when the next one is below this share of the standard errors."""

ROUNDING = 1e-4
"""Below this share a step that is no shorter than the one before is rounding."""

ITERATIONS = 200
SCORING = 20
LONGEST_STEP = 2.0
DIFFERENCE = 1e-5

HAZARD_LIMIT = 600.0
"""Beyond, 1 - P is no longer told apart from 0."""

NODES = 40
"""Of the quadrature over the uncertainty of P."""

Climb = Callable[[Floats], tuple[float, Floats, Floats]]
"""Log-likelihood, gradient [2] and expected information [2, 2] at two parameters."""

LogMiss = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""A law by its two parameters and k [R]: ln(1 - P(k)) [R] and its gradient [R, 2]."""


@dataclass(frozen=True, slots=True, eq=False)
class AnyOfK:
    """P(k) = 1 - B(alpha, beta + k) / B(alpha, beta): the mean over tasks of 1 - (1 - p)**k.

    Attributes:
        alpha: Small where many tasks are nearly hopeless; interval on the log scale.
        beta: Likewise.
        theta: (ln alpha, ln beta). [2]
        covariance: Of theta, from the expected information and the prior. [2, 2]
        n: Runs (or trials) that it was fitted to.
        level: The coverage of the intervals.
    """

    alpha: Estimate
    beta: Estimate
    theta: Floats
    covariance: Floats
    n: int
    level: float

    def probability(self, k: float) -> Estimate:
        """Give P(k) for new tasks; delta-method interval on the scale of ln(-ln(1 - P)).

        Args:
            k: The allowed number of attempts, above zero.
        """
        return _probability(_log_miss, self.theta, self.covariance, k, z_quantile(self.level))

    def curve(self, k: Floats) -> list[CurvePoint]:
        """Give P at each k with its pointwise interval."""
        points = [(at, self.probability(at)) for at in k.tolist()]
        return [CurvePoint(at, point.estimate, point.lo, point.hi) for at, point in points]

    def forecast(self, k: float, tasks: int) -> Estimate:
        """Predict the share of `tasks` new tasks that at least one of k attempts solves.

        Equation: ln(-ln(1 - P)) is normal with the mean and variance of its estimate, the solved tasks are binomial
        given P; the interval are the quantiles of their count. It holds for the share, not for its expectation.

        Raises:
            NotEnoughData: No tasks.
        """
        if tasks < 1:
            message = f"a forecast is for at least 1 task, not {tasks}: say how many tasks there will be"
            raise NotEnoughData(message)
        hazard, se = _hazard(_log_miss, self.theta, self.covariance, k)
        p = -math.expm1(-hazard)
        variance = (hazard * se * math.exp(-hazard)) ** 2
        lo, hi = _count_interval(hazard, se, tasks, self.level)
        return Estimate(p, math.sqrt(variance + (p * (1 - p) - variance) / tasks), lo / tasks, hi / tasks)


@dataclass(frozen=True, slots=True, eq=False)
class FreeSlope:
    """P(k) = 1 - exp(-rate k**exponent): an exponent of 1 if all tasks are alike, below 1 if they differ.

    Attributes:
        rate: -ln(1 - P(1)); interval on the log scale.
        exponent: With HC1 errors.
        theta: (ln rate, exponent). [2]
        covariance: Of theta, HC1. [2, 2]
        dof: N - 2.
        level: The coverage of the intervals.
    """

    rate: Estimate
    exponent: Estimate
    theta: Floats
    covariance: Floats
    dof: int
    level: float

    def probability(self, k: float) -> Estimate:
        """Give P(k); delta-method interval on the scale of ln(-ln(1 - P))."""
        return _probability(_log_miss_power, self.theta, self.covariance, k, t_quantile(self.dof, self.level))


def fit_any_of_k(k: Floats, n: Floats, successes: Floats, *, level: float = LEVEL) -> AnyOfK:
    """Fit P(k) to the success of runs that were allowed k attempts each, every run a new task.

    Equation: maximise Σ s ln P(k) + (n - s) ln(1 - P(k)) with priors ln alpha ~ N(0, 1.5²), ln beta ~ N(0.5, 1.5²),
    by Fisher's scoring with halved steps.

    Args:
        k: Allowed attempts, above zero. [R]
        n: Runs. [R]
        successes: How many of them succeeded. [R]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two distinct k, or counts that are none.
    """
    _expect_counts(k, n, successes)

    return _fit(_grouped(_log_miss, k, n, successes), int(n.sum()), level)


def fit_task_counts(successes: Floats, trials: Floats, *, level: float = LEVEL) -> AnyOfK:
    """Fit the same law to independent trials of each task.

    Equation: maximise Σ over tasks of ln BetaBinomial(c | t, alpha, beta), with the priors of `fit_any_of_k`.

    Args:
        successes: c, successful trials of each task. [tasks]
        trials: t, its trials. [tasks]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two tasks, no task with two trials (one trial says nothing of how tasks differ), or
            counts that are none.
    """
    _expect_tasks(successes, trials)
    if trials.max() < 2:  # noqa: PLR2004
        raise NotEnoughData("how tasks differ needs 2 trials of some task, there is 1 each: repeat tasks")
    sizes, tasks = np.unique(trials, return_counts=True)
    t = np.repeat(sizes, (sizes + 1).astype(np.int64))
    c = np.concatenate([np.arange(size + 1) for size in sizes])
    alike = np.repeat(tasks, (sizes + 1).astype(np.int64)).astype(np.float64)
    seen = np.array([np.sum((trials == size) & (successes == count)) for size, count in zip(t, c, strict=True)], float)
    choose = gammaln(t + 1) - gammaln(c + 1) - gammaln(t - c + 1)

    def climb(theta: Floats) -> tuple[float, Floats, Floats]:
        a, b = np.exp(theta)
        log_share = choose + betaln(a + c, b + t - c) - betaln(a, b)
        both = digamma(a + b) - digamma(a + b + t)
        score = np.stack(
            (a * (digamma(a + c) - digamma(a) + both), b * (digamma(b + t - c) - digamma(b) + both)), axis=1
        )
        return float(seen @ log_share), score.T @ seen, (score * (alike * np.exp(log_share))[:, None]).T @ score

    return _fit(climb, int(trials.sum()), level)


def any_of_k(successes: Floats, trials: Floats, k: int, *, level: float = LEVEL) -> Estimate:
    """Estimate without bias, and without a law, the chance that at least one of k trials succeeds (pass@k).

    Equation: 1 - mean over tasks of C(t - c, k) / C(t, k); Student's interval over tasks, cut to [0, 1].

    Args:
        successes: c, successful trials of each task. [tasks]
        trials: t, its trials, at least k. [tasks]
        k: Attempts, at least one.
        level: The coverage of the interval.

    Raises:
        NotEnoughData: Fewer than two tasks, or a task with fewer than k trials.
    """
    return _mean(1 - _all_drawn(trials - successes, trials, k), level)


def all_of_k(successes: Floats, trials: Floats, k: int, *, level: float = LEVEL) -> Estimate:
    """Estimate without bias the chance that all of k trials succeed (pass^k): mean over tasks of C(c, k) / C(t, k).

    Arguments, interval and errors as in `any_of_k`.

    Raises:
        NotEnoughData: Fewer than two tasks, or a task with fewer than k trials.
    """
    return _mean(_all_drawn(successes, trials, k), level)


def fit_free_slope(k: Floats, n: Floats, successes: Floats, *, level: float = LEVEL) -> FreeSlope:
    """Fit -ln(1 - P) = rate * k**exponent by maximum likelihood: a regression with complementary log-log link.

    Equation: Fisher's scoring (iterated weighted least squares) on ln(-ln(1 - P)) = ln rate + exponent ln k; the robust
    covariance (HC1) is N/(N-2) I⁻¹ (Σ over runs of u u') I⁻¹, u a run's score.

    Args:
        k: Allowed attempts, above zero. [R]
        n: Runs. [R]
        successes: How many of them succeeded. [R]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two distinct k, counts that are none, fewer than three runs, or success and failure
            that a single k separates, where the exponent is infinite.
    """
    _expect_counts(k, n, successes)
    hit, miss, size = k[successes > 0], k[successes < n], float(n.sum())
    if size < 3 or not (len(hit) and len(miss) and miss.max() > hit.min() and hit.max() > miss.min()):  # noqa: PLR2004
        raise NotEnoughData("a single k separates success from failure: the exponent is infinite; collect more runs")
    rate = float(successes.sum()) / size
    start = np.array([math.log(-math.log1p(-rate)), 0.0])
    theta, classical = _maximise(_grouped(_log_miss_power, k, n, successes), start)
    log_miss, slope = _log_miss_power(theta, k)
    odds = 1 / np.expm1(-log_miss)
    meat = (slope * (successes * odds * odds + n - successes)[:, None]).T @ slope
    covariance = classical @ meat @ classical * (size / (size - 2))
    dof = int(size) - 2
    t = t_quantile(dof, level)
    se, se_classical = np.sqrt(np.diag(covariance)).tolist(), np.sqrt(np.diag(classical)).tolist()
    b = float(theta[1])
    return FreeSlope(
        rate=raised(float(theta[0]), se[0], se_classical[0], t),
        exponent=Estimate(b, se[1], b - t * se[1], b + t * se[1], se_classical[1]),
        theta=theta,
        covariance=covariance,
        dof=dof,
        level=level,
    )


def _fit(climb: Climb, n: int, level: float) -> AnyOfK:
    theta, covariance = _maximise(_with_prior(climb), PRIOR_MEAN)
    rows = zip(theta.tolist(), np.sqrt(np.diag(covariance)).tolist(), strict=True)
    alpha, beta = (raised(log, se, se, z_quantile(level)) for log, se in rows)
    return AnyOfK(alpha, beta, theta, covariance, n, level)


def _with_prior(climb: Climb) -> Climb:
    def posterior(theta: Floats) -> tuple[float, Floats, Floats]:
        value, gradient, information = climb(theta)
        away = theta - PRIOR_MEAN
        precision = PRIOR_SD**-2
        return (
            value - 0.5 * precision * float(away @ away),
            gradient - precision * away,
            information + precision * np.eye(2),
        )

    return posterior


def _maximise(climb: Climb, start: Floats) -> tuple[Floats, Floats]:
    """Climb to the top by Fisher's scoring, then on a ridge by Newton's steps; give it and the inverse information."""
    theta, last = start, math.inf
    value, gradient, information = climb(theta)
    for turn in range(ITERATIONS):
        step = np.linalg.solve(information if turn < SCORING else _curvature(climb, theta, information), gradient)
        distance = float(step @ gradient)
        if distance <= TOLERANCE**2 or last <= distance <= ROUNDING**2:
            return theta + step, np.asarray(np.linalg.inv(information), np.float64)
        step *= min(1.0, LONGEST_STEP / float(np.abs(step).max()))
        reached = climb(theta + step)
        while reached[0] < value - 1e-9 * (1 + abs(value)):
            step /= 2
            reached = climb(theta + step)
        theta, (value, gradient, information), last = theta + step, reached, distance
    message = f"the law of any-of-k did not settle within {ITERATIONS} steps (at {theta.tolist()}): check the counts"
    raise NotEnoughData(message)


def _curvature(climb: Climb, theta: Floats, information: Floats) -> Floats:
    """Difference the gradient; where the hill is not concave the expected information stands in."""
    rows = [(climb(theta - step)[1] - climb(theta + step)[1]) / (2 * DIFFERENCE) for step in DIFFERENCE * np.eye(2)]
    curvature = np.array([rows[0], rows[1]])
    curvature = (curvature + curvature.T) / 2
    return curvature if float(np.linalg.eigvalsh(curvature)[0]) > 0 else information


def _grouped(law: LogMiss, k: Floats, n: Floats, successes: Floats) -> Climb:
    """Make the likelihood of s successes of n at each k, for a law of ln(1 - P)."""

    def climb(theta: Floats) -> tuple[float, Floats, Floats]:
        log_miss, slope = law(theta, k)
        hit = -np.expm1(log_miss)
        odds = np.exp(log_miss) / hit
        value = float(successes @ np.log(hit) + (n - successes) @ log_miss)
        return value, slope.T @ (n - successes - successes * odds), (slope * (n * odds)[:, None]).T @ slope

    return climb


def _hazard(law: LogMiss, theta: Floats, covariance: Floats, k: float) -> tuple[float, float]:
    """Give -ln(1 - P(k)) and the standard error of its logarithm."""
    log_miss, slope = law(theta, np.array([float(k)]))
    hazard = -float(log_miss[0])
    return hazard, math.sqrt(float(slope[0] @ covariance @ slope[0])) / hazard


def _probability(law: LogMiss, theta: Floats, covariance: Floats, k: float, quantile: float) -> Estimate:
    hazard, se = _hazard(law, theta, covariance, k)
    spread = math.exp(quantile * se)
    return Estimate(
        -math.expm1(-hazard),
        math.exp(-hazard) * hazard * se,
        -math.expm1(-hazard / spread),
        -math.expm1(-hazard * spread),
    )


def _log_miss_power(theta: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Give -rate k**exponent [R] and its gradient in (ln rate, exponent) [R, 2]."""
    ln_k = np.log(k)
    log_miss = -np.exp(np.clip(theta[0] + theta[1] * ln_k, -HAZARD_LIMIT, math.log(HAZARD_LIMIT)))
    return log_miss, np.stack((log_miss, log_miss * ln_k), axis=1)


def _log_miss(theta: Floats, k: Floats) -> tuple[Floats, Floats]:
    """Give ln(1 - P(k)) [R] and its gradient in (ln alpha, ln beta) [R, 2]."""
    a, b = np.exp(theta)
    both = digamma(a + b) - digamma(a + b + k)
    slope = np.stack((a * both, b * (digamma(b + k) - digamma(b) + both)), axis=1)
    return betaln(a, b + k) - betaln(a, b), slope


def _count_interval(hazard: float, se: float, tasks: int, level: float) -> tuple[int, int]:
    """Give the quantiles of a binomial count of `tasks`, its ln(-ln(1 - P)) normal around ln(hazard)."""
    node, weight = np.polynomial.hermite_e.hermegauss(NODES)
    hazards = np.clip(hazard * np.exp(se * node), 1 / HAZARD_LIMIT**9, HAZARD_LIMIT)[:, None]
    count = np.arange(tasks + 1)
    choose = gammaln(tasks + 1) - gammaln(count + 1) - gammaln(tasks - count + 1)
    share = np.exp(choose + count * np.log(-np.expm1(-hazards)) - (tasks - count) * hazards)
    below = np.cumsum(weight / weight.sum() @ share)
    tail = (1 - level) / 2
    return int(np.searchsorted(below, tail)), min(int(np.searchsorted(below, 1 - tail)), tasks)


def _all_drawn(marked: Floats, size: Floats, k: int) -> Floats:
    """Give the chance that k draws without replacement from `size`, of which some are marked, are all marked."""
    _expect_tasks(marked, size)
    if k < 1 or size.min() < k:
        message = f"{k} attempts of each task need {k} trials of it, one task has {size.min():g}: choose 1 <= k <= that"
        raise NotEnoughData(message)
    drawn = np.arange(k)[:, None]
    return np.asarray(np.prod(np.maximum(marked - drawn, 0) / (size - drawn), axis=0), np.float64)


def _mean(share: Floats, level: float) -> Estimate:
    size, mean = len(share), float(share.mean())
    m2 = float(((share - mean) ** 2).sum())
    lo, hi = mean_interval(size, mean, m2, level)
    return Estimate(mean, math.sqrt(m2 / (size - 1) / size), max(float(lo), 0.0), min(float(hi), 1.0))


def _expect_counts(k: Floats, n: Floats, successes: Floats) -> None:
    if np.any(k <= 0) or np.any(n <= 0) or np.any(successes < 0) or np.any(successes > n):
        raise NotEnoughData("counts need k > 0 and 0 <= successes <= n with n > 0: leave out values without runs")
    if len(np.unique(k)) < 2:  # noqa: PLR2004 - two parameters
        message = f"a law of any-of-k needs at least 2 distinct k, there is {len(np.unique(k))}: vary the limit"
        raise NotEnoughData(message)


def _expect_tasks(successes: Floats, trials: Floats) -> None:
    if len(trials) < 2:  # noqa: PLR2004 - a spread over tasks
        message = f"how tasks differ needs at least 2 tasks, there is {len(trials)}: run more tasks"
        raise NotEnoughData(message)
    if np.any(trials < 1) or np.any(successes < 0) or np.any(successes > trials):
        raise NotEnoughData("counts of tasks need 0 <= successes <= trials with trials >= 1: leave out untried tasks")
