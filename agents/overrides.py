"""Human overrides: which are in force for a task, and what they come to together."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from models.allocations import Intervention, Override, Parts, Pins, check_moments
from models.contexts import context_pairs

CALL = "call"
"""The id of what a caller asks for itself."""


class Overrides:
    """The standing orders on scaling.overrides, each in its newest record."""

    def __init__(self) -> None:
        self._orders: dict[str, Override] = {}

    def __iter__(self) -> Iterator[Override]:
        return iter(self._orders.values())

    def put(self, order: Override) -> None:
        """Take an order in, or its newer record.

        Raises:
            msgspec.ValidationError: A time of it is none.
        """
        check_moments(order.given_at, order.begins, order.ends)
        self._orders[order.override_id] = order

    def delete(self, override_id: str) -> None:
        """Forget an order, as its tombstone asks."""
        self._orders.pop(override_id, None)

    def in_force(self, contexts: Sequence[str], now: datetime) -> list[Override]:
        """List the orders for a task's contexts, those of the most specific context first, newer ones before older."""
        found = [order for order in self if order.context in contexts and holds(order, now)]
        found.sort(key=lambda order: datetime.fromisoformat(order.given_at), reverse=True)
        return sorted(found, key=lambda order: -len(context_pairs(order.context)))


def holds(order: Override, now: datetime) -> bool:
    """Tell whether an order is in force: it was not lifted, has begun and has not ended."""
    if order.lifted_at is not None:
        return False
    begun = order.begins is None or datetime.fromisoformat(order.begins) <= now
    return begun and (order.ends is None or now < datetime.fromisoformat(order.ends))


def merged(orders: Sequence[Intervention]) -> tuple[Pins, Parts, list[str]]:
    """Join orders, the strongest first: the first pin of a part wins, and the least cap; no pin is above a cap.

    Returns:
        The pins, the caps, and a note for each pin that a cap lowers.
    """
    pins: dict[str, int] = {}
    caps: dict[str, int] = {}
    size: str | None = None
    for order in orders:
        size = size or order.pins.model_size
        for name, value in order.pins.numbers().items():
            pins.setdefault(name, value)
        for name, value in order.caps.numbers().items():
            caps[name] = min(value, caps.get(name, value))
    notes = [
        f"The pin {name} = {pins[name]} is lowered to {caps[name]} by a cap."
        for name in pins
        if name in caps and pins[name] > caps[name]
    ]
    held = {name: min(value, caps.get(name, value)) for name, value in pins.items()}
    return Pins(**held, model_size=size), Parts(**caps), notes
