"""What a unit of each part costs: slopes of cost laws, or the price table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.lawbook import LawBook, has_line
from agents.limits import SHARED, Part
from analytics.moments import Floats
from analytics.setting_grid import Grid
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.laws import Law
from models.settings import Settings

PRICE_TABLE = "price_table"


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for one unit of a part, and the law whose slope it is; None where it comes from the price table."""

    dollars: float
    law: Law | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The price of each part that shares the budget, and what the price table's entry is called.

    Equation: c(v) = Σ_i u_i v_i, additive and without an intercept, as the design document has it.
    """

    by_part: Mapping[str, Price]
    table: str

    @property
    def laws(self) -> list[Law]:
        """List the laws among the sources."""
        return [price.law for price in self.by_part.values() if price.law]

    @property
    def source(self) -> str:
        """Name the sources: laws, and the price table where it is used."""
        named = [law.law_id for law in self.laws]
        return ", ".join([*named, *([] if len(named) == len(self.by_part) else [self.table])])

    def cost(self, grid: Grid) -> Floats:
        """Compute the cost of each setting. [G]."""
        total = np.zeros(len(grid))
        for part in SHARED:
            total += self.by_part[part.name].dollars * getattr(grid, part.name) / part.unit
        return total


def prices_of(contexts: Sequence[str], model: str, book: LawBook, settings: Settings, *, by_law: bool = True) -> Prices:
    """Price the parts: by the slope of the linear cost law where it is positive, else by the table's entry of a model.

    Args:
        contexts: Of the task.
        model: Of the task; empty: unknown.
        book: The laws.
        settings: The price table.
        by_law: Whether laws are asked at all.
    """
    entry = settings.model_prices.get(model)
    name = f"{PRICE_TABLE} ({model})" if entry else PRICE_TABLE
    dollars = (
        (entry.agent, entry.iteration, entry.context_per_1k)
        if entry
        else (settings.agent_cost, settings.iteration_cost, settings.context_cost_per_1k)
    )
    by_part = {part.name: Price(each) for part, each in zip(SHARED, dollars, strict=True)}
    if by_law:
        by_part |= {part.name: price for part in SHARED if (price := _price(part, contexts, book))}
    return Prices(by_part, name)


def _price(part: Part, contexts: Sequence[str], book: LawBook) -> Price | None:
    try:
        law = book.choose(contexts, part.dimension, Outcome.TOTAL_COST, has_line)
    except NotEnoughData:
        return None
    line = law.reference.linear
    slope = line.coefficient.estimate * part.unit if line else 0.0
    return Price(slope, law) if slope > 0 else None
