"""Events for the benchmarks: 51 contexts, five of them an event; six dimensions; three outcome masks."""

from collections.abc import Iterator

import orjson

from analytics.simulation import simulate
from analytics.world import World

CONTEXT_KEYS = [["project"], ["task_type"], ["model"], ["complexity_band"]]
PROJECTS = 32
TASK_TYPES = 9
KEPT = (
    "agent_run_id",
    "completed_at",
    "task_id",
    "task_complexity",
    "agent_count",
    "max_iterations",
    "parallelism_level",
    "context_tokens",
    "model",
    "model_params_b",
    "retry_limit",
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
)


def events(count: int, seed: int) -> Iterator[bytes]:
    """Yield events as JSON of about 400 bytes; every tenth lacks its quality, every twentieth its cost."""
    for number, simulated in enumerate(simulate(World(), count, seed)):
        event = {name: simulated[name] for name in KEPT if name in simulated}
        event["project"] = f"project-{number % PROJECTS}"
        event["task_type"] = f"type-{number % TASK_TYPES}"
        event.setdefault("quality_score", 0.5)
        event.setdefault("total_cost", 0.25)
        if number % 10 == 0:
            del event["quality_score"]
        elif number % 20 == 1:
            del event["total_cost"]
        yield orjson.dumps(event)
