"""Which value cell an event falls into; the moments themselves are checked with the observer."""

import msgspec
import numpy as np
import pytest

from agents.columns import to_columns
from agents.context_index import ContextIndex
from agents.live_cells import LiveCells, split_group
from agents.moment_table import decode_rows
from models.cells import CellKey
from models.dimensions import OUTCOME_VARIABLES, VARIABLES, Basis, Dimension, Source, Variable
from models.events import RunEvent
from models.settings import load_settings

SETTINGS = load_settings(context_keys=[["project"]])


def folded(*events: RunEvent) -> dict[CellKey, bytes]:
    """Fold events as one batch."""
    index = ContextIndex(SETTINGS.context_keys, 10)
    cells = LiveCells(5, index)
    columns = to_columns(events, np.zeros(len(events)), SETTINGS)
    cells.fold(columns, index.codes(columns.keys, len(events)))
    drained = cells.drain(3)
    assert len(cells) == len(drained)
    return {CellKey.decode(key): value for key, value in drained.items() if value is not None}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("agent_count", 1, "1"),
        ("agent_count", 64, "64"),
        ("agent_count", 65, "~24"),
        ("context_tokens", 0, "0"),
        ("context_tokens", 128, "~28"),
        ("context_tokens", 152, "~28"),
        ("context_tokens", 153, "~29"),
        ("context_tokens", 10**12, "~159"),
        ("model_params_b", 7.5, "7.5"),
        ("model_params_b", 405.0, "405"),
        ("model_size_category", "medium", "medium"),
    ],
)
def test_a_value_has_a_cell_of_its_own_or_a_quarter_octave_bin(field: str, value: float | str, text: str) -> None:
    """Integers up to 64 and model sizes stand alone; bin i holds 2^(i/4) up to 2^((i+1)/4)."""
    keys = folded(msgspec.convert({"agent_run_id": "r", field: value}, RunEvent))
    assert {key.value for key in keys} == {text}


def test_iterations_that_are_no_whole_number_are_binned() -> None:
    """Ten iterations over four agents are 2.5 each, which is bin 5; eight over four are 2."""
    keys = folded(
        RunEvent("r", agent_count=4, total_iterations=10), RunEvent("s", agent_count=4, total_iterations=8)
    )  # fmt: skip
    assert {key.value for key in keys if key.dimension is Dimension.ITERATIONS} == {"~5", "2"}


def test_dose_and_realised_never_share_a_cell() -> None:
    """A limit and a count of the same number are two cells."""
    keys = folded(RunEvent("r", retry_limit=1, retry_count=1))
    assert {(key.basis, key.value) for key in keys} == {(Basis.DOSE, "2"), (Basis.REALISED, "2")}


def test_sources_and_masks_never_share_a_cell() -> None:
    """Runs of the allocator stand apart, and so do runs with other outcomes."""
    keys = folded(
        RunEvent("a", agent_count=2, success=True),
        RunEvent("b", agent_count=2, success=True, decision_id="d"),
        RunEvent("c", agent_count=2, total_cost=0.0),
        RunEvent("d", agent_count=2, total_cost=1.0),
    )
    assert {(key.source, key.mask) for key in keys} == {
        (Source.OBSERVATIONAL, 1),
        (Source.POLICY, 1),
        (Source.OBSERVATIONAL, 8),
        (Source.OBSERVATIONAL, 24),
    }
    assert split_group(33) == (Source.POLICY, 1)


def test_a_cell_belongs_to_each_context_of_its_runs() -> None:
    """The global context and the project's, in source partition 5, stamped with the drain's offset."""
    keys = folded(RunEvent("a", agent_count=2, project="p q"))
    assert {(key.partition, key.context) for key in keys} == {(5, "global"), (5, "project=p%20q")}
    offsets, _, (n, _, _) = decode_rows(list(keys.values()), len(OUTCOME_VARIABLES))
    assert (offsets.tolist(), n.tolist()) == ([3, 3], [1, 1])


def test_a_bin_keeps_the_moments_of_x_itself() -> None:
    """Within a bin x and ln x vary, and their means and co-moments with the outcomes are kept."""
    x, quality = np.array([3600.0, 3700.0, 3900.0]), np.array([0.25, 0.75, 0.5])
    events = [
        RunEvent(f"r{place}", context_budget=int(tokens), quality_score=score)
        for place, (tokens, score) in enumerate(zip(x.tolist(), quality.tolist(), strict=True))
    ]
    ((key, value),) = ((key, value) for key, value in folded(*events).items() if key.context == "global")
    assert key.value == "~47"
    _, _, (n, mean, comoment) = decode_rows([value], len(VARIABLES))
    at = {name: place for place, name in enumerate(VARIABLES)}
    full = np.zeros((10, 10))
    full[np.triu_indices(10)] = comoment[0]
    assert n[0] == 3
    assert mean[0, at[Variable.X]] == pytest.approx(x.mean(), rel=1e-15)
    assert mean[0, at[Variable.LN_X]] == pytest.approx(np.log(x).mean(), rel=1e-15)
    expected = np.cov(quality, np.log(x))[0, 1] * 2
    assert full[at[Variable.QUALITY], at[Variable.LN_X]] == pytest.approx(expected, rel=1e-12)
    assert full[at[Variable.X], at[Variable.X]] == pytest.approx(np.var(x) * 3, rel=1e-12)


def test_cells_go_on_after_a_restart() -> None:
    """Loaded cells take in what comes next, model sizes in the cells they had."""
    index = ContextIndex([], 10)
    cells = LiveCells(0, index)
    one = to_columns([RunEvent("a", model_params_b=7.5, success=True)], np.zeros(1), SETTINGS)
    two = to_columns([RunEvent("b", model_params_b=8.5), RunEvent("c", model_params_b=7.5)], np.zeros(2), SETTINGS)
    cells.fold(one, index.codes({}, 1))
    stored = [(key, value) for key, value in cells.drain(1).items() if value is not None]
    again = LiveCells(0, ContextIndex([], 10))
    again.load(stored)
    assert again.drain(1) == {}
    again.fold(two, index.codes({}, 2))
    again.fold(one, index.codes({}, 1))
    counts = {
        CellKey.decode(key).value + f"/{CellKey.decode(key).mask}": decode_rows([value or b""], 8)[2][0][0]
        for key, value in again.drain(2).items()
    }
    assert counts == {"7.5/1": 2, "7.5/0": 1, "8.5/0": 1}
