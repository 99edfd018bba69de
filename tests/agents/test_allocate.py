import json
import math
from typing import Any

import msgspec
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
from analytics.simulation import simulate
from analytics.world import World
from models.dimensions import Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent
from models.laws import Estimate, Law, LineFit, Published, Reference, ValueRow, law_id
from models.settings import Settings

SETTINGS = Settings()
TASK = {"project": "web", "task_type": "bug", "task_complexity": 0.4}

AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL
QUALITY, SUCCESS = Outcome.QUALITY_SCORE, Outcome.SUCCESS
TIME, COST = Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST
GRIDS = {AGENTS: (1, 4), ITERATIONS: (2, 8), CONTEXT: (4000, 16000), PARALLELISM: (1, 4)}


def law(
    dimension: Dimension,
    outcome: Outcome,
    exponent: float,
    *,
    context: str = "global",
    mean: float = 0.5,
    slope: float | None = None,
    version: int = 7,
) -> Law:
    """Make a law with 100 runs at each of two values, a power fit, and a line of this slope."""

    def estimate(value: float) -> Estimate:
        return Estimate(value, 0.01, value - 0.02, value + 0.02)

    line = None if slope is None else LineFit(estimate(slope), estimate(0.0), 0.9)
    return Law(
        law_id=law_id(context, dimension, outcome, "live"),
        tier="live",
        context=context,
        dimension=dimension,
        outcome=outcome,
        version=version,
        epoch=1,
        fitted_at="2026-03-01T00:00:00Z",
        n=200,
        status="established",
        evidence="associational",
        settings_hash="",
        values=[ValueRow(n=100, mean=mean, lo=mean, hi=mean, x=x) for x in GRIDS[dimension]],
        reference=Reference(linear=line),
        published=Published("power", {}, {"exponent": estimate(exponent), "coefficient": estimate(1.0)}, [], ""),
    )


def book(*laws: Law) -> LawBook:
    """Make a book of these laws."""
    made = LawBook()
    for one in laws:
        made.put(one)
    return made


QUALITY_LAWS = (law(AGENTS, QUALITY, 0.3), law(ITERATIONS, QUALITY, 0.2), law(CONTEXT, QUALITY, 0.1))
COST_LAWS = (
    law(AGENTS, COST, 1.0, mean=0.5, slope=0.1),
    law(ITERATIONS, COST, 1.0, mean=0.5, slope=0.05),
    law(CONTEXT, COST, 0.5, mean=0.5, slope=0.00001),
)


def test_laws_decide_within_the_budget() -> None:
    """The best setting by the laws' exponents and slopes is found, and says what it used."""
    got = allocate(TASK, 1.2, book(*QUALITY_LAWS, *COST_LAWS, law(PARALLELISM, TIME, -0.7)), SETTINGS)
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


def test_the_reference_method_reports_its_overspend() -> None:
    """The closed form gives the shares by hand, here with an overspend by rounding."""
    got = allocate(TASK, 0.93, book(*QUALITY_LAWS, *COST_LAWS), SETTINGS, "reference")
    # Shares 3:2:1 of 0.93: 0.465/0.1 = 4.65, 0.31/0.05 = 6.2, 0.155/0.01 = 15.5, each rounded.
    assert (got.agent_count, got.max_iterations, got.context_budget) == (5, 6, 16_000)
    assert got.method == "reference"
    assert got.expected_cost == pytest.approx(0.96)
    assert got.overspend == pytest.approx(0.03)
    assert "over the budget" in got.reasons


def test_the_context_of_the_task_speaks_first() -> None:
    """A law of the task's project is preferred to the global one, for its exponent and its mean."""
    local = law(AGENTS, QUALITY, 0.01, context="project=web", mean=0.2)
    known = book(*QUALITY_LAWS, local, *COST_LAWS)
    mine, other = allocate(TASK, 1.2, known, SETTINGS), allocate({"project": "app"}, 1.2, known, SETTINGS)
    assert mine.agent_count < other.agent_count
    assert "project=web|agent_count|quality_score|live" in mine.laws
    assert mine.expected_quality is not None
    assert other.expected_quality is not None
    assert mine.expected_quality < other.expected_quality
    assert "0.200 is that of project=web" in mine.reasons


def test_success_laws_stand_in_where_no_quality_law_is() -> None:
    """Without any law of quality the exponents of success decide, and the answer says so."""
    got = allocate(TASK, 1.0, book(law(AGENTS, SUCCESS, 0.4), law(ITERATIONS, SUCCESS, 0.1)), SETTINGS)
    assert got.quality_outcome == "success"
    assert got.agent_count > 1


