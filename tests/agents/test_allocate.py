"""What is given to a task, from laws written down and from laws fitted to simulated runs."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agents.allocate import (
    allocate,
    answer,
    contexts_of_task,
    decode_reply,
    decode_request,
    encode_request,
)
from agents.lawbook import LawBook
from analytics.cells import Cells, law_cells
from analytics.laws import fit_law
from analytics.simulation import simulate
from analytics.world import World
from models.dimensions import Basis, Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent
from models.laws import Adjusted, Estimate, Law, Pooling
from models.settings import load_settings

SETTINGS = load_settings()
TASK = {"project": "web", "task_type": "bug", "task_complexity": 0.4}

AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL
QUALITY, SUCCESS = Outcome.QUALITY_SCORE, Outcome.SUCCESS
TIME, COST = Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST
GRIDS = {AGENTS: (1, 4), ITERATIONS: (2, 8), CONTEXT: (4000, 16000), PARALLELISM: (1, 4)}


Make = Callable[..., Law]


@pytest.fixture
def law(make_law: Make) -> Make:
    """Make laws, version 7, with 100 runs at each of two usual values of the dimension."""

    def make(dimension: Dimension, outcome: Outcome, exponent: float, *, version: int = 7, **fields: object) -> Law:
        return make_law(dimension, outcome, exponent, x=GRIDS[dimension], version=version, **fields)

    return make


@pytest.fixture
def quality_laws(law: Make) -> list[Law]:
    """Make one law of quality for each dimension that is allocated."""
    return [law(AGENTS, QUALITY, 0.3), law(ITERATIONS, QUALITY, 0.2), law(CONTEXT, QUALITY, 0.1)]


@pytest.fixture
def cost_laws(law: Make) -> list[Law]:
    """Make laws of cost with the unit costs 0.1, 0.05 and, for 1,000 tokens, 0.01."""
    slopes = {AGENTS: 0.1, ITERATIONS: 0.05, CONTEXT: 0.00001}
    return [law(dimension, COST, 1.0, slope=slope) for dimension, slope in slopes.items()]


def book(*laws: Law) -> LawBook:
    """Make a book of these laws."""
    made = LawBook()
    for one in laws:
        made.put(one)
    return made


def test_laws_decide_within_the_budget(law: Make, quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """The best setting by the laws' exponents and slopes is found, and says what it used."""
    got = allocate(TASK, 1.2, book(*quality_laws, *cost_laws, law(PARALLELISM, TIME, -0.7)), SETTINGS)
    best, setting = 0.0, (0, 0, 0)
    for agents in range(1, 9):
        for iterations in range(1, 11):
            for kilo in range(1, 101):
                quality = 0.5 * (agents / 2) ** 0.3 * (iterations / 4) ** 0.2 * (kilo / 8) ** 0.1
                if 0.1 * agents + 0.05 * iterations + 0.01 * kilo <= 1.2 and quality > best:
                    best, setting = quality, (agents, iterations, kilo * 1000)
    assert (got.agent_count, got.max_iterations, got.context_budget) == setting
    assert got.expected_quality == pytest.approx(best)
    assert got.expected_cost <= 1.2
    assert got.overspend == 0
    assert got.method == "exact"
    assert got.parallelism == min(3, got.agent_count)
    assert got.quality_outcome == "quality_score"
    assert len(got.laws) == 7
    assert set(got.laws.values()) == {7}
    assert got.cost_source["agent_count"] == "global|agent_count|total_cost|live"
    assert "agents scale it more than iterations" in got.reasons.lower()


