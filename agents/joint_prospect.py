"""A prospect from joint laws: each outcome over all dimensions and complexity at once."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from agents.limits import PARTS, Part, Scope
from agents.prices import Prices
from agents.prospect import DRAWS, Prospect
from analytics.allocation import NEAR_LINEAR
from analytics.joint_laws import BEYOND, ROUNDED, Predictor, SettingGrid, Surface
from analytics.moments import Floats
from analytics.outlook import Outlook
from analytics.setting_grid import Flags, Grid
from models.allocations import Method, Setting
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData, SettingsError
from models.joint_laws import JointLaw
from models.laws import Estimate

SIZE = Dimension.MODEL_SIZE.value


class JointProspects:
    """What one set of joint laws says of a grid, for tasks of any complexity; built once for each version of them.

    A dimension that the law of the outcome, or that of the cost, does not speak of is held at what the runs had.
    No setting below the range of the laws, or more than 1.5 times above it, is looked at, unless a person pins it; of a
    part that a cap keeps below the range the greatest value is. Parallelism is the widest p at which T(1) / T(p) is at
    least 0.7 p by the law of time, unless time has a price or a person decides; where no run had one slot alone, as
    many as the law's range begins with stand for it.

    Args:
        outcome: What is bought.
        laws: By outcome; that of `outcome` at least.
        prices: Stand in where there is no law of cost.
        scope: What may be chosen.
        category: The model size of the task, where none is chosen.

    Raises:
        NotEnoughData: The laws speak of no setting within the limits.
        SettingsError: A model size is none that the law knows.
    """

    def __init__(
        self,
        outcome: Outcome,
        laws: Mapping[Outcome, JointLaw],
        prices: Prices,
        scope: Scope,
        category: str | None = None,
    ) -> None:
        self.outcome, self.laws, self.prices, self.scope, self.category = outcome, laws, prices, scope, category
        self.grid = Grid.of(scope.limits)
        self.slowed: Flags | None = None
        self.notes: list[str] = []
        self._predictors = {outcome: Predictor.of(law) for outcome, law in self.laws.items()}
        speaks = self._spoken()
        if not speaks.any():
            message = f"law {self.law.law_id} speaks of no setting within the limits: widen most_agents and its like"
            raise NotEnoughData(message)
        self.grid = self.grid.where(speaks)
        self._keep_near_linear()
        settings = self._setting_grid(self.grid)
        self._outcome = self._surface(self.outcome, settings, DRAWS)
        self._cost = self._surface(Outcome.TOTAL_COST, settings, DRAWS)
        self._time = self._surface(Outcome.TIME_TO_COMPLETE, settings)
        self._usual = self._find_usual()

    @property
    def law(self) -> JointLaw:
        """The law of what is bought."""
        return self.laws[self.outcome]

    def at(self, complexity: float | None, silent: tuple[str, ...] = ()) -> Prospect:
        """Predict for tasks of a complexity; `silent` are more notes."""
        cost = None if self._cost is None else self._cost.mean(complexity)
        assert self._outcome is not None
        outlook = Outlook(
            grid=self.grid,
            outcome=self._outcome.mean(complexity),
            draws=self._outcome.draws(complexity),
            cost=self.prices.cost(self.grid) if cost is None else cost,
            cost_cv=math.sqrt(self.laws[Outcome.TOTAL_COST].dispersion) if self._cost is not None else 0.0,
            cost_draws=None if self._cost is None else self._cost.draws(complexity),
            time=None if self._time is None else self._time.mean(complexity),
        )
        priced = self.laws.get(Outcome.TOTAL_COST)
        return Prospect(
            outlook=outlook,
            outcome=self.outcome,
            method=Method.JOINT,
            laws=(*self.laws.values(), *([] if priced else self.prices.laws)),
            cost_source=priced.law_id if priced else self.prices.source,
            usual=self._usual,
            expect=lambda settings: self.expect(settings, complexity),
            slowed=self.slowed,
            notes=tuple(dict.fromkeys((*silent, *self.notes))),
        )

    def expect(self, settings: Sequence[Setting], complexity: float | None) -> dict[str, list[Estimate]]:
        """Predict the mean outcomes of settings, each where a law speaks, with 95 % intervals."""
        grid = Grid.listing(settings)
        at = self._setting_grid(grid)
        points = SettingGrid(at.values, complexity, at.category)
        expected = {str(outcome): by.estimates(points) for outcome, by in self._predictors.items()}
        if Outcome.TOTAL_COST not in self.laws:
            dollars = self.prices.cost(grid).tolist()
            expected[str(Outcome.TOTAL_COST)] = [Estimate(each, 0.0, each, each) for each in dollars]
        return expected

    def _surface(self, outcome: Outcome, settings: SettingGrid, draws: int = 0) -> Surface | None:
        predictor = self._predictors.get(outcome)
        # Draws tell errors: half the digits do.
        return None if predictor is None else predictor.surface(settings, draws, np.float32)

    def _spoken(self) -> Flags:
        """Mark the settings that the laws speak of, and note what is held. [G]."""
        mask = np.ones(len(self.grid), np.bool_)
        for part in PARTS:
            column = getattr(self.grid, part.name)
            if part.name in self.scope.pinned:
                continue
            spans = [law.support.get(part.dimension.value) if law else None for law in self._asked(part).values()]
            if None not in spans:
                least, most = max(span[0] for span in spans if span), min(span[1] for span in spans if span)
                if self.grid.limits.span(part.name).cap is not None:
                    least = min(least, float(column.max()))
                floor = np.minimum(least, self.grid.agent_count) if part.name == "parallelism" else least
                mask &= (column >= floor * (1 - ROUNDED)) & (column <= BEYOND * most * (1 + ROUNDED))
            else:
                mask &= self._held(part)
        if self.grid.model_sizes:
            mask &= self._known_sizes()
        return mask

    def _keep_near_linear(self) -> None:
        """Keep the widest parallelism of near-linear speed-up, for each choice of the other parts."""
        time, slots = self.laws.get(Outcome.TIME_TO_COMPLETE), self.grid.parallelism
        span = time.support.get(Dimension.PARALLELISM_LEVEL) if time else None
        if span is None or self.scope.time_priced or "parallelism" in self.scope.pinned:
            return
        settings, predictor = self._setting_grid(self.grid), self._predictors[Outcome.TIME_TO_COMPLETE]
        few = np.minimum(max(span[0], 1.0), slots)
        alone = SettingGrid({**settings.values, Dimension.PARALLELISM_LEVEL: few}, category=settings.category)
        speed_up = predictor.mean(alone) / predictor.mean(settings)
        kept = self.grid.widest(speed_up >= NEAR_LINEAR * slots / few * (1 - ROUNDED))
        self.slowed = ~self.grid.widest(np.ones_like(kept))[kept]
        self.grid = self.grid.where(kept)

    def _asked(self, part: Part) -> dict[Outcome, JointLaw | None]:
        """Give the laws that must speak of a part before it is chosen: of outcome and cost; of time for the slots."""
        if part.name == "parallelism":
            return {Outcome.TIME_TO_COMPLETE: self.laws.get(Outcome.TIME_TO_COMPLETE)}
        return {each: law for each, law in self.laws.items() if each in {self.outcome, Outcome.TOTAL_COST}}

    def _held(self, part: Part) -> Flags:
        """Hold a part at what the runs had, else at its default."""
        typical = [law.typical[part.dimension.value] for law in self.laws.values() if part.dimension in law.typical]
        column = getattr(self.grid, part.name)
        values = np.unique(column)
        value = int(values[np.argmin(np.abs(values - (typical[0] if typical else part.default)))])
        why = "the runs do not vary it" if typical else "no run tells it"
        if any(part.dimension in law.support for law in self.laws.values()):
            silent = [each for each, law in self._asked(part).items() if not law or part.dimension not in law.support]
            why = f"no joint law of {' or '.join(silent)} speaks of it"
        self.notes.append(f"{part.name} is held at {value}: {why}.")
        limit = np.minimum(value, self.grid.agent_count) if part.name == "parallelism" else value
        return np.asarray(column == limit)

    def _known_sizes(self) -> Flags:
        """Mark the settings whose model size the law of the outcome knows; the first size where it knows none."""
        if SIZE not in self.law.bases:
            self.notes.append(f"No law tells model sizes apart: {self.grid.model_sizes[0]} is kept.")
            return np.asarray(self.grid.model_size == 0)
        if self.law.bases[SIZE] != Basis.CATEGORY:
            return np.ones(len(self.grid), np.bool_)
        known = [place for place, name in enumerate(self.grid.model_sizes) if name in self.law.categories]
        unknown = [name for name in self.grid.model_sizes if name not in self.law.categories]
        if unknown:
            self.notes.append(f"No run tells of the model sizes {', '.join(unknown)}.")
        return np.asarray(np.isin(self.grid.model_size, known or [0]))

    def _setting_grid(self, grid: Grid) -> SettingGrid:
        values: dict[Dimension, Floats] = {
            part.dimension: getattr(grid, part.name).astype(np.float64) for part in PARTS
        }
        if not grid.model_sizes:
            return SettingGrid(values, category=self.category)
        if self.law.bases.get(SIZE, Basis.CATEGORY) == Basis.CATEGORY:
            return SettingGrid(values, category=[grid.model_sizes[place] for place in grid.model_size.tolist()])
        sizes = np.array([billions(name) for name in grid.model_sizes])
        return SettingGrid({**values, Dimension.MODEL_SIZE: sizes[grid.model_size]})

    def _find_usual(self) -> Setting | None:
        """Find the setting of the grid that is nearest to the geometric mean of the runs, on a logarithm.

        Slots follow from the agents, so they tell apart only what is alike otherwise.
        """
        away = np.zeros(len(self.grid))
        for part in PARTS:
            typical = self.law.typical.get(part.dimension.value)
            if typical is not None:
                weight = ROUNDED if part.name == "parallelism" else 1.0
                away += weight * np.abs(np.log(getattr(self.grid, part.name) / typical))
        return self.grid.setting(int(away.argmin()))


def billions(name: str) -> float:
    """Read a size that a law counts in billions of parameters.

    Raises:
        SettingsError: It is no number above zero.
    """
    try:
        number = float(name.lower().removesuffix("b"))
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        raise SettingsError(
            f"model_sizes = {name!r}: the law counts billions of parameters, so give a number such as 8 or 70"
        )
    return number
