"""A prospect from laws of single dimensions: what there is before joint laws have been fitted; and the closed form.

Quality is Cobb-Douglas around the mean of the context's runs, cost is additive and has no intercept:

    q(v) = clip(q_mean · Π_i (v_i / anchor_i) ** e_i, 0, 1)        c(v) = Σ_i u_i · v_i

with exponents e_i from the laws, anchor_i the geometric mean setting of the runs that a law was fitted to, and unit
costs u_i in dollars. Where the true price is a product (agents · iterations · tokens), a sum of slopes overstates a
small setting and understates a large one: joint laws do not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.lawbook import LawBook, elasticity, mean_outcome, ranked
from agents.limits import PARTS, SHARED, Part, Scope
from agents.prices import Prices
from agents.prospect import DRAWS, Prospect
from analytics.allocation import NEAR_LINEAR, Lever, allocate_by_closed_form, near_linear_slots
from analytics.intervals import z_quantile
from analytics.moments import Floats
from analytics.outlook import Outlook
from analytics.randomisation import seed
from analytics.setting_grid import REACH, Grid, Limits
from models.allocations import Alternative, Method, Setting
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate, Law


@dataclass(frozen=True, slots=True)
class Marginals:
    """The laws of single dimensions that speak for a task.

    Attributes:
        outcome: What they are of.
        laws: By part, of those that share the budget.
        time: Of time over parallelism.
    """

    outcome: Outcome
    laws: Mapping[str, Law]
    time: Law | None

    @property
    def mean_law(self) -> Law | None:
        """The most specific law, whose runs' mean outcome is the mean."""
        if not self.laws:
            return None
        order = ranked([law.context for law in self.laws.values()])
        return min(self.laws.values(), key=lambda law: order.index(law.context))

    @property
    def used(self) -> list[Law]:
        """List the laws."""
        return [*self.laws.values(), *([self.time] if self.time else [])]


def marginals_of(contexts: Sequence[str], book: LawBook, outcomes: Sequence[Outcome]) -> Marginals:
    """Choose each part's law, of the first outcome that has any."""
    found: dict[str, Law] = {}
    chosen = outcomes[0]
    for outcome in outcomes:
        found = {part.name: law for part in SHARED if (law := _chosen(book, contexts, part.dimension, outcome))}
        if found:
            chosen = outcome
            break
    time = _chosen(book, contexts, Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE)
    return Marginals(chosen, found, time)


def marginal_prospect(marginals: Marginals, prices: Prices, scope: Scope, silent: tuple[str, ...] = ()) -> Prospect:
    """Predict by the laws of single dimensions, each within 1.5 times the range of its values.

    A dimension without a law keeps its default, or less where the budget does not reach that far; without any law all
    do. Of a part that a cap keeps below its law's range there is the greatest value. Parallelism is full up to where
    the speed-up stays near linear.

    Args:
        marginals: The laws.
        prices: Of the parts.
        scope: What may be chosen; pinned parts are restricted neither by a law's range nor to a default.
        silent: Notes on joint laws that do not speak.

    Raises:
        NotEnoughData: The laws speak of no setting within the limits.
    """
    grid, notes = Grid.of(scope.limits), list[str]()
    speaks, held = np.ones(len(grid), np.bool_), np.ones(len(grid), np.bool_)
    for part in SHARED:
        column, law = getattr(grid, part.name), marginals.laws.get(part.name)
        if part.name in scope.pinned:
            continue
        if law is not None:
            least, most = _range(law)
            if scope.limits.span(part.name).cap is not None:
                least = min(least, float(column.max()))
            speaks &= (column >= least) & (column <= most * REACH)
        else:
            default = int(column[column <= max(part.default, int(column.min()))].max())
            speaks &= column <= default
            held &= column == default
            notes.append(f"No law of {marginals.outcome} over {part.dimension}: it keeps the default.")
    slots, note = _slots(marginals.time, grid)
    if "parallelism" not in scope.pinned:
        speaks &= grid.parallelism == np.minimum(slots, grid.agent_count)
        notes.append(note)
    if grid.model_sizes:
        speaks &= grid.model_size == 0
        notes.append(f"No law tells model sizes apart: {grid.model_sizes[0]} is kept.")
    if not speaks.any():
        raise NotEnoughData("the laws speak of no setting within the limits: widen most_agents and its like")
    kept = grid.where(speaks)
    outcome, draws = _outcomes(marginals, kept)

    def expect(settings: Sequence[Setting]) -> dict[str, list[Estimate]]:
        asked = Grid.listing(settings)
        expected = {str(Outcome.TOTAL_COST): [_estimate(each, 0.0, math.inf) for each in prices.cost(asked).tolist()]}
        if marginals.laws:
            mean, drawn = _outcomes(marginals, asked)
            errors = drawn.std(axis=0, ddof=1).tolist()
            expected[str(marginals.outcome)] = [
                _estimate(each, se, 1.0) for each, se in zip(mean.tolist(), errors, strict=True)
            ]
        return expected

    return Prospect(
        outlook=Outlook(kept, outcome, draws, prices.cost(kept)),
        outcome=marginals.outcome,
        method=Method.MARGINAL if marginals.laws else Method.DEFAULT,
        laws=(*marginals.used, *prices.laws),
        cost_source=prices.source,
        usual=None,
        expect=expect,
        held=held[speaks],
        notes=tuple(dict.fromkeys((*silent, *notes))),
    )


