"""What an allocation may choose from: the parts of a setting, their dimensions, limits and safe defaults."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analytics.setting_grid import Limits, Span
from models.allocations import Parts, Pins
from models.dimensions import Dimension
from models.settings import Settings

CONTEXT_UNIT = 1000
"""Tokens to which the price table's and the closed form's unit of context comes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a setting: its dimension, the unit that prices and the closed form count it in, its safe default."""

    name: str
    dimension: Dimension
    unit: int
    default: int


PARTS = (
    Part("agent_count", Dimension.AGENT_COUNT, 1, 1),
    Part("max_iterations", Dimension.ITERATIONS, 1, 1),
    Part("context_budget", Dimension.CONTEXT, CONTEXT_UNIT, 8000),
    Part("parallelism", Dimension.PARALLELISM_LEVEL, 1, 1),
)
"""The safe default is one agent, one iteration and 8,000 tokens of context."""

SHARED = PARTS[:3]
"""The parts that share a budget; parallelism is the fourth."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be chosen, and what else decides it.

    Attributes:
        limits: All settings.
        pinned: Parts that a person decides: no law restricts them.
        time_priced: Time has a price, which decides the slots instead of a near-linear speed-up.
    """

    limits: Limits
    pinned: frozenset[str] = frozenset()
    time_priced: bool = False


def limits_of(settings: Settings, model_sizes: Sequence[str] = (), pins: Iterable[tuple[str, int]] = ()) -> Limits:
    """Give the limits of a deployment; a pin between two steps is a value of its own.

    Raises:
        SettingsError: A pin is outside the limits; the message names part, value and rule.
    """
    limits = Limits(
        agent_count=Span(1, settings.most_agents),
        max_iterations=Span(1, settings.most_iterations),
        context_budget=Span(settings.context_step, settings.most_context, settings.context_step),
        parallelism=Span(1, settings.most_agents),
        model_sizes=tuple(dict.fromkeys(model_sizes)),
    )
    between = {name: value for name, value in pins if value not in limits.span(name).values()}
    limits.pinned(model_size=None, **between)
    spans = {name: replace(limits.span(name), also=value) for name, value in between.items()}
    return replace(limits, **spans)  # type: ignore[arg-type]


def ruled(limits: Limits, pins: Pins, caps: Parts) -> Limits:
    """Apply pins and caps.

    Raises:
        SettingsError: One of them is outside the limits, or they exclude each other.
    """
    return limits.capped(**caps.numbers()).pinned(model_size=pins.model_size, **pins.numbers())
