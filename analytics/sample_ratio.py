"""Sample ratio: whether the values got, and kept, the shares of runs that they were meant to have.

Look twice: at assignments against the plan, and at what became of them. A timeout that ends the runs of large settings
leaves the easy ones, and their success rate tells a story of its own.

References:
    Lindon and Malek (2022), "Anytime-Valid Inference for Multinomial Count Data".
    Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments".
"""

import numpy as np
from scipy.special import gammaln, xlogy
from scipy.stats import chi2_contingency

from analytics.confidence_sequences import LOG_LIMIT
from analytics.moments import Counts, Floats
from models.errors import NotEnoughData

CONCENTRATION = 300.0
"""Runs that the prior is worth: the plan is doubted within about one over its root."""


def sample_ratio_e_values(counts: Counts, shares: Counts | None = None, concentration: float = CONCENTRATION) -> Floats:
    """Give the evidence against multinomial counts with these shares at each look; valid at any stopping time.

    Equation: with c the concentration and n = Σ n_j,
    ln e = ln Γ(c) - ln Γ(c + n) + Σ [ln Γ(c θ_j + n_j) - ln Γ(c θ_j)] - Σ n_j ln θ_j: the likelihood averaged over a
    Dirichlet(c θ) prior by that at θ. Held within exp(±300). Permuted blocks vary less than a multinomial: it then
    alarms less often than it may.

    Args:
        counts: Runs of each value. [..., m]
        shares: θ, up to a factor; all the same where absent. A value without a share must have no run. [..., m]
        concentration: c.

    Returns:
        e-values. [...]

    Raises:
        NotEnoughData: A negative count or share, or no share above zero.
    """
    return _bounded_exp(_log_evidence(counts, shares, concentration))


def sample_ratio_e_value(counts: Counts, shares: Counts | None = None, concentration: float = CONCENTRATION) -> float:
    """Give the evidence at one look; see `sample_ratio_e_values`."""
    return float(sample_ratio_e_values(counts, shares, concentration))


def attrition_e_values(completed: Counts, assigned: Counts, concentration: float = CONCENTRATION) -> Floats:
    """Give the evidence against equal completion rates at each look; valid at any stopping time.

    Equation: e of the completed times e of the lost, both with shares θ ∝ assigned. Where it does not matter to an
    assignment's fate, its value is a draw from θ whatever became of it. Where few are lost, the lost tell soonest.

    Args:
        completed: Assignments that led to a run, of those counted as assigned. [..., m]
        assigned: Assignments whose time is over: what may still come is neither completed nor lost. [..., m]
        concentration: As in `sample_ratio_e_values`.

    Returns:
        e-values. [...]

    Raises:
        NotEnoughData: More runs than assignments, or nothing assigned.
    """
    whole, done = _fates(completed, assigned)
    log = _log_evidence(done, whole, concentration) + _log_evidence(whole - done, whole, concentration)
    return _bounded_exp(log)


def attrition_e_value(completed: Counts, assigned: Counts, concentration: float = CONCENTRATION) -> float:
    """Give the evidence at one look; see `attrition_e_values`."""
    return float(attrition_e_values(completed, assigned, concentration))


def attrition_test(completed: Counts, assigned: Counts) -> float:
    """Give the p of equal completion rates: Pearson's χ² of the m by 2 table, for one look.

    Values without assignments are left out.

    Args:
        completed: As in `attrition_e_values`. [m]
        assigned: As in `attrition_e_values`. [m]

    Raises:
        NotEnoughData: Fewer than two values with assignments, more runs than assignments, or all or none completed.
    """
    whole, done = _fates(completed, assigned)
    used = whole > 0
    lost = whole - done
    if int(used.sum()) < 2:  # noqa: PLR2004 - a comparison
        message = f"attrition is compared among 2 values with assignments, there are {int(used.sum())}: assign more"
        raise NotEnoughData(message)
    if not (done.sum() > 0 and lost.sum() > 0):
        which = "all" if done.sum() > 0 else "none"
        message = f"{which} of {whole.sum():g} assignments led to a run: completion rates do not differ"
        raise NotEnoughData(message)
    return float(chi2_contingency(np.stack([done[used], lost[used]]), correction=False).pvalue)


def _fates(completed: Counts, assigned: Counts) -> tuple[Floats, Floats]:
    whole, done = np.asarray(assigned, np.float64), np.asarray(completed, np.float64)
    if bool(((done < 0) | (done > whole)).any()):
        raise NotEnoughData("completed runs must be between 0 and the assignments of their value: count each run once")
    return whole, done


def _log_evidence(counts: Counts, shares: Counts | None, concentration: float) -> Floats:
    n = np.asarray(counts, np.float64)
    share = np.ones(n.shape[-1:]) if shares is None else np.asarray(shares, np.float64)
    total = share.sum(axis=-1, keepdims=True)
    if bool((n < 0).any()) or bool((share < 0).any()) or not bool((total > 0).all()):
        raise NotEnoughData("a sample ratio needs counts of 0 or more and a share above 0: count assignments first")
    theta = share / total
    meant = theta > 0
    prior = np.where(meant, concentration * theta, 1.0)
    gained = gammaln(prior + n) - gammaln(prior) - xlogy(n, np.where(meant, theta, 1.0))
    log = gammaln(concentration) - gammaln(concentration + n.sum(axis=-1)) + np.where(meant, gained, 0.0).sum(axis=-1)
    return np.where((~meant & (n > 0)).any(axis=-1), np.inf, log)


def _bounded_exp(log: Floats) -> Floats:
    return np.asarray(np.exp(np.clip(log, -LOG_LIMIT, LOG_LIMIT)))
