"""The design document's hypotheses and counter-hypotheses, confronted with the laws.

Each decision rule is fixed before any data are seen, here in words (`rule`) and in `analytics.rulings` in code; a
verdict repeats its rule beside the figures, so that a reader can apply it again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from analytics.rulings import (
    LEVELLING,
    SATURATING,
    Finding,
    Judge,
    conflicts,
    diminishing,
    figures,
    levels_off,
    logarithmic,
    overhead,
    power_law,
    quick_plateau,
    sublinear_speed_up,
)
from analytics.sentences import OUTCOME_WORDS, dimension_words, from_hazards
from models.contexts import GLOBAL
from models.dimensions import Basis, Dimension, Outcome
from models.laws import Law, Published, law_id

STALE = frozenset({"insufficient", "drifted", "expired"})
LIMITS = {
    Dimension.ITERATIONS: "max_iterations",
    Dimension.CONTEXT: "context_budget",
    Dimension.ATTEMPTS: "retry_limit",
}

Speaks = Callable[[Law | None, Law | None], Law | None]
Speaking = Callable[[Dimension, Outcome], Law | None]
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


def confront(
    laws: Iterable[Law],
    context: str = GLOBAL,
    speaks: Speaks = audited_first,
    randomised: Speaking | None = None,
) -> list[Verdict]:
    """Judge every hypothesis by the laws of one context.

    Whatever its own rule, the finding is undetermined where there is no law, the law is insufficient, drifted or
    expired, its direction is undetermined, it is exploratory with an interval wider than the change itself, its
    dimension is a used amount (an outcome of difficulty) of what could be limited, or its curve is that of the runs as
    they stand and its sign turns when they are compared within equals. Success over used attempts is fitted from
    hazards and may carry one.

    Args:
        laws: Of any contexts and tiers.
        context: Whose laws speak.
        speaks: Which of the live and the audited law does.
        randomised: The law of an experiment over a dimension, of an outcome, where there is one: it comes first.
    """
    known = {law.law_id: law for law in laws if law.context == context}

    def speaking(dimension: Dimension, outcome: Outcome) -> Law | None:
        live, audited = (known.get(law_id(context, dimension, outcome, tier)) for tier in ("live", "audited"))
        own = None if randomised is None else randomised(dimension, outcome)
        return own or speaks(live, audited)

    return [_confront(speaking, hypothesis) for hypothesis in HYPOTHESES]


def _confront(speaking: Speaking, hypothesis: Hypothesis) -> Verdict:
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
        figures=figures(law),
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
    as_runs_stand = law.tier == "live" or law.evidence == "associational"
    if adjusted is not None and adjusted.sign_differs and as_runs_stand:
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
        levels_off(3, 5, LEVELLING, "log and saturating families"),
    ),
    Hypothesis(
        "iterations",
        "quality grows steeply with iterations, then levels off after about 5",
        Dimension.ITERATIONS,
        QUALITY,
        "supported: rises, and the knee's interval meets [4, 6] or saturating families have half the weight; "
        "refuted: falls, no effect, or linear has half the weight and no knee",
        levels_off(4, 6, SATURATING, "saturating families"),
    ),
    Hypothesis(
        "parallelism",
        "time falls with parallelism, sublinearly: near-linear first, then coordination overhead",
        Dimension.PARALLELISM_LEVEL,
        (Outcome.TIME_TO_COMPLETE,),
        "supported: falls, and the exponent is between -1 and 0 or contention or coherence above 0; "
        "refuted: time does not fall, or the exponent is -1 or less",
        sublinear_speed_up,
    ),
    Hypothesis(
        "context",
        "quality grows logarithmically with context tokens",
        Dimension.CONTEXT,
        QUALITY,
        "supported: rises, and log and saturating families have half the weight; refuted: does not keep rising, or "
        "linear has half the weight",
        logarithmic,
    ),
    Hypothesis(
        "model size",
        "quality grows as a power law of model size",
        Dimension.MODEL_SIZE,
        QUALITY,
        "supported: rises, and power has half the weight; refuted: does not keep rising, or power has under 5 %",
        power_law,
    ),
    Hypothesis(
        "retries",
        "success grows with retries, each bringing less",
        Dimension.ATTEMPTS,
        (Outcome.SUCCESS,),
        "supported: rises, and the knee is below the most tried or log and saturating families have half the weight; "
        "refuted: falls, no effect, or linear has half the weight and no knee",
        diminishing,
    ),
    Hypothesis(
        "overhead",
        "coordination overhead dominates beyond some number of agents",
        Dimension.AGENT_COUNT,
        (Outcome.SUCCESS,),
        "supported: success falls, or rises then falls; refuted: it rises or does not change up to 8 agents or more",
        overhead,
        counter=True,
    ),
    Hypothesis(
        "quick plateau",
        "quality levels off within 3 iterations",
        Dimension.ITERATIONS,
        QUALITY,
        "supported: falls, no effect, or the knee's interval ends at 3 or below; refuted: rises, and the knee's "
        "interval begins above 3",
        quick_plateau,
        counter=True,
    ),
    Hypothesis(
        "conflicts",
        "parallelism causes conflicts that lower quality",
        Dimension.PARALLELISM_LEVEL,
        QUALITY,
        "supported: quality falls, or rises then falls; refuted: it rises or does not change",
        conflicts,
        counter=True,
    ),
)
"""The six hypotheses and three counter-hypotheses, in the document's order."""
