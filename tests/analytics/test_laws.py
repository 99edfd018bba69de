"""Laws from cells, checked against laws from raw rows on random and on real runs."""

import gzip
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from analytics import reference
from analytics.cells import LOG_VARIABLES, Cells, LawCells, law_cells
from analytics.laws import Heading, compare_laws, fit_law
from analytics.moments import Floats
from analytics.rows import fit_rows
from models.dimensions import CLIP, Basis, Dimension, Outcome
from models.laws import Law

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LEVELS = np.array([0.0, 1, 2, 3, 4, 6, 8, 16])


def heading(outcome: Outcome, dimension: Dimension = Dimension.AGENT_COUNT, basis: Basis = Basis.REALISED) -> Heading:
    """Give what a record says besides the fits."""
    return Heading(
        context="global",
        dimension=dimension,
        outcome=outcome,
        basis=basis,
        sources=["observational"],
        lineage={0: 10},
        settings_hash="abc",
        fitted_at="2026-01-01T00:00:00Z",
    )


def outcome_rows(rng: np.random.Generator, x: Floats, outcome: Outcome) -> Floats:
    """Draw an outcome that depends on x, zeros included where they occur in practice."""
    size = len(x)
    level = 0.25 * np.maximum(x, 0.5) ** 0.15
    if outcome == Outcome.SUCCESS:
        return (rng.random(size) < level).astype(np.float64)
    if outcome == Outcome.QUALITY_SCORE:
        return np.where(rng.random(size) < 0.1, 0.0, np.clip(rng.normal(level, 0.1), 0, 1))
    noise = rng.lognormal(0, 0.6, size)
    return np.where(rng.random(size) < 0.05, 0.0 if outcome == Outcome.TOTAL_COST else 1e-4, noise * 40 / (1 + level))


def cells_of(
    x: Floats, y: Floats, outcome: Outcome, value: Floats | None = None, binned: Floats | None = None
) -> LawCells:
    """Reduce rows in two halves that are then merged, as two partitions would be."""
    seen = np.isfinite(y)
    value = x if value is None else value
    flags = np.zeros(len(x), np.bool_) if binned is None else binned > 0
    columns = {"x": x, "ln_x": np.log(np.where(x > 0, x, 1.0)), str(outcome): y}
    if outcome in LOG_VARIABLES:
        columns[str(LOG_VARIABLES[outcome])] = np.log(np.maximum(np.where(seen, y, 1.0), CLIP))
    parts = []
    for half in (0, 1):
        rows = seen & (np.arange(len(x)) % 2 == half)
        parts.append(
            Cells.from_rows(
                {name: column[rows] for name, column in columns.items()}, value=value[rows], binned=flags[rows]
            )
        )
    return law_cells(parts[0] + parts[1], outcome)


def quarter_octave(x: Floats) -> Floats:
    """Give the middle of the quarter-octave bin that holds x."""
    return np.exp2((np.floor(np.log2(x) * 4) + 0.5) / 4)


def round_trip(law: Law) -> Law:
    """Send a law through JSON, where every number must be finite."""
    return msgspec.json.decode(msgspec.json.encode(law), type=Law)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("seed", range(6))
def test_a_law_from_cells_equals_the_law_from_rows(outcome: Outcome, seed: int) -> None:
    """With zeros of x and of y and with missing outcomes, no number of the record differs beyond rounding."""
    rng = np.random.default_rng(seed)
    x = rng.choice(LEVELS, 700)
    y = outcome_rows(rng, x, outcome)
    y[rng.random(700) < 0.1] = np.nan
    law = fit_law(cells_of(x, y, outcome), **heading(outcome))
    check = fit_rows(x, y, np.zeros(700, np.bool_), x, **heading(outcome))
    assert compare_laws(law, check) == []
    assert law.published is not None
    assert law.missing.keys() == check.missing.keys()
    assert law.excluded_zeros == int((np.isfinite(y) & (x == 0)).sum())
    assert round_trip(law) == law


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("seed", range(3))
def test_binned_context_tokens_give_the_same_law_from_cells_and_rows(outcome: Outcome, seed: int) -> None:
    """Least squares sees every token count; HC3 and the power law see the bin's geometric mean on both ways."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.lognormal(9, 1.2, 900))
    x[:40] = 0
    y = outcome_rows(rng, x / 8000, outcome)
    value = np.where(x > 64, quarter_octave(np.maximum(x, 1)), x)
    binned = x > 64
    law = fit_law(cells_of(x, y, outcome, value, binned.astype(np.float64)), **heading(outcome, Dimension.CONTEXT))
    check = fit_rows(x, y, binned, value, **heading(outcome, Dimension.CONTEXT))
    assert compare_laws(law, check) == []
    assert law.reference.linear is not None
    slope, intercept = np.polyfit(x, y, 1)
    assert law.reference.linear.coefficient.estimate == pytest.approx(slope, rel=1e-6)
    assert law.reference.linear.intercept.estimate == pytest.approx(intercept, rel=1e-6)
