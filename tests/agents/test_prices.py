"""What a unit of each part costs."""

from collections.abc import Callable

import numpy as np
import pytest

from agents.lawbook import LawBook
from agents.prices import prices_of
from analytics.setting_grid import Grid
from models.allocations import Setting
from models.dimensions import Dimension, Outcome
from models.laws import Law
from models.settings import load_settings

SETTINGS = load_settings()
GLOBAL = ["global"]


def test_the_slope_of_a_cost_law_is_a_price(make_law: Callable[..., Law]) -> None:
    """Where a law is missing, or its slope is not positive, the price table stands in and is named."""
    book = LawBook()
    book.put(make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, 1.0, slope=0.1))
    book.put(make_law(Dimension.ITERATIONS, Outcome.TOTAL_COST, -0.1, slope=-0.2))
    prices = prices_of(GLOBAL, "", book, SETTINGS)
    dollars = {name: price.dollars for name, price in prices.by_part.items()}
    assert dollars == {"agent_count": 0.1, "max_iterations": 0.02, "context_budget": 0.003}
    assert prices.source == "global|agent_count|total_cost|live, price_table"
    assert [law.law_id for law in prices.laws] == ["global|agent_count|total_cost|live"]
    assert prices_of(GLOBAL, "", book, SETTINGS, by_law=False).source == "price_table"


def test_a_model_has_prices_of_its_own() -> None:
    """Other models have those of all."""
    entry = {"agent": 0.5, "iteration": 0.2, "context_per_1k": 0.01}
    settings = load_settings(model_prices={"big": entry})
    big, other = (prices_of(GLOBAL, model, LawBook(), settings) for model in ("big", "small"))
    assert [price.dollars for price in big.by_part.values()] == [0.5, 0.2, 0.01]
    assert [price.dollars for price in other.by_part.values()] == [0.05, 0.02, 0.003]
    assert (big.source, other.source) == ("price_table (big)", "price_table")


def test_a_cost_is_the_sum_of_its_parts() -> None:
    """Context counts by thousands of tokens; slots cost nothing."""
    grid = Grid.listing([Setting(1, 1, 1000, 1), Setting(3, 5, 32_000, 3)])
    np.testing.assert_allclose(prices_of(GLOBAL, "", LawBook(), SETTINGS).cost(grid), [0.073, 0.15 + 0.1 + 0.096])


def test_the_most_specific_cost_law_speaks(make_law: Callable[..., Law]) -> None:
    """That of the task's project, where it has one."""
    book = LawBook()
    for context, slope in (("global", 0.1), ("project=web", 0.3)):
        book.put(make_law(Dimension.AGENT_COUNT, Outcome.TOTAL_COST, 1.0, slope=slope, context=context))
    assert prices_of(["global", "project=web"], "", book, SETTINGS).by_part["agent_count"].dollars == pytest.approx(0.3)
    assert prices_of(GLOBAL, "", book, SETTINGS).by_part["agent_count"].dollars == pytest.approx(0.1)
