"""Which experiment to run next: the regret of allocation that it is expected to remove, for each dollar that it costs.

A run at x brings U(x) = V f(x) - cost(x) dollars, V the value of a success (or of a quality of 1), and an allocator
chooses the x of the greatest expected U. A law is not known exactly, so that this x may be wrong. An experiment moves
the law to m', and with it perhaps the choice: what it is worth a run is E[max m'(x)] - max m(x), the expected value of
sample information. It is never negative, and zero where no outcome of the experiment would change the choice. Costs are
taken as known: they are measured with every run and need no experiment.

What is believed of f at the values x is Normal(m, Σ), Σ = diag(se²) + b² l l', l = ln x - mean ln x: the published
curve with its standard errors, and a slope that may be off by b because runs were not assigned at random:

    randomised     b = 0     Nothing but chance decided who got what.
    adjusted       b = 0.03  Complexity and the other settings are held fixed, but a complexity score is an estimate
                             itself. Simulated laws with a slope of 0.095 were off by 0.001 to 0.006 where it was
                             exact, and by 0.12 where its reliability was 0.7; 0.03 lies between.
    associational  b = 0.1   or as large as the gap to the adjusted law, if that is more. Tasks that get more differ
                             from those that get less: the same simulated laws were off by 0.25 unadjusted.

References:
    Raiffa and Schlaifer (1961), "Applied Statistical Decision Theory".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import msgspec
import numpy as np

from analytics.experiment_baseline import ASSUMED, SAME_VALUE, Baseline, Row, baseline_of, costs_of
from analytics.intervals import t_quantile, z_quantile
from analytics.moments import Floats
from analytics.published import Fitting
from analytics.ready_made import READY_MADE
from analytics.sentences import DIMENSION_WORDS, from_hazards, listed, value_text
from models.contexts import GLOBAL, context_pairs
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.experiments import Definition, Value
from models.laws import Law

DRAWS = 8192
"""Draws behind an expectation, in pairs of opposite sign; the same for every candidate."""

MOST_VALUES = 8
"""Values of a curve that an experiment takes up: of more, such as bins of tokens, evenly spread ones."""

MONTH = 30.0
LEAST_VARIANCE = 0.01
"""Of a 0/1 outcome: a rate of 1 among some runs does not make the next one sure."""

ADJUSTED_BIAS = 0.03
UNADJUSTED_BIAS = 0.1
BOUGHT = (Outcome.SUCCESS, Outcome.QUALITY_SCORE)
"""Outcomes that a dollar value is known of."""


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of an outcome at the m values that a choice is among.

    Attributes:
        values: Numbers or categories.
        mean: The expected outcome at each. [m]
        covariance: Of what is not known of these means. [m, m]
        noise: The variance of a single run at each, above zero. [m]
    """

    values: tuple[Value, ...]
    mean: Floats
    covariance: Floats
    noise: Floats


