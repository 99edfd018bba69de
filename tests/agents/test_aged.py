"""A law in which old runs weigh less."""

import numpy as np
import pytest

from agents.aged import aged
from agents.refits import RunColumns
from models.dimensions import BASES, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law

AGENTS = (Dimension.AGENT_COUNT, Basis.REALISED)
HOUR = 3600


def law(basis: str = "realised") -> Law:
    """Name the law of success over agents."""
    return Law(
        law_id="global|agent_count|success|live",
        tier="live",
        context="global",
        dimension="agent_count",
        outcome="success",
        version=1,
        epoch=1,
        fitted_at="",
        n=0,
        status="",
        evidence="",
        settings_hash="",
        basis=basis,
    )


def runs(slopes: list[float], hours: list[int], each: int = 400) -> RunColumns:
    """Make runs of several hours, each hour with a slope on ln x of its own; no noise but that of a coin's average."""
    rng = np.random.default_rng(3)
    x = np.tile([1.0, 2, 4, 8], each * len(hours) // 4)
    hour = np.repeat(hours, each)
    y = 0.5 + np.repeat(slopes, each) * np.log(x) + rng.normal(0, 0.05, len(x))
    none = np.full(len(x), np.nan)
    return RunColumns(
        x={(dimension, basis): none for dimension in Dimension for basis in BASES[dimension]} | {AGENTS: x},
        outcomes={Outcome.SUCCESS: y},
        policy=np.zeros(len(x), dtype=bool),
        complexity=none,
        bucket=hour,
        newest=max(hours),
    )


def test_with_an_endless_memory_it_is_the_line_through_all_runs() -> None:
    """A half-life of a century leaves ordinary least squares."""
    columns = runs([0.1, 0.2], [100, 110])
    seen = aged(columns, law(), 24 * 36_500.0, HOUR)
    slope = np.polyfit(np.log(columns.x[AGENTS]), columns.outcomes[Outcome.SUCCESS], 1)[0]
    assert seen.slope.estimate == pytest.approx(float(slope), rel=1e-4)
    assert seen.runs == pytest.approx(800, rel=1e-3)


def test_with_a_short_memory_it_is_the_last_hours() -> None:
    """Ten half-lives later an old slope weighs a thousandth."""
    seen = aged(runs([0.1, 0.2], [100, 110]), law(), 1.0, HOUR)
    assert seen.slope.estimate == pytest.approx(0.2, abs=0.01)
    assert seen.slope.lo < 0.2 < seen.slope.hi


def test_what_has_no_slope_says_so() -> None:
    """Categories have no ln x; and there must be runs above zero."""
    with pytest.raises(NotEnoughData, match="categories"):
        aged(runs([0.1], [1]), law("category"), 24.0, HOUR)
    empty = runs([0.1], [1])
    empty.x[AGENTS][:] = 0.0
    with pytest.raises(NotEnoughData, match="above zero"):
        aged(empty, law(), 24.0, HOUR)
