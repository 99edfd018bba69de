"""A law in one or two plain English sentences, and the words that other reports share with it."""

import math
import re
from collections.abc import Sequence

import numpy as np

from models.dimensions import LESS_IS_BETTER, Basis, Dimension, Outcome
from models.laws import Adjusted, Estimate, Knee, Law, Published, ValueRow

OUTCOME_WORDS: dict[Outcome, str] = {
    Outcome.SUCCESS: "success",
    Outcome.QUALITY_SCORE: "quality",
    Outcome.TIME_TO_COMPLETE: "time to complete",
    Outcome.TOTAL_COST: "cost",
    Outcome.QUALITY_GIVEN_SUCCESS: "quality of the successful runs",
    Outcome.SUCCESS_TIMES_QUALITY: "quality with failures counted as zero",
}

DIMENSION_WORDS: dict[Dimension, str] = {
    Dimension.AGENT_COUNT: "agents",
    Dimension.ITERATIONS: "iterations",
    Dimension.PARALLELISM_LEVEL: "parallel agents",
    Dimension.CONTEXT: "context",
    Dimension.MODEL_SIZE: "model size",
    Dimension.ATTEMPTS: "attempts",
}

LIMIT_WORDS: dict[Dimension, str] = {
    Dimension.ITERATIONS: "the iteration limit",
    Dimension.CONTEXT: "the context budget",
    Dimension.ATTEMPTS: "the attempt limit",
}

USED_WORDS: dict[Dimension, str] = {
    Dimension.ITERATIONS: "used iterations",
    Dimension.CONTEXT: "used context",
    Dimension.ATTEMPTS: "used attempts",
}

STEP_WORDS: dict[Dimension, str] = {
    Dimension.AGENT_COUNT: "another agent",
    Dimension.ITERATIONS: "another iteration",
    Dimension.PARALLELISM_LEVEL: "another parallel agent",
    Dimension.CONTEXT: "more context",
    Dimension.MODEL_SIZE: "a larger model",
    Dimension.ATTEMPTS: "another attempt",
}

EVIDENCE_WORDS = {
    "associational": "An association, not yet a cause",
    "randomised": "A randomised comparison",
}

CAUSE_WORDS = {
    "law": "the outcome at equal settings changed",
    "price": "prices changed",
    "mix": "the mix of settings changed",
}

TURNS = {"rises then falls": ("rises", "falls"), "falls then rises": ("falls", "rises")}
COSTS = "costs more"
"""What the rule of a knee says when a step is held against what it costs."""

COMPLEXITY = "complexity"
ROUNDING = 1e-9
MOST_NAMED = 2
LONGEST_NOTE = 20
LONGEST_RULE = 80


def sentence(law: Law, projects: int | None = None) -> str:
    """Say what a law says: what the outcome does, up to where more pays, and what stands behind it.

    Args:
        law: Any law; what it lacks is left out of the sentence.
        projects: How many projects its runs come from, where the caller knows.
    """
    outcome, words = Outcome(law.outcome), dimension_words(law)
    runs = count(law.n, "run")
    if law.status == "insufficient":
        values = f" at {count(len(law.values), 'value')}" if law.values else ""
        few = "values" if len(law.values) == 1 and law.n > 1 else "runs"
        return f"Too few {few} to say how {OUTCOME_WORDS[outcome]} changes with {words}: {runs}{values}."
    if any(row.label is not None for row in law.values):
        claim = _categories(law, outcome)
    elif law.published is None:
        claim = f"no law of {OUTCOME_WORDS[outcome]} over {words} can be fitted to these runs"
    else:
        claim = _trend(law, law.published, outcome, words)
    claim = f"{_standing(law)}{claim}"
    return f"{claim[0].upper()}{claim[1:]}. {_support(law, runs, projects)}."