def closed_form(marginals: Marginals, prices: Prices, budget: float, limits: Limits) -> Alternative | None:
    """Apply the design document's closed form; None where there is no law.

    Its outcome and its cost are those that the laws of single dimensions give it.
    """
    mean_law = marginals.mean_law
    if mean_law is None:
        return None
    levers = [_lever(part, marginals.laws.get(part.name), prices, limits) for part in SHARED]
    point = allocate_by_closed_form(levers, mean_outcome(mean_law), budget)
    agents, iterations, units = point.setting
    slots = 1 if marginals.time is None else near_linear_slots(elasticity(marginals.time)[0], agents)
    setting = Setting(agents, iterations, units * SHARED[2].unit, slots)
    return Alternative(setting, point.quality, point.cost, point.overspend)


def _chosen(book: LawBook, contexts: Sequence[str], dimension: Dimension, outcome: Outcome) -> Law | None:
    try:
        return book.choose(contexts, dimension, outcome)
    except NotEnoughData:
        return None


def _slots(time: Law | None, grid: Grid) -> tuple[int, str]:
    """Say up to how many slots the speed-up stays near linear, and why."""
    most = int(grid.parallelism.max())
    if time is None:
        return 1, "Parallelism is 1, because no law of time says that more slots save time."
    exponent = elasticity(time)[0]
    slots = near_linear_slots(exponent, most)
    return slots, (
        f"Parallelism is at most {slots}: time goes with slots by exponent {exponent:.2f} ({time.context}), and the "
        f"speed-up is to stay at {NEAR_LINEAR:.0%} of linear or better."
    )


def _outcomes(marginals: Marginals, grid: Grid) -> tuple[Floats, Floats]:
    """Predict the outcome [G] and draw it [D, G]; zero throughout without a law."""
    mean_law = marginals.mean_law
    if mean_law is None:
        return np.zeros(len(grid)), np.zeros((2, len(grid)))
    parts = [part for part in PARTS if part.name in marginals.laws]
    laws = [marginals.laws[part.name] for part in parts]
    exponent, error = np.array([elasticity(law) for law in laws]).T
    away = np.stack(
        [
            np.log(getattr(grid, part.name) / part.unit / anchor(law, part.unit))
            for part, law in zip(parts, laws, strict=True)
        ]
    )
    mean = mean_outcome(mean_law)
    level = math.log(mean) if mean > 0 else -math.inf
    names = [f"{law.law_id} {law.epoch} {law.version}" for law in laws]
    half = np.random.default_rng(seed(b"marginal laws", *names)).standard_normal((DRAWS // 2, len(laws)))
    drawn = exponent + np.concatenate((half, -half)) * error
    return np.exp(np.minimum(level + exponent @ away, 0.0)), np.exp(np.minimum(level + drawn @ away, 0.0))


def anchor(law: Law, unit: int) -> float:
    """Compute the geometric mean setting of the law's runs, in units; a value of zero has no logarithm."""
    rows = [(row.n, row.x / unit) for row in law.values if row.x is not None and row.x > 0]
    return math.exp(sum(n * math.log(x) for n, x in rows) / sum(n for n, _ in rows))


def _range(law: Law) -> tuple[float, float]:
    values = [row.x for row in law.values if row.x is not None and row.x > 0]
    return min(values), max(values)


def _lever(part: Part, law: Law | None, prices: Prices, limits: Limits) -> Lever:
    top = limits.span(part.name).most // part.unit
    price = prices.by_part[part.name].dollars
    if law is None:
        return Lever(part.name, 0.0, price, 1.0, range(1, top + 1))
    return Lever(part.name, elasticity(law)[0], price, anchor(law, part.unit), range(1, top + 1))


def _estimate(mean: float, se: float, most: float) -> Estimate:
    half = z_quantile() * se
    return Estimate(mean, se, max(mean - half, 0.0), min(mean + half, most))
