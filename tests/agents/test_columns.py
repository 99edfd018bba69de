"""From events to columns: what is missing is NaN, what is measured is in the basis it was measured in."""

import math
from typing import Any

import numpy as np
import pytest

from agents.columns import Columns, observed_outcomes, to_columns
from models.dimensions import OUTCOME_VARIABLES, Basis, Dimension
from models.events import RunEvent
from models.settings import load_settings

SETTINGS = load_settings(
    context_keys=[["project"], ["model_size_category"], ["complexity_band"], ["language", "model"]]
)


def event(**fields: Any) -> RunEvent:  # noqa: ANN401 - any field
    """Make an event."""
    return RunEvent("r", **fields)


def test_dimensions_are_told_by_basis() -> None:
    """Limits are doses, counts are realised; iterations are per agent, attempts are retries and one."""
    one = event(
        agent_count=4,
        total_iterations=10,
        max_iterations=5,
        retry_limit=2,
        retry_count=0,
        context_budget=8000,
        context_tokens=0,
        parallelism_level=2,
        model_params_b=70.0,
        model_size_category="large",
    )
    columns = to_columns([one, event()], np.zeros(2), SETTINGS)
    first = {key: column[0] for key, column in columns.dimensions.items()}
    assert first == {
        (Dimension.AGENT_COUNT, Basis.REALISED): 4,
        (Dimension.ITERATIONS, Basis.DOSE): 5,
        (Dimension.ITERATIONS, Basis.REALISED): 2.5,
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): 2,
        (Dimension.CONTEXT, Basis.DOSE): 8000,
        (Dimension.CONTEXT, Basis.REALISED): 0,
        (Dimension.MODEL_SIZE, Basis.REALISED): 70,
        (Dimension.MODEL_SIZE, Basis.CATEGORY): 2,
        (Dimension.ATTEMPTS, Basis.DOSE): 3,
        (Dimension.ATTEMPTS, Basis.REALISED): 1,
    }
    assert all(math.isnan(column[1]) for column in columns.dimensions.values())


def test_iterations_need_both_counts_to_be_realised() -> None:
    """The total alone says nothing per agent."""
    columns = to_columns([event(total_iterations=4), event(agent_count=2)], np.zeros(2), SETTINGS)
    present = {key for key, column in columns.dimensions.items() if not np.isnan(column).all()}
    assert present == {(Dimension.AGENT_COUNT, Basis.REALISED)}


def test_the_mask_tells_what_is_observed_and_the_centre_stands_in_for_the_rest() -> None:
    """An unobserved outcome adds nothing about the centre; a cost of zero has no logarithm but a clipped one."""
    events = [
        event(success=True, quality_score=0.0, time_to_complete=20.0, total_cost=0.0),
        event(total_cost=4.0, time_to_complete=40.0),
        event(),
    ]
    columns = to_columns(events, np.zeros(3), SETTINGS)
    assert columns.mask.tolist() == [1 | 2 | 4 | 8, 4 | 8 | 16, 0]
    named = dict(zip(OUTCOME_VARIABLES, columns.outcomes.T.tolist(), strict=True))
    centre = dict(zip(OUTCOME_VARIABLES, columns.centre.tolist(), strict=True))
    assert named["success"] == [1.0, 0.5, 0.5]
    assert named["time_to_complete"] == [20.0, 40.0, 30.0]
    assert named["total_cost"] == [0.0, 4.0, 2.0]
    assert named["ln_cost"] == pytest.approx([math.log(4)] * 3)
    assert named["clipped_ln_cost"][:2] == pytest.approx([math.log(0.001), math.log(4)])
    assert named["clipped_ln_quality"][0] == pytest.approx(math.log(0.001))
    assert all(named[name][2] == centre[name] for name in OUTCOME_VARIABLES)


def test_keys_come_from_the_event_its_characteristics_or_its_complexity() -> None:
    """The top level comes first, numbers are their text, the band follows the mapped complexity."""
    events = [
        event(project="p", task_complexity="low", model_size_category="small"),
        event(project_characteristics={"language": "go", "model": 7}, task_complexity=0.8),
    ]
    keys = to_columns(events, np.zeros(2), SETTINGS).keys
    assert {key: list(column) for key, column in keys.items()} == {
        "project": ["p", None],
        "model_size_category": ["small", None],
        "complexity_band": ["low", "high"],
        "language": [None, "go"],
        "model": [None, "7"],
    }


def test_the_source_is_policy_where_an_allocation_is_echoed() -> None:
    """A decision id or a policy version make a run one of the allocator's."""
    events = [event(), event(decision_id="d"), event(policy_version="v1")]
    assert to_columns(events, np.zeros(3), SETTINGS).policy.tolist() == [0, 1, 1]


def test_joined_columns_are_those_of_all_events() -> None:
    """Appending chunks is building the columns at once, except that the first chunk's centre stands in."""
    events = [
        event(success=True, time_to_complete=20.0, project="p"),
        event(total_cost=4.0, time_to_complete=40.0, agent_count=3, task_complexity="low"),
        event(quality_score=0.5, retry_limit=1),
    ]
    whole = to_columns(events, np.arange(3.0), SETTINGS)
    joined = Columns.joined([to_columns([one], np.array([float(at)]), SETTINGS) for at, one in enumerate(events)])
    assert joined.mask.tolist() == whole.mask.tolist()
    assert joined.completed.tolist() == [0, 1, 2]
    assert {key: list(column) for key, column in joined.keys.items()} == {
        key: list(column) for key, column in whole.keys.items()
    }
    for key, column in whole.dimensions.items():
        np.testing.assert_array_equal(joined.dimensions[key], column)
    seen = observed_outcomes(whole.mask)
    assert np.array_equal(joined.outcomes[seen], whole.outcomes[seen])
    assert np.array_equal(joined.outcomes[~seen], np.broadcast_to(joined.centre, (3, 8))[~seen])


def test_no_events_are_no_rows() -> None:
    """An empty batch has empty columns and no warning."""
    columns = to_columns([], np.zeros(0), SETTINGS)
    assert len(columns) == 0
    assert columns.outcomes.shape == (0, 8)