def dimension_words(law: Law) -> str:
    """Name what is scaled, telling limits from used amounts where a dimension has both."""
    dimension = Dimension(law.dimension)
    return "allowed attempts" if from_hazards(law) else slot_words(dimension, law.basis)


def tried_values(law: Law) -> list[float]:
    """List the values that a law was tried at: its curve's, which are exact where values are bins, else its table's."""
    if law.published is not None and law.published.curve:
        return [point.x for point in law.published.curve]
    return [row.x for row in law.values if row.x is not None]


def from_hazards(law: Law) -> bool:
    """Tell whether a law of used attempts is one of allowed attempts: success is fitted from those still at risk."""
    return (law.dimension, law.outcome, law.basis) == (Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED)


def slot_words(dimension: Dimension, basis: str | None) -> str:
    """Name a dimension on a basis.

    >>> slot_words(Dimension.ITERATIONS, "dose"), slot_words(Dimension.AGENT_COUNT, "realised")
    ('the iteration limit', 'agents')
    """
    chosen = {Basis.DOSE: LIMIT_WORDS, Basis.REALISED: USED_WORDS}.get(Basis(basis), {}) if basis else {}
    return chosen.get(dimension, DIMENSION_WORDS[dimension])


def value_text(dimension: Dimension, x: float) -> str:
    """Write a value as people do: 4, 16k tokens as 16k, 7 billion parameters as 7B.

    >>> [value_text(Dimension.CONTEXT, x) for x in (800, 16_000, 999_999)], value_text(Dimension.MODEL_SIZE, 0.07)
    (['800', '16k', '1M'], '70M')
    """
    # Rounded first: 999,999 tokens are 1M, not 1,000k.
    x = float(f"{x:.3g}")
    if dimension is Dimension.MODEL_SIZE:
        return f"{_digits(x)}B" if x >= 1 else f"{_digits(1000 * x)}M"
    if dimension is Dimension.CONTEXT:
        for size, suffix in ((1e6, "M"), (1e3, "k")):
            if x >= size:
                return f"{_digits(x / size)}{suffix}"
    return _digits(x)


def outcome_text(outcome: Outcome, value: float) -> str:
    """Write a mean outcome with its unit: 70.5 %, 0.81, 34 s, 0.25 dollars."""
    if outcome is Outcome.SUCCESS:
        return f"{_digits(100 * value)} %"
    return f"{_digits(value)}{_unit(outcome)}"


def change_text(outcome: Outcome, change: Estimate, scale: str = "mean") -> str:
    """Write a change with its interval: points for success, factors where it is one of logarithms.

    >>> change_text(Outcome.SUCCESS, Estimate(0.3, 0.04, 0.22, 0.38))
    '+30 points [+22, +38]'
    """
    ends = (change.estimate, change.lo, change.hi)
    if scale == "median":
        value, lo, hi = (math.exp(min(max(end, -20.0), 20.0)) for end in ends)
        return f"{_digits(value)} times [{_digits(lo)}, {_digits(hi)}]"
    value, lo, hi = (100 * end for end in ends) if outcome is Outcome.SUCCESS else ends
    unit = " points" if outcome is Outcome.SUCCESS else _unit(outcome)
    places = _places(hi - lo)
    return f"{_signed(value, places)}{unit} [{_signed(lo, places)}, {_signed(hi, places)}]"


def count(number: int, noun: str) -> str:
    """Write a count with its noun.

    >>> count(12400, "run"), count(1, "project")
    ('12,400 runs', '1 project')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Join parts as a sentence does.

    >>> listed(["a", "b", "c"]), listed(["a", "b"], "or")
    ('a, b and c', 'a or b')
    """
    return f" {last} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def project_count(law: Law) -> int | None:
    """Read the number of projects from a law's clusters, where they say it."""
    found = re.match(r"(\d+) projects?\b", law.clusters or "")
    if found:
        return int(found[1])
    return 1 if law.context.startswith("project=") else None


