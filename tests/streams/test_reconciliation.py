"""Which contexts the live tables and ClickHouse must agree on, and where they do not."""

from streams.reconciliation import comparable, disagreements


def test_contexts_of_either_side_are_compared() -> None:
    """One that only one side has is a disagreement."""
    live = {"global": {"runs": 3}, "project=a": {"runs": 2}}
    archived = {"global": {"runs": 3}, "project=b": {"runs": 1}}
    contexts = comparable(live, archived, 500)
    assert contexts == ["global", "project=a", "project=b"]
    assert list(map(str, disagreements(live, archived, contexts, 0))) == [
        "project=a runs: 2 live, 0 in ClickHouse",
        "project=b runs: 0 live, 1 in ClickHouse",
    ]


def test_where_values_overflow_only_common_contexts_are_compared() -> None:
    """Which values have contexts of their own is decided apart."""
    live = {"project=a": {"runs": 2}, "project=other": {"runs": 9}, "model=m": {"runs": 1}}
    archived = {"project=a": {"runs": 2}, "project=z": {"runs": 9}, "model=m": {"runs": 1}, "model=n": {"runs": 1}}
    assert comparable(live, archived, 500) == ["model=m", "model=n", "project=a"]
    assert comparable(live, archived, 2) == ["model=m", "project=a"]


def test_as_many_runs_may_differ_as_were_corrected_since() -> None:
    """A correction may move a run to another context, or give it an outcome."""
    live, archived = {"global": {"runs": 10, "success": 8}}, {"global": {"runs": 10, "success": 9}}
    assert disagreements(live, archived, ["global"], 1) == []
    (found,) = disagreements(live, archived, ["global"], 0)
    assert (found.what, found.live, found.archived) == ("success", 8, 9)
