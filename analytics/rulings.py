"""The rules that decide the design document's hypotheses, each fixed before any data are seen.

A rule reads one law's published curve and what was found on it. Where that curve is adjusted, the power fit and the
law of parallelism, which are those of the runs as they stand, say nothing.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum

from analytics.averaging import SATURATED
from analytics.families import (
    ANY_OF_K,
    BETA_BINOMIAL,
    LINEAR,
    LOGARITHMIC,
    MICHAELIS_MENTEN,
    PLATEAU,
    POWER,
    POWER_CEILING,
    SATURATING_EXPONENTIAL,
)
from analytics.sentences import OUTCOME_WORDS, dimension_words, tried_values, value_text
from models.dimensions import LESS_IS_BETTER, Dimension, Outcome
from models.laws import Estimate, Law, Published

SATURATING = frozenset({POWER_CEILING, SATURATING_EXPONENTIAL, MICHAELIS_MENTEN, PLATEAU, ANY_OF_K, BETA_BINOMIAL})
LEVELLING = SATURATING | {LOGARITHMIC}
HALF = 0.5
HARDLY = 0.05
MOST_AGENTS = 8
QUICKLY = 3


class Finding(StrEnum):
    """What the laws say about a hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDETERMINED = "undetermined"


Ruling = tuple[Finding, str]
"""A finding, and why."""

Judge = Callable[[Law, Published], Ruling]


def is_adjusted(law: Law) -> bool:
    """Tell whether a law's curve is that of runs compared within equals; a live law's never is."""
    return law.tier != "live" and law.evidence == "adjusted" and law.adjusted is not None


def levels_off(low: float, high: float, families: frozenset[str], words: str) -> Judge:
    """Judge "rises, then levels off in [low, high]".

    Supported: it rises, and the knee's interval meets [low, high] without spanning all values, or `families` have half
    the weight or more. Refuted: it falls, has no effect, or linear has half the weight and no knee is found.
    """

    def judge(law: Law, published: Published) -> Ruling:
        if published.direction not in {"rises", "rises then falls"}:
            return Finding.REFUTED, _told(law, published)
        knee, levelling, linear = law.knee, _weight(published, families), _weight(published, {LINEAR})
        if knee is not None and knee.supported and knee.lo <= high and knee.hi >= low and not _spans(law):
            return Finding.SUPPORTED, f"{_told(law, published)} and the knee is {_knee(law)}"
        if levelling >= HALF:
            return Finding.SUPPORTED, f"{_told(law, published)} and {words} have {levelling:.0%} of the weight"
        if linear >= HALF and (knee is None or knee.value >= _most(law)):
            return Finding.REFUTED, f"{_told(law, published)}, linearly ({linear:.0%} of the weight) and without a knee"
        shares = (
            f"{words} have {levelling:.0%} and linear {linear:.0%} of the weight, the most has {_leading(published)}"
        )
        return Finding.UNDETERMINED, f"{_told(law, published)}, but {shares}"

    return judge


def sublinear_speed_up(law: Law, published: Published) -> Ruling:
    """Judge "time falls with parallelism, by less than its inverse".

    Supported: time falls, and the exponent's interval lies in (-1, 0), or contention or coherence is above zero with
    confidence. Refuted: time does not fall, or the exponent's interval lies at or below -1.
    """
    if published.direction not in {"falls", "falls then rises"}:
        return Finding.REFUTED, _told(law, published)
    told, exponent = _told(law, published), _exponent(law)
    scalability = None if is_adjusted(law) else law.scalability
    if scalability is not None and max(scalability.contention.lo, scalability.coherence.lo) > 0:
        contention, coherence = scalability.contention.estimate, scalability.coherence.estimate
        return Finding.SUPPORTED, f"{told}, with contention {contention:.3g} and coherence {coherence:.3g}"
    if exponent is None:
        return Finding.UNDETERMINED, f"{told}, but no exponent is known"
    told = f"{told}, with exponent {_estimate(exponent)}"
    if exponent.hi <= -1:
        return Finding.REFUTED, told
    inside = exponent.lo > -1 and exponent.hi < 0
    return (Finding.SUPPORTED if inside else Finding.UNDETERMINED), told


def logarithmic(law: Law, published: Published) -> Ruling:
    """Judge "rises logarithmically".

    Supported: it rises, and families that level off have half the weight or more. Refuted: it does not keep rising, or
    linear has half the weight or more.
    """
    if published.direction != "rises":
        return Finding.REFUTED, _told(law, published)
    levelling, linear = _weight(published, LEVELLING), _weight(published, {LINEAR})
    told = f"{_told(law, published)}: families that level off have {levelling:.0%} of the weight, linear {linear:.0%}"
    if levelling >= HALF:
        return Finding.SUPPORTED, told
    return (Finding.REFUTED if linear >= HALF else Finding.UNDETERMINED), told


def power_law(law: Law, published: Published) -> Ruling:
    """Judge "a power law of model size".

    Supported: it rises, and power (with or without a ceiling) has half the weight or more. Refuted: it does not keep
    rising, or power has less than 5 % of the weight.
    """
    if published.direction != "rises":
        return Finding.REFUTED, _told(law, published)
    power = _weight(published, {POWER, POWER_CEILING})
    told = f"{_told(law, published)}: power has {power:.0%} of the weight"
    if power >= HALF:
        return Finding.SUPPORTED, told
    told += f"; the most has {_leading(published)}"
    return (Finding.REFUTED if power < HARDLY else Finding.UNDETERMINED), told