@dataclass(frozen=True, slots=True)
class Worth:
    """What information is worth in a run, in dollars: an experiment's, and that of knowing the law exactly."""

    sample: float
    perfect: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An experiment that could be next.

    Attributes:
        law_id: The law that it would improve; None where there is none.
        evidence: What that law stands on; none where there is none.
        values: What it would try; `best` is what is chosen without it.
        per_value: Runs at each.
        worth: Dollars a run.
        runs_a_day: That a better choice would be made for.
        saving: Dollars that its result is expected to save within the horizon; `most` those that the truth would.
        dollars: What its runs cost.
        per_dollar: saving / dollars.
        sentence: All of it, in words.
        notes: What was assumed.
    """

    dimension: Dimension
    context: str
    outcome: Outcome
    law_id: str | None
    evidence: str
    values: tuple[Value, ...]
    best: Value
    per_value: int
    worth: Worth
    runs_a_day: float
    horizon_days: float
    saving: float
    most: float
    dollars: float
    per_dollar: float
    sentence: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """Whom a better choice would serve.

    Attributes:
        runs: Past runs by context, the global one with all.
        days: Over how many days they came.
        fitting: What a success is worth, and the price table.
        horizon_days: For how long runs are allocated by what is learnt, once it is.
    """

    runs: Mapping[str, Sequence[Row]]
    days: float
    fitting: Fitting
    horizon_days: float = MONTH


def value_of_information(belief: Belief, dollars: Floats, value: float, n: float) -> Worth:
    """Expect what an experiment with n runs at each value adds to the best choice, in dollars a run.

    Equation: m' ~ Normal(m, Σ (Σ + R)^-1 Σ), R = noise / n; E[max U'] - max U, U = value m - dollars. As E[m'] = m, it
    is the mean over draws of max U' - U'(the best x now): no draw is negative, and luck adds nothing where all choose
    the same. The truth is drawn from Normal(m, Σ) by the same numbers.

    Args:
        belief: What is believed of the outcome.
        dollars: What a run costs at each value. [m]
        value: Dollars that a unit of the outcome is worth.
        n: Runs at each value.
    """
    now = value * belief.mean - dollars
    best = int(now.argmax())
    heard = belief.covariance + np.diag(belief.noise / n)
    learnt = belief.covariance @ np.linalg.solve(heard, belief.covariance)
    z = _normal(len(now))

    def gain(covariance: Floats) -> float:
        after = now + value * (z @ _root(covariance))
        return float((after.max(axis=1) - after[:, best]).mean())

    return Worth(gain(learnt), gain(belief.covariance))


def bias_of(law: Law) -> float:
    """Give b, by how much a law's slope on ln x may be off for what its runs did not have in common."""
    if law.evidence == "randomised":
        return 0.0
    if law.evidence == "adjusted":
        return ADJUSTED_BIAS
    return max(abs(law.confounding_gap or 0.0), UNADJUSTED_BIAS)


def tells(law: Law) -> bool:
    """Tell whether a law says something of two values: it has a curve, or a table of categories."""
    curve = law.published is not None and len(law.published.curve) > 1
    return curve or (len(law.values) > 1 and all(row.label is not None for row in law.values))


def belief_of(law: Law) -> Belief:
    """Read what a law of success or quality says at up to eight of its values.

    Errors of the curve are taken as independent between values. Categories have no ln x: each is one unit of it from
    the next.

    Raises:
        NotEnoughData: It says nothing of two values.
    """
    if not tells(law):
        raise NotEnoughData(
            f"law {law.law_id} says nothing of two values: {law.missing.get('published', 'too few runs')}"
        )
    if law.published is not None and len(law.published.curve) > 1:
        curve = law.published.curve
        at = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), MOST_VALUES)).round().astype(np.int64)).tolist()
        table = [(curve[place].x, curve[place].mean, curve[place].lo, curve[place].hi) for place in at]
        values: tuple[Value, ...] = tuple(row[0] for row in table)
        ln_x = np.log([row[0] for row in table])
        mean, lo, hi = np.array([row[1:] for row in table]).T
    else:
        values = tuple(row.label or "" for row in law.values)
        ln_x = np.arange(len(values), dtype=np.float64)
        mean, lo, hi = np.array([(row.mean, row.lo, row.hi) for row in law.values]).T
    se = (hi - lo) / 2 / z_quantile()
    if law.outcome == Outcome.SUCCESS:
        noise = np.maximum(mean * (1 - mean), LEAST_VARIANCE)
    else:
        noise = np.full(len(mean), _run_variance(law))
    return Belief(values, mean, np.diag(se * se) + _slope_doubt(ln_x, bias_of(law)), noise)


def flat_belief(definition: Definition, world: Baseline) -> Belief:
    """Believe, where there is no law, that every value brings the same, but for a slope that may be off by 0.1."""
    values = definition.values_tested
    numbers = [value for value in values if not isinstance(value, str)]
    ln_x = np.log(numbers) if len(numbers) == len(values) else np.arange(len(values), dtype=np.float64)
    flat = np.ones(len(values))
    return Belief(tuple(values), world.mean * flat, _slope_doubt(ln_x, UNADJUSTED_BIAS), world.sd**2 * flat)


