from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.simulation import simulate
from analytics.world import LAWS, World, confounded_world
from models.dimensions import Dimension

START = datetime(2026, 3, 1, tzinfo=UTC)
FIELDS = {
    Dimension.ITERATIONS: "max_iterations",
    Dimension.PARALLELISM_LEVEL: "parallelism_level",
    Dimension.CONTEXT: "context_budget",
    Dimension.MODEL_SIZE: "model_params_b",
}


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Give 20,000 runs of the confounded world."""
    return list(simulate(confounded_world(), 20_000, seed=3, start=START))


def test_agents_seem_to_hurt_and_help_at_equal_complexity(events: list[dict[str, Any]]) -> None:
    """The slope of success on ln agents is below zero as the runs stand, and above it with complexity held fixed."""
    ln_x = np.log([event["agent_count"] for event in events])
    success = np.array([float(event["success"]) for event in events])
    complexity = np.array([event["task_complexity"] for event in events])
    naive = sm.OLS(success, sm.add_constant(ln_x)).fit(cov_type="HC3")
    adjusted = sm.OLS(success, sm.add_constant(np.column_stack((ln_x, complexity)))).fit(cov_type="HC3")
    assert naive.conf_int()[1][1] < 0
    assert adjusted.conf_int()[1][0] > 0
    # The slope at equal complexity is, about, the planted exponent times the mean.
    assert adjusted.params[1] / success.mean() == pytest.approx(LAWS[0].exponent, abs=0.06)


def test_within_a_task_the_planted_exponent_is_exact(events: list[dict[str, Any]]) -> None:
    """With each task's ease known, E[success] over ease goes with agents by the planted exponent."""
    ease = confounded_world().ease()
    task = np.array([int(event["task_id"].removeprefix("task-")) for event in events])
    ln_x = np.log([event["agent_count"] for event in events])
    success = np.array([float(event["success"]) for event in events])
    fit = sm.GLM(success, sm.add_constant(ln_x), family=sm.families.Poisson(), offset=np.log(ease[task])).fit(
        cov_type="HC1"
    )
    assert abs(fit.params[1] - LAWS[0].exponent) < 3 * fit.bse[1]


@pytest.mark.parametrize("law", [law for law in LAWS if law.dimension in FIELDS], ids=lambda law: str(law.dimension))
def test_the_other_laws_are_not_confounded(events: list[dict[str, Any]], law: Any) -> None:  # noqa: ANN401 - a law
    """Only agents go with difficulty: the plain fit finds every other planted exponent."""
    rows = [(event[FIELDS[law.dimension]], float(event[law.outcome])) for event in events if law.outcome in event]
    x, y = np.array(rows).T
    fit = sm.GLM(y, sm.add_constant(np.log(x)), family=sm.families.Poisson()).fit(cov_type="HC1")
    assert abs(fit.params[1] - law.exponent) < 3.5 * fit.bse[1]


def test_the_plain_world_does_not_deceive() -> None:
    """Without confounding the same fit has the right sign: it is the assignment of agents that deceives."""
    events = list(simulate(World(), 10_000, seed=3, start=START))
    ln_x = np.log([event["agent_count"] for event in events])
    fit = sm.OLS([float(event["success"]) for event in events], sm.add_constant(ln_x)).fit(cov_type="HC3")
    assert fit.conf_int()[1][0] > 0