def test_the_reference_method_reports_its_overspend(quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """The closed form gives the shares by hand, here with an overspend by rounding."""
    got = allocate(TASK, 0.93, book(*quality_laws, *cost_laws), SETTINGS, "reference")
    # Shares 3:2:1 of 0.93: 0.465/0.1 = 4.65, 0.31/0.05 = 6.2, 0.155/0.01 = 15.5, each rounded.
    assert (got.agent_count, got.max_iterations, got.context_budget) == (5, 6, 16_000)
    assert got.method == "reference"
    assert got.expected_cost == pytest.approx(0.96)
    assert got.overspend == pytest.approx(0.03)
    assert "over the budget" in got.reasons


def test_the_context_of_the_task_speaks_first(law: Make, quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """A law of the task's project is preferred to the global one, for its exponent and its mean."""
    local = law(AGENTS, QUALITY, 0.01, context="project=web", mean=0.2)
    known = book(*quality_laws, local, *cost_laws)
    mine, other = allocate(TASK, 1.2, known, SETTINGS), allocate({"project": "app"}, 1.2, known, SETTINGS)
    assert mine.agent_count < other.agent_count
    assert "project=web|agent_count|quality_score|live" in mine.laws
    assert mine.expected_quality is not None
    assert other.expected_quality is not None
    assert mine.expected_quality < other.expected_quality
    assert "0.200 is that of project=web" in mine.reasons


def test_a_law_of_few_runs_is_used_by_its_pooled_slope(
    law: Make, quality_laws: list[Law], cost_laws: list[Law]
) -> None:
    """A context of 40 runs a value allocates by what its siblings share: 0.05 over a mean of 0.5 is 0.1, not 0.9."""
    shared = Pooling(Estimate(0.05, 0.01, 0.03, 0.07), 0.05, 0.6, prior_dominated=True, contexts=5, family="project")
    few = {"context": "project=web", "runs": (40, 40), "status": "exploratory"}
    own, pooled = law(AGENTS, QUALITY, 0.9, **few), law(AGENTS, QUALITY, 0.9, **few, pooling=shared)
    alone, together = (allocate(TASK, 1.2, book(*quality_laws, one, *cost_laws), SETTINGS) for one in (own, pooled))
    assert "agent_count 0.90 (project=web)" in alone.reasons
    assert "agent_count 0.10 (project=web)" in together.reasons
    assert together.agent_count < alone.agent_count


def test_success_laws_stand_in_where_no_quality_law_is(law: Make) -> None:
    """Without any law of quality the exponents of success decide, and the answer says so."""
    got = allocate(TASK, 1.0, book(law(AGENTS, SUCCESS, 0.4), law(ITERATIONS, SUCCESS, 0.1)), SETTINGS)
    assert got.quality_outcome == "success"
    assert got.agent_count > 1


def test_the_price_table_stands_in_for_unit_costs(law: Make, quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """Where a cost law is missing or its slope is not positive, the price table is used and named."""
    falling = law(ITERATIONS, COST, -0.1, slope=-0.2)
    got = allocate(TASK, 1.0, book(*quality_laws, cost_laws[0], falling), SETTINGS)
    assert got.cost_source == {
        "agent_count": "global|agent_count|total_cost|live",
        "iterations": "price_table",
        "context": "price_table",
    }
    assert got.unit_costs == {"agent_count": 0.1, "iterations": 0.02, "context": 0.003}
    assert "price table stands in for the unit cost of iterations, context" in got.reasons


def test_without_any_law_the_safe_default_is_given() -> None:
    """No law at all gives one agent, one iteration and 8,000 tokens, with unknown quality, and says why."""
    got = allocate(TASK, 1.0, LawBook(), SETTINGS)
    assert (got.agent_count, got.max_iterations, got.context_budget, got.parallelism) == (1, 1, 8000, 1)
    assert got.method == "default"
    assert got.expected_quality is None
    assert got.expected_cost == pytest.approx(0.05 + 0.02 + 8 * 0.003)
    assert "safe default" in got.reasons
    assert allocate(TASK, 1.0, LawBook(), SETTINGS, "reference").method == "default"


def test_a_dimension_without_a_law_keeps_its_default_while_the_budget_lasts(quality_laws: list[Law]) -> None:
    """Context without a law stays at 8,000 tokens; where the budget does not reach that far, it gives way first."""
    known = book(*quality_laws[:2])
    rich = allocate(TASK, 1.0, known, SETTINGS)
    assert rich.context_budget == 8000
    assert "context keeps the default" in rich.reasons
    poor = allocate(TASK, 0.08, known, SETTINGS)
    assert poor.context_budget < 8000
    assert poor.expected_cost <= 0.08
    assert "does not reach for the default of context" in poor.reasons


def test_a_budget_too_small_names_the_least(quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """Below the smallest setting the error names a budget that would do."""
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.160"):
        allocate(TASK, 0.1, book(*quality_laws, *cost_laws), SETTINGS)
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.073"):
        allocate(TASK, 0.01, LawBook(), SETTINGS)


def test_parallelism_is_one_where_time_does_not_fall(law: Make, quality_laws: list[Law]) -> None:
    """Without a law of time, or with one that rises, one slot is given."""
    known = book(*quality_laws)
    assert allocate(TASK, 5.0, known, SETTINGS).parallelism == 1
    known.put(law(PARALLELISM, TIME, 0.2))
    assert allocate(TASK, 5.0, known, SETTINGS).parallelism == 1
    known.put(law(PARALLELISM, TIME, -1.0, version=8))
    got = allocate(TASK, 5.0, known, SETTINGS)
    assert got.parallelism == got.agent_count > 1


def test_the_contexts_of_a_task() -> None:
    """Keys come from the task, else from its characteristics; complexity becomes its band by number or label."""
    task = {"project": "web", "model_size_category": "small", "project_characteristics": {"task_type": "bug"}}
    assert contexts_of_task(task, SETTINGS) == [
        "global",
        "project=web",
        "task_type=bug",
        "model_size_category=small",
    ]
    assert contexts_of_task({"task_complexity": "high"}, SETTINGS) == ["global", "complexity_band=high"]
    assert contexts_of_task({"task_complexity": 0}, SETTINGS) == ["global", "complexity_band=trivial"]
    assert contexts_of_task({"project": "", "model": None}, SETTINGS) == ["global"]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"task_complexity": "extreme"}, "extreme"),
        ({"task_complexity": 1.5}, "1.5"),
        ({"task_complexity": True}, "True"),
        ({"project": ["web"]}, "project"),
        ({"project_characteristics": "none"}, "project_characteristics"),
    ],
)
def test_a_wrong_task_is_refused_by_name(task: dict[str, Any], name: str) -> None:
    """The message names the field or the value that is wrong."""
    with pytest.raises(InvalidEvent, match=name):
        allocate(task, 1.0, LawBook(), SETTINGS)


