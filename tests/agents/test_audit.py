"""Audited laws against laws of the raw rows: the same basis, the same runs, the same fits."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from agents.audit import AuditHeading, audit_context, audit_law, choose_basis, expired
from agents.columns import Columns, to_columns
from agents.decode import EventDecoder
from agents.joint_audit import audit_jointly, expired_jointly
from analytics.cells import Cells, law_cells
from analytics.equality import compare_laws
from analytics.joint_cells import JointCells, Moments, Slot
from analytics.laws import fit_law
from analytics.moments import Floats, unpack
from analytics.published import Fitting
from analytics.simulation import simulate
from analytics.world import World
from models.dimensions import BASES, CLIP, SIZE_CATEGORIES, Basis, Dimension, Outcome, Source
from models.errors import NotEnoughData
from models.joint_laws import JointLaw
from models.laws import Law
from models.settings import load_settings

SETTINGS = load_settings()
HEADING = AuditHeading("global", (Source.OBSERVATIONAL,), {0: 7, 3: 9}, "hash", "2026-01-01T00:00:00Z")
FITTING = Fitting(draws=100)
CATEGORY = (Dimension.MODEL_SIZE, Basis.CATEGORY)


def columns_of(events: Sequence[dict[str, Any]]) -> Columns:
    """Read events as the stats worker does."""
    decoded = EventDecoder(SETTINGS).decode_batch([json.dumps(each).encode() for each in events])
    return to_columns(decoded.events, np.zeros(len(decoded.events)), SETTINGS)


def variables_of(events: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    """List every variable of the runs; nan where a run has none."""
    names = ("success", "quality_score", "time_to_complete", "total_cost")
    success, quality, time, cost = (np.array([each.get(name, np.nan) for each in events], float) for name in names)
    return {
        "success": success,
        "quality_score": quality,
        "time_to_complete": time,
        "total_cost": cost,
        "quality_given_success": np.where(success == 1, quality, np.nan),
        "success_times_quality": np.where(success == 0, 0.0, success * quality),
        "ln_time": np.log(np.maximum(time, CLIP)),
        "clipped_ln_cost": np.log(np.maximum(cost, CLIP)),
        "clipped_ln_quality": np.log(np.maximum(quality, CLIP)),
    }


def joint_of(events: Sequence[dict[str, Any]]) -> JointCells:
    """Make a joint cell of each run."""
    columns, variables, runs = columns_of(events), variables_of(events), len(events)
    codes = columns.dimensions[CATEGORY]
    numbers = {slot: x for slot, x in columns.dimensions.items() if slot != CATEGORY}
    nothing = np.zeros(runs, np.int64)
    return JointCells(
        design=numbers,
        ln_x={slot: np.log(np.where(x > 0, x, 1.0)) for slot, x in numbers.items()},
        binned={slot: np.zeros(runs, dtype=bool) for slot in numbers},
        category=tuple(None if np.isnan(code) else SIZE_CATEGORIES[int(code)] for code in codes),
        complexity=nothing,
        fold=nothing,
        project=nothing,
        task_group=nothing,
        outcomes={name: Moments(1.0 - np.isnan(y), np.nan_to_num(y), np.zeros(runs)) for name, y in variables.items()},
    )


def law_of_rows(events: Sequence[dict[str, Any]], law: Law, cost: Law | None) -> Law:
    """Fit the law that another one is to equal, from the rows."""
    variables, outcome = variables_of(events), Outcome(law.outcome)
    slot: Slot = (Dimension(law.dimension), Basis(law.basis or ""))
    x = columns_of(events).dimensions[slot]
    kept = ~np.isnan(x) & ~np.isnan(variables[outcome])
    labels = [SIZE_CATEGORIES[int(code)] for code in x[kept]] if slot == CATEGORY else None
    at = np.zeros(int(kept.sum())) if labels else x[kept]
    rows = {"x": at, "ln_x": np.log(np.where(at > 0, at, 1.0))} | {name: y[kept] for name, y in variables.items()}
    carried = {name: y for name, y in rows.items() if not np.isnan(y).any()}
    return fit_law(
        law_cells(Cells.from_rows(carried, label=labels), outcome),
        fitting=FITTING,
        cost=None if cost is None else cost.published,
        context="global",
        dimension=slot[0],
        outcome=outcome,
        basis=slot[1],
        sources=[],
        lineage={},
        settings_hash="",
        fitted_at=HEADING.fitted_at,
    )


def simulated(**changes: float | None) -> list[dict[str, Any]]:
    """Twelve hundred runs with gaps, and with some fields changed or left out in all of them."""
    events = list(simulate(World(), 1200, seed=11, start=datetime(2026, 1, 1, tzinfo=UTC)))
    for place, each in enumerate(events):
        if place % 9 == 0:
            del each["success"]
        if place % 7 == 0:
            del each["model_params_b"]
        for name, value in changes.items():
            each[name] = value
            if value is None:
                del each[name]
    return events


@pytest.mark.parametrize(
    "changes", [{}, {"max_iterations": 4, "total_iterations": None, "model_params_b": None}, {"retry_limit": None}]
)
def test_every_audited_law_is_the_law_of_the_raw_rows(changes: dict[str, float | None]) -> None:
    """All six dimensions and all six outcomes, with doses, realised counts and categories, come out the same."""
    events = simulated(**changes)
    laws = audit_context(joint_of(events), HEADING, FITTING)

    assert {(law.dimension, law.outcome) for law in laws} == {
        (dimension.value, outcome.value) for dimension in Dimension for outcome in Outcome
    }
    costs = {(law.dimension, law.basis): law for law in laws if law.outcome == "total_cost"}
    for law in laws:
        cost = None if law.outcome == "total_cost" else costs.get((law.dimension, law.basis))
        assert compare_laws(law, law_of_rows(events, law, cost)) == []
        assert law.law_id == f"global|{law.dimension}|{law.outcome}|audited"
        assert (law.tier, law.sources, law.settings_hash) == ("audited", ["observational"], "hash")
        assert law.lineage == {"0": 7, "3": 9}


def test_quality_counts_as_zero_where_a_run_failed() -> None:
    """Success times quality knows failed runs without a quality; quality given success leaves all failed runs out."""
    outcomes: list[dict[str, Any]] = [
        {"success": True, "quality_score": 0.8},
        {"success": True},
        {"success": False, "quality_score": 0.6},
        {"success": False},
        {"quality_score": 0.9},
    ]
    events = [
        each | {"agent_run_id": f"{agents}-{at}", "agent_count": agents}
        for agents in (1, 2)
        for at, each in enumerate(outcomes)
    ]
    laws = {law.outcome: law for law in audit_context(joint_of(events), HEADING, FITTING)}

    def tabled(outcome: str) -> tuple[int, int]:
        return laws[outcome].n, laws[outcome].values[0].n if laws[outcome].values else 0

    assert laws["success_times_quality"].n == 6
    assert [row.mean for row in laws["success_times_quality"].values] == [pytest.approx(0.8 / 3)] * 2
    assert tabled("quality_given_success")[0] == 2
    assert tabled("quality_score") == (6, 3)
    assert tabled("success") == (8, 4)


def test_a_basis_is_chosen_for_each_outcome() -> None:
    """The dose is preferred where runs with the outcome have two of them, then the realised count, then any."""
    base = {"max_iterations": 4, "agent_count": 1}
    events: list[dict[str, Any]] = [
        base | {"agent_run_id": "a", "total_iterations": 2, "success": True},
        base | {"agent_run_id": "b", "total_iterations": 3, "success": True, "max_iterations": 5},
        base | {"agent_run_id": "c", "total_iterations": 2, "total_cost": 1.0},
        base | {"agent_run_id": "d", "total_iterations": 3, "total_cost": 1.0},
        base | {"agent_run_id": "e", "time_to_complete": 1.0},
    ]
    joint = joint_of(events)
    assert choose_basis(joint, Dimension.ITERATIONS, Outcome.SUCCESS) is Basis.DOSE
    assert choose_basis(joint, Dimension.ITERATIONS, Outcome.TOTAL_COST) is Basis.REALISED
    assert choose_basis(joint, Dimension.ITERATIONS, Outcome.TIME_TO_COMPLETE) is Basis.DOSE
    assert choose_basis(joint, Dimension.ITERATIONS, Outcome.QUALITY_SCORE) is None
    assert [choose_basis(joint, dimension, Outcome.SUCCESS) for dimension in BASES] == [
        *(Basis.REALISED, Basis.DOSE, None, None, None, None)
    ]


def test_without_runs_there_are_no_laws() -> None:
    """A context without runs has no laws, and a law asked for says what is missing."""
    nobody = joint_of([{"agent_run_id": "a"}])
    assert audit_context(nobody, HEADING, FITTING) == []
    with pytest.raises(NotEnoughData, match="agent_count and success"):
        audit_law(nobody, (Dimension.AGENT_COUNT, Basis.REALISED), Outcome.SUCCESS, HEADING, FITTING)


def test_an_expired_law_has_no_runs_and_says_why() -> None:
    """The record keeps the law's id and context, and nothing that a reader could build on."""
    law = expired("project=a%7Cb|context|total_cost|audited", HEADING)
    assert (law.law_id, law.context) == ("project=a%7Cb|context|total_cost|audited", "project=a%7Cb")
    assert (law.n, law.status, law.values, law.published) == (0, "expired", [], None)
    assert "context and total_cost" in law.missing["values"]


