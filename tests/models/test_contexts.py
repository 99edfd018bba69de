"""Contexts and their names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contexts import GLOBAL, complexity_band, context_id, context_pairs, contexts_of, parent

PAIRS = st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=3)


@given(PAIRS)
def test_a_context_reads_back_and_keeps_clear_of_all_separators(pairs: list[tuple[str, str]]) -> None:
    """Keys and values may hold anything; the id has only its own separators, and none of a key's."""
    context = context_id(pairs)
    assert context_pairs(context) == pairs
    assert context.count("&") == len(pairs) - 1
    assert context.count("=") == len(pairs)
    assert not set("| \n") & set(context)


@given(PAIRS)
def test_parents_lead_to_the_global_context(pairs: list[tuple[str, str]]) -> None:
    """Each parent drops the last pair; the global context has none."""
    context: str | None = context_id(pairs)
    steps = 0
    while context is not None:
        context, steps = parent(context), steps + 1
    assert steps == len(pairs) + 1


def test_a_run_is_in_the_contexts_whose_keys_it_has() -> None:
    """Global first, then in the order of the key lists; a missing key leaves its lists out."""
    lists = [["model"], ["project", "model"], ["team"]]
    assert contexts_of({"project": "a", "model": "m"}, lists) == [GLOBAL, "model=m", "project=a&model=m"]


@pytest.mark.parametrize(
    ("complexity", "band"),
    [
        (0.0, "trivial"),
        (0.19, "trivial"),
        (0.2, "low"),
        (0.49, "low"),
        (0.5, "medium"),
        (0.79, "medium"),
        (0.8, "high"),
        (1.0, "high"),
    ],
)
def test_bands_begin_at_their_lower_bound(complexity: float, band: str) -> None:
    """Bands: trivial < 0.2 <= low < 0.5 <= medium < 0.8 <= high."""
    assert complexity_band(complexity) == band