def diminishing(law: Law, published: Published) -> Ruling:
    """Judge "each further attempt brings less".

    Supported: it rises, and a supported knee lies below the most attempts tried, or families that level off have half
    the weight or more. Refuted: it falls, has no effect, or linear has half the weight and no knee is found.
    """
    if published.direction not in {"rises", "rises then falls"}:
        return Finding.REFUTED, _told(law, published)
    knee, levelling, linear = law.knee, _weight(published, LEVELLING), _weight(published, {LINEAR})
    if knee is not None and knee.supported and knee.hi < _most(law):
        return Finding.SUPPORTED, f"{_told(law, published)} and the knee is {_knee(law)}"
    told = f"{_told(law, published)}: families that level off have {levelling:.0%} of the weight, linear {linear:.0%}"
    if levelling >= HALF:
        return Finding.SUPPORTED, told
    refuted = linear >= HALF and (knee is None or knee.value >= _most(law))
    return (Finding.REFUTED if refuted else Finding.UNDETERMINED), told


def overhead(law: Law, published: Published) -> Ruling:
    """Judge "beyond some count, more agents lower success".

    Supported: success falls, or rises then falls. Refuted: it rises or does not change up to 8 agents or more.
    """
    if published.direction in {"falls", "rises then falls"}:
        return Finding.SUPPORTED, _told(law, published)
    tried = f"{_told(law, published)} up to {_most(law):g} agents"
    if published.direction in {"rises", "no effect"} and _most(law) >= MOST_AGENTS:
        return Finding.REFUTED, tried
    return Finding.UNDETERMINED, f"{tried}; {MOST_AGENTS} or more must be tried"


def quick_plateau(law: Law, published: Published) -> Ruling:
    """Judge "quality stops growing within 3 iterations".

    Supported: it falls or has no effect, or the knee's interval ends at 3 or below. Refuted: it rises, and the knee's
    interval begins above 3.
    """
    if published.direction in {"falls", "no effect"}:
        return Finding.SUPPORTED, _told(law, published)
    knee = law.knee
    if published.direction == "falls then rises" or knee is None or not knee.supported:
        return Finding.UNDETERMINED, f"{_told(law, published)}, but no knee is sure"
    told = f"{_told(law, published)} and the knee is {_knee(law)}"
    if knee.hi <= QUICKLY:
        return Finding.SUPPORTED, told
    return (Finding.REFUTED if knee.lo > QUICKLY else Finding.UNDETERMINED), told


def conflicts(law: Law, published: Published) -> Ruling:
    """Judge "parallelism lowers quality".

    Supported: quality falls, or rises then falls. Refuted: it rises or does not change.
    """
    if published.direction in {"falls", "rises then falls"}:
        return Finding.SUPPORTED, _told(law, published)
    refuted = published.direction in {"rises", "no effect"}
    return (Finding.REFUTED if refuted else Finding.UNDETERMINED), _told(law, published)


def _weight(published: Published, names: Iterable[str]) -> float:
    return sum(published.weights.get(name, 0.0) for name in names)


def _leading(published: Published) -> str:
    """Name the family of the greatest weight; the saturated one is the means at the values."""
    name = max(published.weights, key=lambda family: published.weights[family], default=published.family)
    words = "no curve but the means themselves" if name == SATURATED else name.replace("_", " ")
    return f"{words} ({published.weights.get(name, 0.0):.0%})"


def _most(law: Law) -> float:
    return max(tried_values(law), default=0.0)


def _spans(law: Law) -> bool:
    tried = tried_values(law)
    return law.knee is not None and bool(tried) and law.knee.lo <= min(tried) and law.knee.hi >= max(tried)


def _exponent(law: Law) -> Estimate | None:
    """Give the exponent of the published curve: the slope on ln x of a logarithm, where it is adjusted."""
    if is_adjusted(law) and law.adjusted is not None and law.outcome in LESS_IS_BETTER:
        return law.adjusted.slope
    if law.power is not None and not is_adjusted(law):
        return law.power.exponent
    return law.published.params.get("exponent") if law.published and law.published.family == POWER else None


def _told(law: Law, published: Published) -> str:
    name = OUTCOME_WORDS[Outcome(law.outcome)]
    if published.direction == "no effect":
        return f"{name} hardly changes with {dimension_words(law)}"
    return f"{name} {published.direction} with {dimension_words(law)}"


def _knee(law: Law) -> str:
    if law.knee is None:
        return "not found"
    value, lo, hi = (value_text(Dimension(law.dimension), x) for x in (law.knee.value, law.knee.lo, law.knee.hi))
    return f"{value} [{lo}, {hi}]"


def _estimate(value: Estimate) -> str:
    return f"{value.estimate:.2f} [{value.lo:.2f}, {value.hi:.2f}]"


def figures(law: Law) -> dict[str, float]:
    """Collect the numbers that the rules rest on: estimates with their intervals, and weights of families."""
    found: dict[str, float] = {}
    estimates = {"change": law.published.change if law.published else None, "exponent": _exponent(law)}
    for name, estimate in estimates.items():
        if estimate is not None:
            found |= {name: estimate.estimate, f"{name}_lo": estimate.lo, f"{name}_hi": estimate.hi}
    if law.knee is not None:
        found |= {"knee": law.knee.value, "knee_lo": law.knee.lo, "knee_hi": law.knee.hi}
    if law.published is not None:
        found["levelling_weight"] = _weight(law.published, LEVELLING)
        found["linear_weight"] = _weight(law.published, {LINEAR})
        found["power_weight"] = _weight(law.published, {POWER, POWER_CEILING})
    return found
