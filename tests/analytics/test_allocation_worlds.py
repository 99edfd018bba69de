"""Random worlds: the same number gives the same world, and runs have the means that the world says."""

import numpy as np
import pytest

from analytics.allocation_worlds import FIXED, SHAPES, Shape, cells_of, random_world
from analytics.joint_laws import SettingGrid
from analytics.moments import Floats
from models.dimensions import Basis, Dimension, Outcome


def everything() -> SettingGrid:
    """List a coarse grid of settings."""
    axes = np.meshgrid(np.arange(1.0, 9), np.arange(1.0, 11), [4e3, 32e3, 100e3], np.arange(1.0, 9))
    names = (Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT, Dimension.PARALLELISM_LEVEL)
    return SettingGrid({name: axis.ravel() for name, axis in zip(names, axes, strict=True)}, 0.5)


def repeated(size: int, z: float, **changed: float) -> SettingGrid:
    """Repeat the fixed setting, changed."""
    values = {each: np.full(size, changed.get(each.value, value)) for each, value in FIXED.items()}
    return SettingGrid(values, z)


def test_a_number_names_a_world() -> None:
    """Drawn again it is the same; neighbours differ, and take turns in shape."""
    assert random_world(7) == random_world(7)
    assert random_world(7) != random_world(10)
    assert [random_world(number).shape for number in range(6)] == [*SHAPES, *SHAPES]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fixed_setting_leaves_room_on_both_sides(shape: Shape) -> None:
    """It succeeds in 30 to 60 % of middling tasks; probabilities are probabilities, prices and times above zero."""
    for number in range(40):
        world = random_world(number, shape)
        assert 0.29 <= float(world.success(repeated(1, 0.5))[0]) <= 0.61
        grid = everything()
        for mean in (world.success(grid), world.quality(grid)):
            assert 0 < mean.min() <= mean.max() < 1
        assert min(world.cost(grid).min(), world.time(grid).min()) > 0


def test_hard_tasks_fail_more_and_more_agents_may_hurt() -> None:
    """Success falls with complexity everywhere; in a hump it turns, in a textbook it does not."""
    for number in range(12):
        world = random_world(number)
        by_z = [float(world.success(repeated(1, z))[0]) for z in (0.1, 0.5, 0.9)]
        assert by_z == sorted(by_z, reverse=True)
    agents: Floats = np.arange(1.0, 9)
    turned = []
    for shape in ("hump", "textbook"):
        grid = SettingGrid({**repeated(8, 0.5).values, Dimension.AGENT_COUNT: agents}, 0.5)
        turned.append(any((np.diff(random_world(number, shape).success(grid)) < 0).any() for number in range(30)))
    assert turned == [True, False]


@pytest.mark.parametrize("number", range(3))
def test_runs_have_the_means_of_their_world(number: int) -> None:
    """Success, quality, time and cost average to what the world says."""
    world, grid = random_world(number), repeated(40_000, 0.3)
    brought = world.run(np.random.default_rng(number), grid)
    means = {
        Outcome.SUCCESS: world.success(grid),
        Outcome.QUALITY_SCORE: world.quality(grid),
        Outcome.TIME_TO_COMPLETE: world.time(grid),
        Outcome.TOTAL_COST: world.cost(grid),
    }
    for outcome, mean in means.items():
        assert brought[outcome].mean() == pytest.approx(mean[0], abs=4 * brought[outcome].std() / 200)


def test_a_price_is_a_product_and_slots_beyond_the_agents_are_idle() -> None:
    """Twice the agents cost twice; parallelism costs nothing, saves time, and no more than there are agents."""
    world = random_world(1)
    assert world.cost(repeated(1, 0.5, agent_count=6)) == pytest.approx(2 * world.cost(repeated(1, 0.5)))
    assert world.cost(repeated(1, 0.5, parallelism_level=1)) == pytest.approx(world.cost(repeated(1, 0.5)))
    slow, full, more = (float(world.time(repeated(1, 0.5, parallelism_level=p))[0]) for p in (1, 3, 8))
    assert slow > full == more


def test_cells_hold_a_run_each() -> None:
    """Settings stand on the basis that laws prefer, complexity in its bin, outcomes with their run."""
    z = np.array([0.0, 0.349, 1.0])
    settings = {Dimension.AGENT_COUNT: np.array([1.0, 2, 3]), Dimension.CONTEXT: np.array([4e3, 8e3, 16e3])}
    cells = cells_of(settings, z, {Outcome.SUCCESS: np.array([1.0, 0, 1])})
    np.testing.assert_array_equal(cells.complexity, [0, 3, 9])
    np.testing.assert_array_equal(cells.design[Dimension.CONTEXT, Basis.DOSE], [4e3, 8e3, 16e3])
    np.testing.assert_allclose(cells.ln_x[Dimension.AGENT_COUNT, Basis.REALISED], np.log([1, 2, 3]))
    assert np.isnan(cells.design[Dimension.CONTEXT, Basis.REALISED]).all()
    assert np.isnan(cells.design[Dimension.ITERATIONS, Basis.DOSE]).all()
    np.testing.assert_array_equal(cells.outcomes[Outcome.SUCCESS].mean, [1, 0, 1])
    np.testing.assert_array_equal(cells.outcomes[Outcome.SUCCESS].n, 1)
