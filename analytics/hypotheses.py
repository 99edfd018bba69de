"""The design document's hypotheses and counter-hypotheses, confronted with the laws.

Each decision rule is fixed here, in words (`rule`) and in code (`judge`), before any data are seen; a verdict repeats
its rule beside the figures, so that a reader can apply it again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

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
from analytics.sentences import OUTCOME_WORDS, dimension_words, from_hazards, tried_values, value_text
from models.contexts import GLOBAL
from models.dimensions import Basis, Dimension, Outcome
from models.laws import Estimate, Law, Published, law_id

SATURATING = frozenset({POWER_CEILING, SATURATING_EXPONENTIAL, MICHAELIS_MENTEN, PLATEAU, ANY_OF_K, BETA_BINOMIAL})
LEVELLING = SATURATING | {LOGARITHMIC}
HALF = 0.5
HARDLY = 0.05
MOST_AGENTS = 8
QUICKLY = 3
STALE = frozenset({"insufficient", "drifted", "expired"})
LIMITS = {
    Dimension.ITERATIONS: "max_iterations",
    Dimension.CONTEXT: "context_budget",
    Dimension.ATTEMPTS: "retry_limit",
}


class Finding(StrEnum):
    """What the laws say about a hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDETERMINED = "undetermined"


Ruling = tuple[Finding, str]
Judge = Callable[[Law, Published], Ruling]
Speaks = Callable[[Law | None, Law | None], Law | None]
"""Chooses between the live and the audited law."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A claim about one law, and the rule that decides it.

    Attributes:
        name: Its short name.
        claim: What it says, in the design document's sense.
        dimension: What is scaled.
        outcomes: What it is measured as, then what stands in where no run carries that.
        rule: When it is supported and when refuted; undetermined otherwise.
        judge: The rule in code, asked only about a law with a direction.
        counter: Whether it is one of the document's counter-hypotheses.
    """

    name: str
    claim: str
    dimension: Dimension
    outcomes: tuple[Outcome, ...]
    rule: str
    judge: Judge
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A hypothesis confronted with the law that it is about.

    Attributes:
        hypothesis: Its name.
        claim: What it says.
        counter: Whether it is a counter-hypothesis.
        finding: supported, refuted or undetermined.
        why: The reason in words.
        rule: The decision rule.
        figures: The numbers it rests on.
        evidence: The law's label, "none" where there is no law.
        status: The law's status, likewise.
        n: Its runs.
        law_id: Which law.
        sentence: What the law says.
    """

    hypothesis: str
    claim: str
    counter: bool
    finding: Finding
    why: str
    rule: str
    figures: Mapping[str, float]
    evidence: str = "none"
    status: str = "none"
    n: int = 0
    law_id: str = ""
    sentence: str = ""


def audited_first(live: Law | None, audited: Law | None) -> Law | None:
    """Take the audited law, unless it is absent, insufficient, drifted or expired and the live one is not."""
    if live is None or audited is None:
        return live if audited is None else audited
    return live if audited.status in STALE and live.status not in STALE else audited


def confront(laws: Iterable[Law], context: str = GLOBAL, speaks: Speaks = audited_first) -> list[Verdict]:
    """Judge every hypothesis by the laws of one context.

    Whatever its own rule, the finding is undetermined where there is no law, the law is insufficient, drifted or
    expired, its direction is undetermined, it is exploratory with an interval wider than the change itself, its
    dimension is a used amount (an outcome of difficulty) of what could be limited, or its sign turns when runs are
    compared within equals. Success over used attempts is fitted from hazards and may carry one.

    Args:
        laws: Of any contexts and tiers.
        context: Whose laws speak.
        speaks: Which of the live and the audited law does.
    """
    known = {law.law_id: law for law in laws if law.context == context}

    def speaking(dimension: Dimension, outcome: Outcome) -> Law | None:
        live, audited = (known.get(law_id(context, dimension, outcome, tier)) for tier in ("live", "audited"))
        return speaks(live, audited)

    return [_confront(speaking, hypothesis) for hypothesis in HYPOTHESES]


def _confront(speaking: Callable[[Dimension, Outcome], Law | None], hypothesis: Hypothesis) -> Verdict:
    candidates = (speaking(hypothesis.dimension, outcome) for outcome in hypothesis.outcomes)
    law = next((law for law in candidates if law is not None), None)
    first = OUTCOME_WORDS[hypothesis.outcomes[0]]
    if law is None:
        why = f"there is no law of {first} over {hypothesis.dimension}: publish runs that vary it"
        return Verdict(
            hypothesis.name, hypothesis.claim, hypothesis.counter, Finding.UNDETERMINED, why, hypothesis.rule, {}
        )
    hindrance = _hindrance(law)
    if hindrance is None and law.published is not None:
        finding, why = hypothesis.judge(law, law.published)
        why += _caveats(law, first if law.outcome != hypothesis.outcomes[0] else "")
    else:
        finding, why = Finding.UNDETERMINED, hindrance or law.missing.get("published", "the law has no curve")
    return Verdict(
        hypothesis=hypothesis.name,
        claim=hypothesis.claim,
        counter=hypothesis.counter,
        finding=finding,
        why=why,
        rule=hypothesis.rule,
        figures=_figures(law),
        evidence=law.evidence,
        status=law.status,
        n=law.n,
        law_id=law.law_id,
        sentence=law.sentence,
    )


def _hindrance(law: Law) -> str | None:
    """Say why a law cannot carry a finding, if it cannot."""
    if law.status in STALE:
        return f"the law is {law.status}"
    dimension, published, adjusted = Dimension(law.dimension), law.published, law.adjusted
    used = law.basis == Basis.REALISED and dimension in LIMITS and not from_hazards(law)
    if used and law.evidence != "randomised":
        return f"{dimension_words(law)} cannot decide it, being an outcome of difficulty: set {LIMITS[dimension]}"
    if published is not None and published.direction == "undetermined":
        return "the runs cannot tell whether the outcome rises or falls"
    if adjusted is not None and adjusted.sign_differs and law.evidence == "associational":
        return "the slope turns its sign when runs are compared within equals"
    if published is not None and law.status == "exploratory" and _wide(published):
        return "the law is exploratory and its interval wider than the change itself"
    return None


def _caveats(law: Law, wanted: str) -> str:
    told = ""
    if wanted:
        told = f"; judged on {OUTCOME_WORDS[Outcome(law.outcome)]}, as there is no law of {wanted}"
    significance = law.adjusted_significance
    if significance is not None and significance.unadjusted and not significance.adjusted:
        told += f"; the trend does not stand among all {significance.laws} laws scanned"
    return told


def _wide(published: Published) -> bool:
    """Tell whether a trend's interval is wider than the change; a hump's change between the ends says nothing."""
    change = published.change
    if published.direction not in {"rises", "falls"}:
        return published.direction == "no effect"
    return change is None or change.hi - change.lo > 2 * abs(change.estimate)


def _levels_off(low: float, high: float, families: frozenset[str], words: str) -> Judge:
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


def _sublinear_speed_up(law: Law, published: Published) -> Ruling:
    """Judge "time falls with parallelism, by less than its inverse".

    Supported: time falls, and the exponent's interval lies in (-1, 0), or contention or coherence is above zero with
    confidence. Refuted: time does not fall, or the exponent's interval lies at or below -1.
    """
    if published.direction not in {"falls", "falls then rises"}:
        return Finding.REFUTED, _told(law, published)
    told, scalability, exponent = _told(law, published), law.scalability, _exponent(law)
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


def _logarithmic(law: Law, published: Published) -> Ruling:
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


def _power_law(law: Law, published: Published) -> Ruling:
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


def _diminishing(law: Law, published: Published) -> Ruling:
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


def _overhead(law: Law, published: Published) -> Ruling:
    """Judge "beyond some count, more agents lower success".

    Supported: success falls, or rises then falls. Refuted: it rises or does not change up to 8 agents or more.
    """
    if published.direction in {"falls", "rises then falls"}:
        return Finding.SUPPORTED, _told(law, published)
    tried = f"{_told(law, published)} up to {_most(law):g} agents"
    if published.direction in {"rises", "no effect"} and _most(law) >= MOST_AGENTS:
        return Finding.REFUTED, tried
    return Finding.UNDETERMINED, f"{tried}; {MOST_AGENTS} or more must be tried"


def _quick_plateau(law: Law, published: Published) -> Ruling:
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


def _conflicts(law: Law, published: Published) -> Ruling:
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
    """Name the family of the greatest weight."""
    name = max(published.weights, key=lambda family: published.weights[family], default=published.family)
    return f"{name.replace('_', ' ')} ({published.weights.get(name, 0.0):.0%})"


def _most(law: Law) -> float:
    return max(tried_values(law), default=0.0)


def _spans(law: Law) -> bool:
    tried = tried_values(law)
    return law.knee is not None and bool(tried) and law.knee.lo <= min(tried) and law.knee.hi >= max(tried)


def _exponent(law: Law) -> Estimate | None:
    if law.power is not None:
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


def _figures(law: Law) -> dict[str, float]:
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


QUALITY = (Outcome.QUALITY_SCORE, Outcome.SUCCESS)
"""Where no run carries a quality, success is the quality that there is, and the verdict says so."""

HYPOTHESES: tuple[Hypothesis, ...] = (
    Hypothesis(
        "agents",
        "success grows logarithmically with agents, with diminishing returns after about 4",
        Dimension.AGENT_COUNT,
        (Outcome.SUCCESS,),
        "supported: rises, and the knee's interval meets [3, 5] or log and saturating families have half the weight; "
        "refuted: falls, no effect, or linear has half the weight and no knee",
        _levels_off(3, 5, LEVELLING, "log and saturating families"),
    ),
    Hypothesis(
        "iterations",
        "quality grows steeply with iterations, then levels off after about 5",
        Dimension.ITERATIONS,
        QUALITY,
        "supported: rises, and the knee's interval meets [4, 6] or saturating families have half the weight; "
        "refuted: falls, no effect, or linear has half the weight and no knee",
        _levels_off(4, 6, SATURATING, "saturating families"),
    ),
    Hypothesis(
        "parallelism",
        "time falls with parallelism, sublinearly: near-linear first, then coordination overhead",
        Dimension.PARALLELISM_LEVEL,
        (Outcome.TIME_TO_COMPLETE,),
        "supported: falls, and the exponent is between -1 and 0 or contention or coherence above 0; "
        "refuted: time does not fall, or the exponent is -1 or less",
        _sublinear_speed_up,
    ),
    Hypothesis(
        "context",
        "quality grows logarithmically with context tokens",
        Dimension.CONTEXT,
        QUALITY,
        "supported: rises, and log and saturating families have half the weight; refuted: does not keep rising, or "
        "linear has half the weight",
        _logarithmic,
    ),
    Hypothesis(
        "model size",
        "quality grows as a power law of model size",
        Dimension.MODEL_SIZE,
        QUALITY,
        "supported: rises, and power has half the weight; refuted: does not keep rising, or power has under 5 %",
        _power_law,
    ),
    Hypothesis(
        "retries",
        "success grows with retries, each bringing less",
        Dimension.ATTEMPTS,
        (Outcome.SUCCESS,),
        "supported: rises, and the knee is below the most tried or log and saturating families have half the weight; "
        "refuted: falls, no effect, or linear has half the weight and no knee",
        _diminishing,
    ),
    Hypothesis(
        "overhead",
        "coordination overhead dominates beyond some number of agents",
        Dimension.AGENT_COUNT,
        (Outcome.SUCCESS,),
        "supported: success falls, or rises then falls; refuted: it rises or does not change up to 8 agents or more",
        _overhead,
        counter=True,
    ),
    Hypothesis(
        "quick plateau",
        "quality levels off within 3 iterations",
        Dimension.ITERATIONS,
        QUALITY,
        "supported: falls, no effect, or the knee's interval ends at 3 or below; refuted: rises, and the knee's "
        "interval begins above 3",
        _quick_plateau,
        counter=True,
    ),
    Hypothesis(
        "conflicts",
        "parallelism causes conflicts that lower quality",
        Dimension.PARALLELISM_LEVEL,
        QUALITY,
        "supported: quality falls, or rises then falls; refuted: it rises or does not change",
        _conflicts,
        counter=True,
    ),
)
"""The six hypotheses and three counter-hypotheses, in the document's order."""
