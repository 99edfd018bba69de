"""Turn decisions, overrides and A/B tests into columns for ClickHouse."""

from collections.abc import Iterator
from typing import Any

import msgspec

from agents.archive import TableColumns, check_range, ticks
from agents.archive_experiments import archived
from models.allocations import ABTest, Decision, Override, Setting
from models.batches import Batch

DECISIONS = "scaling_decisions"
OVERRIDES = "scaling_overrides"
TESTS = "scaling_tests"

_json = msgspec.json.Encoder().encode
_read_decision = msgspec.json.Decoder(Decision).decode
_read_override = msgspec.json.Decoder(Override).decode
_read_test = msgspec.json.Decoder(ABTest).decode


def archive_decisions(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn decisions into columns."""
    return archived(batch, _decision_rows)


def archive_overrides(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn overrides into columns."""
    return archived(batch, _override_rows)


def archive_tests(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn A/B tests into columns."""
    return archived(batch, _test_rows)


def _decision_rows(batch: Batch, place: int) -> Iterator[dict[str, Any]]:
    value = batch.values[place]
    if value is None:
        return
    decision = _read_decision(value)
    check_range(**{f"version of {law}": version for law, version in decision.laws.items()})
    yield {
        "decision_id": decision.decision_id,
        "decided_at": _moment("decided_at", decision.decided_at),
        "policy_version": decision.policy_version,
        **_setting(decision.setting),
        "propensity": decision.propensity,
        "choice": _text(decision.choice),
        "objective": decision.objective,
        "outcome": decision.outcome,
        "method": decision.method,
        "contexts": decision.contexts,
        "task": _text(decision.task),
        "complexity": decision.complexity,
        "budget": decision.budget,
        "explored": decision.explored,
        "test": decision.test,
        "arm": decision.arm,
        "expected": decision.expected,
        "laws": decision.laws,
        "overrides": _text(decision.overrides),
        "override_cost": decision.override_cost,
        **_coordinates(batch, place),
    }


def _override_rows(batch: Batch, place: int) -> Iterator[dict[str, Any]]:
    value = batch.values[place]
    if value is None:
        return
    override = _read_override(value)
    yield {
        "override_id": override.override_id,
        "context": override.context,
        "by": override.by,
        "reason": override.reason,
        "pins": _text(override.pins),
        "caps": _text(override.caps),
        "given_at": _moment("given_at", override.given_at),
        "begins": _moment("begins", override.begins),
        "ends": _moment("ends", override.ends),
        "lifted_at": _moment("lifted_at", override.lifted_at),
        "lifted_by": override.lifted_by,
        **_coordinates(batch, place),
    }


def _test_rows(batch: Batch, place: int) -> Iterator[dict[str, Any]]:
    value = batch.values[place]
    if value is None:
        return
    test = _read_test(value)
    yield {
        "test_id": test.test_id,
        "context": test.context,
        "fixed": _text(test.fixed),
        "share": test.share,
        "by": test.by,
        "reason": test.reason,
        "started_at": _moment("started_at", test.started_at),
        "ended_at": _moment("ended_at", test.ended_at),
        "ended_by": test.ended_by,
        "gain": test.gain,
        "margin": test.margin,
        "rate": test.rate,
        "cost_cv": test.cost_cv,
        "difference": test.difference,
        "explained": test.explained,
        "verdict": test.verdict,
        "sentence": test.sentence,
        "record": value.decode(),
        **_coordinates(batch, place),
    }


def _setting(setting: Setting) -> dict[str, Any]:
    """Spread a setting over columns of its own."""
    numbers = {
        "agent_count": setting.agent_count,
        "max_iterations": setting.max_iterations,
        "context_budget": setting.context_budget,
        "parallelism": setting.parallelism,
    }
    check_range(**numbers)
    return {**numbers, "model_size": setting.model_size}


def _coordinates(batch: Batch, place: int) -> dict[str, int]:
    """Say where the record is on its topic; the highest offset of a key stands."""
    return {"partition": batch.partition, "offset": batch.offsets[place]}


def _moment(name: str, moment: str | None) -> int | None:
    """Read a time as milliseconds since the epoch; what has not happened stays None."""
    if moment is None:
        return None
    read = ticks(moment)
    check_range(**{name: read})
    return read


def _text(value: Any) -> str:  # noqa: ANN401 - whatever msgspec can write
    return _json(value).decode()
