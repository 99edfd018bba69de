"""The integer grid of settings that an allocation chooses from: ranges, pins, caps, and all their combinations.

With the default limits these are the 36 pairs of parallelism <= agents <= 8, times 10 iterations, times 100 steps of
context: 36,000 settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from analytics.moments import Ints
from models.allocations import NUMBERS, Setting
from models.errors import SettingsError

Flags = npt.NDArray[np.bool_]

MOST_SETTINGS = 1_000_000
"""A grid beyond this takes seconds and gigabytes with draws: take larger steps."""

REACH = 1.5
"""Laws are not extrapolated beyond this multiple of the observed range."""


@dataclass(frozen=True, slots=True)
class Span:
    """The values that one part may take: least, least + step, ... up to `most` or the cap; or the pin alone.

    A pin or a cap need not lie on a step: a pin is taken as it is, a cap cuts off what is above it. `also` is one more
    value between the steps, for a pin that is to be given as a rule.
    """

    least: int
    most: int
    step: int = 1
    cap: int | None = None
    pin: int | None = None
    also: int | None = None

    @property
    def top(self) -> int:
        """Give the bound that holds, by limit or by cap."""
        return self.most if self.cap is None else min(self.most, self.cap)

    def values(self) -> Ints:
        """List the values, ascending."""
        if self.pin is not None:
            return np.array([self.pin], np.int64)
        steps = np.arange(self.least, self.top + 1, self.step, dtype=np.int64)
        return steps if self.also is None or self.also > self.top else np.union1d(steps, [self.also])


@dataclass(frozen=True, slots=True)
class Limits:
    """What an allocation may choose, part by part; parallelism never exceeds the agents.

    Args:
        agent_count: How many agents.
        max_iterations: Iterations of each.
        context_budget: The context budget.
        parallelism: Agents at a time.
        model_sizes: The model sizes to choose from, in the order in which ties are settled; none: it is not chosen.
        model_size: The pinned one of them.

    Raises:
        SettingsError: They leave no setting, or more than a million; the message names part, value and rule.
    """

    agent_count: Span = Span(1, 8)
    max_iterations: Span = Span(1, 10)
    context_budget: Span = Span(1000, 100_000, 1000)
    parallelism: Span = Span(1, 8)
    model_sizes: tuple[str, ...] = ()
    model_size: str | None = None

    def __post_init__(self) -> None:
        for part in NUMBERS:
            _check_span(part, self.span(part))
        lowest, highest = self.parallelism.values()[0], self.agent_count.values()[-1]
        if lowest > highest:
            message = f"parallelism is at least {lowest}, agents at most {highest}: parallelism cannot exceed agents"
            raise SettingsError(message)
        if len(set(self.model_sizes)) < len(self.model_sizes) or "" in self.model_sizes:
            raise SettingsError(f"model_sizes = {', '.join(map(repr, self.model_sizes))}: give each one name, once")
        if self.model_size is not None and self.model_size not in self.model_sizes:
            known = ", ".join(self.model_sizes) or "none"
            raise SettingsError(
                f"model_size pin = {self.model_size!r}: must be one of the sizes to choose from ({known})"
            )
        spread = [len(self.span(part).values()) for part in NUMBERS]
        if (count := int(np.prod(spread)) * max(len(self.model_sizes), 1)) > MOST_SETTINGS:
            raise SettingsError(f"the limits span {count:,} settings: at most {MOST_SETTINGS:,}, take larger steps")

    def span(self, part: str) -> Span:
        """Give the span of one of the parts that are numbers."""
        span: Span = getattr(self, part)
        return span

    @property
    def free(self) -> "Limits":
        """Drop all pins and caps."""
        spans = {part: replace(self.span(part), pin=None, cap=None) for part in NUMBERS}
        return replace(self, model_size=None, **spans)  # type: ignore[arg-type]

    def pinned(self, *, model_size: str | None = None, **values: int) -> "Limits":
        """Pin parts to one value each, such as agent_count=3 or model_size="large"."""
        spans = {part: replace(self._known(part), pin=value) for part, value in values.items()}
        return replace(self, model_size=self.model_size if model_size is None else model_size, **spans)  # type: ignore[arg-type]

    def capped(self, **values: int) -> "Limits":
        """Cap parts, such as max_iterations=4."""
        spans = {part: replace(self._known(part), cap=value) for part, value in values.items()}
        return replace(self, **spans)  # type: ignore[arg-type]

    def _known(self, part: str) -> Span:
        if part not in NUMBERS:
            raise SettingsError(f"part = {part!r}: must be one of {', '.join(NUMBERS)}")
        return self.span(part)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """G settings in columns, ordered by agents, iterations, context, parallelism and size, each ascending.

    `size` counts places in `sizes`; it is zero throughout where the size is not chosen. The columns are read-only,
    because grids are shared.
    """

    agent_count: Ints
    max_iterations: Ints
    context_budget: Ints
    parallelism: Ints
    model_size: Ints
    model_sizes: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for column in COLUMNS:
            getattr(self, column).setflags(write=False)

    @classmethod
    def of(cls, limits: Limits) -> "Grid":
        """Combine all values that the limits allow; the same limits give the same grid, built once."""
        return _grid_of(limits)

    @classmethod
    def listing(cls, settings: Sequence[Setting]) -> "Grid":
        """Make a grid of some settings, in their order."""
        sizes = tuple(dict.fromkeys(setting.model_size for setting in settings if setting.model_size))
        columns = {part: np.array([getattr(setting, part) for setting in settings], np.int64) for part in NUMBERS}
        places = [sizes.index(setting.model_size) if sizes else 0 for setting in settings]
        return cls(**columns, model_size=np.array(places, np.int64), model_sizes=sizes, limits=Limits())

    def __len__(self) -> int:
        return len(self.agent_count)

    def where(self, mask: Flags) -> "Grid":
        """Keep the settings that a mask [G] marks, in their order."""
        return replace(self, **{column: getattr(self, column)[mask] for column in COLUMNS})

    def setting(self, index: int) -> Setting:
        """Give one row."""
        size = self.model_sizes[int(self.model_size[index])] if self.model_sizes else ""
        return Setting(**{part: int(getattr(self, part)[index]) for part in NUMBERS}, model_size=size)

    def find(self, setting: Setting) -> int | None:
        """Give the row of a setting; None where the grid does not have it."""
        if bool(setting.model_size) != bool(self.model_sizes):
            return None
        mask = np.ones(len(self), np.bool_)
        for part in NUMBERS:
            mask &= getattr(self, part) == getattr(setting, part)
        if self.model_sizes:
            mask &= self.model_size == (
                self.model_sizes.index(setting.model_size) if setting.model_size in self.model_sizes else -1
            )
        rows = np.flatnonzero(mask)
        return int(rows[0]) if len(rows) else None

    def design(self, allowed: Flags, levels: int = 3) -> Flags:
        """Mark a coarse factorial design over the allowed settings, where exploration is worth most. [G].

        Of each part but parallelism the least, the greatest and what lies between on a logarithm are crossed; of the
        allowed settings there, those of the widest parallelism.
        """
        mask = allowed.copy()
        for part in NUMBERS[:3]:
            column = getattr(self, part)
            values = np.flatnonzero(np.bincount(column[allowed]))
            wanted = np.geomspace(values[0], values[-1], levels) if len(values) else np.zeros(0)
            near = values[np.abs(np.log(values[:, None] / wanted)).argmin(axis=0)] if len(values) else values
            mask &= np.isin(column, near)
        return self.widest(mask)

    def widest(self, allowed: Flags) -> Flags:
        """Mark the allowed settings of the widest parallelism, for each choice of the other parts. [G]."""
        rows = np.flatnonzero(allowed)
        key = np.stack([getattr(self, part)[rows] for part in (*NUMBERS[:3], "model_size")])
        order = np.lexsort((self.parallelism[rows], *key))
        last = np.append((np.diff(key[:, order], axis=1) != 0).any(axis=0), True)[: len(order)]
        mask = np.zeros(len(self), np.bool_)
        mask[rows[order[last]]] = True
        return mask

    def rules(self, limits: Limits) -> dict[str, Flags]:
        """Give the mask [G] of each pin and cap of some limits, by names such as "pin agent_count".

        So that predictions on the free grid serve every override. A pin between two steps keeps the step below it.

        Raises:
            SettingsError: A pin or a cap lies below the whole grid.
        """
        masks: dict[str, Flags] = {}
        for part in NUMBERS:
            span, column = limits.span(part), getattr(self, part)
            for kind, value in (("pin", span.pin), ("cap", span.cap)):
                if value is None:
                    continue
                below = column <= value
                if not below.any():
                    raise SettingsError(f"{part} {kind} = {value}: must be at least {int(column.min())}")
                masks[f"{kind} {part}"] = below if kind == "cap" else column == column[below].max()
        if limits.model_size is not None:
            masks["pin model_size"] = self.model_size == self.model_sizes.index(limits.model_size)
        return masks

    def supported(self, observed: Mapping[str, tuple[float, float]], reach: float = REACH) -> Flags:
        """Mark the settings [G] where no part lies beyond `reach` times its observed range (least, most).

        A part that is not named is not restricted.
        """
        mask = np.ones(len(self), np.bool_)
        for part, (least, most) in observed.items():
            column = getattr(self, part)
            mask &= (column >= least / reach) & (column <= most * reach)
        return mask


COLUMNS = tuple(each.name for each in fields(Grid))[:5]


@lru_cache(maxsize=64)
def _grid_of(limits: Limits) -> Grid:
    sizes = (
        np.arange(len(limits.model_sizes))
        if limits.model_size is None
        else np.array([limits.model_sizes.index(limits.model_size)])
    )
    spans = [limits.span(part).values() for part in NUMBERS]
    axes = np.meshgrid(*spans, sizes if len(sizes) else np.zeros(1), indexing="ij")
    possible = axes[3] <= axes[0]
    columns = {name: axis[possible].astype(np.int64) for name, axis in zip(COLUMNS, axes, strict=True)}
    return Grid(**columns, model_sizes=limits.model_sizes, limits=limits)


def _check_span(part: str, span: Span) -> None:
    rules = (
        ("least", span.least, span.least >= 1, "must be at least 1"),
        ("most", span.most, span.most >= span.least, f"must be at least the least, {span.least}"),
        ("step", span.step, span.step >= 1, "must be at least 1"),
        ("cap", span.cap, span.cap is None or span.cap >= span.least, f"must be at least the least, {span.least}"),
        (
            "pin",
            span.pin,
            span.pin is None or span.least <= span.pin <= span.top,
            f"must be from {span.least} to {span.top}",
        ),
    )
    for name, value, kept, rule in rules:
        if not kept:
            raise SettingsError(f"{part} {name} = {value}: {rule}")
