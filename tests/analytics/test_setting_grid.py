import itertools
from dataclasses import replace

import numpy as np
import pytest

from analytics.setting_grid import Grid, Limits, Span
from models.allocations import NUMBERS, Setting
from models.errors import SettingsError

SMALL = Limits(Span(1, 3), Span(2, 4), Span(1000, 9000, 4000), Span(1, 2), ("small", "large"))


def settings(grid: Grid) -> list[Setting]:
    """List all rows."""
    return [grid.setting(index) for index in range(len(grid))]


def test_the_default_grid_has_36000_settings() -> None:
    """36 pairs of agents and parallelism, 10 iterations, 100 steps of context, no choice of size."""
    grid = Grid.of(Limits())
    assert len(grid) == 36_000
    assert (grid.parallelism <= grid.agent_count).all()
    assert {part: (int(getattr(grid, part).min()), int(getattr(grid, part).max())) for part in NUMBERS} == {
        "agent_count": (1, 8),
        "max_iterations": (1, 10),
        "context_budget": (1000, 100_000),
        "parallelism": (1, 8),
    }
    assert grid.setting(0) == Setting(1, 1, 1000, 1)


def test_the_grid_is_every_possible_combination_in_ascending_order() -> None:
    """It is what nested loops give, without parallelism beyond the agents."""
    expected = [
        Setting(agents, iterations, context, slots, size)
        for agents, iterations, context, slots, size in itertools.product(
            (1, 2, 3), (2, 3, 4), (1000, 5000, 9000), (1, 2), ("small", "large")
        )
        if slots <= agents
    ]
    assert settings(Grid.of(SMALL)) == expected


def test_a_grid_is_built_once_and_cannot_be_changed() -> None:
    """Equal limits share one grid, so its columns are read-only."""
    grid = Grid.of(Limits(agent_count=Span(1, 8)))
    assert grid is Grid.of(Limits())
    with pytest.raises(ValueError, match="read-only"):
        grid.agent_count[0] = 5


def test_every_setting_is_found_where_it_stands() -> None:
    """To find is the inverse of to take a setting; what the grid does not have is not found."""
    grid = Grid.of(SMALL)
    assert [grid.find(setting) for setting in settings(grid)] == list(range(len(grid)))
    assert grid.find(Setting(3, 2, 2000, 1, "small")) is None
    assert grid.find(Setting(3, 2, 1000, 1, "huge")) is None
    assert Grid.of(Limits()).find(Setting(3, 5, 32_000, 3)) is not None


def test_a_mask_keeps_its_settings_in_order() -> None:
    """A part of a grid is a grid."""
    grid = Grid.of(SMALL)
    mask = grid.context_budget > 4000
    assert settings(grid.where(mask)) == [setting for setting in settings(grid) if setting.context_budget > 4000]


def test_pins_and_caps_leave_what_they_allow() -> None:
    """A pin leaves one value, a cap none above it, and both can be dropped again."""
    limits = SMALL.pinned(agent_count=2, model_size="large").capped(max_iterations=3, context_budget=8000)
    for setting in settings(Grid.of(limits)):
        assert (setting.agent_count, setting.model_size) == (2, "large")
        assert setting.max_iterations <= 3
        assert setting.context_budget in {1000, 5000}
    assert len(Grid.of(limits)) == 2 * 2 * 2
    assert limits.free == SMALL


def test_a_pin_need_not_lie_on_a_step() -> None:
    """In a grid of its own it is taken as it is; on a grid that is there already the step below it stands for it."""
    limits = Limits().pinned(context_budget=32_768)
    assert np.unique(Grid.of(limits).context_budget).tolist() == [32_768]
    free = Grid.of(limits.free)
    assert np.unique(free.context_budget[free.rules(limits)["pin context_budget"]]).tolist() == [32_000]


def test_rules_mark_on_the_free_grid_what_a_restricted_grid_has() -> None:
    """Each pin and cap is a named mask; together they leave the settings of the grid built with them."""
    limits = SMALL.pinned(max_iterations=3, model_size="small").capped(agent_count=2)
    free = Grid.of(SMALL)
    rules = free.rules(limits)
    assert list(rules) == ["cap agent_count", "pin max_iterations", "pin model_size"]
    assert settings(free.where(np.logical_and.reduce(list(rules.values())))) == settings(Grid.of(limits))
    assert free.rules(SMALL) == {}