def test_a_request_and_its_reply_travel_as_json(quality_laws: list[Law], cost_laws: list[Law]) -> None:
    """What is asked over the wire is answered as if asked directly."""
    known = book(*quality_laws, *cost_laws)
    payload = encode_request("r-1", TASK, 1.2)
    assert json.loads(payload) == {"request_id": "r-1", "task": TASK, "budget": 1.2, "method": "exact"}
    assert decode_request(payload).task == TASK
    reply = answer(payload, "r-1", known, SETTINGS)
    assert json.loads(reply)["request_id"] == "r-1"
    assert decode_reply(reply) == allocate(TASK, 1.2, known, SETTINGS)
    default = answer(encode_request("r-2", {}, 1.0), "r-2", LawBook(), SETTINGS)
    assert decode_reply(default).expected_quality is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"request_id": "r"}',
        b'{"request_id": "r", "task": {}, "budget": 0}',
        b'{"request_id": "r", "task": {}, "budget": 1, "method": "guess"}',
        b'{"request_id": "r", "task": {"task_complexity": "?"}, "budget": 1}',
    ],
)
def test_a_wrong_request_is_answered_with_its_error(payload: bytes) -> None:
    """A request that cannot be read or obeyed gets a reply under its key that says why."""
    reply = answer(payload, "r", LawBook(), SETTINGS)
    assert json.loads(reply)["request_id"] == "r"
    with pytest.raises(InvalidEvent):
        decode_reply(reply)


def test_errors_come_back_as_what_they_were() -> None:
    """A budget too small is BudgetTooSmall on the asking side; an unreadable reply is InvalidEvent."""
    with pytest.raises(BudgetTooSmall, match="allow that"):
        decode_reply(answer(encode_request("r", {}, 0.01), "r", LawBook(), SETTINGS))
    for reply in (b"?", b'{"request_id": "r"}'):
        with pytest.raises(InvalidEvent):
            decode_reply(reply)


def test_simulated_runs_lead_to_the_allocation_of_their_world() -> None:
    """Laws fitted to simulated runs buy nearly the quality that the planted exponents buy at the same prices."""
    events = list(simulate(World(), 20_000, seed=2))
    known = LawBook()
    for dimension, field in ((AGENTS, "agent_count"), (ITERATIONS, "max_iterations"), (CONTEXT, "context_budget")):
        for outcome, log in ((QUALITY, "clipped_ln_quality"), (COST, "clipped_ln_cost")):
            x, y = np.array([(event[field], event[outcome]) for event in events if outcome in event]).T
            cells = Cells.from_rows({"x": x, outcome: y, log: np.log(np.maximum(y, 0.001))})
            fitted = fit_law(
                law_cells(cells, outcome),
                context="global",
                dimension=dimension,
                outcome=outcome,
                basis=Basis.DOSE,
                sources=["observational"],
                lineage={0: len(events)},
                settings_hash="",
                fitted_at="2026-03-01T00:00:00Z",
            )
            known.put(fitted)
    got = allocate({}, 3.0, known, SETTINGS)
    assert set(got.cost_source.values()) == {f"global|{name}|total_cost|live" for name in got.unit_costs}
    # A simulated cost is a product of its settings: three separate slopes add up to more than its mean.
    assert re.search(r"add up to (1\.[5-9]|2\.\d) times the mean cost", got.reasons)

    def worth(iterations: int, kilo: int) -> float:
        return float(iterations**0.25 * kilo**0.12)

    price = got.unit_costs
    best = max(
        worth(iterations, kilo)
        for iterations in range(1, 11)
        for kilo in range(1, 101)
        if price["agent_count"] + price["iterations"] * iterations + price["context"] * kilo <= 3.0
    )
    assert worth(got.max_iterations, got.context_budget // 1000) >= 0.99 * best


def test_the_adjusted_law_decides_where_there_is_one(law: Make, quality_laws: list[Law]) -> None:
    """Agents that look useful only because easy tasks got more of them are not bought."""
    naive, none = Estimate(0.15, 0.01, 0.13, 0.17), Estimate(0.0, 0.01, -0.02, 0.02)
    fair = Adjusted(method="", slope=none, naive=naive, gap=0.15, n=200, strata=4)
    bought = allocate(TASK, 1.0, book(*quality_laws), SETTINGS)
    got = allocate(TASK, 1.0, book(*quality_laws[1:], law(AGENTS, QUALITY, 0.3, adjusted=fair)), SETTINGS)
    assert bought.agent_count > 1
    assert got.agent_count == 1
    assert "agent_count 0.00" in got.reasons
