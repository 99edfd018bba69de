"""The words of the wire format: what is written into keys and records must not change by accident."""

from models import errors
from models.dimensions import (
    BASES,
    LIVE_OUTCOMES,
    MASK_BITS,
    OUTCOME_VARIABLES,
    VARIABLES,
    Basis,
    Dimension,
    Outcome,
    Source,
)
from models.laws import law_id
from models.topics import CELLS_TABLE, TABLES, TOPICS, changelog


def test_names_in_keys_are_fixed() -> None:
    """Dimensions, outcomes, bases and sources are parts of stored keys."""
    assert [*Dimension] == ["agent_count", "iterations", "parallelism_level", "context", "model_size", "attempts"]
    assert [*LIVE_OUTCOMES] == ["success", "quality_score", "time_to_complete", "total_cost"]
    assert [*Outcome] == [*LIVE_OUTCOMES, "quality_given_success", "success_times_quality"]
    assert [*Basis] == ["dose", "realised", "category"]
    assert [*Source] == ["observational", "policy"]
    assert law_id("global", Dimension.CONTEXT, Outcome.SUCCESS, "live") == "global|context|success|live"


def test_the_order_of_the_variables_is_that_of_the_stored_arrays() -> None:
    """Outcomes first, then x and ln x, which only binned cells have."""
    assert [*VARIABLES] == [
        "success",
        "quality_score",
        "time_to_complete",
        "total_cost",
        "ln_time",
        "ln_cost",
        "clipped_ln_quality",
        "clipped_ln_cost",
        "x",
        "ln_x",
    ]
    assert VARIABLES[:8] == OUTCOME_VARIABLES


def test_every_outcome_of_a_live_cell_has_a_bit_of_its_own() -> None:
    """The mask is one number below 32; what needs products of outcomes is no outcome of a live cell."""
    assert {*MASK_BITS} == {*LIVE_OUTCOMES, "positive_cost"}
    assert sorted(MASK_BITS.values()) == [1, 2, 4, 8, 16]


def test_a_limit_is_preferred_to_what_was_used() -> None:
    """Doses come first wherever a dimension has one."""
    assert BASES.keys() == {*Dimension}
    for bases in BASES.values():
        assert Basis.DOSE not in bases[1:]


def test_every_table_has_a_compacted_changelog_with_as_many_partitions_as_the_runs() -> None:
    """A partition of scaling.runs and the tables built from it move together."""
    by_name = {spec.name: spec for spec in TOPICS}
    for table in TABLES:
        assert by_name[changelog(table)].compact
        assert by_name[changelog(table)].partitions is None
    assert changelog(CELLS_TABLE) == "scaling-stats-cells-changelog"
    assert len(by_name) == len(TOPICS)


def test_every_error_is_one_of_ours_and_in_the_tree_that_is_drawn() -> None:
    """A caller can catch all of them by one name, and find each in the module's first lines."""
    found = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert all(issubclass(thing, errors.ScalingError) for thing in found)
    assert errors.__doc__
    assert all(thing.__name__ in errors.__doc__ for thing in found)