def test_laws_are_not_extrapolated_beyond_half_as_much_again() -> None:
    """Of 2 to 4 agents and 8,000 to 64,000 tokens observed, 2 to 6 and 6,000 to 96,000 are supported."""
    grid = Grid.of(Limits())
    mask = grid.supported({"agent_count": (2, 4), "context_budget": (8000, 64_000)})
    expected = (grid.agent_count >= 2) & (grid.agent_count <= 6)
    expected &= (grid.context_budget >= 6000) & (grid.context_budget <= 96_000)
    assert (mask == expected).all()
    assert grid.supported({}).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(agent_count=Span(0, 8)), "agent_count least = 0: must be at least 1"),
        (lambda: Limits(agent_count=Span(4, 3)), "agent_count most = 3: must be at least the least, 4"),
        (lambda: Limits(context_budget=Span(1000, 9000, 0)), "context_budget step = 0: must be at least 1"),
        (lambda: Limits().pinned(agent_count=9), "agent_count pin = 9: must be from 1 to 8"),
        (lambda: Limits().capped(agent_count=4).pinned(agent_count=5), "agent_count pin = 5: must be from 1 to 4"),
        (lambda: Limits().capped(context_budget=500), "context_budget cap = 500: must be at least the least, 1000"),
        (lambda: Limits().pinned(parallelism=6).capped(agent_count=4), "parallelism is at least 6, agents at most 4"),
        (lambda: SMALL.pinned(model_size="huge"), r"model_size pin = 'huge': must be one of .* \(small, large\)"),
        (lambda: Limits().pinned(model_size="small"), r"model_size pin = 'small': must be one of .* \(none\)"),
        (lambda: Limits(model_sizes=("small", "small")), "sizes = 'small', 'small': give each one name, once"),
        (lambda: Limits(context_budget=Span(1, 100_000)), "limits span 64,000,000 settings: at most 1,000,000"),
        (lambda: Limits().pinned(agent=3), "part = 'agent': must be one of agent_count, max_iterations"),
        (
            lambda: Grid.of(Limits(agent_count=Span(3, 8))).rules(Limits().capped(agent_count=2)),
            "agent_count cap = 2: .* least 3",
        ),
    ],
)
def test_impossible_limits_are_refused_by_name_value_and_rule(make: object, message: str) -> None:
    """What leaves no setting, or too many, is told before anything is computed."""
    with pytest.raises(SettingsError, match=message):
        make()  # type: ignore[operator]


def test_the_widest_parallelism_of_each_choice_is_marked() -> None:
    """Among what is allowed, by brute force, also where sizes differ in how wide they may be."""
    grid = Grid.of(SMALL)
    allowed = np.random.default_rng(5).random(len(grid)) < 0.5
    best: dict[tuple[int, int, int, str], int] = {}
    for row in np.flatnonzero(allowed).tolist():
        each = grid.setting(row)
        key = each.agent_count, each.max_iterations, each.context_budget, each.model_size
        best[key] = max(best.get(key, 0), each.parallelism)
    found = {
        (each.agent_count, each.max_iterations, each.context_budget, each.model_size): each.parallelism
        for each in map(grid.setting, np.flatnonzero(grid.widest(allowed)).tolist())
    }
    assert found == best
    assert grid.widest(allowed).sum() == len(best)
    assert not grid.widest(np.zeros(len(grid), np.bool_)).any()


def test_a_size_is_part_of_a_setting() -> None:
    """Where sizes are not chosen a setting with one is not found, nor one without where they are."""
    plain, sized = (Grid.of(replace(SMALL, model_sizes=sizes)) for sizes in ((), ("small",)))
    setting = plain.setting(0)
    assert plain.find(setting) == 0
    assert plain.find(replace(setting, model_size="small")) is None
    assert sized.find(setting) is None
    assert sized.find(replace(setting, model_size="small")) == 0
