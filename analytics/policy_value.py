"""Off-policy evaluation: what a policy would have brought, from decisions that another one made and logged.

The value is doubly robust: a model of the outcome at what the policy would do, plus the model's error where the log
happens to have done the same, weighted by how seldom it does. The model of a decision is fitted on the other folds:
fitted on its own, it would explain away the error that corrects it.

References:
    Dudík, Langford and Li (2011), "Doubly Robust Policy Evaluation and Learning".
    Swaminathan and Joachims (2015), "The Self-Normalized Estimator for Counterfactual Learning".
    Chernozhukov et al. (2018), "Double/debiased machine learning", for cross-fitting.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analytics.cells import Flags
from analytics.generalised_linear import Link, Variance, cluster_sums, fit_generalised, mean_at
from analytics.intervals import LEVEL, t_quantile, z_quantile
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Estimate

LEAST_ESS = 200.0
"""Below this effective sample size intervals cover too seldom: 84 % at 47, 90.5 % at 83, 95 % at 228."""

PRIOR_RUNS = 4.0
"""Runs' worth of a cell's additive expectation that its mean is drawn towards."""

RIDGE = 0.3
"""Weight, in units of information, with which the standardised columns of a regression are drawn to 0."""

CONSTANT = 1e-9
"""A column whose standard deviation is below this share of its largest value does not vary."""

OutcomeModel = Callable[[Flags], tuple[Floats, Floats]]
"""Fits on the decisions of a mask [N]; gives the expected outcome of every decision as logged, and under the policy."""


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """N logged decisions whose outcome has come.

    Attributes:
        outcome: What it brought. [N]
        propensity: The probability, at the time, of what was done; above zero. [N]
        chosen: The probability with which the policy would do the same. [N]
        fold: Decisions about one task share a fold. [N]
        cluster: Codes of what makes outcomes correlated, such as tasks; None where decisions are independent. [N]
    """

    outcome: Floats
    propensity: Floats
    chosen: Floats
    fold: Ints
    cluster: Ints | None = None

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def weight(self) -> Floats:
        """Give how many decisions of the policy each logged one stands for. [N]."""
        return np.asarray(self.chosen / self.propensity)

    @property
    def ess(self) -> float:
        """Give the effective sample size (Σ w)² / Σ w², 0 without any match."""
        weight = self.weight
        square = float(weight @ weight)
        return float(weight.sum()) ** 2 / square if square > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """The mean outcome of a policy.

    Attributes:
        value: Doubly robust.
        snips: Self-normalised inverse propensity scoring: beside it, to see whether the two agree.
        ips: Inverse propensity scoring.
        modelled: What the outcome model alone says.
        logged: The mean of what was logged.
        gain: Value less logged, decision by decision.
        weight: Mean of the weights: 1, or less where the policy does what the log could not.
        ess: Effective sample size.
        n: Decisions.
        matched: Decisions in which the log did what the policy might do.
    """

    value: Estimate
    snips: Estimate
    ips: Estimate
    modelled: float
    logged: Estimate
    gain: Estimate
    weight: Estimate
    ess: float
    n: int
    matched: int


def policy_value(
    logged: Logged, model: OutcomeModel, *, least_ess: float = LEAST_ESS, level: float = LEVEL
) -> PolicyValue:
    """Value a policy by the doubly robust mean, the model of each decision fitted on the other folds.

    Args:
        logged: The decisions, and how likely the policy is to do what was done.
        model: Of the outcome; see `cell_model` and `regression_model`.
        least_ess: Below this effective sample size there is no value.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: A propensity is not within (0, 1], fewer than two folds, too small an effective sample size, or
            too little to fit the model on.
    """
    if not bool(((logged.propensity > 0) & (logged.propensity <= 1)).all()):
        raise NotEnoughData("a logged propensity is not within (0, 1]: leave out decisions made without one")
    ess, matched = logged.ess, int(np.count_nonzero(logged.weight))
    if ess < least_ess:
        needed = math.ceil(len(logged) * least_ess / ess) if ess > 0 else 0
        more = f"about {needed} decisions would do" if needed else "no logged decision is one that the policy makes"
        message = (
            f"effective sample size {ess:.0f} of {len(logged)} decisions ({matched} of them match the policy) is below "
            f"{least_ess:g}: {more}; explore more, or longer"
        )
        raise NotEnoughData(message)
    expected, under = cross_fitted(logged, model)
    return doubly_robust(logged, expected, under, level=level)


def cross_fitted(logged: Logged, model: OutcomeModel) -> tuple[Floats, Floats]:
    """Give the expected outcomes as logged, and under the policy, of each decision by the other folds' model. [N].

    Raises:
        NotEnoughData: Fewer than two folds, or too little to fit the model on.
    """
    folds = np.unique(logged.fold)
    if len(folds) < 2:  # noqa: PLR2004 - one to fit, one to predict
        raise NotEnoughData("cross-fitting needs 2 folds, there is 1: log more tasks")
    expected, under = np.empty(len(logged)), np.empty(len(logged))
    for fold in folds:
        here = logged.fold == fold
        by_others = model(~here)
        expected[here], under[here] = by_others[0][here], by_others[1][here]
    return expected, under


def doubly_robust(logged: Logged, expected: Floats, under: Floats, *, level: float = LEVEL) -> PolicyValue:
    """Correct a model by what was logged.

    Equation: V = mean of u + w (y - q), q the expected outcome as logged, u that under the policy, w = chosen /
    propensity. SNIPS: Σ w y / Σ w. Gain: the mean of these scores less y. Errors are those of the means, by cluster
    where there are any.

    Args:
        logged: The decisions.
        expected: q. [N]
        under: u. [N]
        level: The coverage of the intervals.
    """
    y, weight = logged.outcome, logged.weight
    total = float(weight.sum())
    snips = float(weight @ y) / total if total > 0 else math.nan
    scores = under + weight * (y - expected)
    return PolicyValue(
        value=_mean(scores, logged.cluster, level),
        snips=_mean(snips + weight * (y - snips) / (total / len(y)), logged.cluster, level),
        ips=_mean(weight * y, logged.cluster, level),
        modelled=float(under.mean()),
        logged=_mean(y, logged.cluster, level),
        gain=_mean(scores - y, logged.cluster, level),
        weight=_mean(weight, logged.cluster, level),
        ess=logged.ess,
        n=len(logged),
        matched=int(np.count_nonzero(weight)),
    )


def cell_model(stratum: Ints, action: Ints, outcome: Floats, policy: Floats) -> OutcomeModel:
    """Model outcomes by the means of strata and actions; for few actions.

    Equation: q_sa = (Σ y + 4 e_sa) / (n_sa + 4), e_sa = m_s + m_a - m, held within the outcomes' range; the means m_s
    of strata and m_a of actions are likewise drawn to the grand mean m.

    Args:
        stratum: Of each decision, 0 to S - 1. [N]
        action: What was done, 0 to A - 1. [N]
        outcome: What it brought. [N]
        policy: The probability of each action in each stratum. [S, A]
    """
    strata, actions = policy.shape

    def model(fitted: Flags) -> tuple[Floats, Floats]:
        y = outcome[fitted]
        grand, cell = float(y.mean()), (stratum[fitted], action[fitted])
        runs, total = np.zeros((strata, actions)), np.zeros((strata, actions))
        np.add.at(runs, cell, 1.0)
        np.add.at(total, cell, y)
        by_stratum, by_action = (
            (total.sum(axis=axis) + PRIOR_RUNS * grand) / (runs.sum(axis=axis) + PRIOR_RUNS) for axis in (1, 0)
        )
        additive = np.clip(np.add.outer(by_stratum, by_action) - grand, y.min(), y.max())
        q = (total + PRIOR_RUNS * additive) / (runs + PRIOR_RUNS)
        return q[stratum, action], (policy * q).sum(axis=1)[stratum]

    return model


def regression_model(X: Floats, X_policy: Floats, outcome: Floats, link: Link = "logit") -> OutcomeModel:
    """Model outcomes by a ridge regression on the features of context and setting; for many actions.

    Args:
        X: Features of each decision as logged, the first column 1. [N, p]
        X_policy: Features of what the policy would do. [N, p], or of M equally likely things. [M, N, p]
        outcome: What was brought: within [0, 1] for logit, positive for log. [N]
        link: Of the mean.

    Raises:
        NotEnoughData: When the model is called: an outcome that does not vary, or columns that are not independent.
    """
    variance: Variance = "binomial" if link == "logit" else "mu2" if link == "log" else "constant"

    def model(fitted: Flags) -> tuple[Floats, Floats]:
        rows = X[fitted]
        scale = rows.std(axis=0)
        # Rounding gives a constant column a spread of its own.
        scale = np.where(scale > CONSTANT * np.abs(rows).max(axis=0), scale, 1.0)
        ridge = np.full(X.shape[1], RIDGE)
        ridge[0] = 0.0
        ones, none = np.ones(len(rows)), np.zeros(len(rows))
        fit = fit_generalised(rows / scale, ones, outcome[fitted], none, link=link, variance=variance, ridge=ridge)
        beta = fit.beta / scale
        under = mean_at(X_policy @ beta, link)
        return mean_at(X @ beta, link), under if under.ndim == 1 else under.mean(axis=0)

    return model


def _mean(scores: Floats, cluster: Ints | None, level: float) -> Estimate:
    """Estimate the mean of scores [N]."""
    mean = float(scores.mean())
    away = scores - mean
    if cluster is None:
        sums, quantile = away, z_quantile(level)
    else:
        sums = cluster_sums(away[:, None], cluster)[:, 0]
        quantile = t_quantile(len(sums) - 1, level)
    classical = math.sqrt(float(away @ away) / (len(away) - 1) / len(away))
    se = math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / len(scores)
    return Estimate(mean, se, mean - quantile * se, mean + quantile * se, classical)
