"""Confidence sequences and e-values: intervals and evidence that stay valid however often one looks.

An interval at level 1 - alpha is right at one look; over a hundred looks it misses the truth somewhere in a third of
all experiments. A confidence sequence misses it anywhere, ever, with probability alpha or less. An e-value is its
counterpart for a hypothesis: its expectation under the hypothesis is at most 1 at any stopping time, so that
P(ever >= 1/alpha) <= alpha.

The asymptotic sequence needs nothing but an estimate and its standard error at each look, and errors that have become
normal; for 0/1 outcomes near 0 or 1 and for skewed ones (time) that takes long. Proportions have an exact sequence
here, and times get theirs on the logarithm.

References:
    Waudby-Smith et al. (2021), "Time-uniform central limit theory and asymptotic confidence sequences", equation 9.
    Howard et al. (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences".
"""

import math

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from analytics.moments import Floats
from models.errors import NotEnoughData

ALPHA = 0.05
LOG_LIMIT = 300.0
"""e-values are held within exp(±300), so that every published number is finite."""
LEAST_LOG_TIMES = 10
"""From so many runs on the sequence of a mean of logarithms holds its level."""
HALVINGS = 64


def tuning(alpha: float = ALPHA) -> float:
    """Give c = -2 ln alpha + ln(1 - 2 ln alpha): the ratio r at which a sequence is tightest."""
    return -2 * math.log(alpha) + math.log1p(-2 * math.log(alpha))


def tuned_information(n: Floats | float, se: Floats | float, at: float) -> Floats:
    """Foretell the information 1/SE² at `at` runs from the standard error at n runs: at / (n SE²)."""
    return at / (np.asarray(n, np.float64) * _positive(se) ** 2)


def confidence_sequence(
    estimate: Floats | float, se: Floats | float, tuned: Floats | float, alpha: float = ALPHA
) -> tuple[Floats, Floats]:
    """Give the asymptotic confidence sequence of any estimate with a standard error; arrays broadcast.

    Equation: with I = 1/SE² and r = c I / I* (c: `tuning`), estimate ± SE √(2 (1 + 1/r) ln(√(1 + r) / alpha)); 3.03 SE
    at I = I*, against 1.96 SE for one look.

    Args:
        estimate: At each look.
        se: Its standard error, above zero.
        tuned: I*, the information 1/SE² at which the sequence is to be tightest, fixed before the first look.
        alpha: P(the truth is outside at any look), at most, once the estimates are normal.

    Raises:
        NotEnoughData: A standard error or I* is not above zero.
    """
    error = _positive(se)
    r = _ratio(error, tuned, alpha)
    half = error * np.sqrt(2 * (1 + 1 / r) * (np.log1p(r) / 2 - math.log(alpha)))
    return np.asarray(estimate - half), np.asarray(estimate + half)


def e_value(
    estimate: Floats | float,
    se: Floats | float,
    tuned: Floats | float,
    *,
    null: float = 0.0,
    alpha: float = ALPHA,
) -> Floats:
    """Give the evidence against the hypothesis that the estimated parameter is `null`; arrays broadcast.

    Equation: z = (estimate - null) / SE, e = (1 + r)^(-1/2) exp(r z² / (2 (1 + r))), r as in `confidence_sequence`.
    e >= 1/alpha exactly where `null` lies outside that sequence. Held within exp(±300).

    Raises:
        NotEnoughData: A standard error or I* is not above zero.
    """
    error = _positive(se)
    r = _ratio(error, tuned, alpha)
    z = (np.asarray(estimate, np.float64) - null) / error
    return _bounded_exp(r / (1 + r) * z * z / 2 - np.log1p(r) / 2)


def anytime_p(e: Floats | float) -> Floats:
    """Turn the e-values of successive looks [..., looks] into p-values that are valid at any look: 1 / max e so far."""
    return np.minimum(1.0, np.minimum.accumulate(1.0 / np.atleast_1d(np.asarray(e, np.float64)), axis=-1))


