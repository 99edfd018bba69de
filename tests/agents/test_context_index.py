"""Contexts by number, and the cap that keeps their state bounded."""

from collections.abc import Sequence

from agents.context_index import NONE, ContextIndex

KEYS = (("project",), ("task_type", "model"))


def named(index: ContextIndex, **columns: Sequence[str | None]) -> list[list[str | None]]:
    """Give the contexts of each row by name."""
    rows = len(next(iter(columns.values())))
    return [
        [None if code == NONE else index.ids[code] for code in row] for row in index.codes(dict(columns), rows).tolist()
    ]


def test_a_run_belongs_to_the_global_context_and_to_those_whose_keys_it_has() -> None:
    """One column a key list; a missing or empty key is no context."""
    found = named(ContextIndex(KEYS, 10), project=["a b", None, ""], task_type=["x", "x", "x"], model=["m", None, ""])
    assert found == [["global", "project=a%20b", "task_type=x&model=m"], ["global", None, None], ["global", None, None]]


def test_values_past_the_cap_share_the_context_other() -> None:
    """The first values keep their own for good; missing keys do not count."""
    index = ContextIndex([["project"]], 2)
    assert named(index, project=[None, "a", "b", "c", "a"])[1:] == [
        ["global", "project=a"],
        ["global", "project=b"],
        ["global", "project=other"],
        ["global", "project=a"],
    ]
    assert named(index, project=["d", "b", "c"]) == [
        ["global", "project=other"],
        ["global", "project=b"],
        ["global", "project=other"],
    ]
    assert index.ids == ["global", "project=a", "project=b", "project=other"]


def test_a_pair_of_keys_overflows_as_a_pair() -> None:
    """The overflow of a list of two keys is other and other, counted apart from lists of one."""
    index = ContextIndex(KEYS, 1)
    found = named(index, project=["a", "a"], task_type=["x", "y"], model=["m", "m"])
    assert found[1] == ["global", "project=a", "task_type=other&model=other"]


def test_the_look_up_stays_bounded_while_values_never_end() -> None:
    """Ten thousand projects leave three contexts and a short dictionary."""
    index = ContextIndex([["project"]], 2)
    for first in range(0, 10_000, 100):
        found = named(index, project=[f"p{number}" for number in range(first, first + 100)])
        assert found[-1] == ["global", "project=other"]
    assert len(index.ids) == 4
    assert len(index._codes[0]) <= 4


def test_the_look_up_stays_bounded_while_keys_are_missing() -> None:
    """Pairs of which one key is missing are no contexts, and are not remembered for ever either."""
    index = ContextIndex([["task_type", "model"]], 2)
    for first in range(0, 1000, 100):
        named(index, task_type=[f"t{number}" for number in range(first, first + 100)], model=[None] * 100)
    assert index.ids == ["global"]
    assert len(index._codes[0]) <= 4


def test_restored_contexts_count_towards_the_cap_and_keep_their_names() -> None:
    """After a restart the same values have their own context and the same ones overflow."""
    before = ContextIndex(KEYS, 2)
    first = named(before, project=["a", "b", "c"], task_type=["x|y", None, "z"], model=["m&n", "m", "m"])
    after = ContextIndex(KEYS, 2)
    after.restore(before.ids)
    again = named(after, project=["d", "c", "b", "a"], task_type=["x|y", "q", "z", None], model=["m&n", "q", "m", None])
    assert [row[1] for row in again] == ["project=other", "project=other", "project=b", "project=a"]
    assert [row[2] for row in again] == [first[0][2], "task_type=other&model=other", "task_type=z&model=m", None]


def test_contexts_of_key_lists_that_are_gone_are_not_taken_up() -> None:
    """Stored contexts of other key lists do not count towards the cap of these."""
    index = ContextIndex([["project"]], 1)
    index.restore(["global", "model=m", "project=a&model=m"])
    assert named(index, project=["a"]) == [["global", "project=a"]]