def test_the_price_table_stands_in_for_unit_costs() -> None:
    """Where a cost law is missing or its slope is not positive, the price table is used and named."""
    falling = law(ITERATIONS, COST, -0.1, slope=-0.2)
    got = allocate(TASK, 1.0, book(*QUALITY_LAWS, COST_LAWS[0], falling), SETTINGS)
    assert got.cost_source == {
        "agent_count": "global|agent_count|total_cost|live",
        "iterations": "price_table",
        "context": "price_table",
    }
    assert got.unit_costs == {"agent_count": 0.1, "iterations": 0.02, "context": 0.003}
    assert "price table stands in for the unit cost of iterations and context" in got.reasons


def test_without_any_law_the_safe_default_is_given() -> None:
    """No law at all gives one agent, one iteration and 8,000 tokens, with unknown quality, and says why."""
    got = allocate(TASK, 1.0, LawBook(), SETTINGS)
    assert (got.agent_count, got.max_iterations, got.context_budget, got.parallelism) == (1, 1, 8000, 1)
    assert got.method == "default"
    assert got.expected_quality is None
    assert got.expected_cost == pytest.approx(0.05 + 0.02 + 8 * 0.003)
    assert "safe default" in got.reasons
    assert allocate(TASK, 1.0, LawBook(), SETTINGS, "reference").method == "default"


def test_a_dimension_without_a_law_keeps_its_default_while_the_budget_lasts() -> None:
    """Context without a law stays at 8,000 tokens; where the budget does not reach that far, it gives way first."""
    known = book(*QUALITY_LAWS[:2])
    rich = allocate(TASK, 1.0, known, SETTINGS)
    assert rich.context_budget == 8000
    assert "context keeps the default" in rich.reasons
    poor = allocate(TASK, 0.08, known, SETTINGS)
    assert poor.context_budget < 8000
    assert poor.expected_cost <= 0.08
    assert "does not reach for the default of context" in poor.reasons


def test_a_budget_too_small_names_the_least() -> None:
    """Below the smallest setting the error names a budget that would do."""
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.1600"):
        allocate(TASK, 0.1, book(*QUALITY_LAWS, *COST_LAWS), SETTINGS)
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.0730"):
        allocate(TASK, 0.01, LawBook(), SETTINGS)


def test_parallelism_is_one_where_time_does_not_fall() -> None:
    """Without a law of time, or with one that rises, one slot is given."""
    known = book(*QUALITY_LAWS)
    assert allocate(TASK, 5.0, known, SETTINGS).parallelism == 1
    known.put(law(PARALLELISM, TIME, 0.2))
    assert allocate(TASK, 5.0, known, SETTINGS).parallelism == 1
    known.put(law(PARALLELISM, TIME, -1.0, version=8))
    got = allocate(TASK, 5.0, known, SETTINGS)
    assert got.parallelism == got.agent_count == 8


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


def test_a_request_and_its_reply_travel_as_json() -> None:
    """What is asked over the wire is answered as if asked directly."""
    known = book(*QUALITY_LAWS, *COST_LAWS)
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
    """Exponents measured on simulated runs give nearly the quality that the planted ones give at the same prices."""
    events = list(simulate(World(), 20_000, seed=2))
    fields = {AGENTS: "agent_count", ITERATIONS: "max_iterations", CONTEXT: "context_budget"}
    known = LawBook()
    for dimension, field in fields.items():
        rows = np.array([(event[field], event["quality_score"]) for event in events if "quality_score" in event])
        x, y = rows.T
        slope = float(np.cov(np.log(x), y)[0, 1] / np.var(np.log(x)) / y.mean())
        measured = law(dimension, QUALITY, slope)
        values = [
            ValueRow(n=int((x == v).sum()), mean=float(y[x == v].mean()), lo=0, hi=1, x=float(v)) for v in np.unique(x)
        ]
        known.put(msgspec.structs.replace(measured, values=values))
    got = allocate({}, 0.5, known, SETTINGS)
    planted = book(law(AGENTS, QUALITY, 0.0), law(ITERATIONS, QUALITY, 0.25), law(CONTEXT, QUALITY, 0.12))
    ideal = allocate({}, 0.5, planted, SETTINGS)

    def quality(agents: int, iterations: int, tokens: int) -> float:
        return math.pow(iterations, 0.25) * math.pow(tokens, 0.12) * math.pow(agents, 0.0)

    mine = quality(got.agent_count, got.max_iterations, got.context_budget)
    best = quality(ideal.agent_count, ideal.max_iterations, ideal.context_budget)
    assert mine >= 0.98 * best
