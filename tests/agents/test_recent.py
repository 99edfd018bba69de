"""A mapping that forgets."""

from agents.recent import Recent


def test_the_one_unused_for_longest_goes_first() -> None:
    """Looking a value up is using it."""
    kept: Recent[str, int] = Recent(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)
    kept.put("a", 4)
    assert (kept.get("a"), len(kept)) == (4, 2)


def test_a_value_is_made_once() -> None:
    """And again once it is forgotten."""
    made: list[str] = []
    kept: Recent[str, int] = Recent(1)

    def make(name: str) -> int:
        made.append(name)
        return len(made)

    assert [kept.once(name, lambda name=name: make(name)) for name in "aab"] == [1, 1, 2]  # type: ignore[misc]
    assert kept.once("a", lambda: make("a")) == 3
    assert made == ["a", "b", "a"]
