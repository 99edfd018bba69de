"""The design document's methods, by hand-worked examples and by polynomial fits of the rows."""

import numpy as np
import pytest

from analytics import reference
from analytics.cells import LOG_VARIABLES, Cells, LawCells, law_cells
from analytics.moments import Floats
from models.dimensions import CLIP, LIVE_OUTCOMES, Outcome
from models.errors import NotEnoughData


def cells_at(means: dict[float, float], outcome: Outcome = Outcome.QUALITY_SCORE, runs: int = 4) -> LawCells:
    """Make cells whose runs at each value have the given mean, half of them 0.01 above and half below."""
    x = np.repeat(list(means), runs)
    y = np.repeat(list(means.values()), runs) + np.tile([-0.01, 0.01], len(x) // 2)
    return rows(x.astype(np.float64), y, outcome)


def rows(x: Floats, y: Floats, outcome: Outcome) -> LawCells:
    """Reduce rows to the cells of a law."""
    columns = {"x": x, str(outcome): y}
    if outcome in LOG_VARIABLES:
        columns[str(LOG_VARIABLES[outcome])] = np.log(np.maximum(y, CLIP))
    return law_cells(Cells.from_rows(columns), outcome)


@pytest.mark.parametrize("outcome", list(LIVE_OUTCOMES))
def test_the_three_fits_equal_polynomial_fits_of_the_rows(outcome: Outcome) -> None:
    """Power, logarithmic and linear coefficients and R² are those of numpy on the raw runs, x = 0 left out of logs."""
    rng = np.random.default_rng(30)
    x = rng.choice([0.0, 1, 2, 3, 4, 6, 8], 400)
    y = rng.random(400) * (1 + x) * (rng.random(400) < 0.9)
    if outcome == Outcome.SUCCESS:
        y = (y > 1).astype(np.float64)
    cells = rows(x, y, outcome)
    kept = x > 0
    power = reference.fit_power_law(cells, outcome)
    ln_y = np.log(np.maximum(y[kept], 0.001))
    slope, intercept = np.polyfit(np.log(x[kept]), ln_y, 1)
    assert power.exponent.estimate == pytest.approx(slope, rel=1e-9)
    assert power.coefficient.estimate == pytest.approx(np.exp(intercept), rel=1e-9)
    assert power.r_squared == pytest.approx(np.corrcoef(np.log(x[kept]), ln_y)[0, 1] ** 2, abs=1e-9)
    for fit, g, these in (
        (reference.fit_logarithmic(cells, outcome), np.log(np.where(kept, x, 1.0)), kept),
        (reference.fit_linear(cells, outcome), x, np.ones(400, np.bool_)),
    ):
        slope, intercept = np.polyfit(g[these], y[these], 1)
        assert fit.coefficient.estimate == pytest.approx(slope, rel=1e-9)
        assert fit.intercept.estimate == pytest.approx(intercept, rel=1e-9)
        assert fit.r_squared == pytest.approx(np.corrcoef(g[these], y[these])[0, 1] ** 2, abs=1e-9)


@pytest.mark.parametrize(
    ("exponent", "word"),
    [
        (-0.3, "Minimal"),
        (0.1, "Minimal"),
        (0.11, "Logarithmic"),
        (0.49, "Logarithmic"),
        (0.5, "Sublinear"),
        (0.89, "Sublinear"),
        (0.9, "Linear"),
        (1.1, "Linear"),
        (1.11, "Superlinear"),
    ],
)
def test_every_exponent_has_one_band(exponent: float, word: str) -> None:
    """The document's bands, their ends as the wire format gives them."""
    assert reference.interpret_exponent(exponent).startswith(word)


@pytest.mark.parametrize(
    ("means", "knee"),
    [
        ({1: 0.5, 2: 0.6, 3: 0.63, 4: 0.9}, 2),
        ({1: 0.5, 2: 0.49, 3: 0.9}, 1),
        ({1: 0.1, 2: 0.2, 3: 0.3}, 3),
        ({1: 0.1, 3: 0.25, 8: 0.4}, 3),
        ({1: 0.5, 2: 0.55, 3: 0.56}, 2),
    ],
    ids=["first pair below", "a fall is below", "never below", "per unit of x", "a tie reaches the threshold"],
)
def test_the_knee_is_the_lower_value_of_the_first_pair_below_five_percent_a_unit(
    means: dict[float, float], knee: float
) -> None:
    """Worked by hand: 0.03 from 2 to 3 is below 0.05; 0.15 over 2 units is 0.075; 0.15 over 5 is 0.03."""
    assert reference.find_knee_point(cells_at(means), Outcome.QUALITY_SCORE) == knee


def test_the_knee_rule_stops_at_once_on_tokens_and_on_falling_outcomes() -> None:
    """The document's rule as it stands: no gain per token reaches 0.05, and a falling time has no gain at all."""
    assert reference.find_knee_point(cells_at({1000: 0.1, 2000: 0.9}), Outcome.QUALITY_SCORE) == 1000
    time = cells_at({1: 100, 2: 50, 4: 25}, Outcome.TIME_TO_COMPLETE)
    assert reference.find_knee_point(time, Outcome.TIME_TO_COMPLETE) == 1
    assert reference.find_knee_point(cells_at({1: 0.1, 2: 0.3}), Outcome.QUALITY_SCORE, threshold=0.3) == 1


@pytest.mark.parametrize(
    ("means", "outcome", "point"),
    [
        ({1: 0.2, 2: 0.4, 3: 0.52, 4: 0.6}, Outcome.QUALITY_SCORE, 3),
        ({1000: 0.2, 2000: 0.4, 4000: 0.5}, Outcome.QUALITY_SCORE, 2000),
        ({1: 100, 2: 50, 3: 45}, Outcome.TIME_TO_COMPLETE, 2),
        ({1: 1, 2: 2, 3: 3}, Outcome.TOTAL_COST, 1),
    ],
    ids=["agents", "tokens", "a fall in time", "a rise in cost"],
)
def test_returns_diminish_where_a_unit_brings_less_than_half_of_the_first(
    means: dict[float, float], outcome: Outcome, point: float
) -> None:
    """Worked by hand: gains .2, .12, .08 fall below .1 after 3; per token .0002 then .00005; 50 s then 5 s."""
    assert reference.find_diminishing_returns_point(cells_at(means, outcome), outcome) == point


def test_undiminished_returns_and_single_values_are_not_guessed() -> None:
    """Where returns never fall below half, or there is one value, no point is made up."""
    with pytest.raises(NotEnoughData, match="do not fall below half"):
        reference.find_diminishing_returns_point(cells_at({1: 0.1, 2: 0.2, 3: 0.3}), Outcome.QUALITY_SCORE)
    for find in (reference.find_knee_point, reference.find_diminishing_returns_point):
        with pytest.raises(NotEnoughData, match="at least 2 distinct values"):
            find(cells_at({1: 0.1}), Outcome.QUALITY_SCORE)


def test_bins_that_stand_at_a_numbers_place_are_told() -> None:
    """A bin whose nominal value equals an unbinned value would divide by a zero step; it is named instead."""
    cells = Cells.from_rows(
        {"x": np.array([64.0, 65, 70, 80]), "quality_score": np.array([0.1, 0.2, 0.3, 0.4])},
        value=np.array([64.0, 64, 64, 80]),
        binned=np.array([False, True, True, True]),
    )
    with pytest.raises(NotEnoughData, match="same or a falling x"):
        reference.find_knee_point(cells, Outcome.QUALITY_SCORE)


def test_success_rates_come_with_wilsons_interval() -> None:
    """Three of four successes: 0.75 with the interval 0.3006 to 0.9544."""
    cells = rows(np.array([2.0, 2, 2, 2]), np.array([1.0, 1, 1, 0]), Outcome.SUCCESS)
    (row,) = reference.success_rate_by_value(cells)
    assert (row.x, row.n, row.mean) == (2, 4, 0.75)
    assert row.lo == pytest.approx(0.3006, abs=5e-5)
    assert row.hi == pytest.approx(0.9544, abs=5e-5)


def test_the_smallest_value_within_one_standard_error_of_the_best_is_recommended() -> None:
    """Worked by hand: the best, 0.60, has the standard error 0.02 / √12 = 0.0058, so 0.595 is as good, 0.59 is not."""
    assert reference.recommend_value(cells_at({1: 0.5, 2: 0.59, 3: 0.595, 4: 0.6}), Outcome.QUALITY_SCORE) == 3
    assert reference.recommend_value(cells_at({1: 5, 2: 4, 3: 4.5}, Outcome.TOTAL_COST), Outcome.TOTAL_COST) == 2
    assert reference.recommend_value(cells_at({1: 0.9, 2: 0.5}), Outcome.QUALITY_SCORE) == 1


def test_a_value_with_a_single_run_is_not_the_best() -> None:
    """The lucky single run at 8 has no error to compare with; without any repeated value nothing is recommended."""
    x, y = np.array([1.0, 1, 2, 2, 8]), np.array([0.1, 0.2, 0.5, 0.6, 1.0])
    assert reference.recommend_value(rows(x, y, Outcome.QUALITY_SCORE), Outcome.QUALITY_SCORE) == 2
    with pytest.raises(NotEnoughData, match="no value has 2 runs"):
        reference.recommend_value(rows(x[[0, 2]], y[[0, 2]], Outcome.QUALITY_SCORE), Outcome.QUALITY_SCORE)


def test_of_categories_the_smaller_is_recommended() -> None:
    """A medium model that does as well as a large one is recommended by its label."""
    label = ["large"] * 4 + ["medium"] * 4 + ["small"] * 4
    y = np.array([0.6, 0.8, 0.6, 0.8, 0.6, 0.8, 0.6, 0.8, 0.1, 0.2, 0.1, 0.2])
    cells = Cells.from_rows({"quality_score": y}, label=label)
    assert reference.recommend_value(cells, Outcome.QUALITY_SCORE) == "medium"
