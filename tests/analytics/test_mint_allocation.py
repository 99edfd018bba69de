"""The turn limit picked on real runs: what it brings on tasks that were not learnt from, and the tables of the docs."""

import numpy as np
import pytest
from scipy import stats

from analytics.moments import Floats, Ints
from bench.mint_allocation import (
    BEGIN,
    DATA,
    END,
    MOST,
    PAGE,
    PRICES,
    TURNS,
    Runs,
    best,
    fixed,
    held_out,
    mean_of,
    picks,
    read,
    report,
)

TASKS = 400


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Read the real runs."""
    if not DATA.is_file():
        pytest.skip("the real runs of ../shared/data/mint_bench are not on this machine")
    return read(DATA)


@pytest.fixture(scope="module")
def picked(runs: Runs) -> dict[str, Ints]:
    """Pick the limits once for all tests."""
    return picks(runs)


def planted(seed: int) -> Runs:
    """Make a model that gains from every turn, and one for which the first is as good as five; failures use all."""
    rng = np.random.default_rng(seed)
    chance = np.stack((0.1 + 0.5 * np.log(TURNS), np.full(MOST, 0.5)))
    success = (rng.random((2, TASKS, MOST)) < chance[:, None]).astype(np.float64)
    turns = np.where(success > 0, rng.integers(1, TURNS.astype(np.int64) + 1, success.shape), TURNS)
    places = np.arange(TASKS)
    return Runs(("steep", "flat"), places % 5, places % 64, success, turns)


def regret(runs: Runs, limits: Ints, price: float) -> Floats:
    """Give how far each task's value is from that of its model's best limit. [M, T]."""
    net = runs.net(price)
    return best(net) - held_out(net, limits, runs.fold)


def test_what_was_planted_is_picked() -> None:
    """Turns for nothing: five where they help; dear ones: one where they do not."""
    found = picks(planted(1))
    for law in ("joint law", "averaged law"):
        assert (TURNS[found[law][PRICES.index(0.0), 0]] == 5).all()
        assert (TURNS[found[law][PRICES.index(0.2), 1]] == 1).all()


def test_the_limit_of_a_fold_does_not_depend_on_its_tasks() -> None:
    """Other outcomes in a fold change the picks of the other folds alone."""
    runs, other = planted(2), planted(2)
    other.success[:, other.fold == 3] = 0.0
    first, second = picks(runs), picks(other)
    for name, limits in first.items():
        assert (limits[..., 3] == second[name][..., 3]).all()
    assert any((first[name] != second[name]).any() for name in first)


def test_a_task_counts_once_for_all_models() -> None:
    """One model: the t interval; two that do the same: no narrower; a task that a model lacks: left out there."""
    values = np.random.default_rng(3).normal(0.2, 1.0, TASKS)
    one, two = mean_of(values[None]), mean_of(np.stack((values, values)))
    lo, hi = stats.t.interval(0.95, TASKS - 1, values.mean(), stats.sem(values))
    assert (one.estimate, one.lo, one.hi) == pytest.approx((values.mean(), lo, hi))
    assert (two.estimate, two.lo, two.hi) == pytest.approx((values.mean(), lo, hi))
    gaps = np.stack((values, np.where(np.arange(TASKS) < 100, values, np.nan)))
    assert mean_of(gaps).estimate == pytest.approx((values.mean() + values[:100].mean()) / 2)


def test_the_limit_picked_brings_more_than_fixed_ones(runs: Runs, picked: dict[str, Ints]) -> None:
    """From 2 to 10 cents a turn it beats always 1, always 5 and any one limit for all models, beyond chance."""
    for price in (0.02, 0.05, 0.1):
        net = runs.net(price)
        mine = held_out(net, picked["joint law"][PRICES.index(price)], runs.fold)
        single = int(fixed(net).mean(axis=0).argmax())
        for at in (0, MOST - 1, single):
            assert mean_of(mine - net[..., at]).lo > 0


def test_the_limit_picked_is_close_to_the_best(runs: Runs, picked: dict[str, Ints]) -> None:
    """Mean regret is at most 1.3 cents of a dollar at any price, and 0.85 for the averaged law."""
    for law, most in (("joint law", 0.013), ("averaged law", 0.0085)):
        for price, limits in zip(PRICES, picked[law], strict=True):
            assert mean_of(regret(runs, limits, price)).estimate <= most


def test_dearer_turns_are_given_less_of(picked: dict[str, Ints]) -> None:
    """Over models and folds the mean limit falls with the price of a turn, by each law."""
    for limits in picked.values():
        assert (np.diff(limits.mean(axis=(1, 2))) < 0).all()


def test_the_page_has_the_tables_that_the_script_prints(runs: Runs, picked: dict[str, Ints]) -> None:
    """So that figures and code cannot part."""
    tables = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert tables.strip() == report(runs, picked)
