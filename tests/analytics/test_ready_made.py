"""Ready-made experiments: the document's own word for word, and sizes that can tell an effect from none."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest

from agents.definitions import canonical, check_definition, read_definition
from analytics.ready_made import READY_MADE
from models.dimensions import Dimension, Outcome
from models.experiments import Definition

NORMAL = NormalDist()
SD = {Outcome.SUCCESS: math.sqrt(0.6 * 0.4), Outcome.QUALITY_SCORE: 0.2, Outcome.TIME_TO_COMPLETE: 0.8}
ANYTIME = 3.0352
"""Half-width of the sequence at its tuned size in standard errors, alpha = .05: √(2 (1 + 1/c) ln(√(1 + c) / .05))."""


def standard_error(definition: Definition) -> float:
    """Give the error of the effect from the design matrix, or from two means."""
    kept = 1.0
    if definition.assignment == "switchback":
        kept -= definition.washout_seconds / definition.switchback_seconds
    n, sd = kept * definition.planned_per_value, SD[definition.outcome]
    if definition.estimand == "contrast":
        return sd * math.sqrt(2 / n)
    x = np.array(definition.values_tested, np.float64)
    design = np.stack((np.ones(len(x)), np.log(x)), axis=1)
    slope_variance = float(np.linalg.inv(n * design.T @ design)[1, 1]) * sd**2
    return math.sqrt(slope_variance) * math.log(x[-1] / x[0])


def test_the_experiment_on_agents_is_the_documents() -> None:
    """Name, hypothesis, values, control, minimum and filter are word for word; the rest says how it is run."""
    agents = READY_MADE["agent_count"]
    assert agents.name == "Agent Count Scaling"
    assert agents.hypothesis == "Success rate improves logarithmically with agent count"
    assert (agents.dimension_tested, agents.outcome) == (Dimension.AGENT_COUNT, Outcome.SUCCESS)
    assert agents.values_tested == [1, 2, 3, 4, 6, 8]
    assert agents.control_value == 1
    assert agents.min_samples_per_value == 30
    assert agents.context_filter == {"min_complexity": "medium"}
    assert (agents.planned_per_value, agents.stopping, agents.minimum_effect) == (200, "sequential", 0.2)
    assert (agents.direction, agents.estimand) == ("increase", "slope")


def test_every_dimension_has_one_that_the_checks_pass_unchanged() -> None:
    """Each is valid, in its normal form, named by its dimension, and the same after a trip through JSON."""
    assert list(READY_MADE) == [dimension.value for dimension in Dimension]
    for name, definition in READY_MADE.items():
        assert definition.dimension_tested == name == definition.experiment_id
        assert check_definition(definition) == definition
        assert canonical(read_definition(json.loads(canonical(definition)))) == canonical(definition)


def test_outcomes_are_those_of_the_documents_table() -> None:
    """Success for agents and attempts, time for parallelism, quality for the others; time is to fall."""
    assert {name: definition.outcome.value for name, definition in READY_MADE.items()} == {
        "agent_count": "success",
        "iterations": "quality_score",
        "parallelism_level": "time_to_complete",
        "context": "quality_score",
        "model_size": "quality_score",
        "attempts": "success",
    }
    falling = [name for name, definition in READY_MADE.items() if definition.direction == "decrease"]
    assert falling == ["parallelism_level"]
    parallelism = READY_MADE["parallelism_level"]
    assert (parallelism.assignment, parallelism.switchback_seconds, parallelism.washout_seconds) == (
        "switchback",
        1800,
        300,
    )
    assert set(READY_MADE["parallelism_level"].secondary_outcomes) == {Outcome.SUCCESS, Outcome.QUALITY_SCORE}
    size = READY_MADE["model_size"]
    assert (size.estimand, size.control_value, size.contrast_value) == ("contrast", "small", "large")
    context = [float(value) for value in READY_MADE["context"].values_tested]
    assert context == [1000 * 2.0**power for power in range(2, 7)]


@pytest.mark.parametrize("name", READY_MADE)
def test_planned_sizes_tell_the_minimum_effect_from_none(name: str) -> None:
    """A flat truth is called that in at least 80 % of experiments, and the minimum effect seen in 90 %, less washout.

    With d = minimum effect / SE the sequence excludes zero with probability Φ(d - 3.04), and lies within the minimum
    effect on a flat truth with 2 Φ(d - 3.04) - 1, which is .8 at d = 4.32.
    """
    definition = READY_MADE[name]
    assert definition.stopping == "sequential"
    distance = definition.minimum_effect / standard_error(definition)
    assert distance >= 4.32
    assert NORMAL.cdf(distance - ANYTIME) >= 0.9
    assert 2 * NORMAL.cdf(distance - ANYTIME) - 1 >= 0.8
    assert definition.planned_per_value >= 200


def test_ten_points_take_more_than_200_runs_a_value() -> None:
    """At 200 runs a value d is 2.35 for 10 points, which one look can do with and a sequence cannot.

    The sequence sees 10 points in a quarter of cases and is wider than ±10 points, so that it calls no truth flat; one
    look sees them in .65 and calls a flat truth that in .52. What the sequence sees in .8 are 17 points.
    """
    se = standard_error(READY_MADE["agent_count"])
    assert 0.1 / se == pytest.approx(2.35, abs=0.005)
    assert NORMAL.cdf(0.1 / se - ANYTIME) == pytest.approx(0.246, abs=0.002)
    assert 0.1 / se < ANYTIME
    assert NORMAL.cdf(0.1 / se - 1.96) == pytest.approx(0.651, abs=0.002)
    assert 2 * NORMAL.cdf(0.1 / se - 1.645) - 1 == pytest.approx(0.518, abs=0.002)
    assert (ANYTIME + NORMAL.inv_cdf(0.8)) * se == pytest.approx(0.165, abs=0.001)


def test_the_sequences_width_is_the_formulas() -> None:
    """The number of errors that the tests above use."""
    c = -2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))
    assert math.sqrt(2 * (1 + 1 / c) * math.log(math.sqrt(1 + c) / 0.05)) == pytest.approx(ANYTIME, abs=1e-3)
