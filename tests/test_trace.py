"""The whole system without Kafka or ClickHouse: what happens to a stream of runs, step by step."""

import json
from datetime import UTC, datetime

from agents.allocator import Allocator
from agents.decode import EventDecoder
from agents.observer import Observer
from agents.refit import Refitter
from analytics.simulation import simulate
from analytics.world import World
from models.allocations import AllocateRequest, Method
from models.batches import Batch
from models.dimensions import Dimension, Outcome
from models.settings import load_settings
from models.topics import RUNS, STATS

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def test_runs_become_cells_laws_and_an_allocation() -> None:
    """Events are folded into cells, cells are fitted to laws, and the laws say what to give a task."""
    settings = load_settings(partitions=1)
    values = [json.dumps(event).encode() for event in simulate(World(), 3000, seed=7, start=BEGIN)]
    arrival = int(BEGIN.timestamp() + 86_400) * 1000

    # A worker observes the records of a partition, batch by batch ...
    observer = Observer(0, settings, EventDecoder(settings))
    for first in range(0, len(values), 1000):
        part = values[first : first + 1000]
        offsets = range(first, first + len(part))
        observer.observe(
            Batch(RUNS, 0, offsets, [arrival] * len(part), [None] * len(part), part, [()] * len(part))
        )  # fmt: skip

    # ... and writes what changed: tables for itself, snapshots of its cells for the refitter.
    flush = observer.drain()

    # The refitter sees the snapshots at the flush's barrier and fits the laws of every context.
    refitter = Refitter(settings)
    for record in flush.records:
        if record.topic == STATS and record.key is not None:
            refitter.stage(record.key, record.value)
    laws = refitter.fit(refitter.snapshot())

    # The allocator keeps the newest laws and answers from them.
    allocator = Allocator(settings)
    for law in laws:
        allocator.book.put(law)
    iterations = allocator.book.get("global", Dimension.ITERATIONS, Outcome.QUALITY_SCORE)
    assert iterations.power is not None
    exponent = iterations.power.exponent
    assert exponent.lo < 0.25 < exponent.hi, "the exponent that the world was given"
    assert iterations.lineage == {"0": 3000}

    request = AllocateRequest("run-1", {"project": "atlas"}, budget=2.0, outcome="quality_score", explore=False)
    allocation, decision = allocator.allocate(request)
    assert allocation.method is Method.MARGINAL, "joint laws come from the audit, which reads ClickHouse"
    assert allocation.expected["total_cost"].estimate <= 2.0
    # In this world iterations and context buy quality, and agents do not.
    setting = allocation.setting
    assert (setting.agent_count, setting.max_iterations, setting.context_budget) == (1, 4, 19_000)
    assert allocation.laws.keys() >= {f"project=atlas|{name}|quality_score|live" for name in ("iterations", "context")}

    # The decision is logged with its probability, and the run will echo its id.
    assert (decision.decision_id, decision.setting, decision.propensity) == ("run-1", setting, 1.0)
