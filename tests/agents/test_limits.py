"""What an allocation may choose from."""

import pytest

from agents.limits import PARTS, limits_of, ruled
from analytics.setting_grid import Grid
from models.allocations import Parts, Pins
from models.errors import SettingsError
from models.settings import load_settings

SETTINGS = load_settings()


def test_the_limits_are_those_of_the_settings() -> None:
    """By default 8 agents, 10 iterations and 100,000 tokens in steps of 1,000: 36,000 settings."""
    assert len(Grid.of(limits_of(SETTINGS))) == 36 * 10 * 100
    small = limits_of(load_settings(most_agents=2, most_iterations=3, most_context=12_000, context_step=4000))
    assert [small.span(part.name).values().tolist() for part in PARTS] == [
        [1, 2],
        [1, 2, 3],
        [4000, 8000, 12_000],
        [1, 2],
    ]
    assert limits_of(SETTINGS, ["small", "large", "small"]).model_sizes == ("small", "large")


def test_a_pin_between_steps_is_a_value_of_its_own() -> None:
    """One on a step changes nothing, so that one grid serves all of them."""
    assert 12_345 in limits_of(SETTINGS, (), [("context_budget", 12_345)]).context_budget.values()
    assert limits_of(SETTINGS, (), [("context_budget", 12_000), ("agent_count", 3)]) == limits_of(SETTINGS)


@pytest.mark.parametrize(("part", "value"), [("agent_count", 9), ("context_budget", 999), ("context_budget", 100_001)])
def test_a_pin_outside_the_limits_is_refused(part: str, value: int) -> None:
    """The message names part and value."""
    with pytest.raises(SettingsError, match=f"{part} pin = {value}"):
        limits_of(SETTINGS, (), [(part, value)])


def test_pins_and_caps_are_applied() -> None:
    """They bound their parts, and must leave a setting."""
    limits = ruled(
        limits_of(SETTINGS, ["small", "large"]), Pins(agent_count=3, model_size="large"), Parts(max_iterations=4)
    )
    assert limits.agent_count.values().tolist() == [3]
    assert limits.max_iterations.values().tolist() == [1, 2, 3, 4]
    assert limits.model_size == "large"
    with pytest.raises(SettingsError, match="agent_count pin = 3"):
        ruled(limits_of(SETTINGS), Pins(agent_count=3), Parts(agent_count=2))
    with pytest.raises(SettingsError, match="must be one of the sizes to choose from"):
        ruled(limits_of(SETTINGS, ["small"]), Pins(model_size="huge"), Parts())