def suggest(laws: Sequence[Law], outlook: Outlook) -> list[Suggestion]:
    """Rank experiments by the dollars that they are expected to save within the horizon for each dollar they cost.

    Candidates are each dimension in each context that has a law of what the ready-made experiment is about, or else of
    success or quality; and over all runs each dimension that no context has a law of. An experiment tries the values of
    its law, as many runs at each as the ready-made one plans. Contexts overlap: what is learnt in one helps in another.

    Args:
        laws: The laws that speak, of all contexts.
        outlook: Whom a better choice would serve.
    """
    found = [each for dimension in Dimension for each in _of_dimension(laws, dimension, outlook)]
    order = list(Dimension)
    return sorted(
        found,
        key=lambda each: (
            -each.per_dollar,
            -each.saving,
            each.context != GLOBAL,
            each.context,
            order.index(each.dimension),
        ),
    )


def context_words(context: str) -> str:
    """Name a context in a sentence.

    >>> context_words("project=atlas&task_type=bug%20fix"), context_words("global")
    ('project atlas and task type bug fix', 'all runs')
    """
    return listed([f"{key.replace('_', ' ')} {value}" for key, value in context_pairs(context)]) or "all runs"


def _of_dimension(laws: Sequence[Law], dimension: Dimension, outlook: Outlook) -> list[Suggestion]:
    definition = READY_MADE[dimension.value]
    outcome = definition.outcome if definition.outcome in BOUGHT else Outcome.SUCCESS
    definition = msgspec.structs.replace(definition, context_filter={}, outcome=outcome)
    known = {(law.context, law.outcome): law for law in laws if law.dimension == dimension}
    found: list[Suggestion] = []
    for context in dict.fromkeys(context for context, _ in known):
        laws_there = (known.get((context, each)) for each in dict.fromkeys((outcome, *BOUGHT)))
        law = next((law for law in laws_there if law is not None and tells(law)), None)
        if law is not None:
            belief = belief_of(law)
            dollars, notes = _dollars(belief, law, known.get((context, Outcome.TOTAL_COST)), outlook)
            found.append(_suggestion(definition, law, belief, dollars, outlook, notes))
    if found:
        return found
    world = baseline_of(definition, outlook.runs.get(GLOBAL, ()), outlook.fitting, {})
    dollars = np.array([world.dollars[value].mean for value in definition.values_tested])
    notes = (f"There is no law yet: all values are taken to bring {world.mean:.2f}.", *world.notes)
    return [_suggestion(definition, None, flat_belief(definition, world), dollars, outlook, notes)]


def _suggestion(  # noqa: PLR0917 - all that a suggestion rests on
    definition: Definition,
    law: Law | None,
    belief: Belief,
    dollars: Floats,
    outlook: Outlook,
    notes: tuple[str, ...],
) -> Suggestion:
    value, n = outlook.fitting.value_of_success, definition.planned_per_value
    context = GLOBAL if law is None else law.context
    worth = value_of_information(belief, dollars, value, n)
    a_day = len(outlook.runs.get(context, ())) / outlook.days if outlook.days > 0 else 0.0
    cost = n * float(dollars.sum())
    saving = worth.sample * a_day * outlook.horizon_days
    found = Suggestion(
        dimension=definition.dimension_tested,
        context=context,
        outcome=definition.outcome if law is None else Outcome(law.outcome),
        law_id=None if law is None else law.law_id,
        evidence="none" if law is None else law.evidence,
        values=belief.values,
        best=belief.values[int((value * belief.mean - dollars).argmax())],
        per_value=n,
        worth=worth,
        runs_a_day=a_day,
        horizon_days=outlook.horizon_days,
        saving=saving,
        most=worth.perfect * a_day * outlook.horizon_days,
        dollars=cost,
        per_dollar=saving / cost if cost > 0 else math.inf if saving > 0 else 0.0,
        sentence="",
        notes=notes,
    )
    return replace(found, sentence=_sentence(found))