def _standing(law: Law) -> str:
    if law.status == "drifted":
        since = f" since {law.drift.since[:10]}" if law.drift and law.drift.since else ""
        cause = CAUSE_WORDS.get(law.drift.cause) if law.drift else None
        return f"drifted{since}{f' ({cause})' if cause else ''}: "
    return {"exploratory": "exploratory: ", "expired": "expired: "}.get(law.status, "")


def _trend(law: Law, published: Published, outcome: Outcome, words: str) -> str:
    name = OUTCOME_WORDS[outcome]
    curve = published.curve
    dimension = Dimension(law.dimension)
    ends = (
        f" from {value_text(dimension, curve[0].x)} to {value_text(dimension, curve[-1].x)}" if len(curve) > 1 else ""
    )
    change = published.change
    amount = f"{change_text(outcome, change, published.scale)}{ends}" if change and coherent(change) else ""
    if published.direction in TURNS:
        first, then = TURNS[published.direction]
        turn = _turn(dimension, published, first)
        return f"{name} {first} with {words}{turn}, then {then}{_paying(law, published, outcome)}"
    if published.direction in {"rises", "falls"}:
        how = f", {amount}" if amount else ""
        return f"{name} {published.direction} with {words}{how}{_paying(law, published, outcome)}"
    how = f": {amount}" if amount else ""
    if published.direction == "no effect":
        return f"{name} hardly changes with {words}{how}"
    return f"the runs cannot tell whether {name} rises or falls with {words}{how}"


def _turn(dimension: Dimension, published: Published, first: str) -> str:
    means = np.array([point.mean for point in published.curve])
    if not len(means):
        return ""
    place = int(means.argmax() if first == "rises" else means.argmin())
    inside = 0 < place < len(means) - 1
    return f" up to {value_text(dimension, published.curve[place].x)}" if inside else ""


def _paying(law: Law, published: Published, outcome: Outcome) -> str:
    """Say up to where another step pays; nothing where the outcome gets worse from the start, or the cost is it."""
    knee = law.knee
    better = "falls" if outcome in LESS_IS_BETTER else "rises"
    if knee is None or not published.direction.startswith(better):
        return ""
    dimension = Dimension(law.dimension)
    step = STEP_WORDS[dimension]
    tried = [point.x for point in published.curve] or [0.0, math.inf]
    value = value_text(dimension, knee.value)
    if knee.value <= min(tried) * (1 + ROUNDING):
        if knee.hi <= knee.value:
            return f"; already beyond {value}, {_reason(knee, step)}"
        return f"; whether {step} pays beyond {value} is not yet known"
    if not knee.supported:
        return f"; up to where {step} pays is not yet known"
    if knee.value >= max(tried) * (1 - ROUNDING):
        earliest = f", or to {value_text(dimension, knee.lo)} at the least" if knee.lo < knee.value else ""
        return f"; {step} pays up to {value}, the most tried{earliest}"
    return f"; {step} pays up to {_interval(dimension, knee)}, and beyond that {_reason(knee, 'it')}"


def _reason(knee: Knee, step: str) -> str:
    if knee.threshold <= 0:
        return f"{step} brings nothing more"
    if not knee.rule or COSTS in knee.rule:
        return f"{step} costs more than it brings"
    return knee.rule if len(knee.rule) <= LONGEST_RULE else f"a unit brings less than {knee.threshold:.3g}"


def _interval(dimension: Dimension, knee: Knee) -> str:
    value = value_text(dimension, knee.value)
    if knee.lo == knee.hi == knee.value:
        return value
    return f"{value} [{value_text(dimension, knee.lo)}, {value_text(dimension, knee.hi)}]"