def proportion_e_value(k: Floats | float, n: Floats | float, p: Floats | float) -> Floats:
    """Give the evidence of k successes in n runs against a success rate of p; exact at any n, arrays broadcast.

    Equation: B(1 + k, 1 + n - k) / (p^k (1 - p)^(n - k)), the likelihood averaged over a uniform prior by that at p;
    held within exp(±300).

    References:
        Robbins (1970), "Statistical methods related to the law of the iterated logarithm".
    """
    return _bounded_exp(_log_mixture(np.asarray(k, np.float64), np.asarray(n, np.float64), np.asarray(p, np.float64)))


def proportion_sequence(k: Floats | float, n: Floats | float, alpha: float = ALPHA) -> tuple[Floats, Floats]:
    """Give the exact confidence sequence of a success rate: every p whose e-value is below 1/alpha; arrays broadcast.

    The ends are found by halving, from the outside, so that rounding can only widen the interval; n = 0 gives (0, 1).

    Raises:
        NotEnoughData: k is not within 0 and n.
    """
    k, n = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    if not bool(((k >= 0) & (k <= n)).all()):
        raise NotEnoughData("a proportion needs 0 <= successes <= runs: count each run once")
    limit = -math.log(alpha)
    rate = np.divide(k, n, out=np.full(k.shape, 0.5), where=n > 0)

    def halve(outside: Floats) -> Floats:
        inside = rate
        for _ in range(HALVINGS):
            middle = (outside + inside) / 2
            rejected = _log_mixture(k, n, middle) >= limit
            outside, inside = np.where(rejected, middle, outside), np.where(rejected, inside, middle)
        return outside

    lo, hi = halve(np.zeros(k.shape)), halve(np.ones(k.shape))
    return np.where(k == 0, 0.0, lo), np.where(k == n, 1.0, hi)


def geometric_mean_sequence(
    n: Floats | float, mean: Floats | float, m2: Floats | float, tuned: float, alpha: float = ALPHA
) -> tuple[Floats, Floats]:
    """Give the confidence sequence of a geometric mean (a lognormal's median) from moments of ln t; arrays broadcast.

    Equation: exp of `confidence_sequence` of the mean of ln t with SE² = m2 / (n - 1) / n and I / I* = n / tuned.

    Args:
        n: Runs, at least ten.
        mean: Mean of ln t, t in seconds (or dollars).
        m2: Sum of squared deviations of ln t.
        tuned: The number of runs at which the sequence is to be tightest.
        alpha: P(the truth is outside at any look), at most.

    Returns:
        Its ends, in the unit of t.

    Raises:
        NotEnoughData: Fewer than ten runs somewhere, or equal times throughout.
    """
    count = np.asarray(n, np.float64)
    if bool((count < LEAST_LOG_TIMES).any()):
        message = (
            f"the sequence of a geometric mean needs at least {LEAST_LOG_TIMES} runs, "
            f"there are {count.min():g}: collect more runs"
        )
        raise NotEnoughData(message)
    se = np.sqrt(np.asarray(m2, np.float64) / (count - 1) / count)
    lo, hi = confidence_sequence(mean, se, tuned_information(count, se, tuned), alpha)
    return np.exp(lo), np.exp(hi)


def _positive(se: Floats | float) -> Floats:
    error = np.asarray(se, np.float64)
    if not bool((error > 0).all()):
        raise NotEnoughData("a sequential test needs a standard error above 0: collect runs that differ")
    return error


def _ratio(error: Floats, tuned: Floats | float, alpha: float) -> Floats:
    star = np.asarray(tuned, np.float64)
    if not bool((star > 0).all()):
        message = f"the tuned information must be above 0, it is {float(star.min()):g}: take 1/SE² at the planned size"
        raise NotEnoughData(message)
    return np.asarray(tuning(alpha) / (error * error * star))


def _log_mixture(k: Floats, n: Floats, p: Floats) -> Floats:
    return np.asarray(betaln(1 + k, 1 + n - k) - xlogy(k, p) - xlog1py(n - k, -p))


def _bounded_exp(log: Floats) -> Floats:
    return np.asarray(np.exp(np.clip(log, -LOG_LIMIT, LOG_LIMIT)))
