"""Ready-made experiments: one for each dimension, as the design document has it or its table of dimensions asks.

Planned sizes and minimum effects go together: at the usual spread of outcomes (a success rate of 0.6, quality with a
standard deviation of 0.2, ln time with one of 0.8) an experiment sees its minimum effect, and calls a flat truth "no
effect larger than that", with at least 80 % probability, however often one looks. The document's experiment on agents
names no effect: at 200 runs a value, eight times the agents are to bring 20 points; `scaling experiment plan` says what
smaller effects take.
"""

from models.dimensions import Dimension, Outcome
from models.experiments import Definition

AGENT_COUNT = Definition(
    experiment_id="agent_count",
    name="Agent Count Scaling",
    hypothesis="Success rate improves logarithmically with agent count",
    dimension_tested=Dimension.AGENT_COUNT,
    values_tested=[1.0, 2.0, 3.0, 4.0, 6.0, 8.0],
    control_value=1.0,
    context_filter={"min_complexity": "medium"},
    outcome=Outcome.SUCCESS,
    estimand="slope",
    direction="increase",
    minimum_effect=0.2,
    min_samples_per_value=30,
    planned_per_value=200,
    stopping="sequential",
)

ITERATIONS = Definition(
    experiment_id="iterations",
    name="Iteration Scaling",
    hypothesis="Quality improves with the iteration limit, towards a plateau after about 5",
    dimension_tested=Dimension.ITERATIONS,
    values_tested=[1.0, 2.0, 3.0, 5.0, 8.0, 10.0],
    control_value=1.0,
    outcome=Outcome.QUALITY_SCORE,
    estimand="slope",
    direction="increase",
    minimum_effect=0.08,
    planned_per_value=200,
)

PARALLELISM = Definition(
    experiment_id="parallelism_level",
    name="Parallelism Scaling",
    hypothesis="Time to complete falls with parallel agents, less than proportionally",
    dimension_tested=Dimension.PARALLELISM_LEVEL,
    values_tested=[1.0, 2.0, 4.0, 8.0],
    control_value=1.0,
    outcome=Outcome.TIME_TO_COMPLETE,
    estimand="slope",
    direction="decrease",
    minimum_effect=0.3,
    planned_per_value=300,
    assignment="switchback",
    washout_seconds=300,
    secondary_outcomes=[Outcome.SUCCESS, Outcome.QUALITY_SCORE],
)

CONTEXT = Definition(
    experiment_id="context",
    name="Context Scaling",
    hypothesis="Quality improves logarithmically with the context budget",
    dimension_tested=Dimension.CONTEXT,
    values_tested=[4_000.0, 8_000.0, 16_000.0, 32_000.0, 64_000.0],
    control_value=4_000.0,
    outcome=Outcome.QUALITY_SCORE,
    estimand="slope",
    direction="increase",
    minimum_effect=0.08,
    planned_per_value=200,
)

MODEL_SIZE = Definition(
    experiment_id="model_size",
    name="Model Size Scaling",
    hypothesis="Quality is higher with large models than with small ones",
    dimension_tested=Dimension.MODEL_SIZE,
    values_tested=["small", "medium", "large"],
    control_value="small",
    outcome=Outcome.QUALITY_SCORE,
    estimand="contrast",
    contrast_value="large",
    direction="increase",
    minimum_effect=0.1,
    planned_per_value=200,
)

ATTEMPTS = Definition(
    experiment_id="attempts",
    name="Attempt Scaling",
    hypothesis="Success rate improves with allowed attempts, with diminishing returns",
    dimension_tested=Dimension.ATTEMPTS,
    values_tested=[1.0, 2.0, 3.0, 4.0],
    control_value=1.0,
    outcome=Outcome.SUCCESS,
    estimand="slope",
    direction="increase",
    minimum_effect=0.15,
    planned_per_value=370,
)

READY_MADE: dict[str, Definition] = {
    definition.experiment_id: definition
    for definition in (AGENT_COUNT, ITERATIONS, PARALLELISM, CONTEXT, MODEL_SIZE, ATTEMPTS)
}
"""The ready-made experiments by their ids, which are the names of their dimensions."""