def _categories(law: Law, outcome: Outcome) -> str:
    """Name the best category where its interval stands clear of another's; intervals that overlap tell nothing."""
    name = OUTCOME_WORDS[outcome]
    rows = sorted(law.values, key=lambda row: row.mean, reverse=outcome not in LESS_IS_BETTER)
    labels = listed([row.label or "unnamed" for row in law.values])
    if len(rows) < 2:  # noqa: PLR2004 - a comparison
        return f"only {labels} models were tried"
    best, worst = rows[0], rows[-1]
    clear = best.lo > worst.hi or best.hi < worst.lo
    means = f"{_mean(best, outcome)} against {_mean(worst, outcome)}"
    if not clear:
        return f"the runs cannot tell {labels} models apart by {name}: {means}"
    most = "lowest" if outcome in LESS_IS_BETTER else "highest"
    return f"{name} is {most} with {best.label} models: {means}"


def _mean(row: ValueRow, outcome: Outcome) -> str:
    return f"{outcome_text(outcome, row.mean)} ({row.label})"


def _support(law: Law, runs: str, projects: int | None) -> str:
    if law.evidence == "adjusted":
        how = f"Adjusted for {_held(law.adjusted)}"
    else:
        how = EVIDENCE_WORDS.get(law.evidence, law.evidence.capitalize())
    projects = project_count(law) if projects is None else projects
    parts = [how, runs, *([count(projects, "project")] if projects is not None else _clusters(law))]
    if law.pooling and law.pooling.prior_dominated:
        parts.append("more than half of it borrowed from sibling contexts")
    turned = _reversal(law, law.adjusted) if law.adjusted and law.adjusted.sign_differs else ""
    return f"{', '.join(parts)}{turned}"


def _clusters(law: Law) -> list[str]:
    return [f"errors by {law.clusters[:LONGEST_NOTE].strip()}"] if law.clusters else []


def _held(adjusted: Adjusted | None) -> str:
    """Name what is held fixed: complexity by strata or as a covariate, and the other dimensions."""
    if adjusted is None:
        return "complexity"
    names = [name for name in adjusted.covariates if name != COMPLEXITY]
    found = ["complexity"] if adjusted.strata > 1 or COMPLEXITY in adjusted.covariates else []
    found += [_covariate(name) for name in names[:MOST_NAMED]]
    found += ["others"] if len(names) > MOST_NAMED else []
    return listed(found) or "settings"


def _covariate(name: str) -> str:
    plain = name.removeprefix("ln ").removeprefix("ln_")
    return DIMENSION_WORDS[Dimension(plain)] if plain in set(Dimension) else plain[:LONGEST_NOTE]


def _reversal(law: Law, adjusted: Adjusted) -> str:
    """Say on which side of the adjustment the claim stands; the sign of both slopes is sure where they differ."""
    if adjusted.naive.estimate * adjusted.slope.estimate >= 0:
        return ""
    naive, within = (("a rise" if slope.estimate > 0 else "a fall") for slope in (adjusted.naive, adjusted.slope))
    told = {"rises": "a rise", "falls": "a fall"}.get(law.published.direction if law.published else "")
    held = _held(adjusted)
    if told == within:
        return f"; without adjusting for {held} it would look like {naive}"
    return f"; at equal {held} it is {within}" + ("" if told == naive else f", without adjusting {naive}")


def _unit(outcome: Outcome) -> str:
    return {Outcome.TIME_TO_COMPLETE: " s", Outcome.TOTAL_COST: " dollars"}.get(outcome, "")


def coherent(change: Estimate) -> bool:
    """Tell whether an estimate lies in its interval; outside of it, no family describes the runs."""
    return -math.inf < change.lo <= change.estimate <= change.hi < math.inf


def _digits(value: float) -> str:
    """Keep three significant digits of a small number and the whole of a large one; no exponent."""
    if not math.isfinite(value):
        return "unknown"
    places = 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _places(width: float) -> int:
    return min(4, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 2


def _signed(value: float, places: int) -> str:
    text = f"{value:+,.{places}f}"
    return text if float(text.replace(",", "")) else f"{0:.{places}f}"