def _sentence(found: Suggestion) -> str:
    words = DIMENSION_WORDS[found.dimension]
    where = f"{words[0].upper()}{words[1:]} in {context_words(found.context)}"
    if found.saving > 0:
        span = "a month" if found.horizon_days == MONTH else f"in {found.horizon_days:g} days"
        return f"{where}: knowing would save about {money(found.saving)} {span}, costs {money(found.dollars)}."
    if not found.runs_a_day:
        return f"{where}: no run of it came lately, so knowing would save nothing."
    best = found.best if isinstance(found.best, str) else value_text(found.dimension, found.best)
    return f"{where}: knowing would change nothing, {best} is best whatever {found.per_value} runs a value show."


def money(dollars: float) -> str:
    """Write dollars: cents below ten, no cents above.

    >>> money(0.004), money(3.5), money(1234.5)
    ('less than a cent', '$3.50', '$1,234')
    """
    if 0 < dollars < 0.005:  # noqa: PLR2004 - half a cent
        return "less than a cent"
    return f"${dollars:,.2f}" if dollars < 10 else f"${dollars:,.0f}"  # noqa: PLR2004 - two digits


def _dollars(belief: Belief, law: Law, costs: Law | None, outlook: Outlook) -> tuple[Floats, tuple[str, ...]]:
    """Say what a run costs at each value: by the cost law of the same runs, else by runs and the price table. [m].

    A law of allowed attempts has no cost law: that of attempts made tells what many attempts cost, not many allowed.
    """
    if costs is not None and costs.basis == law.basis and not from_hazards(law):
        try:
            return _costs_at(costs, belief.values), ()
        except NotEnoughData:
            pass  # The runs and the price table tell what the cost law does not.
    dimension, rows = Dimension(law.dimension), outlook.runs.get(law.context, ())
    rate = float(belief.mean.mean()) if law.outcome == Outcome.SUCCESS else ASSUMED[Outcome.SUCCESS][0]
    told, notes = costs_of(dimension, belief.values, rows, outlook.fitting, min(max(rate, 0.01), 1.0))
    return np.array([told[value].mean for value in belief.values]), tuple(notes)


def _costs_at(costs: Law, values: Sequence[Value]) -> Floats:
    """Read a cost law at the values of another law of the same runs: mean dollars, between its values along a line."""
    labels = {row.label: row.mean for row in costs.values if row.label is not None}
    if all(value in labels for value in values):
        return np.array([labels[str(value)] for value in values])
    x = np.array([value for value in values if not isinstance(value, str)])
    if costs.published is None or len(x) < len(values):
        raise NotEnoughData(f"cost law {costs.law_id} has no curve at {values}")
    at = np.array([point.x for point in costs.published.curve])
    dollars = np.array([point.mean for point in costs.published.curve]) * (costs.published.mean_factor or 1.0)
    if x.min() < at.min() * (1 - SAME_VALUE) or x.max() > at.max() * (1 + SAME_VALUE):
        raise NotEnoughData(f"cost law {costs.law_id} reaches from {at.min():g} to {at.max():g} only")
    return np.asarray(np.interp(x, at, dollars), np.float64)


def _run_variance(law: Law) -> float:
    """Give the variance of a single run, pooled over the table of a law: its intervals are Student's."""
    rows = [row for row in law.values if row.n > 1]
    squares = math.fsum(row.n * (row.n - 1) * ((row.hi - row.lo) / 2 / t_quantile(row.n - 1)) ** 2 for row in rows)
    return squares / sum(row.n - 1 for row in rows) if squares > 0 else ASSUMED[Outcome.QUALITY_SCORE][1] ** 2


def _slope_doubt(ln_x: Floats, bias: float) -> Floats:
    """Give b² l l', l = ln x - mean ln x. [m, m]."""
    away = ln_x - ln_x.mean()
    return np.asarray(bias**2 * np.outer(away, away))


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((np.sqrt(np.maximum(values, 0.0)) * vectors) @ vectors.T)


@lru_cache(maxsize=16)
def _normal(m: int) -> Floats:
    """Give standard normal draws [DRAWS, m] in pairs of opposite sign: what is learnt is fair, draw by draw."""
    half = np.random.default_rng(1961 + m).standard_normal((DRAWS // 2, m))
    return np.concatenate((half, -half))
