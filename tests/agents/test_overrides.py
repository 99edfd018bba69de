"""Which standing orders are in force, and what orders come to together."""

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import structs

from agents.overrides import Overrides, holds, merged
from models.allocations import Intervention, Override, Parts, Pins

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
GIVEN = Override("freeze", "ada", "incident 42", "2026-03-01T08:00:00Z")


def named(*orders: Override, contexts: tuple[str, ...] = ("global",)) -> list[str]:
    """Give the names of the orders in force."""
    book = Overrides()
    for order in orders:
        book.put(order)
    return [order.override_id for order in book.in_force(contexts, NOW)]


def replaced(name: str, **fields: object) -> Override:
    """Make another order."""
    return structs.replace(GIVEN, override_id=name, **fields)


def test_the_most_specific_context_comes_first_then_the_newest_order() -> None:
    """Times are compared as moments, not as texts."""
    orders = (
        replaced("all"),
        replaced("newer", given_at="2026-03-01T10:30:00+02:00"),
        replaced("pair", context="project=web&task_type=bug"),
        replaced("web", context="project=web"),
        replaced("other", context="project=app"),
    )
    contexts = ("global", "project=web", "project=web&task_type=bug")
    assert named(*orders, contexts=contexts) == ["pair", "web", "newer", "all"]


def test_the_newest_record_of_an_order_stands() -> None:
    """A lifted one does not hold; a deleted one is gone; an unknown one is no error."""
    assert named(GIVEN, structs.replace(GIVEN, lifted_at="2026-03-02T08:00:00Z")) == []
    book = Overrides()
    book.put(GIVEN)
    book.delete("unknown")
    assert list(book) == [GIVEN]
    book.delete("freeze")
    assert list(book) == []


@pytest.mark.parametrize(
    ("begins", "ends", "held"),
    [
        (None, None, True),
        ("2026-03-10T12:00:00Z", None, True),
        ("2026-03-10T12:00:01Z", None, False),
        (None, "2026-03-10T12:00:00Z", False),
        (None, "2026-03-10T13:59:59+01:00", True),
    ],
)
def test_an_order_holds_from_its_begin_until_before_its_end(begins: str | None, ends: str | None, held: bool) -> None:  # noqa: FBT001 - the expected answer
    """Either may be open."""
    assert holds(structs.replace(GIVEN, begins=begins, ends=ends), NOW) is held


@pytest.mark.parametrize("field", ["given_at", "begins", "ends"])
@pytest.mark.parametrize("moment", ["soon", "", "2026-03-10T12:00:00", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_refused(field: str, moment: str) -> None:
    """Or an order that nobody can date would stop the answers to all tasks of its context."""
    with pytest.raises(msgspec.ValidationError):
        Overrides().put(structs.replace(GIVEN, **{field: moment}))


def test_the_first_pin_and_the_least_cap_win() -> None:
    """Part by part; no pin is above a cap, and what was lowered is told."""
    orders = [
        Intervention("call", "ada", "", Pins(agent_count=5, model_size="small"), Parts(max_iterations=9)),
        Intervention("one", "ada", "", Pins(agent_count=2, max_iterations=8, model_size="large"), Parts(agent_count=6)),
        Intervention("two", "ada", "", caps=Parts(max_iterations=3, agent_count=7)),
    ]
    pins, caps, notes = merged(orders)
    assert pins == Pins(agent_count=5, max_iterations=3, model_size="small")
    assert caps == Parts(agent_count=6, max_iterations=3)
    assert notes == ["The pin max_iterations = 8 is lowered to 3 by a cap."]
    assert merged([]) == (Pins(), Parts(), [])