@pytest.mark.parametrize(("reliability", "label"), [(0.8, "adjusted"), (0.79, "associational")])
def test_joint_laws_are_adjusted_only_by_reliable_scores(reliability: float, label: str) -> None:
    """Complexity scores that are mostly noise take out little of what confounds."""
    joint = joint_of(simulated())
    scored = replace(joint, complexity=np.arange(len(joint.complexity)) % 10)
    laws, _ = audit_jointly(scored, HEADING, reliability)
    assert {law.evidence for law in laws} == {label}


def test_joint_laws_have_the_planted_dimensions() -> None:
    """Success rises with agents, and but for attempts with nothing else; quality with iterations, context and size."""
    heading = replace(HEADING, epoch=3, since="2026-01-01T00:00:00Z")
    laws, missing = audit_jointly(joint_of(simulated()), heading)
    assert [law.law_id for law in laws] == [
        f"global|joint|{outcome}|audited" for outcome in ("success", "quality_score", "total_cost", "time_to_complete")
    ]
    assert missing == {}
    for law in laws:
        assert (law.epoch, law.epoch_since, law.fitted_at) == (3, "2026-01-01T00:00:00Z", HEADING.fitted_at)
        assert (law.sources, law.settings_hash, law.lineage) == (["observational"], "hash", {"0": 7, "3": 9})

    def rising(law: JointLaw) -> set[str]:
        """Name the terms whose coefficient is three errors above zero."""
        errors = np.sqrt(np.diag(unpack(np.asarray(law.covariance))))
        found = zip(law.terms, law.coefficients, errors, strict=True)
        return {term for term, coefficient, error in found if term != "1" and coefficient > 3 * error}

    success, quality, cost, time = laws
    assert "ln_agents" in rising(success) <= {"ln_agents", "ln_attempts"}
    assert rising(quality) == {"ln_iterations", "ln_context", "ln_size"}
    assert "agents*iterations*context" in cost.base
    assert "1/parallelism" in time.base


