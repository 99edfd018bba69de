"""What became of each import."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.tallies import FIRST_REASONS, LAST_IMPORTS, Tallies, Tally

COUNTS = st.integers(0, 100)
TALLY = st.builds(
    Tally,
    COUNTS,
    COUNTS,
    COUNTS,
    COUNTS,
    st.lists(st.sampled_from("abcdefghijklmn"), unique=True, max_size=6).map(tuple),
)


@given(TALLY, TALLY, TALLY)
def test_tallies_add_up_in_any_grouping(one: Tally, two: Tally, three: Tally) -> None:
    """Counts add, the first ten different reasons stay, nothing is the identity."""
    assert (one + two) + three == one + (two + three)
    assert one + Tally() == Tally() + one == one
    both = one + two
    assert both.accepted == one.accepted + two.accepted
    assert len(both.reasons) == min(len({*one.reasons, *two.reasons}), FIRST_REASONS)


def test_only_imports_that_changed_are_written() -> None:
    """A drain holds what was added to since the last one, as totals that replace the stored ones."""
    tallies = Tallies(3)
    tallies.add("a", Tally(accepted=2))
    tallies.add("b", Tally(rejected=1, reasons=("bad",)))
    assert set(tallies.drain()) == {b"3|a", b"3|b"}
    tallies.add("a", Tally(duplicate=1))
    ((key, value),) = tallies.drain().items()
    assert key == b"3|a"
    assert msgspec.json.decode(value or b"", type=Tally) == Tally(accepted=2, duplicate=1)
    assert tallies.drain() == {}


def test_the_last_thousand_imports_are_kept() -> None:
    """The oldest go with a tombstone; one that comes back starts anew and is written."""
    tallies = Tallies(0)
    for number in range(LAST_IMPORTS):
        tallies.add(f"i{number}", Tally(accepted=1))
    tallies.drain()
    tallies.add("new", Tally(accepted=1))
    assert tallies.drain()[b"0|i0"] is None
    tallies.add("i1", Tally(accepted=1))
    tallies.add("newer", Tally(accepted=1))
    tallies.add("i1", Tally(accepted=1))
    changes = tallies.drain()
    assert changes[b"0|i2"] is None
    assert msgspec.json.decode(changes[b"0|i1"] or b"", type=Tally).accepted == 1


def test_loaded_tallies_go_on_counting() -> None:
    """After a restart the counts continue, and nothing is written before something changes."""
    tallies = Tallies(0)
    tallies.add("a", Tally(accepted=5))
    stored = [(key, value) for key, value in tallies.drain().items() if value is not None]
    again = Tallies(0)
    again.load(stored)
    assert again.drain() == {}
    again.add("a", Tally(accepted=1))
    assert msgspec.json.decode(again.drain()[b"0|a"] or b"", type=Tally).accepted == 6


def test_a_whole_drain_keeps_the_order_of_age() -> None:
    """A restart from it evicts the same import next."""
    tallies = Tallies(0)
    for name in ("z", "m", "a"):
        tallies.add(name, Tally(accepted=1))
    tallies.drain()
    assert list(tallies.drain(whole=True)) == [b"0|z", b"0|m", b"0|a"]
    assert tallies.drain() == {}
