"""T27: values of a policy from another one's log: doubly robust, cross-fitted, refused where there is too little."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import expit

from analytics.moments import Floats, Ints
from analytics.policy_value import Logged, OutcomeModel, cell_model, doubly_robust, policy_value, regression_model
from models.errors import NotEnoughData
from models.laws import Estimate

pytestmark = pytest.mark.statistics

Choose = Callable[[int, int], int]
Record = Callable[..., None]

STRATA = 10
LN_AGENTS = np.log([1.0, 2, 3, 4, 6, 8])
ACTIONS = len(LN_AGENTS)
LOGGING = 2
"""The log is of three agents for every task, but for what is explored."""
POLICY = np.array([0, 1, 2, 2, 2, 2, 2, 2, 4, 5])
"""Fewer agents for easy tasks and more for hard ones: it agrees with the log in six strata of ten."""


def success(z: Floats, action: Ints) -> Floats:
    """Give the true probability of success."""
    return np.asarray(expit(-0.2 + (0.4 + 0.4 * (z - 0.5)) * LN_AGENTS[action] - 4 * (z - 0.5)))


def stratum_of(z: Floats) -> Ints:
    """Give the complexity bin."""
    return np.minimum((z * STRATA).astype(np.int64), STRATA - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """A simulated log with its models."""

    logged: Logged
    cells: OutcomeModel
    regression: OutcomeModel


def log_of(rng: np.random.Generator, decisions: int, explored: float) -> Log:
    """Log decisions of which a share is drawn uniformly from the six actions."""
    z = rng.random(decisions)
    stratum = stratum_of(z)
    action = np.where(rng.random(decisions) < explored, rng.integers(ACTIONS, size=decisions), LOGGING)
    y = (rng.random(decisions) < success(z, action)).astype(np.float64)
    propensity = np.where(action == LOGGING, 1 - explored, 0.0) + explored / ACTIONS
    policy = np.zeros((STRATA, ACTIONS))
    policy[np.arange(STRATA), POLICY] = 1.0
    logged = Logged(y, propensity, policy[stratum, action], rng.integers(5, size=decisions))

    def features(chosen: Ints) -> Floats:
        ln = LN_AGENTS[chosen]
        return np.stack((np.ones(decisions), z, ln, ln * ln, z * ln), axis=1)

    return Log(
        logged,
        cell_model(stratum, action, y, policy),
        regression_model(features(action), features(POLICY[stratum]), y),
    )


def truth() -> float:
    """Integrate the policy's success over tasks."""
    z = (np.arange(200_000) + 0.5) / 200_000
    return float(success(z, POLICY[stratum_of(z)]).mean())


@dataclass(frozen=True, slots=True)
class Scores:
    """Root mean squared error and coverage of an estimate."""

    rmse: float
    coverage: float

    @classmethod
    def of(cls, found: list[Estimate]) -> "Scores":
        """Score estimates of the policy's value."""
        right = truth()
        errors = np.array([one.estimate - right for one in found])
        return cls(float(np.sqrt((errors**2).mean())), float(np.mean([one.lo <= right <= one.hi for one in found])))


def test_t27_cross_fitted_doubly_robust_values_cover(
    simulations: Choose, record: Record, *, full_statistics: bool
) -> None:
    """At 10 % exploration and 10,000 decisions intervals cover, the error is .025 at most, and IPS errs by more."""
    runs, rng = simulations(80, 1000), np.random.default_rng(27)
    cells, regressions, snips, ips, ess = [], [], [], [], []
    for _ in range(runs):
        log = log_of(rng, 10_000, 0.1)
        found = policy_value(log.logged, log.cells)
        cells.append(found.value)
        snips.append(found.snips)
        ips.append(found.ips)
        regressions.append(policy_value(log.logged, log.regression).value)
        ess.append(found.ess)
    scores = {name: Scores.of(each) for name, each in (("cells", cells), ("regression", regressions))}
    weighted, plain = Scores.of(snips), Scores.of(ips)
    slack = 0.0 if full_statistics else 3 * (0.05 * 0.95 / runs) ** 0.5
    record("T27", "effective sample size", float(np.mean(ess)), threshold=">= 200", runs=runs)
    for name, score in scores.items():
        reference = f"SNIPS {weighted.rmse:.4f}, IPS {plain.rmse:.4f}"
        record("T27", f"RMSE, DR by {name}", score.rmse, threshold="<= .025", runs=runs, reference=reference)
        record("T27", f"coverage, DR by {name}", score.coverage, threshold=">= .92", runs=runs)
        assert score.coverage >= 0.92 - slack
        assert score.rmse <= 0.025 * (1 + (0.0 if full_statistics else 3 / (2 * runs) ** 0.5))
        assert plain.rmse > 1.25 * score.rmse


def test_t27_a_model_fitted_on_its_own_decisions_is_too_sure(simulations: Choose, record: Record) -> None:
    """In-sample models explain away part of the error: their intervals cover less often than cross-fitted ones."""
    runs, rng = simulations(400, 2000), np.random.default_rng(271)
    crossed, in_sample, ess = [], [], []
    for _ in range(runs):
        log = log_of(rng, 2000, 0.05)
        crossed.append(policy_value(log.logged, log.cells, least_ess=0).value)
        in_sample.append(doubly_robust(log.logged, *log.cells(np.ones(2000, dtype=bool))).value)
        ess.append(log.logged.ess)
    own, others = Scores.of(in_sample), Scores.of(crossed)
    record(
        "T27",
        f"coverage of an in-sample model, effective sample size {np.mean(ess):.0f}",
        own.coverage,
        threshold="less than cross-fitted",
        runs=runs,
        reference=f"cross-fitted {others.coverage:.3f}",
    )
    shorter = np.mean([one.se for one in in_sample]) / np.mean([one.se for one in crossed])
    assert own.coverage < others.coverage
    assert shorter < 0.95


def test_t27_too_small_an_effective_sample_is_refused(simulations: Choose, record: Record) -> None:
    """Below 200 there is no value but the numbers; at 5 % exploration 2,000 decisions are worth 45."""
    runs, rng = simulations(20, 200), np.random.default_rng(272)
    refused = 0
    for _ in range(runs):
        log = log_of(rng, 2000, 0.05)
        with pytest.raises(NotEnoughData, match=r"effective sample size \d+ of 2000 decisions .* below 200"):
            policy_value(log.logged, log.cells)
        refused += 1
    record("T27", "refused at 2,000 decisions, 5 % explored", refused / runs, threshold="1", runs=runs)
