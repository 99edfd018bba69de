"""The law record on the wire: a golden file that readers of other versions can rely on."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analytics.cells import Cells, law_cells
from analytics.laws import compare_laws, fit_law
from models.dimensions import Basis, Dimension, Outcome, Variable
from models.laws import Law

GOLDEN = Path(__file__).parent / "golden" / "law.json"


def golden_law() -> Law:
    """Fit success over agents to 240 runs whose successes are written down, not drawn."""
    x = np.repeat([1.0, 2.0, 4.0, 8.0], 60)
    success = np.concatenate([np.arange(60) < count for count in (24, 33, 42, 51)]).astype(np.float64)
    cells = Cells.from_rows({Variable.X: x, str(Outcome.SUCCESS): success})
    return fit_law(
        law_cells(cells, Outcome.SUCCESS),
        context="project=web%20shop",
        dimension=Dimension.AGENT_COUNT,
        outcome=Outcome.SUCCESS,
        basis=Basis.REALISED,
        sources=["observational"],
        lineage={0: 241},
        settings_hash="0123456789abcdef",
        fitted_at="2026-01-01T00:00:00.000Z",
        version=3,
    )


def shape(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Keep the structure of a JSON document: names, nesting and kinds, not the numbers."""
    if isinstance(value, dict):
        return {name: shape(content) for name, content in value.items()}
    if isinstance(value, list):
        return [shape(content) for content in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def test_the_record_reads_as_the_golden_one() -> None:
    """A law of this version has the names, nesting and numbers of the golden record, and reads back from it."""
    golden = json.loads(GOLDEN.read_text())
    law = golden_law()
    assert shape(json.loads(msgspec.json.encode(law))) == shape(golden)
    assert compare_laws(law, msgspec.convert(golden, Law)) == []


def test_readers_ignore_fields_they_do_not_know() -> None:
    """A record of a later version with more fields is read all the same."""
    golden = json.loads(GOLDEN.read_text()) | {"covariance": [[1.0]]}
    assert msgspec.convert(golden, Law).law_id == "project=web%20shop|agent_count|success|live"