def test_where_runs_are_too_few_there_is_a_reason_for_no_joint_law() -> None:
    """Sixty runs of which twenty have a cost give the other laws, and say why not that one."""
    events = simulated()[:60]
    for each in events[:40]:
        each.pop("total_cost", None)
    laws, missing = audit_jointly(joint_of(events), HEADING)
    assert [law.outcome for law in laws] == ["success", "quality_score", "time_to_complete"]
    (name,) = missing
    assert name == "global|joint|total_cost|audited"
    assert "needs 30 runs with total_cost" in missing[name]


def test_an_expired_joint_law_has_no_terms_and_says_why() -> None:
    """The record keeps the law's id, context and epoch; a reader finds no coefficient in it."""
    law = expired_jointly("project=a%7Cb|joint|total_cost|audited", replace(HEADING, epoch=2, since="x"), "too few")
    assert (law.law_id, law.context, law.outcome) == (
        "project=a%7Cb|joint|total_cost|audited",
        "project=a%7Cb",
        "total_cost",
    )
    assert (law.n, law.status, law.terms, law.coefficients) == (0, "expired", [], [])
    assert (law.epoch, law.epoch_since, law.missing) == (2, "x", {"terms": "too few"})
    assert msgspec.json.decode(msgspec.json.encode(law), type=JointLaw) == law
