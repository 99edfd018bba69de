"""Promises of an allocation: what its choice may be said to bring, shrunk as the best of many estimates must be."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from analytics.moments import Floats, Ints
from analytics.outlook import Outlook
from analytics.pooling import quadrature
from analytics.promise import NO_DIFFERENCE, WIDTH
from analytics.setting_grid import Flags
from models.errors import NotEnoughData

SAMPLE = 256
"""Settings of a large grid that a promise is judged by."""


NO_ERROR = 1e-9
"""The least variance of a prediction, as a share of the largest: one that is certain would outweigh all others."""


@dataclass(frozen=True, slots=True)
class Promised:
    """What the chosen setting may be said to bring: the best of many estimates flatters itself.

    Attributes:
        outcome: Its shrunk expected outcome.
        gain: What it gains over the reference, shrunk; over the settings' common mean where there is none.
        raw_gain: The same without shrinkage, for comparison: too much.
        no_difference: Posterior probability that all settings do the same.
    """

    outcome: float
    gain: float
    raw_gain: float
    no_difference: float


def shrunk_promise(
    mean: Floats, se: Floats, chosen: int, reference: int | None = None, independent: float | None = None
) -> Promised:
    """Shrink the settings' expected outcomes towards their common mean, and promise the chosen one's.

    The equation is that of `analytics.promise.promise`, and so are the priors. A law's predictions at G settings are
    fewer than G estimates: the likelihood of the spread counts as much as that of `independent` ones.

    Args:
        mean: Expected outcomes of the settings that competed. [G]
        se: Their standard errors, without what all of them have in common. [G]
        chosen: The row chosen.
        reference: The row to compare with.
        independent: How many independent estimates the G amount to; absent: G.

    Raises:
        NotEnoughData: Fewer than two settings, or no errors.

    References:
        Smith and Winkler (2006), "The Optimizer's Curse".
    """
    rows = len(mean)
    if rows < 2 or not se.max() > 0:  # noqa: PLR2004 - a best and another one
        message = f"a promise needs at least 2 settings with errors, there are {rows}: widen the limits, or draw more"
        raise NotEnoughData(message)
    variance = np.maximum(se * se, NO_ERROR * float(se.max()) ** 2)
    few = _evenly(rows)
    y, v = mean[few], variance[few]
    share = min(rows if independent is None else independent, rows) / len(few)
    noise = float(np.mean(1 / v)) ** -0.5
    scale = WIDTH * noise

    def log_likelihood(tau: Floats) -> Floats:
        precision = 1 / (v + (tau * tau)[:, None])
        total = precision.sum(axis=1)
        away = y - (precision @ y / total)[:, None]
        return np.asarray((share * (np.log(precision) - precision * away * away).sum(axis=1) - np.log(total)) / 2)

    def log_density(tau: Floats) -> Floats:
        return np.asarray(log_likelihood(tau) - np.log1p((tau / scale) ** 2) + np.log(2 / np.pi / scale))

    tau, log_mass = quadrature(log_density, noise, float(np.ptp(y)) + scale)
    null = np.log(NO_DIFFERENCE) + log_likelihood(np.zeros(1))
    tau, weight = np.append(0.0, tau), softmax(np.append(null, np.log(1 - NO_DIFFERENCE) + log_mass))
    precision = 1 / (v + (tau * tau)[:, None])
    centre = precision @ y / precision.sum(axis=1)

    def shrunk(row: int) -> float:
        return float(weight @ (mean[row] + variance[row] / (variance[row] + tau * tau) * (centre - mean[row])))

    common = float(weight @ centre)
    over, raw = (common, common) if reference is None else (shrunk(reference), float(mean[reference]))
    return Promised(
        outcome=shrunk(chosen),
        gain=shrunk(chosen) - over,
        raw_gain=float(mean[chosen]) - raw,
        no_difference=float(weight[0]),
    )


def promise_of(outlook: Outlook, chosen: int, reference: int | None = None, among: Flags | None = None) -> Promised:
    """Promise what a setting of an outlook brings, the errors and their number taken from the draws.

    Equation: with E the draws less their means over the settings and then over the draws, n = D - 1 and S = E E' / n,
    the number is R = 1 + (tr S)² / q, q the unbiased estimate of tr Σ², which is
    (tr S² - (tr S)² / n) n² / ((n - 1) (n + 2)), and the errors are those of E times √(R / (R - 1)). Of R equal and
    independent estimates this gives back R and their errors; a level that all settings share counts for neither.

    Args:
        outlook: The predictions; of a large grid every so-manieth is looked at.
        chosen: The row chosen.
        reference: The row to compare with, such as the fixed setting that is used today.
        among: The settings that competed, such as `Choice.affordable`; absent: all. [G]

    Raises:
        NotEnoughData: As `shrunk_promise`, or fewer than three draws.
    """
    n = len(outlook.draws) - 1
    if n < 2:  # noqa: PLR2004 - the equation divides by n - 1
        raise NotEnoughData(f"a promise needs at least 3 draws, there are {n + 1}: draw more")
    rivals = np.arange(len(outlook.grid)) if among is None else np.flatnonzero(among)
    asked = [chosen] if reference is None else [chosen, reference]
    rows = np.unique(np.append(rivals[_evenly(len(rivals))], asked))
    errors = outlook.draws[:, rows]
    errors -= errors.mean(axis=1, keepdims=True)
    errors -= errors.mean(axis=0)
    gram = errors @ errors.T / n
    total, square = float(np.trace(gram)), float((gram * gram).sum())
    if total <= 0:
        raise NotEnoughData("the draws do not differ between settings: a promise needs settings with errors")
    # In as many dimensions as there are draws the unbiased estimate can be next to nothing, or below it.
    unbiased = max((square - total * total / n) * n * n / ((n - 1) * (n + 2)), square / n)
    independent = 1 + total * total / unbiased
    se = np.sqrt((errors * errors).sum(axis=0) / n * independent / (independent - 1))
    places = np.searchsorted(rows, asked)
    other = None if reference is None else int(places[1])
    return shrunk_promise(outlook.outcome[rows], se, int(places[0]), other, independent)


def _evenly(rows: int) -> Ints:
    """Pick every so-manieth of many rows."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).round().astype(np.int64))
