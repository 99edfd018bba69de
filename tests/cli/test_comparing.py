"""Comparing contexts: which laws take part, what is taken from each, and what is printed."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO

import numpy as np
import orjson
import pytest
from rich.console import Console

from agents.raw_laws import RawRuns, Wanted
from analytics.comparison import compare_scaling_by_context
from analytics.simulation import simulate
from analytics.world import World
from cli.comparing import context_slope, joint_test, pairs_table, siblings, slopes_table
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate, Law
from models.settings import load_settings

Make = Callable[..., Law]
WANTED = (Dimension.AGENT_COUNT, Outcome.SUCCESS)


@pytest.fixture(scope="module")
def events() -> list[dict[str, object]]:
    """Give 3,000 runs of four projects that scale alike."""
    return list(simulate(World(), 3000, seed=4, start=datetime(2026, 3, 1, tzinfo=UTC)))


@pytest.fixture(scope="module")
def laws(events: list[dict[str, object]]) -> list[Law]:
    """Give the laws of success over agents in all contexts."""
    raw = RawRuns(load_settings(bootstrap_draws=100))
    raw.add([orjson.dumps(event) for event in events])
    return list(raw.laws(Wanted(None, *WANTED)))


def test_what_is_compared_comes_from_the_rows(laws: list[Law], events: list[dict[str, object]]) -> None:
    """n, values and Σ (ln x - mean)² of a project are those of its raw runs; the global law takes no part."""
    chosen = siblings(laws, *WANTED, "project")
    assert sorted(law.context for law in chosen) == [f"project={name}" for name, _ in World().projects]
    for law in chosen:
        x = np.array([event["agent_count"] for event in events if f"project={event['project']}" == law.context])
        found = context_slope(law)
        assert found.n == len(x)
        assert found.values == len(np.unique(x))
        assert found.spread == pytest.approx(((np.log(x) - np.log(x).mean()) ** 2).sum(), rel=1e-12)
        assert found.slope == law.trend


def test_projects_that_scale_alike_do_not_differ(laws: list[Law]) -> None:
    """Cochran's Q, the common slope and all six pairs are printed; the planted law is one, so p is not small."""
    slopes = [context_slope(law) for law in siblings(laws, *WANTED, "project")]
    found = compare_scaling_by_context(slopes)
    assert found.heterogeneity.p > 0.01
    assert "do not differ beyond chance" in joint_test(found)
    file = StringIO()
    console = Console(width=160, file=file)
    console.print(slopes_table(slopes, *WANTED), pairs_table(found))
    told = file.getvalue()
    assert told.count("project=") == 4 + 2 * 6
    for pair in found.pairs:
        assert f"{pair.p_adjusted:.3g}" in told


def test_clusters_set_the_degrees_of_freedom(make_law: Make) -> None:
    """A law whose errors are clustered has clusters less one; one without clusters leaves it to its runs."""
    trend = Estimate(0.1, 0.02, 0.06, 0.14)
    assert context_slope(make_law(trend=trend, clusters="64 task groups")).dof == 63
    assert context_slope(make_law(trend=trend)).dof is None


def test_a_law_without_a_trend_is_left_out_with_its_reason(make_law: Make) -> None:
    """What cannot be compared says why."""
    with pytest.raises(NotEnoughData, match="has no trend to compare: too few runs"):
        context_slope(make_law(missing={"published": "too few runs"}))


def test_a_key_without_laws_names_those_that_have_some(make_law: Make) -> None:
    """One context is no comparison; the message names the keys there are."""
    laws = [make_law(context="project=a"), make_law(context="model=m"), make_law()]
    with pytest.raises(NotEnoughData, match=r"1 contexts of --key project .* a comparison needs 2: .* model, project"):
        siblings(laws, Dimension.AGENT_COUNT, Outcome.QUALITY_SCORE, "project")
